//! `soak`: many invocations of ten functions by many clients, while processes of the node are killed by lot.
//!
//! ```text
//!  settle ── occupied before ── clients and kills ── settle ── occupied after
//! ```
//! It fails when an invocation ends otherwise than its function had it end and no kill explains that, or when the node at
//! rest occupies more than before.

mod judge;
mod kills;
mod ledger;
mod lot;
mod work;

use crate::Plan;
use crate::census::Part;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::functions::Shelf;
use crate::http::{Connection, Request};
use crate::machine::Machine;
use crate::node::{Node, Settings};
use judge::{Surprise, unexplained};
use kills::{Kill, kill, victim};
use ledger::Occupied;
use lot::Lot;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use work::{FUNCTIONS, is_as_expected};

const CLIENTS: usize = 16;
const INVOCATIONS: usize = 200_000;
const KILLS: usize = 200;
/// Between a kill and the last consequence that its news can have.
const NEWS: u64 = 1_000_000_000;
/// For a node to come to rest: instances end, templates are made again, spare slots go.
const REST: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// What is shown of a longer list.
const SHOWN: usize = 10;

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    latencies: Vec<f64>,
    failures: usize,
    surprises: Vec<Surprise>,
}

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    // A quick one still has all of it, twenty times shorter.
    let share = if plan.quick { 20 } else { 1 };
    let (invocations, kills) = (INVOCATIONS / share, KILLS / share);
    (plan.tell)("starting a node with ten functions");
    let path = std::env::var("PATH").unwrap_or_default();
    let node =
        Node::start(&plan.program, &Settings { dispatch: "keep_alive_s = 2".to_owned(), path, ..Settings::default() })?;
    let shelf = Shelf::new()?;
    for function in &FUNCTIONS {
        node.deploy(function.name, &shelf.put(&function.source)?, function.options)?;
    }
    // What a node allocates once it has done before the first look.
    (plan.tell)("the first invocations");
    load(&node, invocations / 20, 1, plan.seed.wrapping_add(1))?;
    let before = rest(&node, None)?;
    (plan.tell)(&format!("{invocations} invocations, {kills} kills"));
    let (seen, killed) = load(&node, invocations, kills, plan.seed)?;
    (plan.tell)("coming to rest");
    let after = rest(&node, Some(&before))?;
    Ok(vec![figure(machine, &seen, &killed, &before, &after)])
}

/// `count` invocations by all clients together; `kills` happen on the way, at equal distances.
fn load(node: &Node, count: usize, kills: usize, seed: u64) -> Result<(Seen, Vec<Kill>), BenchError> {
    let (begun, supervisor) = (AtomicUsize::new(0), node.pid());
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let lot = Lot::new(seed.wrapping_mul(1000).wrapping_add(number as u64));
                let begun = &begun;
                scope.spawn(move || client(node, count, begun, lot))
            })
            .collect();
        let mut lot = Lot::new(seed);
        let mut killed = Vec::new();
        for number in 1..=kills {
            let due = count * number / (kills + 1);
            while begun.load(Relaxed) < due && !clients.iter().any(|client| client.is_finished()) {
                crate::pause(Duration::from_millis(2));
            }
            let part = victim(number - 1, &mut lot);
            // Where there is nobody of that kind at the moment, the next moment will do.
            while !clients.iter().any(|client| client.is_finished()) {
                if let Some(kill) = kill(part, supervisor, &mut lot) {
                    killed.push(kill);
                    break;
                }
                crate::pause(Duration::from_millis(2));
            }
        }
        let mut seen = Seen::default();
        for client in clients {
            let one = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            seen.latencies.extend(one.latencies);
            seen.failures += one.failures;
            seen.surprises.extend(one.surprises);
        }
        Ok((seen, killed))
    })
}

fn client(node: &Node, count: usize, begun: &AtomicUsize, mut lot: Lot) -> Result<Seen, BenchError> {
    let (mut seen, mut connection) = (Seen::default(), Connection::new());
    while begun.fetch_add(1, Relaxed) < count {
        let function = &FUNCTIONS[lot.below(FUNCTIONS.len())];
        let (event, expected) = function.event(&mut lot);
        let path = format!("/2015-03-31/functions/{}/invocations", function.name);
        let request = Request::new(node.address, "POST", &path, &[("Content-Type", "application/json")], &event);
        let from = os::monotonic_ns();
        // The gateway is never killed: a connection that breaks is an error that nothing excuses.
        let answer = connection.call(&request);
        let answer = answer.map_err(|source| BenchError::Silent { who: "the node".into(), source })?;
        let to = os::monotonic_ns();
        let failed = answer.header("x-amz-function-error").is_some();
        seen.latencies.push((to - from) as f64 / 1e6);
        if answer.status == 200 && is_as_expected(&expected, failed, &answer.body) {
            seen.failures += usize::from(failed);
            continue;
        }
        let body: String = String::from_utf8_lossy(&answer.body).chars().take(300).collect();
        let said = format!("{} {body}, where {expected:?} was expected", answer.status);
        seen.surprises.push(Surprise { function: function.name, from, to, said: said.chars().take(500).collect() });
    }
    Ok(seen)
}

/// Invokes every function once, so that all are in the same state, and waits until no instance of theirs is left and the
/// node occupies no more than `before`, or does not come to it in time.
fn rest(node: &Node, before: Option<&Occupied>) -> Result<Occupied, BenchError> {
    for function in &FUNCTIONS {
        let (event, _) = function.event(&mut Lot::new(0));
        node.client.invoke(function.name, &event, false)?;
        node.await_template(function.name)?;
    }
    let (until, mut last, mut same) = (Instant::now() + REST, Occupied::default(), 0);
    loop {
        let instances = node.client.node_functions()?.iter().map(|f| f.instances.idle + f.instances.busy).sum::<u64>();
        let now = Occupied::look(node.pid());
        same = if now.parts == last.parts { same + 1 } else { 0 };
        let settled = instances == 0 && same > 20;
        let as_before = before.is_none_or(|before| now.growth_since(before).is_empty());
        if (settled && as_before) || Instant::now() > until {
            return Ok(now);
        }
        last = now;
        crate::pause(LOOK_AGAIN);
    }
}

fn figure(machine: &Machine, seen: &Seen, killed: &[Kill], before: &Occupied, after: &Occupied) -> Figure {
    let lost = unexplained(seen.surprises.clone(), killed, CLIENTS, NEWS);
    let one = |name: &str, value: usize| Arm::of(name, Unit::Count, &[value as f64]);
    let of = |part: Part| killed.iter().filter(|kill| kill.part == part).count();
    let memory = |occupied: &Occupied, when: &str| {
        let sum: f64 = occupied.daemons.iter().map(|(_, _, mib)| mib).sum();
        Arm::of(format!("lichen, memory of all daemons, {when}"), Unit::Mebibytes, &[sum])
    };
    let arms = [
        Arm::of("lichen, all invocations", Unit::Milliseconds, &seen.latencies),
        one("lichen, errors that the function caused", seen.failures),
        one("lichen, errors that a kill caused", seen.surprises.len() - lost.len()),
        one("lichen, errors that nothing explains", lost.len()),
        one("kills of instances", of(Part::Instance)),
        one("kills of templates", of(Part::Template)),
        one("kills of sandboxes", of(Part::Init)),
        one("kills of the nursery or the worker", of(Part::Nursery) + of(Part::Worker)),
        memory(before, "before"),
        memory(after, "after"),
    ];
    let mut faults: Vec<String> = after.growth_since(before).into_iter().map(|text| format!("grown: {text}")).collect();
    faults.extend(lost.iter().take(SHOWN).map(|surprise| format!("{}: {}", surprise.function, surprise.said)));
    let notes = [
        format!("{CLIENTS} clients, ten functions. At rest before: {before}. After: {after}."),
        "An error is excused by a kill that happened while its invocation ran, or within a second before; a killed \
         instance excuses one, a killed worker, nursery, sandbox or template as many as there are clients."
            .to_owned(),
    ];
    let arms = arms.into_iter().flatten().collect();
    let figure = Figure::new("soak", "none: what is left after much use", machine, arms).with_notes(notes);
    Figure { faults, ..figure }
}
