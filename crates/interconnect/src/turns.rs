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

use std::cell::Cell;

/// After a turn in vain so many waits give none; twice as many each time, up to the second number, until one is of use.
const VAIN: [u32; 2] = [4, 4096];
/// Who gets its processor back later than this, in nanoseconds, has given it to somebody who computes.
pub const LATE: u64 = 100_000;
/// Then its thread gives none for so many waits; twice as many each time. What is lost by one is won by a thousand or two.
const CROWDED: [u32; 2] = [1024, 65_536];

thread_local! {
    /// For so many waits of this thread the processor is somebody else's as well; and for how many after the next late turn.
    static CROWDED_LEFT: Cell<u32> = const { Cell::new(0) };
    static CROWDED_NEXT: Cell<u32> = const { Cell::new(CROWDED[0]) };
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

    /// Gives the other end a turn, if one is due; to be asked with each wait. Whether `come` said yes after it, and the time that it took, in
    /// nanoseconds.
    pub fn give(&mut self, come: impl FnOnce() -> bool) -> Option<(bool, u64)> {
        if !self.is_due() {
            return None;
        }
        let before = os::monotonic_ns();
        rustix::thread::sched_yield();
        let came = come();
        let took = os::monotonic_ns().saturating_sub(before);
        self.given(took, came);
        Some((came, took))
    }

    fn is_due(&mut self) -> bool {
        let left = CROWDED_LEFT.get();
        if left > 0 {
            CROWDED_LEFT.set(left - 1);
            return false;
        }
        let due = self.left_out == 0;
        self.left_out = self.left_out.saturating_sub(1);
        due
    }

    fn given(&mut self, took: u64, came: bool) {
        let crowded = CROWDED_NEXT.get();
        if took >= LATE {
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
    fn given(turns: &mut Turns, waits: u32, took: u64, came: bool) -> usize {
        let due = |_: &u32| {
            let due = turns.is_due();
            if due {
                turns.given(took, came);
            }
            due
        };
        (0..waits).filter(due).count()
    }

    #[test]
    fn turns_are_given_as_long_as_they_are_of_use() {
        let mut turns = Turns::new();
        assert_eq!(given(&mut turns, 100, 3_000, true), 100);
        assert!(given(&mut turns, 100_000, 500, false) < 40, "nobody to give it to");
        assert!(given(&mut turns, VAIN[1] + 100, 3_000, true) >= 100, "tried now and then, and given again");
    }

    #[test]
    fn hardly_any_are_given_beside_somebody_who_computes() {
        let (mut turns, mut other) = (Turns::new(), Turns::new());
        assert!(given(&mut turns, 1_000_000, 4_000_000, true) < 25);
        assert_eq!(given(&mut other, 100, 4_000_000, true), 0, "for whomever this thread waits");
        assert!(given(&mut turns, 2 * CROWDED[1], 3_000, true) > CROWDED[1] as usize / 2, "until he has gone");
    }

    #[test]
    fn late_turns_that_brought_much_are_no_reason() {
        let mut turns = Turns::new();
        for _ in 0..100 {
            assert_eq!(given(&mut turns, 2, 4_000_000, true), 1);
            Turns::forgive();
        }
    }
}
