//! `density`: a thousand instances alive at once, each of which answers, and answers again.

use crate::Plan;
use crate::baseline::Language;
use crate::census::{self, Census};
use crate::error::{BenchError, io};
use crate::figure::{Arm, Figure, Unit};
use crate::functions::{HOLD, Shelf, hold_for};
use crate::http::{Crowd, Load};
use crate::machine::Machine;
use crate::node::{Node, Settings};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::{Duration, Instant};

const OPTIONS: &[&str] = &["--memory", "128", "--timeout", "300"];
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    let count = plan.samples(1000);
    raise_descriptors(count as u64 + 256)?;
    (plan.tell)("starting a node");
    let dispatch = format!("stems = 0\nconcurrency = {count}\ninstances = {}", count + count / 10);
    let path = std::env::var("PATH").unwrap_or_default();
    let node = Node::start(&plan.program, &Settings { dispatch, path, ..Settings::default() })?;
    node.await_generic_template(Language::Python)?;
    node.deploy(HOLD.name, &Shelf::new()?.put(&HOLD)?, OPTIONS)?;
    node.await_template(HOLD.name)?;
    let before = census::available_mib();
    (plan.tell)(&format!("{count} requests at once, {count} instances"));
    let (first, took) = all_at_once(&node, count, Duration::from_millis(15 * count as u64 + 3000))?;
    let each = Census::take(node.pid()).instances_mib();
    let drop = (before - census::available_mib()) / count as f64;
    (plan.tell)(&format!("the same {count} again"));
    let (second, _) = all_at_once(&node, count, Duration::from_millis(2 * count as u64 + 3000))?;
    let counters = node.client.node_functions()?.first().map(|function| function.counters).unwrap_or_default();
    let one = |name: &str, unit, value: f64| Arm::of(name, unit, &[value]);
    let arms = [
        one("lichen, live instances", Unit::Count, each.len() as f64),
        one("lichen, answers of the first round", Unit::Count, first.latencies.len() as f64),
        one("lichen, answers of the second round, by the same instances", Unit::Count, second.latencies.len() as f64),
        one("lichen, starts", Unit::PerSecond, count as f64 / took.as_secs_f64()),
        Arm::of("lichen, memory by share", Unit::Mebibytes, &each),
        one("lichen, memory of the machine", Unit::Mebibytes, drop),
    ];
    let mut faults = Vec::new();
    if each.len() < count || first.latencies.len() + second.latencies.len() < 2 * count {
        faults.push(format!("not all of {count} instances lived and answered twice"));
    }
    if counters.warm_starts < count as u64 {
        faults.push(format!(
            "only {} of {count} answers of the second round came from live instances",
            counters.warm_starts
        ));
    }
    let arms = arms.into_iter().flatten().collect();
    let figure = Figure::new("density", "Molecule (ASPLOS '22), Figure 11c", machine, arms).with_notes([
        "All requests are sent at once, and every handler holds its instance until all others have one. starts: from the \
         first request to the last instance at work, the fork of each included.",
    ]);
    Ok(vec![Figure { faults, ..figure }])
}

/// Sends a request from each of `count` clients, which hold their instances for `time`. Answers with what came of it, and
/// how long it took until all were at work.
fn all_at_once(node: &Node, count: usize, time: Duration) -> Result<(Load, Duration), BenchError> {
    let began = Instant::now();
    let crowd = Crowd { clients: count, request: node.invocation(HOLD.name, &hold_for(time)) };
    let clients = std::thread::spawn(move || crowd.ask(1));
    let mut busy = 0;
    let mut took = time;
    while busy < count as u64 && !clients.is_finished() {
        busy = node.client.node_functions()?.first().map_or(0, |function| function.instances.busy);
        took = began.elapsed();
        crate::pause(LOOK_AGAIN);
    }
    let load = clients.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let load = load.map_err(|source| BenchError::Silent { who: "the node".into(), source })?;
    if busy < count as u64 {
        return Err(BenchError::Broken(format!("{busy} of {count} instances were at work after {time:?}")));
    }
    Ok((load, took))
}

/// A connection for each client.
fn raise_descriptors(wanted: u64) -> Result<(), BenchError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let current = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum });
    raised.map_err(|error| io("the limit of open descriptors could not be raised")(error.into()))
}
