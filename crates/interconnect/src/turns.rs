//! Whether to give the processor to the other end before sleeping: two ends that share one, and answer each other, then need neither
//! sleep nor be woken, which costs more than changing between them.
//!
//! ```text
//!   one end     write ─▶ nothing to read yet: offers the processor            ─▶ there it is
//!   the other                                        reads, writes, offers it
//! ```
//!
//! It is of no use where the other end is not at once ready to run, and does harm where somebody else is, who computes: he keeps the
//! processor for a slice of milliseconds, which whoever is woken takes from him. Whether the ends share a processor, and answer soon, whoever
//! asks here knows.

use crate::waking;
use std::cell::Cell;

/// After a turn in vain so many waits give none; twice as many each time, up to the second number, until one is of use.
const VAIN: [u32; 2] = [4, 4096];
/// Who gets its processor back later than this, in nanoseconds, after something was brought, has given it to somebody who computes.
const LATE: u64 = 100_000;
/// Then its thread gives none for so many waits; twice as many each time. What is lost by one is won by a thousand or two.
const CROWDED: [u32; 2] = [1024, 65_536];

thread_local! {
    /// For so many waits of this thread the processor is somebody else's as well; and for how many after the next late turn.
    static CROWDED_LEFT: Cell<u32> = const { Cell::new(0) };
    static CROWDED_NEXT: Cell<u32> = const { Cell::new(CROWDED[0]) };
}

/// What has come of a turn.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    pub came: bool,
    /// It had waited for the processor for long.
    pub late: bool,
}

/// What one end knows of the other.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    left_out: u32,
    next: u32,
}

impl Turns {
    pub const fn new() -> Self {
        Self { left_out: 0, next: VAIN[0] }
    }

    /// Asked with each wait: whether to give the other end a turn.
    pub fn is_due(&mut self) -> bool {
        let left = CROWDED_LEFT.get();
        if left > 0 {
            CROWDED_LEFT.set(left - 1);
            return false;
        }
        let due = self.left_out == 0;
        self.left_out = self.left_out.saturating_sub(1);
        due
    }

    /// Gives one. `come` says whether something has come, and when it was brought, in [`waking::ticks`], as the other end says; 0: that is
    /// not known.
    pub fn give(&mut self, come: impl FnOnce() -> Option<u64>) -> Given {
        let turn = waking::Sleep::begin();
        rustix::thread::sched_yield();
        let came = come();
        let late = match came {
            // Nobody was kept waiting.
            None => false,
            Some(0) => turn.lasted() >= LATE,
            Some(at) => turn.end(at).is_some_and(|woken| woken.took >= LATE),
        };
        self.given(late, came.is_some());
        Given { came: came.is_some(), late }
    }

    fn given(&mut self, late: bool, came: bool) {
        let crowded = CROWDED_NEXT.get();
        if late {
            CROWDED_LEFT.set(crowded);
            CROWDED_NEXT.set((2 * crowded).min(CROWDED[1]));
        } else if came {
            CROWDED_NEXT.set((crowded - 1).max(CROWDED[0]));
            self.next = VAIN[0];
        } else {
            self.left_out = self.next;
            self.next = (2 * self.next).min(VAIN[1]);
        }
    }

    /// The last turn was late because the other end had much to bring.
    pub fn forgive() {
        CROWDED_LEFT.set(0);
        CROWDED_NEXT.set((CROWDED_NEXT.get() / 2).max(CROWDED[0]));
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In how many of so many waits a turn is given, if each goes so.
    fn given(turns: &mut Turns, waits: u32, late: bool, came: bool) -> usize {
        let due = |_: &u32| {
            let due = turns.is_due();
            if due {
                turns.given(late, came);
            }
            due
        };
        (0..waits).filter(due).count()
    }

    #[test]
    fn turns_are_given_as_long_as_they_are_of_use() {
        let mut turns = Turns::new();
        assert_eq!(given(&mut turns, 100, false, true), 100);
        assert!(given(&mut turns, 100_000, false, false) < 40, "nobody to give it to");
        assert!(given(&mut turns, VAIN[1] + 100, false, true) >= 100, "tried now and then, and given again");
    }

    #[test]
    fn hardly_any_are_given_beside_somebody_who_computes() {
        let (mut turns, mut other) = (Turns::new(), Turns::new());
        assert!(given(&mut turns, 1_000_000, true, true) < 25);
        assert_eq!(given(&mut other, 100, true, true), 0, "for whomever this thread waits");
        assert!(given(&mut turns, 2 * CROWDED[1], false, true) > CROWDED[1] as usize / 2, "until he has gone");
    }

    #[test]
    fn late_turns_that_brought_much_are_no_reason() {
        let mut turns = Turns::new();
        for _ in 0..100 {
            assert_eq!(given(&mut turns, 2, true, true), 1);
            Turns::forgive();
        }
    }

    #[test]
    fn only_what_has_waited_is_late() {
        let late = |come: fn() -> Option<u64>| Turns::new().give(come).late;
        let slow = |come: Option<u64>| {
            let began = os::monotonic_ns();
            while os::monotonic_ns() - began < 2 * LATE {}
            come
        };
        assert!(!late(|| None));
        assert!(!Turns::new().give(|| slow(None)).late, "nothing had come");
        assert!(Turns::new().give(|| slow(Some(0))).late, "nobody says when");
        let mut at = 0;
        let given = Turns::new().give(|| {
            at = waking::ticks();
            slow(Some(at))
        });
        assert!(given.came && given.late);
        // Unless this thread loses its processor right then.
        let soon = || !Turns::new().give(|| slow(None).or_else(|| Some(waking::ticks()))).late;
        assert_eq!((0..50).any(|_| soon()), waking::ticks() != 0, "it was brought at the end of a long turn");
    }
}
