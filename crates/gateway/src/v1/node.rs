//! The node as a whole, its processing units, its templates.

use crate::http::answer;
use crate::route::{Answer, Exchange};
use api::node::{Concurrency, Engine, Node, Pu, Queue, Template};
use daemon::pu::Tier;
use hyper::StatusCode;
use runtime::dispatch::NodeState;
use runtime::dispatch::snapshot::{EngineState, PuState, TemplatePhase, TemplateState};

pub async fn node(exchange: Exchange) -> Answer {
    let gateway = &exchange.gateway;
    let state = gateway.dispatcher.snapshot();
    let node = Node {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        account: gateway.config.node.account.to_string(),
        region: gateway.config.node.region.to_string(),
        started: gateway.started,
        waiting_for: gateway.waiting_for().into_iter().map(str::to_owned).collect(),
        missing: missing(&state),
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

/// What is missing on the host itself, and elsewhere where something else is missing.
fn missing(state: &NodeState) -> Vec<String> {
    let mut missing: Vec<String> = Vec::new();
    for pu in &state.pus {
        let of_pu = |sentence: &String| match pu.spec.tier {
            Tier::Host => sentence.clone(),
            _ => format!("on {}: {sentence}", pu.spec.name),
        };
        let news: Vec<String> = pu.missing.iter().filter(|sentence| !missing.contains(sentence)).map(of_pu).collect();
        missing.extend(news);
    }
    missing
}

pub async fn pus(exchange: Exchange) -> Answer {
    let state = exchange.gateway.dispatcher.snapshot();
    let engines =
        |id: u32| state.engines.iter().filter(|engine| u32::from(engine.pu) == id).map(shown_engine).collect();
    let pus: Vec<Pu> = (0u32..).zip(state.pus).map(|(id, pu)| shown_pu(id, pu, engines(id))).collect();
    Ok(answer::json(StatusCode::OK, &pus))
}

fn shown_engine(state: &EngineState) -> Engine {
    Engine {
        processor: state.processor,
        for_long: state.class.is_long(),
        number: state.class.number(),
        rests: state.rests,
        requests: state.requests.into(),
        runs: state.runs,
        busy_us: state.busy / 1000,
    }
}

fn shown_pu(id: u32, state: PuState, engines: Vec<Engine>) -> Pu {
    let (spec, at_work) = (&state.spec, state.instances.saturating_sub(state.waiting));
    Pu {
        id,
        kind: spec.kind.to_string(),
        name: spec.name.clone(),
        tier: spec.tier.as_str().to_owned(),
        model: if spec.tier == Tier::Remote { String::new() } else { processor() },
        cores: spec.cores(),
        cpus: spec.cpus.as_ref().map(ToString::to_string),
        ready: state.ready,
        losses: state.losses,
        memory_mib: spec.memory_mib,
        reserved_mib: state.reserved_mib,
        price: spec.price,
        instances: state.instances.into(),
        waiting: state.waiting.into(),
        templates: state.templates.into(),
        load: f64::from(at_work) / f64::from(spec.cores().max(1)),
        engines,
        runs: state.kinds.iter().map(|kind| format!("{kind:?}").to_ascii_lowercase()).collect(),
        missing: state.missing,
    }
}

/// What the processor calls itself.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().into())
}

pub async fn templates(exchange: Exchange) -> Answer {
    let state = exchange.gateway.dispatcher.snapshot();
    let name = |pu: u8| state.pus.get(usize::from(pu)).map(|pu| pu.spec.name.clone()).unwrap_or_default();
    let templates: Vec<Template> = state.templates.iter().map(|one| shown(one, name(one.pu))).collect();
    Ok(answer::json(StatusCode::OK, &templates))
}

fn shown(state: &TemplateState, pu: String) -> Template {
    let (phase, prepare_us, reason) = match &state.phase {
        TemplatePhase::Waiting => ("waiting", None, None),
        TemplatePhase::Preparing => ("preparing", None, None),
        TemplatePhase::Ready { prepare_us } => ("ready", Some(*prepare_us), None),
        TemplatePhase::Refused { reason } => ("refused", None, Some(reason.clone())),
    };
    Template {
        pu,
        kind: format!("{:?}", state.kind).to_ascii_lowercase(),
        network: format!("{:?}", state.network).to_ascii_lowercase(),
        function: state.function.as_ref().map(|key| key.name.clone()),
        phase: phase.to_owned(),
        prepare_us,
        reason,
    }
}
