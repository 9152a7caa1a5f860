//! The shim's thread and its callers on processors of their own.
//!
//! Linux often wakes a shim on the processor of whoever rang, and leaves it there: then each call is two changes of
//! process, where on another processor it is an exchange of cache lines. The shim can tell by itself: a caller on its own
//! processor makes its calls while the shim has given that away, never while it looks. After many such calls in a row it
//! goes elsewhere, if it may be elsewhere, and is then free again to be where Linux has it.
//!
//! No word of a caller's is needed for this, and none could mislead it. Which processors it may be on is not its business.

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::time::{Duration, Instant};

/// Calls in a row that came while others had the processor.
const CALLS: u32 = 64;
/// Between two moves, at least.
const PAUSE: Duration = Duration::from_millis(10);

/// What the shim has seen of where its callers are.
#[derive(Debug, Default)]
pub struct Apart {
    in_a_row: u32,
    moved: Option<Instant>,
}

impl Apart {
    /// There was a call; whether the shim had given its processor away just before.
    pub fn called(&mut self, given_away: bool) {
        if self.due(given_away) && self.moved.is_none_or(|moved| moved.elapsed() >= PAUSE) {
            self.moved = Some(Instant::now());
            leave();
        }
    }

    fn due(&mut self, given_away: bool) -> bool {
        self.in_a_row = if given_away { self.in_a_row + 1 } else { 0 };
        let due = self.in_a_row >= CALLS;
        if due {
            self.in_a_row = 0;
        }
        due
    }
}

/// Leaves this processor for another that this thread may be on. Where that cannot be, all stays as it is.
fn leave() {
    let Ok(all) = sched_getaffinity(None) else { return };
    let mut others = all;
    others.unset(sched_getcpu());
    if others != CpuSet::new() && sched_setaffinity(None, &others).is_ok() {
        let _ = sched_setaffinity(None, &all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_many_calls_in_a_row() {
        let mut apart = Apart::default();
        for _ in 0..3 {
            assert!((1..CALLS).all(|_| !apart.due(true)));
            assert!(!apart.due(false));
        }
        assert!((1..CALLS).all(|_| !apart.due(true)));
        assert!(apart.due(true));
        assert!(!apart.due(true));
    }

    #[test]
    fn leaving_leaves_the_choice_as_it_was() {
        let before = sched_getaffinity(None).unwrap();
        leave();
        assert!(sched_getaffinity(None).unwrap() == before);
    }
}
