//! The node as a whole, its processing units, its templates.

use crate::http::answer;
use crate::route::{Answer, Exchange};
use api::node::{Concurrency, Node, Pu, Queue, Template};
use hyper::StatusCode;
use runtime::dispatch::snapshot::{TemplatePhase, TemplateState};

pub async fn node(exchange: Exchange) -> Answer {
    let gateway = &exchange.gateway;
    let state = gateway.dispatcher.snapshot();
    let node = Node {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        account: gateway.config.node.account.to_string(),
        region: gateway.config.node.region.to_string(),
        started: gateway.started,
        waiting_for: gateway.waiting_for().into_iter().map(str::to_owned).collect(),
        missing: state.worker.missing,
        concurrency: Concurrency { busy: state.in_flight.into(), limit: state.concurrency.into() },
    };
    Ok(answer::json(StatusCode::OK, &node))
}

pub async fn queue(exchange: Exchange) -> Answer {
    let state = exchange.gateway.queue.state();
    let queue = Queue {
        depth: state.depth,
        running: state.running,
        oldest_age_ms: state.oldest_age_ms,
        dead: state.dead,
        retries: state.retries,
        accepted: state.accepted,
        bytes: state.bytes,
    };
    Ok(answer::json(StatusCode::OK, &queue))
}

/// So far a node has one processing unit, the processor that it runs on itself.
pub async fn pus(exchange: Exchange) -> Answer {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let ready = exchange.gateway.dispatcher.worker_ready();
    let cpu = Pu { id: 0, kind: "cpu".to_owned(), name: processor(), cores, ready };
    Ok(answer::json(StatusCode::OK, &[cpu]))
}

/// What the processor calls itself.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().into())
}

pub async fn templates(exchange: Exchange) -> Answer {
    let templates: Vec<Template> = exchange.gateway.dispatcher.snapshot().templates.into_iter().map(shown).collect();
    Ok(answer::json(StatusCode::OK, &templates))
}

fn shown(state: TemplateState) -> Template {
    let (phase, prepare_us, reason) = match state.phase {
        TemplatePhase::Waiting => ("waiting", None, None),
        TemplatePhase::Preparing => ("preparing", None, None),
        TemplatePhase::Ready { prepare_us } => ("ready", Some(prepare_us), None),
        TemplatePhase::Refused { reason } => ("refused", None, Some(reason)),
    };
    Template {
        kind: format!("{:?}", state.kind).to_ascii_lowercase(),
        network: format!("{:?}", state.network).to_ascii_lowercase(),
        function: state.function.map(|key| key.name),
        phase: phase.to_owned(),
        prepare_us,
        reason,
    }
}
