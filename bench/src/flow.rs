//! `flow`: what it costs to have the platform call functions one after the other, and a thousand at a time, beside a client
//! that calls them itself, and beside the functions' own time in their engine.

mod course;
mod texts;

use crate::Plan;
use crate::census::{Census, Part, peak_mib};
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::http::{Crowd, Request};
use crate::machine::Machine;
use crate::node::Node;
use crate::pure::paced;
use course::{Course, engine_alone, loop_over_http};
use std::time::Duration;

const PAPER: &str = "Dandelion (SOSP '25), section 7";
pub const FIGURES: [&str; 5] = ["flow-map", "flow-chain", "flow-fan", "flow-large", "flow-mixed"];
/// Items of a wide map, stages of a chain, items of a very wide one.
const WIDE: usize = 1_000;
const STAGES: usize = 8;
const FAN: usize = 10_000;
const CLIENTS: usize = 16;
const LOAD: Duration = Duration::from_secs(2);
const LARGE: usize = 64 << 20;

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    (plan.tell)("starting a node");
    let node = texts::node(plan, "")?;
    // Started as early: a node that makes its templates would be measured with the first of its rows.
    let copying = texts::node(plan, "hold_kib = 0")?;
    let mut figures = Vec::new();
    if plan.wants(&["flow-map"]) {
        figures.push(map(plan, machine, &node)?);
    }
    if plan.wants(&["flow-chain"]) {
        figures.push(chain(plan, machine, &node)?);
    }
    if plan.wants(&["flow-fan"]) {
        figures.push(fan(plan, machine, &node)?);
    }
    if plan.wants(&["flow-large"]) {
        figures.push(large(plan, machine, [&node, &copying])?);
    }
    drop(copying);
    if plan.wants(&["flow-mixed"]) {
        figures.push(mixed(plan, machine, &node)?);
    }
    Ok(figures)
}

/// A map of a thousand shards and its reduce.
fn map(plan: &Plan<'_>, machine: &Machine, node: &Node) -> Result<Figure, BenchError> {
    (plan.tell)(&format!("a map of {WIDE} shards"));
    let mut flow = Course::new("flow", texts::flow(node, "map", &texts::words(WIDE)));
    flow.warm(5)?;
    let engine = engine_alone(node, plan.samples(2_000))?;
    let (mut alone, mut crowd) = (Vec::new(), Vec::new());
    for _ in 0..plan.samples(30) {
        flow.ask(1)?;
        alone.push(loop_over_http(node, WIDE)?);
    }
    for _ in 0..plan.samples(5).max(2) {
        let all = Crowd { clients: CLIENTS, request: texts::function(node, "echo", b"word 1") };
        let load = all.ask_for(LOAD).map_err(|source| BenchError::Silent { who: "a function".into(), source })?;
        crowd.push(1e6 / load.per_second());
    }
    let each: Vec<f64> = flow.taken.iter().map(|all| all / (WIDE + 1) as f64).collect();
    let own = median(&engine) / machine.cores as f64;
    let more: Vec<f64> = each.iter().map(|all| all - own).collect();
    let arms = [
        Arm::of("engine alone, one run", Unit::Microseconds, &engine),
        Arm::of("client's loop, 1 at a time, per function", Unit::Microseconds, &alone),
        Arm::of(format!("client's loop, {CLIENTS} at a time, per function"), Unit::Microseconds, &crowd),
        Arm::of("flow, per function", Unit::Microseconds, &each),
        Arm::of("flow less the engines' own time, per function", Unit::Microseconds, &more),
    ];
    let note = format!(
        "{WIDE} shards of a WebAssembly function that hands its item on, and one that adds them up. The clients of the loop \
         call the function over connections that are kept; the flow is one request. A run's own time is taken from the spans \
         of single requests, and divided by the {} engines that share this machine with gateway and client.",
        machine.cores
    );
    Ok(Figure::new("flow-map", PAPER, machine, arms.into_iter().flatten().collect()).with_notes([note]))
}

/// Stages one after the other.
fn chain(plan: &Plan<'_>, machine: &Machine, node: &Node) -> Result<Figure, BenchError> {
    (plan.tell)(&format!("a chain of {STAGES}"));
    let mut flow = Course::new("chain", texts::flow(node, "chain", b"word 1"));
    let mut stage = Course::new("function", texts::function(node, "echo", b"word 1"));
    flow.warm(100)?;
    stage.warm(100)?;
    for _ in 0..plan.samples(2_000) / 50 {
        flow.ask(50)?;
        stage.ask(50 * STAGES)?;
    }
    let looped: Vec<f64> = stage.taken.chunks_exact(STAGES).map(|stages| stages.iter().sum::<f64>()).collect();
    let per = |all: &[f64]| all.iter().map(|all| all / STAGES as f64).collect::<Vec<_>>();
    let arms = [
        Arm::of("client's loop, per stage", Unit::Microseconds, &per(&looped)),
        Arm::of("flow, per stage", Unit::Microseconds, &per(&flow.taken)),
        Arm::of(format!("client's loop, {STAGES} stages"), Unit::Microseconds, &looped),
        Arm::of(format!("flow, {STAGES} stages"), Unit::Microseconds, &flow.taken),
    ];
    let note = "One client. An item of six bytes goes through the same WebAssembly function at every stage.";
    Ok(Figure::new("flow-chain", PAPER, machine, arms.into_iter().flatten().collect()).with_notes([note]))
}

/// Ten thousand shards: their time, and what they take of the gateway.
fn fan(plan: &Plan<'_>, machine: &Machine, node: &Node) -> Result<Figure, BenchError> {
    (plan.tell)(&format!("{FAN} shards"));
    let gateway = Census::take(node.pid()).of(Part::Gateway).map(|process| process.pid).next();
    let peak = || gateway.map_or(0.0, peak_mib);
    let before = peak();
    let mut flow = Course::new("fan", texts::flow(node, "map", &texts::words(FAN)));
    flow.ask(plan.samples(10))?;
    let each: Vec<f64> = flow.taken.iter().map(|all| all / (FAN + 1) as f64).collect();
    let arms = [
        Arm::of("flow, per function", Unit::Microseconds, &each),
        Arm::of("gateway's memory at most, before", Unit::Mebibytes, &[before]),
        Arm::of("gateway's memory at most, after", Unit::Mebibytes, &[peak()]),
    ];
    let note =
        format!("{FAN} shards and the function that adds up what they leave. Memory is resident, at its highest.");
    Ok(Figure::new("flow-fan", PAPER, machine, arms.into_iter().flatten().collect()).with_notes([note]))
}

/// An item from one function to the next: by its name, and by way of the gateway.
fn large(plan: &Plan<'_>, machine: &Machine, [node, copying]: [&Node; 2]) -> Result<Figure, BenchError> {
    let mut arms = Vec::new();
    for (bytes, name) in
        [(0, "nothing"), (4 << 10, "4 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB"), (LARGE, "64 MiB")]
    {
        (plan.tell)(&format!("an item of {name}"));
        let course = |node: &Node| Course::new(name, texts::flow(node, "hand-on", bytes.to_string().as_bytes()));
        let (mut held, mut copied) = (course(node), course(copying));
        // Those of all rows, and each function's habits.
        let warm = if bytes < LARGE { 50 } else { 3 };
        held.warm(warm)?;
        copied.warm(warm)?;
        for _ in 0..plan.samples(20) {
            let times = if bytes < LARGE { 10 } else { 1 };
            held.ask(times)?;
            copied.ask(times)?;
        }
        arms.extend(Arm::of(format!("{name}, left with the engine"), Unit::Microseconds, &held.taken));
        arms.extend(Arm::of(format!("{name}, by way of the gateway"), Unit::Microseconds, &copied.taken));
    }
    let note = "One WebAssembly function makes the item, and another one adds up its bytes: whole runs of the flow, by one client.";
    Ok(Figure::new("flow-large", PAPER, machine, arms).with_notes([note]))
}

/// A chain, alone and beside a wide map that is run without a pause.
fn mixed(plan: &Plan<'_>, machine: &Machine, node: &Node) -> Result<Figure, BenchError> {
    (plan.tell)("a chain beside a wide map");
    let (light, heavy) = (texts::flow(node, "chain", b"word 1"), texts::flow(node, "map", &texts::words(WIDE)));
    let time = if plan.quick { Duration::from_millis(500) } else { Duration::from_secs(5) };
    let rate = 100.0;
    let alone = paced::run(&light, rate, time)?;
    let beside = beside(&light, rate, &heavy, time)?;
    let name = |what: &str| format!("chain of {STAGES}, {what}");
    let arms = [
        Arm::of(name("alone"), Unit::Microseconds, &alone),
        Arm::of(name(&format!("beside maps of {WIDE}")), Unit::Microseconds, &beside),
    ];
    let note =
        format!("{rate} chains a second, counted from when they were due; one client runs the map without a pause.");
    Ok(Figure::new("flow-mixed", PAPER, machine, arms.into_iter().flatten().collect()).with_notes([note]))
}

fn beside(light: &Request, rate: f64, heavy: &Request, time: Duration) -> Result<Vec<f64>, BenchError> {
    let crowd = Crowd { clients: 1, request: heavy.clone() };
    std::thread::scope(|scope| {
        let heavy = scope.spawn(|| crowd.ask_for(time));
        let taken = paced::run(light, rate, time);
        let heavy = heavy.join().expect("a client that does not panic");
        heavy.map_err(|source| BenchError::Silent { who: "the wide map".into(), source })?;
        taken
    })
}

fn median(samples: &[f64]) -> f64 {
    Arm::of("", Unit::Microseconds, samples).map_or(0.0, |arm| arm.p50)
}
