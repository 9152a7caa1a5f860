//! Whether an engine comes to its processor in time, and what it does if not.
//!
//! An engine that wakes up preempts nobody ([`SLICE`] at a time), so that an event loop sends all its requests before the first is run. Where
//! somebody else computes on its processor, another program of this machine, it would wait for that one's time to end at every request. So
//! it hears when requests were sent: if it comes late again and again it preempts, for a while, whoever runs for longer at a time than it
//! does then, which event loops do not.

use std::time::Duration;

/// How long an engine runs at a time, in nanoseconds: longer than what others have by default.
pub const SLICE: u64 = 6_000_000;
/// The same of engines for long runs: as long as there is. Of two the one that runs for less at a time goes first.
pub const LONG_SLICE: u64 = 100_000_000;
/// The same while it comes late otherwise: less than what others have by default.
const HASTY_SLICE: u64 = 500_000;
/// What it comes late by, on average, when it is too much; and what one time counts for at most, so that it takes several.
const LATE: u64 = 1_000_000;
const LATE_MOST: u64 = 2_000_000;
/// For how long it is hasty then, before it tries again without.
const HASTY: Duration = Duration::from_secs(5);

/// Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Default)]
pub struct Waking {
    /// Whether it is an engine for long runs, which are not worth it, as they take as long as others' times.
    for_long: bool,
    /// Since when it has slept, until the first request after that.
    slept: Option<u64>,
    /// What it has come late by, of late.
    mean: u64,
    /// Until when it is hasty.
    hasty: Option<u64>,
    /// Whether an engine for long runs is on its processor.
    beside_long: bool,
}

impl Waking {
    pub fn new(for_long: bool) -> Self {
        Self { for_long, ..Self::default() }
    }

    /// From now on an engine for long runs is on its processor, or none.
    pub fn beside_long(&mut self, there: bool) {
        self.beside_long = there;
        self.follow();
    }

    /// It has slept since then, until `now`.
    pub fn slept(&mut self, since: u64, now: u64) {
        self.slept = Some(since);
        if self.hasty.take_if(|until| *until < now).is_some() {
            self.mean = 0;
            self.follow();
        }
    }

    /// A request begins that was sent then; 0 if that is not known.
    pub fn begins(&mut self, sent: u64, now: u64) {
        let Some(since) = self.slept.take() else { return };
        if self.comes_late_again(since, sent, now) {
            self.hasty = Some(now + HASTY.as_nanos() as u64);
            self.follow();
        }
    }

    fn comes_late_again(&mut self, since: u64, sent: u64, now: u64) -> bool {
        // What was sent before did not wake it.
        if self.for_long || self.hasty.is_some() || sent < since || sent > now {
            return false;
        }
        let late = (now - sent).min(LATE_MOST);
        self.mean = self.mean - self.mean / 8 + late / 8;
        self.mean >= LATE
    }

    /// Has the kernel know. One that does not take it leaves everything as it was.
    fn follow(&self) {
        let slice = if self.for_long { LONG_SLICE } else { SLICE };
        let _ = match (self.hasty, self.beside_long) {
            (Some(_), _) => os::process::preempt_longer(HASTY_SLICE),
            (None, true) => os::process::preempt_longer(slice),
            (None, false) => os::process::preempt_nobody(slice),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Wakes up so many times, each time so late: how often until it was hasty.
    fn until_hasty(waking: &mut Waking, at: u64, late: u64, times: u32) -> Option<u32> {
        (1..=times).find(|time| {
            let sent = at + u64::from(*time) * 10 * MS;
            waking.slept(sent - MS, sent + late);
            waking.begins(sent, sent + late);
            waking.hasty.is_some()
        })
    }

    #[test]
    fn one_that_comes_late_again_and_again_is_hasty_for_a_while() {
        let mut waking = Waking::default();
        assert_eq!(until_hasty(&mut waking, 0, 100_000, 1000), None, "not late");
        assert_eq!(until_hasty(&mut waking, 1000 * MS, 50 * MS, 4), None, "late a few times, however much");
        assert!(until_hasty(&mut waking, 1_000_000 * MS, 3 * MS, 8).is_some_and(|times| times <= 6));
        let until = waking.hasty.unwrap();
        waking.slept(until - MS, until - 1);
        assert!(waking.hasty.is_some());
        waking.slept(until, until + 1);
        assert!(waking.hasty.is_none());
        assert_eq!(until_hasty(&mut waking, until + MS, 3 * MS, 5), None, "it begins anew");
    }

    #[test]
    fn what_did_not_wake_it_says_nothing() {
        let mut waking = Waking::default();
        for round in 1..100 {
            let now = round * 100 * MS;
            waking.slept(now - 10 * MS, now);
            // Sent before it slept, never, or by another clock; and by those who come after the first.
            waking.begins([now - 11 * MS, 0, now + 1][round as usize % 3], now);
            waking.begins(now - 9 * MS, now);
        }
        assert!(waking.hasty.is_none() && waking.mean == 0);
        let mut long = Waking::new(true);
        assert_eq!(until_hasty(&mut long, 0, 9 * MS, 100), None, "not one for long runs");
    }
}
