//! What became of runs: how far they are, what they came to, their times; and their end, where somebody wants it.

use super::{found, invoke, svg};
use crate::http::answer;
use crate::lambda::{Fault, scope};
use crate::route::{Answer, Exchange};
use crate::v1::outputs;
use api::node::{FlowApplication, FlowRun};
use hyper::StatusCode;
use runtime::flow::{Run, State};
use std::sync::Arc;

/// Of one flow, the latest first.
pub async fn list(exchange: Exchange) -> Answer {
    let flow = found(&exchange)?;
    let runs = exchange.gateway.flows.runs.of(&flow.id.arn());
    Ok(answer::json(StatusCode::OK, &runs.iter().map(|run| shown(run)).collect::<Vec<_>>()))
}

pub async fn get(exchange: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &shown(&*run(&exchange)?)))
}

pub async fn result(exchange: Exchange) -> Answer {
    let run = run(&exchange)?;
    match run.state() {
        State::Queued | State::Running => Err(Fault::conflict(format!(
            "The run {} is {}: its result comes when it is done.",
            run.id,
            run.state().word()
        ))),
        State::Done(Some(outputs)) => Ok(outputs::answer(&exchange, outputs.as_ref().clone())),
        State::Done(None) => {
            Err(Fault::not_found(format!("The outputs of the run {} went to whoever waited for it.", run.id)))
        }
        State::Failed(error) => Ok(invoke::failed(error)),
        State::Cancelled => Err(Fault::conflict(format!("The run {} was cancelled.", run.id))),
    }
}

pub async fn cancel(exchange: Exchange) -> Answer {
    let run = run(&exchange)?;
    match run.cancel() {
        true => Ok(answer::empty(StatusCode::ACCEPTED)),
        false => Err(Fault::conflict(format!("The run {} is {}.", run.id, run.state().word()))),
    }
}

/// The flow with the run's times, as a picture.
pub async fn graph(exchange: Exchange) -> Answer {
    let run = run(&exchange)?;
    let program = run.program().ok_or_else(|| Fault::conflict(format!("The run {} has no graph.", run.id)))?;
    Ok(svg(flow::svg::draw(&program, Some(&run.times()))))
}

/// The run that the path names, where it is the caller's.
fn run(exchange: &Exchange) -> Result<Arc<Run>, Fault> {
    let id = exchange.capture(0);
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let own = |run: &Arc<Run>| run.flow.split(':').nth(4) == Some(&scope.account);
    exchange.gateway.flows.runs.find(&id).filter(own).ok_or_else(|| {
        Fault::not_found(format!(
            "Run not found: {id}. What became of a run is kept for a while, and not over restarts."
        ))
    })
}

fn shown(run: &Run) -> FlowRun {
    let state = run.state();
    let program = run.program();
    let applications = run.counts().into_iter().filter_map(|((graph, app), count)| {
        let shape = &program.as_ref()?.graphs.get(graph)?.apps[app];
        Some(FlowApplication {
            application: shape.label.clone(),
            line: shape.line,
            running: if state.is_over() { 0 } else { count.begun - count.timing.shards },
            done: count.timing.shards - count.timing.failed,
            failed: count.timing.failed,
            busy_us: count.timing.busy_us,
        })
    });
    FlowRun {
        run: run.id.clone(),
        flow: run.flow.clone(),
        state: state.word().to_owned(),
        accepted: run.accepted_ms,
        took_us: run.took_us(),
        applications: applications.collect(),
        error: match &state {
            State::Failed(error) => serde_json::from_slice(error).ok(),
            _ => None,
        },
    }
}
