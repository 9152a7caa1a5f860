//! One size of matrix: every server by one client and by many, and the computation alone.

use super::bare::Bare;
use super::programs::{self, Loops};
use super::server::Server;
use super::{BLOCK, CLIENTS, LOAD, PAPER};
use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::machine::Machine;

/// Seconds of a loop.
const LOOP: u64 = 2;
const NATIVE: &str = "native loop";

/// The computation in a loop, with nothing around it: by rows, processes and seconds.
type Run<'a> = Box<dyn Fn(u64, usize, u64) -> Result<Loops, BenchError> + 'a>;

/// One way to compute it, and what its loops have told.
pub struct Floor<'a> {
    name: &'static str,
    run: Run<'a>,
    /// Microseconds of products while each core computes some.
    taken: Vec<f64>,
    per_second: Vec<f64>,
}

impl Floor<'_> {
    /// Once on each core.
    pub fn ask(&mut self, machine: &Machine, n: u64) -> Result<(), BenchError> {
        let told = (self.run)(n, machine.cores, LOOP)?;
        self.taken.extend(told.microseconds);
        self.per_second.push(told.per_second);
        Ok(())
    }

    fn product(&self) -> Option<Arm> {
        Arm::of(self.name, Unit::Microseconds, &self.taken)
    }

    fn rate(&self, machine: &Machine) -> Option<Arm> {
        Arm::of(format!("{}, {} processes", self.name, machine.cores), Unit::PerSecond, &self.per_second)
    }
}

/// Those that this machine can run; a note for each of the others.
pub fn floors<'a>(plan: &'a Plan<'_>, notes: &mut Vec<String>) -> Vec<Floor<'a>> {
    let native = programs::Floor::compile().map(|floor| -> Run<'a> { Box::new(move |n, all, s| floor.run(n, all, s)) });
    let wasm = Bare::find(&plan.program).map(|bare| -> Run<'a> { Box::new(move |n, all, s| bare.run(n, all, s)) });
    let mut floors = Vec::new();
    for (name, run) in [(NATIVE, native), ("bare wasmtime", wasm)] {
        match run {
            Ok(run) => floors.push(Floor { name, run, taken: Vec::new(), per_second: Vec::new() }),
            Err(error) => notes.push(format!("{name} is left out: {error}")),
        }
    }
    floors
}

pub fn measure(plan: &Plan<'_>, machine: &Machine, mut servers: Vec<Server>, n: u64) -> Result<Figure, BenchError> {
    let mut notes = Vec::new();
    let mut floors = floors(plan, &mut notes);
    (plan.tell)(&format!("{n}×{n}, one client"));
    servers.iter_mut().try_for_each(|server| server.warm(BLOCK))?;
    for _ in 0..plan.samples(5000).div_ceil(BLOCK) {
        servers.iter_mut().try_for_each(|server| server.ask(BLOCK))?;
    }
    (plan.tell)(&format!("{n}×{n}, {CLIENTS} clients"));
    for _ in 0..plan.samples(5).max(2) {
        servers.iter_mut().try_for_each(|server| server.crowd(CLIENTS, LOAD))?;
        floors.iter_mut().try_for_each(|floor| floor.ask(machine, n))?;
    }
    let mut arms: Vec<Option<Arm>> = floors.iter().map(Floor::product).collect();
    arms.extend(servers.iter().map(|one| Arm::of(format!("{}, 1 client", one.name), Unit::Microseconds, &one.taken)));
    arms.extend(floors.iter().map(|floor| floor.rate(machine)));
    let many = |one: &Server| format!("{}, {CLIENTS} clients", one.name);
    arms.extend(servers.iter().map(|one| Arm::of(many(one), Unit::PerSecond, &one.per_second)));
    for server in &servers {
        arms.extend(shares(&many(server), &server.per_second, &server.engines, &floors));
    }
    Ok(Figure::new(format!("pure-{n}x{n}"), PAPER, machine, arms.into_iter().flatten().collect()).with_notes(notes))
}

/// What engines take for a request, and how much of that, and of the whole machine, the native product alone would be.
pub fn shares(who: &str, per_second: &[f64], engines: &[f64], floors: &[Floor<'_>]) -> [Option<Arm>; 3] {
    let native = floors.iter().find(|floor| floor.name == NATIVE);
    let product = native.and_then(Floor::product).map_or(f64::NAN, |arm| arm.p50);
    let most = native.and_then(|floor| Arm::of("", Unit::PerSecond, &floor.per_second)).map_or(f64::NAN, |arm| arm.p50);
    let parts = |name: &str, all: &[f64], part: &dyn Fn(f64) -> f64| {
        let all: Vec<f64> = all.iter().map(|one| part(*one) * 100.0).filter(|part| part.is_finite()).collect();
        Arm::of(format!("{who}: {name}"), Unit::Count, &all)
    };
    if engines.is_empty() {
        return [None, None, None];
    }
    [
        Arm::of(format!("{who}: engines, for one"), Unit::Microseconds, engines),
        parts("native product in engines' time, %", engines, &|taken| product / taken),
        parts("of the native loop's rate, %", per_second, &|rate| rate / most),
    ]
}
