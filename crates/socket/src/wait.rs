//! How long to look for something before sleeping until it comes.
//!
//! Looking pays while what is waited for comes sooner than a sleeper could be woken, and costs a processor otherwise. Each
//! thread keeps an average of how long its waits take, sleep included: while that is short, it looks for a few times as long;
//! when it is not, it sleeps at once, but for a try now and then. Never when both ends run on one processor.

/// What one thread has learnt of its waits. Times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    mean: u64,
    since_try: u32,
}

/// Sleeps between two tries.
const TRY_EVERY: u32 = 64;

impl Patience {
    /// One that begins with a try.
    pub const fn new() -> Self {
        Self { mean: 0, since_try: 0 }
    }

    /// How long to look this time, where waking a sleeper costs about `cap`.
    pub fn budget(&mut self, cap: u64) -> u64 {
        if self.mean <= cap {
            return cap.min(self.mean * 4 + cap / 4);
        }
        self.since_try += 1;
        if self.since_try < TRY_EVERY {
            return 0;
        }
        self.since_try = 0;
        cap
    }

    /// Whether waits are shorter than waking a sleeper.
    pub fn is_short(&self, cap: u64) -> bool {
        self.mean <= cap
    }

    /// A wait took so long, whether in looking or asleep.
    pub fn learn(&mut self, waited: u64, cap: u64) {
        // One long wait tells no more than that it was long.
        let waited = waited.min(8 * cap);
        // A try that has succeeded is followed by others.
        let mean = if waited <= cap { self.mean.min(cap) } else { self.mean };
        self.mean = (mean * 7 + waited) / 8;
    }
}

/// No look is longer, whatever the other end says that it does: who looks hears of no time-out, and of no end.
const LONGEST: u64 = 5_000_000;

/// One look for what another end is to bring about. Times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// When the wait began, or the other end was last seen at work.
    pub since: u64,
    done: u64,
    until: Option<u64>,
}

impl Look {
    /// Of a wait that began at `since`. `done` changes as the other end goes on with what it was sent.
    pub fn new(since: u64, done: u64) -> Self {
        Self { since, done, until: None }
    }

    /// Whether to look on. Time in which the other end is at work does not count: nobody sleeps who would be woken at once.
    pub fn goes_on(&mut self, now: u64, done: u64, budget: u64) -> bool {
        if now >= *self.until.get_or_insert(now + LONGEST) {
            return false;
        }
        if done != self.done {
            (self.since, self.done) = (now, done);
        }
        now - self.since < budget
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_goes_on_while_the_other_end_works_but_not_for_ever() {
        let mut look = Look::new(1_000, 0);
        assert!(look.goes_on(1_500, 0, 2_000) && look.goes_on(2_900, 7, 2_000));
        assert!(look.goes_on(4_800, 7, 2_000) && !look.goes_on(4_900, 7, 2_000));
        let mut busy = Look::new(0, 0);
        let last = (1..).find(|now| !busy.goes_on(now * 1_000, *now, 2_000)).unwrap();
        assert_eq!(last * 1_000, 1_000 + LONGEST);
    }

    const CAP: u64 = 20_000;

    #[test]
    fn short_waits_are_looked_for_and_long_ones_slept_through() {
        let mut patience = Patience::new();
        assert!(patience.budget(CAP) > 0);
        (0..100).for_each(|_| patience.learn(1_000, CAP));
        assert!((4_000..CAP).contains(&patience.budget(CAP)));
        (0..100).for_each(|_| patience.learn(1_000_000, CAP));
        let looks = (0..640).filter(|_| patience.budget(CAP) > 0).count();
        assert_eq!(looks, 10);
        (0..40).for_each(|_| patience.learn(500, CAP));
        assert!(patience.budget(CAP) > 0, "a try that succeeds is followed by others");
    }

    /// Two ends that answer each other in a microsecond, both asleep at first: how many of the last hundred of so many waits
    /// end in a sleep, where being woken takes `waking` and `cap` is the most that they look.
    fn asleep_at_last(waking: u64, cap: u64, waits: usize) -> usize {
        let mut ends = [Patience::new(), Patience::new()];
        ends.iter_mut().for_each(|end| (0..100).for_each(|_| end.learn(1_000_000, cap)));
        let mut slept = vec![true];
        for wait in 0..waits {
            let end = &mut ends[wait % 2];
            let comes_after = 1_000 + if slept[wait] { waking } else { 0 };
            slept.push(end.budget(cap) < comes_after);
            end.learn(comes_after, cap);
        }
        slept.iter().rev().take(100).filter(|slept| **slept).count()
    }

    #[test]
    fn two_ends_do_not_stay_asleep_if_they_look_for_longer_than_waking_takes() {
        for waking in [5_000, 60_000, 200_000] {
            assert_eq!(asleep_at_last(waking, waking * 3 / 2, 2_000), 0, "{waking} ns");
        }
        assert_eq!(asleep_at_last(200_000, 40_000, 2_000), 100, "and do if not");
    }
}
