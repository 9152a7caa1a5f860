//! Functions with their instances, and what they cost.

use super::{function, number};
use crate::http::answer;
use crate::lambda::Fault;
use crate::route::{Answer, Exchange};
use api::lambda::LATEST;
use api::node::{Counters, Function, Instances, Revision};
use hyper::StatusCode;
use runtime::dispatch::counters::Tally;
use runtime::dispatch::snapshot::FunctionState;
use runtime::registry::Entry;

pub async fn list(exchange: Exchange) -> Answer {
    let states = exchange.gateway.dispatcher.snapshot().functions;
    let entries = exchange.gateway.registry.all();
    let functions: Vec<Function> = entries.iter().map(|entry| shown(entry, &states)).collect();
    Ok(answer::json(StatusCode::OK, &functions))
}

/// A function with the instances of all its revisions.
fn shown(entry: &Entry, states: &[FunctionState]) -> Function {
    let mut function = Function {
        account: entry.id.account.clone(),
        region: entry.id.region.clone(),
        name: entry.id.name.clone(),
        version: LATEST.to_owned(),
        runtime: entry.function.runtime.clone(),
        memory_mib: entry.function.memory_mib,
        pu: entry.function.profiles.clone(),
        modified: entry.modified_ms,
        code_bytes: entry.content.code_bytes,
        ..Function::default()
    };
    for state in states.iter().filter(|state| state.key == *entry.function.key) {
        let (all, these) = (&mut function.instances, instances(state));
        all.idle += these.idle;
        all.busy += these.busy;
        all.starting += these.starting;
        all.stems += these.stems;
        all.queued += these.queued;
        // The same for every revision.
        function.counters = counters(&state.tally);
    }
    function
}

fn instances(state: &FunctionState) -> Instances {
    Instances {
        idle: state.idle.into(),
        busy: state.busy.into(),
        starting: state.starting.into(),
        stems: state.stems.into(),
        queued: state.queued.into(),
    }
}

fn counters(tally: &Tally) -> Counters {
    Counters {
        invocations: tally.invocations,
        errors: tally.faults.iter().sum(),
        throttles: tally.throttles,
        platform_errors: tally.platform_errors,
        cold_starts: tally.cold,
        cache_hits: tally.remembered,
        cache_misses: tally.not_remembered,
        stem_starts: tally.stem,
        warm_starts: tally.warm,
        duration_us: tally.duration_us,
    }
}

pub async fn revisions(exchange: Exchange) -> Answer {
    let states = exchange.gateway.dispatcher.snapshot().functions;
    let shown: Vec<Revision> = states
        .into_iter()
        .map(|state| Revision {
            instances: instances(&state),
            account: state.key.account,
            region: state.key.region,
            function: state.key.name,
            version: state.key.version,
            revision: state.revision,
            closed: state.closed,
        })
        .collect();
    Ok(answer::json(StatusCode::OK, &shown))
}

pub async fn bills(exchange: Exchange) -> Answer {
    let id = function(&exchange)?.id.clone();
    let limit = u32::try_from(number(&exchange, "limit", 100)?).unwrap_or(u32::MAX).min(10_000);
    let bills = exchange
        .gateway
        .blocking(move |gateway| gateway.ledger.latest(&id.account, &id.region, &id.name, limit))
        .await?;
    Ok(answer::json(StatusCode::OK, &bills.map_err(|error| Fault::internal(&error))?))
}

pub async fn usage(exchange: Exchange) -> Answer {
    let usage = exchange.gateway.blocking(|gateway| gateway.ledger.usage()).await?;
    Ok(answer::json(StatusCode::OK, &usage.map_err(|error| Fault::internal(&error))?))
}
