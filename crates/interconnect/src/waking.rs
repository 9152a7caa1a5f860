//! What it takes to be woken here, as this process has seen it, and so how long to look for something before sleeping.
//!
//! Looking costs a processor, sleeping what it takes to be woken. Who looks for as long as that, and then sleeps, has lost
//! twice what was needed at most, whenever it comes (Karlin et al., SOSP '91). Of two ends that answer each other, one
//! looks while the other is being woken, and answers: so half as much again. Less, and both sleep for good on a machine on
//! which waking takes longer than they look.
//!
//! ```text
//!   waker    publish, note the time ─▶ wake
//!   sleeper  note the time ─▶ sleep ─ ─ ─ ─ ─ ─ ─ ─ ─▶ awake: that long after the waker's time
//! ```
//!
//! The waker's word is another process's: it is believed within the sleep that it ended, and what follows from it is
//! bounded.

use std::sync::atomic::{AtomicU64, Ordering};

/// The shortest and the longest time that is worth looking, in nanoseconds.
pub const LIMIT_MIN: u64 = 40_000;
pub const LIMIT_MAX: u64 = 400_000;

/// What waking takes, in nanoseconds; 0: not known yet.
static WAKING: AtomicU64 = AtomicU64::new(0);

/// How long to look at most, in nanoseconds.
pub fn limit() -> u64 {
    limit_of(WAKING.load(Ordering::Relaxed))
}

fn limit_of(waking: u64) -> u64 {
    (waking + waking / 2).clamp(LIMIT_MIN, LIMIT_MAX)
}

/// Waking has taken so long, in nanoseconds. Time in which a processor was at work for others is in some of these: so less
/// is believed sooner than more.
pub fn learn(took: u64) {
    // Threads that learn at once forget each other's, which does no harm.
    WAKING.store(learnt(WAKING.load(Ordering::Relaxed), took.min(LIMIT_MAX)), Ordering::Relaxed);
}

fn learnt(known: u64, took: u64) -> u64 {
    match known {
        0 => took,
        known if took < known => known - (known - took) / 4,
        known => known + (took - known) / 8,
    }
}

/// The count of ticks of the processor: which of two things was first, for less than asking the kernel for the time. Of no
/// unit in particular; 0 where there is none that is cheap.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: all processors of this kind have this instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// As above.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub fn ticks() -> u64 {
    0
}

/// The processor that this thread runs on at the moment.
pub fn processor() -> u32 {
    rustix::thread::sched_getcpu() as u32
}

/// A sleep that begins.
#[derive(Clone, Copy, Debug)]
pub struct Sleep {
    ticks: u64,
    ns: u64,
}

impl Sleep {
    pub fn begin() -> Self {
        Self { ticks: ticks(), ns: os::monotonic_ns() }
    }

    /// How long ago it began, in nanoseconds.
    pub fn lasted(self) -> u64 {
        os::monotonic_ns().saturating_sub(self.ns)
    }

    /// It has ended, and who ended it says to have done so at `called_at`, in [`ticks`]. None if that cannot be.
    pub fn end(self, called_at: u64) -> Option<Woken> {
        self.ended_at(ticks(), os::monotonic_ns(), called_at)
    }

    fn ended_at(self, ticks: u64, ns: u64, called_at: u64) -> Option<Woken> {
        if called_at <= self.ticks || called_at > ticks {
            return None;
        }
        // The sleep itself says how many ticks a nanosecond has.
        let all = ns.saturating_sub(self.ns);
        let took = u128::from(all) * u128::from(ticks - called_at) / u128::from(ticks - self.ticks);
        let took = u64::try_from(took).ok()?;
        Some(Woken { after: all.saturating_sub(took), took })
    }
}

/// What a sleep has shown, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woken {
    /// How long after it began it was ended.
    pub after: u64,
    /// How long that took to be felt.
    pub took: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_looks_for_half_as_much_again_as_waking_takes() {
        assert_eq!([0, 5_000, 60_000, 10_000_000].map(limit_of), [LIMIT_MIN, LIMIT_MIN, 90_000, LIMIT_MAX]);
    }

    #[test]
    fn what_was_seen_once_is_not_believed_at_once() {
        let seen = |known, took| {
            (0..).scan(known, move |known, _| {
                *known = learnt(*known, took);
                Some(*known)
            })
        };
        assert_eq!(learnt(0, 50_000), 50_000);
        assert!(seen(50_000, 400_000).take(2).all(|known| limit_of(known) < 3 * limit_of(50_000)));
        assert!(seen(50_000, 200_000).nth(20).unwrap() > 180_000);
        assert!(seen(400_000, 50_000).nth(10).unwrap() < 70_000, "less is believed sooner");
    }

    #[test]
    fn a_sleep_tells_how_long_ago_it_was_ended() {
        let sleep = Sleep { ticks: 1_000, ns: 500 };
        assert_eq!(sleep.ended_at(4_000, 1_500, 3_700), Some(Woken { after: 900, took: 100 }));
        for impossible in [0, 999, 1_000, 4_001, u64::MAX] {
            assert_eq!(sleep.ended_at(4_000, 1_500, impossible), None, "{impossible}");
        }
        assert_eq!(Sleep { ticks: 0, ns: 0 }.ended_at(0, 1_500, 0), None, "where there are no ticks");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn ticks_go_on_with_the_clock() {
        let sleep = Sleep::begin();
        let called_at = ticks();
        let ends = std::iter::repeat_with(|| sleep.end(called_at)).map_while(|woken| woken);
        let took = ends.map(|woken| woken.took).find(|took| *took > 1_000_000);
        assert!(took.is_some_and(|took| took < 1_000_000_000), "{took:?}");
    }
}
