//! What is counted for each function, for `/metrics`: atomics that the main path adds to, and copies of them to show.

use super::call::StartKind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the duration histogram's buckets, in microseconds; one more bucket holds the rest.
pub const BOUNDS_US: [u64; 19] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    900_000_000,
];

/// What a function did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The handler raised an error.
    Unhandled,
    /// The function could not be loaded.
    Init,
    TimedOut,
    /// Its process ended.
    Exited,
    OutOfMemory,
    /// It printed more than it may.
    LogLimit,
    ResponseTooLarge,
    /// It broke its channel.
    Broken,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::Unhandled,
        Self::Init,
        Self::TimedOut,
        Self::Exited,
        Self::OutOfMemory,
        Self::LogLimit,
        Self::ResponseTooLarge,
        Self::Broken,
    ];

    /// A label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unhandled => "unhandled",
            Self::Init => "init",
            Self::TimedOut => "timeout",
            Self::Exited => "exit",
            Self::OutOfMemory => "out_of_memory",
            Self::LogLimit => "log_limit",
            Self::ResponseTooLarge => "response_too_large",
            Self::Broken => "broken_channel",
        }
    }
}

/// The counters of one function.
#[derive(Debug, Default)]
pub struct Counters {
    starts: [AtomicU64; 3],
    faults: [AtomicU64; Fault::ALL.len()],
    throttles: AtomicU64,
    remembered: AtomicU64,
    not_remembered: AtomicU64,
    platform_errors: AtomicU64,
    duration_us: AtomicU64,
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
}

/// A copy of a function's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Invocations that came to an end as far as the function is concerned, errors of the function included.
    pub invocations: u64,
    pub cold: u64,
    pub warm: u64,
    pub stem: u64,
    /// In the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    pub throttles: u64,
    /// Requests that were answered with outputs that had been kept, and those that would have been. The former are no
    /// invocations.
    pub remembered: u64,
    pub not_remembered: u64,
    /// Invocations that the platform could not serve.
    pub platform_errors: u64,
    /// The sum of all durations.
    pub duration_us: u64,
    /// How many invocations took at most as long as each of [`BOUNDS_US`], and not as long as the one before; the last
    /// element counts the longer ones.
    pub buckets: [u64; BOUNDS_US.len() + 1],
}

impl Counters {
    pub fn invocation(&self, start: StartKind, duration: Duration, fault: Option<Fault>) {
        self.starts[start as usize].fetch_add(1, Relaxed);
        if let Some(fault) = fault {
            self.faults[fault as usize].fetch_add(1, Relaxed);
        }
        let us = duration.as_micros() as u64;
        self.duration_us.fetch_add(us, Relaxed);
        self.buckets[BOUNDS_US.partition_point(|bound| *bound < us)].fetch_add(1, Relaxed);
    }

    pub fn throttle(&self) {
        self.throttles.fetch_add(1, Relaxed);
    }

    pub fn remembered(&self) {
        self.remembered.fetch_add(1, Relaxed);
    }

    pub fn not_remembered(&self) {
        self.not_remembered.fetch_add(1, Relaxed);
    }

    pub fn platform_error(&self) {
        self.platform_errors.fetch_add(1, Relaxed);
    }

    pub fn tally(&self) -> Tally {
        let [cold, warm, stem] = copy(&self.starts);
        Tally {
            invocations: cold + warm + stem,
            cold,
            warm,
            stem,
            faults: copy(&self.faults),
            throttles: self.throttles.load(Relaxed),
            remembered: self.remembered.load(Relaxed),
            not_remembered: self.not_remembered.load(Relaxed),
            platform_errors: self.platform_errors.load(Relaxed),
            duration_us: self.duration_us.load(Relaxed),
            buckets: copy(&self.buckets),
        }
    }
}

fn copy<const N: usize>(from: &[AtomicU64; N]) -> [u64; N] {
    std::array::from_fn(|i| from[i].load(Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_invocation_falls_into_one_bucket() {
        let counters = Counters::default();
        counters.invocation(StartKind::Cold, Duration::from_micros(100), None);
        counters.invocation(StartKind::Warm, Duration::from_micros(101), Some(Fault::TimedOut));
        counters.invocation(StartKind::Stem, Duration::from_secs(1000), None);
        let tally = counters.tally();
        assert_eq!((tally.invocations, tally.cold, tally.warm, tally.stem), (3, 1, 1, 1));
        assert_eq!((tally.buckets[0], tally.buckets[1], tally.buckets[19]), (1, 1, 1));
        assert_eq!(tally.faults, [0, 0, 1, 0, 0, 0, 0, 0]);
    }
}
