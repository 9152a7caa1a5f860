//! How an end waits for the other: a short while by looking, then in the kernel.

use crate::turns::Turns;
use crate::{doorbell, waking};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::futex;

/// After so many waits the whole budget is tried, however badly looking has done: at first, and, twice as many after each try
/// in vain, at last. Tries are to be fewer than one wait in a hundred.
const PROBE: u32 = 64;
const PROBE_MAX: u32 = 256;
/// After a sixteenth of that, if a sleep has shown that looking would have done; after tries in vain, later each time, up to here,
/// and not before that where both ends share a processor, so that none can look while the other works.
const HINTED: u32 = 16;
const HINTED_MAX: u32 = PROBE_MAX * HINTED;
/// Looks at first, one right after the other: half a microsecond, in which a peer that is at work answers. (A pause, as there
/// is between later ones, is as long as a tenth of that.)
const EAGER: u32 = 200;
/// Looks between two at the clock, which costs as much as several.
const LOOKS: u32 = 32;
/// What is shorter than this, in nanoseconds, is not worth looking.
const FLOOR: u64 = 1000;
/// Every so many sleeps are measured.
const LEARN: u32 = 4;
/// How long an end sleeps at most, so that whoever waits by it can see whether the others are still there.
pub const ASLEEP_MAX: Duration = Duration::from_secs(1);
/// How long a sleep lasts at most where the kernel cannot wait for two words (before 5.16).
const SLICE: Duration = Duration::from_millis(10);
/// Two ends that sleep for each other lose a sixth of a round trip if they sleep on two words instead of one. So where what was
/// waited for has come within a fifth of this, it is waited for alone for so long, and news are seen when it comes or when this is
/// over. It is longer than a scheduler's tick, so that the processor's clock is not set anew for it.
const SOON: Duration = Duration::from_millis(5);
/// An end is given turns before sleeping after so many sleeps in a row, of those that were measured, which it has ended from this very processor
/// within so many nanoseconds.
const BRISK: (u32, u64) = (4, 100_000);
/// Who reads this part of the ring after a late turn has let the other end write meanwhile.
const MUCH: usize = 8;

/// How long looking is worth it, learnt from how it went: whoever waits for a peer on its own core learns not to.
pub(super) struct Patience {
    budget: u64,
    /// Waits since the whole budget was tried, and after how many it is to be again.
    waits: u32,
    probe: u32,
    sleeps: u32,
    /// Looking would have done.
    hinted: bool,
    /// The last sleep was ended from this very processor.
    near: bool,
    /// What is waited for has been coming much sooner than within [`SOON`].
    soon: bool,
    /// Measured sleeps in a row that were [`BRISK`].
    brisk: u32,
    turns: Turns,
    /// Where this end was in its ring when it got the processor back late, to find something.
    late_at: Option<u32>,
}

impl Patience {
    pub fn new() -> Self {
        Self {
            budget: u64::MAX,
            waits: 0,
            probe: PROBE,
            sleeps: 0,
            hinted: false,
            near: false,
            soon: false,
            brisk: 0,
            turns: Turns::new(),
            late_at: None,
        }
    }

    /// Asked before a sleep: whether to let the other end run first, as it seems to wait for this processor. This end has read up to `position` of
    /// its ring, of so many bytes.
    pub fn is_turn_due(&mut self, position: u32, size: usize) -> bool {
        if self.late_at.take().is_some_and(|at| position.wrapping_sub(at) as usize >= size / MUCH) {
            Turns::forgive();
        }
        self.may_give() && self.turns.is_due()
    }

    /// Lets it run: whether something has come of it. What has come, and when, is asked as in [`Turns::give`].
    pub fn give_turn(&mut self, position: u32, come: impl FnOnce() -> Option<u64>) -> bool {
        let given = self.turns.give(come);
        self.late_at = given.late.then_some(position);
        given.came
    }

    fn may_give(&self) -> bool {
        self.brisk >= BRISK.0
    }

    /// It came before this end slept, after it was said to: with a longer look it would have been seen.
    pub fn found(&mut self, most: Duration) {
        if !most.is_zero() {
            self.came(u64::try_from(most.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// Asked with each sleep: whether what it takes to be woken from this one is to be measured, which costs something as well.
    pub fn is_to_learn(&mut self) -> bool {
        self.sleeps = self.sleeps.wrapping_add(1);
        self.sleeps % LEARN == 1
    }

    /// What such a sleep has shown, where up to `most` would have been looked for; whether who ended it is on this processor.
    pub fn learn(&mut self, woken: waking::Woken, near: bool, most: Duration) {
        waking::learn(woken.took);
        self.near = near;
        self.brisk = if near && woken.after < BRISK.1 { (self.brisk + 1).min(BRISK.0) } else { 0 };
        if near {
            (self.budget, self.hinted) = (0, false);
        } else {
            self.hinted |= u128::from(woken.after) <= most.as_nanos();
        }
        self.soon = u128::from(woken.after) < (SOON / 5).as_nanos();
    }

    /// Sleeps as [`park`] does, but may see news later, by [`SOON`] at most.
    pub fn park(&mut self, word: &AtomicU32, seen: u32, news: &AtomicU32, known: u32, deadline: Option<Instant>) {
        if self.soon {
            let most = deadline.map_or(SOON, |deadline| left(deadline).min(SOON));
            if doorbell::sleep(word, seen, Some(most)) {
                return;
            }
            self.soon = false;
        }
        park(word, seen, news, known, deadline);
    }

    /// Looks for `ready` for up to `most`, not beyond `deadline`. Whether it came.
    pub fn look(&mut self, most: Duration, deadline: Option<Instant>, mut ready: impl FnMut() -> bool) -> bool {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        if most == 0 {
            return false;
        }
        self.waits += 1;
        let due = match (self.near, self.hinted) {
            (true, _) => HINTED_MAX,
            (false, true) => self.probe / HINTED,
            (false, false) => self.probe.min(PROBE_MAX),
        };
        let probes = self.waits >= due;
        if probes {
            (self.waits, self.hinted) = (0, false);
        }
        let budget = if probes { most } else { self.budget.min(most) };
        if budget == 0 {
            return false;
        }
        if (0..EAGER).any(|_| ready()) {
            self.came(most);
            return true;
        }
        let mut end = None;
        loop {
            for _ in 0..LOOKS {
                if ready() {
                    self.came(most);
                    return true;
                }
                std::hint::spin_loop();
            }
            let now = os::monotonic_ns();
            let end = *end.get_or_insert_with(|| {
                now.saturating_add(deadline.map_or(budget, |deadline| budget.min(left(deadline).as_nanos() as u64)))
            });
            if now >= end {
                break;
            }
        }
        let half = self.budget.min(most) / 2;
        self.budget = if half < FLOOR { 0 } else { half };
        if probes {
            self.probe = (2 * self.probe).min(HINTED_MAX);
        }
        false
    }

    fn came(&mut self, most: u64) {
        (self.budget, self.probe) = (most, PROBE);
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Wakes an end that sleeps in this way: on `word`, or until its bell rings. Whether that has reached it.
pub(super) fn wake(how: u32, word: &AtomicU32, bell: &OwnedFd) -> bool {
    match how {
        doorbell::FUTEX => return doorbell::wake(word),
        doorbell::TURN => {}
        _ => doorbell::knock(bell),
    }
    true
}

/// Sleeps while `word` is `seen` and `news` is `known`, until `deadline` or for [`ASLEEP_MAX`] at most; returns early at will.
pub(super) fn park(word: &AtomicU32, seen: u32, news: &AtomicU32, known: u32, deadline: Option<Instant>) {
    static CANNOT: AtomicBool = AtomicBool::new(false);
    let most = deadline.map_or(ASLEEP_MAX, |deadline| left(deadline).min(ASLEEP_MAX));
    if !CANNOT.load(Ordering::Relaxed) {
        match park_on_both(word, seen, news, known, most) {
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => CANNOT.store(true, Ordering::Relaxed),
            _ => return,
        }
    }
    if news.load(Ordering::Acquire) == known {
        doorbell::sleep(word, seen, Some(most.min(SLICE)));
    }
}

fn park_on_both(
    word: &AtomicU32,
    seen: u32,
    news: &AtomicU32,
    known: u32,
    most: Duration,
) -> rustix::io::Result<usize> {
    let wait = |word: &AtomicU32, value: u32| {
        let mut wait = futex::Wait::new();
        wait.val = value.into();
        wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
        wait.flags = futex::WaitFlags::SIZE_U32;
        wait
    };
    let until = u128::from(os::monotonic_ns()) + most.as_nanos();
    let until = rustix::time::Timespec {
        tv_sec: (until / 1_000_000_000).try_into().unwrap_or(i64::MAX),
        tv_nsec: (until % 1_000_000_000) as i64,
    };
    let waits = [wait(word, seen), wait(news, known)];
    futex::waitv(&waits, futex::WaitvFlags::empty(), Some(&until), rustix::thread::ClockId::Monotonic)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_micros(2);

    /// How many of so many waits look for all of `MOST`, where what comes comes only to those who sleep.
    fn looks(patience: &mut Patience, waits: u32, after: u64) -> usize {
        let mut looks = 0;
        for _ in 0..waits {
            let mut asked = false;
            let come = patience.look(MOST, None, || {
                asked = true;
                false
            });
            assert!(!come);
            looks += usize::from(asked);
            if patience.is_to_learn() {
                patience.learn(waking::Woken { after, took: 5_000 }, false, MOST);
            }
        }
        looks
    }

    #[test]
    fn whoever_shares_a_processor_hardly_looks() {
        let mut patience = Patience::new();
        assert!(looks(&mut patience, 10_000, 1_000) < 100);
        assert!(looks(&mut patience, 25_600, 1_000) <= 101);
    }

    #[test]
    fn whoever_is_woken_from_its_own_processor_looks_for_nothing() {
        let mut patience = Patience::new();
        patience.learn(waking::Woken { after: 1_000, took: 5_000 }, true, MOST);
        let looks = (1..=HINTED_MAX).filter(|_| {
            let mut asked = false;
            patience.look(MOST, None, || {
                asked = true;
                false
            });
            asked
        });
        assert_eq!(looks.count(), 1, "in case that it is none of its business any more");
        patience.learn(waking::Woken { after: 1_000, took: 5_000 }, false, MOST);
        let soon = (0..PROBE_MAX).any(|_| patience.look(MOST, None, || true));
        assert!(soon, "and soon after the other end has got another one");
    }

    #[test]
    fn turns_are_given_to_whoever_shares_the_processor_and_answers_soon() {
        let mut patience = Patience::new();
        let mut gives = |after: u64, near: bool| {
            patience.learn(waking::Woken { after, took: 5_000 }, near, MOST);
            patience.may_give()
        };
        for (after, near) in [(1_000, false), (1_000_000, true)] {
            let given = [(); BRISK.0 as usize].map(|()| gives(1_000, true));
            assert_eq!(given, [false, false, false, true]);
            assert!(!gives(after, near));
        }
    }

    #[test]
    fn whoever_waits_for_long_hardly_looks() {
        let mut patience = Patience::new();
        looks(&mut patience, 1_000, 1_000_000);
        assert!(looks(&mut patience, 25_600, 1_000_000) <= 101);
    }

    #[test]
    fn a_sleep_that_was_not_needed_is_followed_by_a_look() {
        let mut patience = Patience::new();
        looks(&mut patience, 20, 1_000_000);
        assert_eq!(looks(&mut patience, 6, 1_000), 1);
        assert_eq!(looks(&mut patience, 3, 1_000), 0, "later after a try in vain");
        let came = (0..PROBE_MAX).any(|_| patience.look(MOST, None, || true));
        assert!(came && patience.look(MOST, None, || true), "and goes on to look where it does");
    }

    #[test]
    fn who_waits_for_messages_alone_sees_news_soon() {
        let (word, news) = (AtomicU32::new(0), AtomicU32::new(1));
        let mut patience = Patience::new();
        patience.learn(waking::Woken { after: 1_000, took: 5_000 }, true, MOST);
        let began = Instant::now();
        patience.park(&word, 0, &news, 0, None);
        assert!(began.elapsed() >= SOON, "it had been asleep for messages alone");
        let began = Instant::now();
        patience.park(&word, 0, &news, 0, Some(began + Duration::from_secs(60)));
        assert!(began.elapsed() < Duration::from_secs(30), "no messages came, so it sleeps for both");
    }

    #[test]
    fn what_comes_late_is_not_waited_for_alone() {
        let mut patience = Patience::new();
        for (after, soon) in [(1_000, true), (1_000_000, false), (999_999, true)] {
            patience.learn(waking::Woken { after, took: 5_000 }, true, MOST);
            assert_eq!(patience.soon, soon);
        }
    }
}
