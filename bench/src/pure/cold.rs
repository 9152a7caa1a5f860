//! Code that is not in any engine's memory: what a first request costs, and what is left of the throughput where one in
//! twenty requests meets such a function.
//!
//! A node whose budget for templates has room for some of many functions: each that is asked for puts another one out,
//! the one whose last use is longest ago.

use super::{CLIENTS, LOAD, PAPER, name, path, programs};
use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::http::{Connection, Request};
use crate::machine::Machine;
use crate::node::{Node, Settings};
use std::time::Instant;

/// Functions that are asked for in turn, so that each has been put out when it is its turn.
const FUNCTIONS: usize = 24;
/// MiB for templates.
const BUDGET: usize = 16;
/// One request in so many is for code that is not there.
const ONE_IN: usize = 20;

pub fn measure(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    let path_of = std::env::var("PATH").unwrap_or_default();
    let dispatch = format!("memory_budget_mib = {BUDGET}");
    let node = Node::start(&plan.program, &Settings { dispatch, path: path_of, ..Settings::default() })?;
    let (mut latencies, mut rates) = (Vec::new(), Vec::new());
    for program in programs::find(&mut Vec::new()) {
        (plan.tell)(&format!("{}: code that is not in memory", program.engine));
        node.deploy(&name(&program), &program.file, &["--runtime", program.runtime])?;
        let hot = |n| programs::request(node.address, &path(&name(&program)), n);
        let mut rare = Vec::new();
        for number in 0..FUNCTIONS {
            let function = format!("{}-{number}", name(&program));
            node.deploy(&function, &program.file, &["--runtime", program.runtime])?;
            rare.push(function);
        }
        let cold = |number: usize, n| programs::request(node.address, &path(&rare[number % FUNCTIONS]), n);
        let (mut warm, mut first) = (Vec::new(), Vec::new());
        let mut connection = Connection::new();
        for number in 0..plan.samples(1000) {
            first.push(once(&mut connection, &cold(number, 1))?);
            warm.push(once(&mut connection, &hot(1))?);
        }
        latencies.extend(Arm::of(format!("lichen {}, hot", program.engine), Unit::Microseconds, &warm));
        latencies.extend(Arm::of(format!("lichen {}, cold", program.engine), Unit::Microseconds, &first));
        for (percent, every) in [(100, usize::MAX), (95, ONE_IN)] {
            let request =
                |number: usize| if number % every == every - 1 { cold(number / every, 128) } else { hot(128) };
            let got = per_second(&request)?;
            rates.extend(Arm::of(format!("lichen {}, {percent} % hot", program.engine), Unit::PerSecond, &[got]));
        }
    }
    let notes = [format!(
        "{FUNCTIONS} functions on a node whose budget has room for {BUDGET} MiB of templates, asked for in turn, and one more \
         often. 1×1 by one client; 128×128 by {CLIENTS}."
    )];
    let cold = Figure::new("pure-cold", PAPER, machine, latencies).with_notes(notes.clone());
    let hot = Figure::new("pure-hot", PAPER, machine, rates).with_notes(notes);
    Ok(vec![cold, hot].into_iter().filter(|figure| !figure.arms.is_empty()).collect())
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

/// Of clients that ask for one thing after the other, each its own share of the numbers.
fn per_second(request: &(impl Fn(usize) -> Request + Sync)) -> Result<f64, BenchError> {
    let end = Instant::now() + LOAD;
    let client = |number: usize| -> Result<usize, BenchError> {
        let (mut connection, mut asked) = (Connection::new(), 0);
        while Instant::now() < end {
            once(&mut connection, &request(number * 7 + asked))?;
            asked += 1;
        }
        Ok(asked)
    };
    let asked = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|number| scope.spawn(move || client(number))).collect();
        clients
            .into_iter()
            .map(|one| one.join().expect("a client that does not panic"))
            .sum::<Result<usize, BenchError>>()
    })?;
    Ok(asked as f64 / LOAD.as_secs_f64())
}
