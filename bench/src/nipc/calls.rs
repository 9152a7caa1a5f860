//! What an XPUcall costs, by the way in which it travels: `get_xpupid` with the check of a right, which moves no data.

use super::BLOCK;
use super::shims::Pus;
use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::machine::Machine;
use std::time::Instant;
use xpucall::id::Rights;
use xpucall::wire::Transport;
use xpucall::{Fifo, Limits, Process};

/// As the paper calls them, and as Lichen does.
const TRANSPORTS: [(&str, Transport); 4] = [
    ("base", Transport::Base),
    ("mpsc", Transport::Mpsc),
    ("polling", Transport::Polling),
    ("adaptive", Transport::Adaptive),
];

struct Caller {
    name: &'static str,
    process: Process,
    fifo: Fifo,
    microseconds: Vec<f64>,
}

impl Caller {
    fn call(&mut self, times: usize) -> Result<(), BenchError> {
        for _ in 0..times {
            let began = Instant::now();
            let checked = self.process.check(self.fifo.id(), Rights::WRITE);
            self.microseconds.push(began.elapsed().as_nanos() as f64 / 1000.0);
            checked.map_err(|error| BenchError::Broken(error.to_string()))?;
        }
        Ok(())
    }
}

pub fn measure(plan: &Plan<'_>, machine: &Machine, pus: &Pus) -> Result<Figure, BenchError> {
    (plan.tell)("XPUcalls");
    let caller = |(name, transport)| {
        let process = pus.attach(transport)?;
        let fifo = Fifo::create(&process, Limits::default()).map_err(|error| BenchError::Broken(error.to_string()))?;
        Ok(Caller { name, process, fifo, microseconds: Vec::new() })
    };
    let mut callers = TRANSPORTS.into_iter().map(caller).collect::<Result<Vec<_>, BenchError>>()?;
    for caller in &mut callers {
        caller.call(BLOCK)?;
        caller.microseconds.clear();
    }
    for _ in 0..plan.samples(10_000).div_ceil(BLOCK) {
        callers.iter_mut().try_for_each(|caller| caller.call(BLOCK))?;
    }
    let arm = |caller: &Caller| Arm::of(format!("XPUcall, {}", caller.name), Unit::Microseconds, &caller.microseconds);
    let arms = callers.iter().filter_map(arm).collect();
    let notes = ["A call and its answer, block by block in turn: a block begins with a shim that sleeps. The caller \
                  stays on one processor, the shim goes where Linux has it."];
    Ok(Figure::new("xpucall", "Molecule (ASPLOS '22), Figure 8", machine, arms).with_notes(notes))
}
