//! Whose turn it is: a lock between processes that share their memory and run on one thread's storage.
//!
//! The C library keeps an allocator's cache, an error number and more for each thread. A template and its forkers are
//! processes of their own with one such storage between them, so only who has the turn may do more than system calls.

use rustix::thread::futex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody sleeps until it is given.
const WANTED: u32 = 2;

/// The lock. Taking and giving it are system calls at most: neither needs the turn.
pub struct Turn(AtomicU32);

impl Turn {
    /// A turn that its maker has.
    pub const fn taken() -> Self {
        Self(AtomicU32::new(TAKEN))
    }

    /// Waits for the turn. False when it was not given for as long as `limit`: whoever has it was killed.
    pub fn take(&self, limit: Duration) -> bool {
        if self.0.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return true;
        }
        let Ok(limit) = futex::Timespec::try_from(limit) else { return false };
        while self.0.swap(WANTED, Ordering::Acquire) != FREE {
            // A word that has changed meanwhile and a signal are reasons to look again; silence is none.
            let waited = futex::wait(&self.0, futex::Flags::PRIVATE, WANTED, Some(&limit));
            if waited == Err(rustix::io::Errno::TIMEDOUT) && self.0.load(Ordering::Relaxed) == WANTED {
                return false;
            }
        }
        true
    }

    /// Gives it to whoever comes next.
    pub fn give(&self) {
        if self.0.swap(FREE, Ordering::Release) == WANTED {
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::UnsafeCell;
    use std::sync::Arc;

    struct Counted(Turn, UnsafeCell<u64>);

    // SAFETY: the count is touched by who has the turn only: that is what is tested.
    unsafe impl Sync for Counted {}

    #[test]
    fn one_at_a_time_and_nobody_is_forgotten() {
        let counted = Arc::new(Counted(Turn::taken(), UnsafeCell::new(0)));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let counted = counted.clone();
                std::thread::spawn(move || {
                    for _ in 0..20_000 {
                        assert!(counted.0.take(Duration::from_secs(30)));
                        // SAFETY: this thread has the turn.
                        unsafe { *counted.1.get() += 1 };
                        counted.0.give();
                    }
                })
            })
            .collect();
        counted.0.give();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(counted.0.take(Duration::ZERO));
        // SAFETY: the threads have ended.
        assert_eq!(unsafe { *counted.1.get() }, 160_000);
    }

    #[test]
    fn a_turn_that_is_never_given_is_noticed() {
        assert!(!Turn::taken().take(Duration::from_millis(5)));
    }
}
