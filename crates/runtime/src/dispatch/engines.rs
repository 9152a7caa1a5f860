//! Engines as those see them who choose one: how long each is expected to be busy.
//!
//! An engine runs one request after the other, each to its end, and has a processor of its own. A request goes to the one
//! that is expected to come to it first, so that short runs pass by a long one. Of those that are alike it is the one on
//! the processor where the request is: the engine comes to life there as soon as the asking thread sleeps, without the tens
//! of microseconds in which another processor is woken. Not so where each run takes a process: one is taken down and another
//! made after it, and the answer would wait for that.

use crate::placement::Terms;
use sandbox::spec::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use tokio::runtime::{Handle, Id};

/// What it takes to wake an engine on another processor, and to be woken from there, in nanoseconds.
const AWAY: u64 = 20_000;
/// What comes after a run in a process, and is in the way of an answer from the same processor.
const AFTER: u64 = 40_000;
/// What a run counts for at least, and what it is believed to have taken at most.
const RUN_MIN: u64 = 5_000;
const RUN_MAX: u64 = 3_600_000_000_000;

/// One engine.
#[derive(Debug)]
pub(super) struct Engine {
    pu: u8,
    processor: u32,
    for_long: bool,
    /// Nanoseconds that the requests it was given are expected to take.
    expected: AtomicU64,
    requests: AtomicU32,
    runs: AtomicU64,
    busy: AtomicU64,
}

/// What an engine has done, and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineState {
    /// The number of its PU.
    pub pu: u8,
    pub processor: u32,
    /// Whether it is for runs that take long.
    pub for_long: bool,
    /// Requests that it runs, or that wait for it.
    pub requests: u32,
    pub runs: u64,
    /// Nanoseconds that they took.
    pub busy: u64,
}

/// All engines that instances have told of.
#[derive(Debug, Default)]
pub(super) struct Engines(Vec<Arc<Engine>>);

/// What one request is expected to take of an engine, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    engine: Arc<Engine>,
    nanoseconds: u64,
}

impl Engines {
    /// The engine on this processor of a PU that serves instances on such terms. What an instance says of where it is is
    /// believed: there are not many processors.
    pub fn of(&mut self, terms: &Terms, processor: u32) -> Option<Arc<Engine>> {
        let (pu, for_long) = (terms.pu, terms.for_long);
        let wanted = (pu, processor, for_long);
        let known = self.0.iter().find(|engine| (engine.pu, engine.processor, engine.for_long) == wanted);
        if known.is_some() {
            return known.cloned();
        }
        if processor as usize >= rustix::thread::CpuSet::MAX_CPU {
            return None;
        }
        let [expected, runs, busy] = [0; 3].map(AtomicU64::new);
        let engine = Arc::new(Engine { pu, processor, for_long, expected, requests: AtomicU32::new(0), runs, busy });
        self.0.push(engine.clone());
        Some(engine)
    }

    pub fn states(&self) -> Vec<EngineState> {
        self.0.iter().map(|engine| engine.state()).collect()
    }
}

impl Engine {
    /// After how long it would come to a request that is on this processor.
    pub fn distance(&self, here: &Here) -> u64 {
        let away = if self.processor == here.processor { here.after } else { AWAY };
        self.expected.load(Relaxed).saturating_add(away)
    }

    /// A run is over that took so many nanoseconds.
    pub fn ran(&self, nanoseconds: u64) {
        self.runs.fetch_add(1, Relaxed);
        self.busy.fetch_add(nanoseconds.min(RUN_MAX), Relaxed);
    }

    fn state(&self) -> EngineState {
        let [runs, busy] = [&self.runs, &self.busy].map(|number| number.load(Relaxed));
        let (pu, processor, for_long) = (self.pu, self.processor, self.for_long);
        EngineState { pu, processor, for_long, requests: self.requests.load(Relaxed), runs, busy }
    }
}

impl Claim {
    pub fn new(engine: Arc<Engine>, nanoseconds: u64) -> Self {
        let nanoseconds = nanoseconds.max(RUN_MIN);
        engine.expected.fetch_add(nanoseconds, Relaxed);
        engine.requests.fetch_add(1, Relaxed);
        Self { engine, nanoseconds }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.engine.expected.fetch_sub(self.nanoseconds, Relaxed);
        self.engine.requests.fetch_sub(1, Relaxed);
    }
}

/// Where a request is.
#[derive(Debug)]
pub(super) struct Here {
    pub processor: u32,
    pub event_loop: Option<Id>,
    /// For how long its processor is busy after the run.
    after: u64,
}

impl Here {
    /// Where the calling thread is, which asks for a run of a function of this kind.
    pub fn now(kind: Kind) -> Self {
        let event_loop = Handle::try_current().ok().map(|handle| handle.id());
        Self { processor: rustix::thread::sched_getcpu() as u32, event_loop, after: after(kind) }
    }
}

fn after(kind: Kind) -> u64 {
    if kind == Kind::Native { AFTER } else { 0 }
}

/// What a run is expected to take after one that took `took`: the last few count most.
pub(super) fn learn(typical: u64, took: u64) -> u64 {
    let took = took.min(RUN_MAX);
    if typical == 0 { took } else { typical - typical / 8 + took / 8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_the_one_that_is_free_first() {
        let mut engines = Engines::default();
        let at = |processor, kind| Here { processor, event_loop: None, after: after(kind) };
        let wasm = |processor| at(processor, Kind::Wasm);
        let here = Terms::default();
        let [one, other] = [3, 4].map(|processor| engines.of(&here, processor).unwrap());
        assert!(Arc::ptr_eq(&one, &engines.of(&here, 3).unwrap()) && engines.of(&here, u32::MAX).is_none());
        let third = engines.of(&Terms { for_long: true, ..here }, 3).unwrap();
        assert!(!Arc::ptr_eq(&one, &third), "there are two on a processor");
        assert!(one.distance(&wasm(3)) < other.distance(&wasm(3)) && other.distance(&wasm(4)) < one.distance(&wasm(4)));
        let short = Claim::new(one.clone(), 0);
        assert!(one.distance(&wasm(3)) < other.distance(&wasm(3)), "waiting for a short one is shorter than the way");
        let long = Claim::new(one.clone(), 1_000_000);
        assert!(one.distance(&wasm(3)) > other.distance(&wasm(3)));
        assert_eq!(engines.states()[0].requests, 2);
        one.ran(700);
        drop((short, long));
        assert_eq!(
            engines.states()[0],
            EngineState { pu: 0, processor: 3, for_long: false, requests: 0, runs: 1, busy: 700 }
        );
        assert_eq!(one.distance(&wasm(3)), 0);
        let process = at(3, Kind::Native);
        assert!(one.distance(&process) > other.distance(&process), "what comes after a run is in nobody's way");
    }

    #[test]
    fn what_is_typical_follows_what_happens() {
        assert_eq!(learn(0, 700), 700);
        let much_later = (0..100).fold(700, |typical, _| learn(typical, 8000));
        assert!((7900..=8000).contains(&much_later), "{much_later}");
    }
}
