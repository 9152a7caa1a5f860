//! Engines as those see them who choose one: how long each is expected to be busy.
//!
//! An engine runs one request after the other, each to its end, and has a processor of its own. A request goes to the one
//! that is expected to come to it first, so that short runs pass by a long one. Of those that are alike it is the one on
//! the processor where the request is: the engine comes to life there as soon as the asking thread sleeps, without the tens
//! of microseconds in which another processor is woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::runtime::{Handle, Id};

/// What it takes to wake an engine on another processor, and to be woken from there, in nanoseconds.
const AWAY: u64 = 20_000;
/// What a run counts for at least, and what it is believed to have taken at most.
const RUN_MIN: u64 = 5_000;
const RUN_MAX: u64 = 3_600_000_000_000;

/// One engine.
#[derive(Debug)]
pub(super) struct Engine {
    pu: u8,
    processor: u32,
    /// Nanoseconds that the requests it was given are expected to take.
    expected: AtomicU64,
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
    /// The engine on this processor of a PU. What an instance says of it is believed: there are not many processors.
    pub fn of(&mut self, pu: u8, processor: u32) -> Option<Arc<Engine>> {
        let known = self.0.iter().find(|engine| (engine.pu, engine.processor) == (pu, processor));
        if known.is_some() {
            return known.cloned();
        }
        if processor as usize >= rustix::thread::CpuSet::MAX_CPU {
            return None;
        }
        let engine = Arc::new(Engine { pu, processor, expected: AtomicU64::new(0) });
        self.0.push(engine.clone());
        Some(engine)
    }
}

impl Engine {
    /// After how long it would come to a request that is on this processor.
    pub fn distance(&self, here: u32) -> u64 {
        let away = if self.processor == here { 0 } else { AWAY };
        self.expected.load(Relaxed).saturating_add(away)
    }
}

impl Claim {
    pub fn new(engine: Arc<Engine>, nanoseconds: u64) -> Self {
        let nanoseconds = nanoseconds.max(RUN_MIN);
        engine.expected.fetch_add(nanoseconds, Relaxed);
        Self { engine, nanoseconds }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.engine.expected.fetch_sub(self.nanoseconds, Relaxed);
    }
}

/// Where a request is.
#[derive(Debug)]
pub(super) struct Here {
    pub processor: u32,
    pub event_loop: Option<Id>,
}

impl Here {
    /// Where the calling thread is.
    pub fn now() -> Self {
        let event_loop = Handle::try_current().ok().map(|handle| handle.id());
        Self { processor: rustix::thread::sched_getcpu() as u32, event_loop }
    }
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
        let [one, other] = [3, 4].map(|processor| engines.of(0, processor).unwrap());
        assert!(Arc::ptr_eq(&one, &engines.of(0, 3).unwrap()) && engines.of(0, u32::MAX).is_none());
        assert!(one.distance(3) < other.distance(3) && other.distance(4) < one.distance(4));
        let short = Claim::new(one.clone(), 0);
        assert!(one.distance(3) < other.distance(3), "waiting for a short one is shorter than the way");
        let long = Claim::new(one.clone(), 1_000_000);
        assert!(one.distance(3) > other.distance(3));
        drop((short, long));
        assert_eq!(one.distance(3), 0);
    }

    #[test]
    fn what_is_typical_follows_what_happens() {
        assert_eq!(learn(0, 700), 700);
        let much_later = (0..100).fold(700, |typical, _| learn(typical, 8000));
        assert!((7900..=8000).contains(&much_later), "{much_later}");
    }
}
