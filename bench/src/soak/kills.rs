//! Kills processes of the node under load: instances, templates, sandboxes, the worker.

use super::lot::Lot;
use crate::census::{Census, Part};
use rustix::process::{Pid, Signal, kill_process};

/// What was killed when.
#[derive(Clone, Debug)]
pub struct Kill {
    pub part: Part,
    /// `CLOCK_MONOTONIC`, nanoseconds; just before the signal.
    pub at: u64,
}

impl Kill {
    /// How many invocations it can have ended, at most: all that run, unless it met one instance.
    pub fn reach(&self, clients: usize) -> usize {
        if self.part == Part::Instance { 1 } else { clients }
    }
}

/// Who is killed first, so that a short soak has all of them.
const FIRST: [Part; 5] = [Part::Instance, Part::Worker, Part::Template, Part::Nursery, Part::Init];

/// Who is killed as number `number`, which counts from 0.
pub fn victim(number: usize, lot: &mut Lot) -> Part {
    let drawn = match lot.below(20) {
        0..13 => Part::Instance,
        13..16 => Part::Template,
        16 => Part::Init,
        17 => Part::Nursery,
        _ => Part::Worker,
    };
    FIRST.get(number).copied().unwrap_or(drawn)
}

/// Kills one of this kind; nothing where there is none.
pub fn kill(part: Part, supervisor: u32, lot: &mut Lot) -> Option<Kill> {
    let census = Census::take(supervisor);
    let all: Vec<u32> = census.of(part).map(|process| process.pid).collect();
    let pid = i32::try_from(*all.get(lot.below(all.len()))?).ok().and_then(Pid::from_raw)?;
    let at = os::monotonic_ns();
    // Who has ended by itself meanwhile has not been killed.
    kill_process(pid, Signal::KILL).ok()?;
    Some(Kill { part, at })
}
