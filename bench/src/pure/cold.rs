//! Code that is not in any engine's memory: what a first request costs, and what is left of the throughput where one in
//! twenty requests meets such a function.
//!
//! A node that keeps few instances, and no templates: each function that is asked for puts another one out, the one whose
//! last use is longest ago, and engines let go of code that no instance is for. The node says how many starts there were.

use super::programs::{self, Program};
use super::server::engines_seconds;
use super::sizes::{floors, shares};
use super::{CLIENTS, LOAD, PAPER, name, path};
use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::http::{Connection, Request};
use crate::machine::Machine;
use crate::node::{Node, Settings};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Functions that are asked for in turn, so that each has been put out when it is its turn.
const FUNCTIONS: usize = 64;
/// Instances that the node keeps: enough for one that is asked for often, by many at once.
const INSTANCES: usize = 32;
/// One request in so many is for code that is not there.
const ONE_IN: usize = 20;
/// In the names of those that are asked for rarely.
const RARE: &str = "-rare-";

/// Requests for a program under many names on one node.
struct Copies {
    hot: Request,
    rare: Vec<Request>,
    asked: AtomicUsize,
}

pub fn measure(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    let path = std::env::var("PATH").unwrap_or_default();
    let dispatch = format!("memory_budget_mib = 0\ninstances = {INSTANCES}");
    let node = Node::start(&plan.program, &Settings { dispatch, path, ..Settings::default() })?;
    let (mut latencies, mut rates, mut parts, mut asked) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut floors = floors(plan, &mut Vec::new());
    for program in programs::find(&mut Vec::new()) {
        let engine = program.engine;
        (plan.tell)(&format!("{engine}: code that is not in memory"));
        let functions = deploy(&node, &program)?;
        let [copies, large] = [1, 128].map(|n| Copies::new(&node, &functions, n));
        let (mut warm, mut first) = (Vec::new(), Vec::new());
        let mut connection = Connection::new();
        for number in 0..plan.samples(1000) {
            first.push(once(&mut connection, copies.cold(number))?);
            warm.push(once(&mut connection, &copies.hot)?);
        }
        latencies.extend(Arm::of(format!("lichen {engine}, hot"), Unit::Microseconds, &warm));
        latencies.extend(Arm::of(format!("lichen {engine}, cold"), Unit::Microseconds, &first));
        let rounds = plan.samples(5).max(2);
        let (mut all_hot, mut mixed) = (Rate::default(), Rate::default());
        for _ in 0..rounds {
            all_hot.ask(&node, &|_| &large.hot)?;
            mixed.ask(&node, &|number| large.mixed(number))?;
            floors.iter_mut().try_for_each(|floor| floor.ask(machine, 128))?;
        }
        for (name, rate) in [("100 % hot", all_hot), ("95 % hot", mixed)] {
            let who = format!("lichen {engine}, {name}");
            rates.extend(Arm::of(&who, Unit::PerSecond, &rate.per_second));
            parts.extend(shares(&who, &rate.per_second, &rate.engines, &floors).into_iter().flatten());
        }
        asked += copies.asked.into_inner() + large.asked.into_inner();
    }
    rates.extend(parts);
    let rare = |function: &&api::node::Function| function.name.contains(RARE);
    let started: u64 =
        node.client.node_functions()?.iter().filter(rare).map(|function| function.counters.cold_starts).sum();
    let notes = [format!(
        "{FUNCTIONS} functions on a node that keeps {INSTANCES} instances, asked for in turn, and one more often. 1×1 by one \
         client; 128×128 by {CLIENTS}. Of {asked} requests for code that was to be gone, {started} found it gone."
    )];
    let cold = Figure::new("pure-cold", PAPER, machine, latencies).with_notes(notes.clone());
    let hot = Figure::new("pure-hot", PAPER, machine, rates).with_notes(notes);
    Ok(vec![cold, hot].into_iter().filter(|figure| !figure.arms.is_empty()).collect())
}

/// Deploys a program under its own name, for requests that come often, and under others.
fn deploy(node: &Node, program: &Program) -> Result<(String, Vec<String>), BenchError> {
    let options = program.options;
    node.deploy(&name(program), &program.file, options)?;
    let rare: Vec<String> = (0..FUNCTIONS).map(|number| format!("{}{RARE}{number}", name(program))).collect();
    rare.iter().try_for_each(|function| node.deploy(function, &program.file, options))?;
    Ok((name(program), rare))
}

impl Copies {
    fn new(node: &Node, (hot, rare): &(String, Vec<String>), n: u64) -> Self {
        let request = |function: &String| programs::request(node.address, &path(function), n);
        Self { hot: request(hot), rare: rare.iter().map(request).collect(), asked: AtomicUsize::new(0) }
    }

    fn cold(&self, number: usize) -> &Request {
        self.asked.fetch_add(1, Relaxed);
        &self.rare[number % FUNCTIONS]
    }

    fn mixed(&self, number: usize) -> &Request {
        if number % ONE_IN == ONE_IN - 1 { self.cold(number / ONE_IN) } else { &self.hot }
    }
}

fn once(connection: &mut Connection, request: &Request) -> Result<f64, BenchError> {
    let began = Instant::now();
    let answer = connection.call(request);
    let took = began.elapsed();
    let answer = answer.map_err(|source| BenchError::Silent { who: "a node".into(), source })?;
    if answer.status != 200 {
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        return Err(BenchError::Refused { who: "a node".into(), status: answer.status, body });
    }
    Ok(took.as_nanos() as f64 / 1000.0)
}

/// What many clients get, and microseconds that engines compute for each request.
#[derive(Default)]
struct Rate {
    per_second: Vec<f64>,
    engines: Vec<f64>,
}

impl Rate {
    fn ask<'a>(&mut self, node: &Node, request: &(impl Fn(usize) -> &'a Request + Sync)) -> Result<(), BenchError> {
        let before = engines_seconds(node.pid());
        let asked = ask_all(request)? as f64;
        self.per_second.push(asked / LOAD.as_secs_f64());
        self.engines.push((engines_seconds(node.pid()) - before) * 1e6 / asked);
        Ok(())
    }
}

/// Clients that ask for one thing after the other: all of them together count up. Answers how many it were.
fn ask_all<'a>(request: &(impl Fn(usize) -> &'a Request + Sync)) -> Result<usize, BenchError> {
    let (end, next) = (Instant::now() + LOAD, AtomicUsize::new(0));
    let client = || -> Result<usize, BenchError> {
        let (mut connection, mut asked) = (Connection::new(), 0);
        while Instant::now() < end {
            once(&mut connection, request(next.fetch_add(1, Relaxed)))?;
            asked += 1;
        }
        Ok(asked)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients
            .into_iter()
            .map(|one| one.join().expect("a client that does not panic"))
            .sum::<Result<usize, BenchError>>()
    })
}
