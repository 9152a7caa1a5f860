//! How a run is ended from outside: its client has gone away.
//!
//! Runs are numbered, since whoever cancels one may be late: what is meant for one run never ends the next. A run that
//! computes is told by a signal to its thread, which costs it nothing as long as none comes; one that waits for a
//! descriptor waits for [`Stop::descriptor`] as well.
//!
//! Not here: deadlines. The engine that runs a function keeps them itself.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Why a run is over before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Cancelled,
    Deadline,
}

/// One engine's, for all its runs.
#[derive(Debug)]
pub struct Stop {
    /// The run that goes on, or went on last.
    current: AtomicU64,
    /// The last run that was cancelled.
    cancelled: AtomicU64,
    /// The thread that wants a signal, or 0.
    thread: AtomicI32,
    event: OwnedFd,
}

/// What a thread that computes is told by. Nobody else in the process may use it.
pub fn signal() -> i32 {
    libc::SIGRTMIN() + 3
}

impl Stop {
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let zero = || AtomicU64::new(0);
        Ok(Self { current: zero(), cancelled: zero(), thread: AtomicI32::new(0), event })
    }

    /// The next run begins: its number. By the engine's thread, before the run.
    pub fn begin(&self) -> u64 {
        let last = self.current.load(Ordering::Relaxed);
        if self.cancelled.load(Ordering::Relaxed) == last && last != 0 {
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
        }
        self.current.store(last + 1, Ordering::SeqCst);
        last + 1
    }

    /// Ends run number `run` if that is the one that goes on. From any thread.
    pub fn cancel(&self, run: u64) {
        if self.current.load(Ordering::SeqCst) != run || run == 0 {
            return;
        }
        self.cancelled.store(run, Ordering::SeqCst);
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            // SAFETY: sends a signal to a thread of this process, or to none if it is gone.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal()) };
        }
    }

    /// Whether the run that goes on was cancelled.
    pub fn is_cancelled(&self) -> bool {
        let current = self.current.load(Ordering::SeqCst);
        current != 0 && self.cancelled.load(Ordering::SeqCst) == current
    }

    /// To be asked when the descriptor has become readable: it may have been meant for an earlier run, and is silent then.
    pub fn woken(&self) -> bool {
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
        self.is_cancelled()
    }

    /// Readable once the run that goes on was cancelled: see [`Stop::woken`].
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// From now on cancelling sends [`signal`] to the calling thread, until [`Stop::leave`].
    pub fn enter(&self, thread: i32) {
        self.thread.store(thread, Ordering::SeqCst);
    }

    pub fn leave(&self) {
        self.thread.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(stop: &Stop) -> bool {
        let mut wait = [rustix::event::PollFd::new(&stop.event, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut wait, Some(&rustix::time::Timespec::default())).unwrap() == 1
    }

    #[test]
    fn only_the_run_that_is_meant_ends() {
        let stop = Stop::new().unwrap();
        assert!(!stop.is_cancelled());
        stop.cancel(0);
        let first = stop.begin();
        assert!(!stop.is_cancelled());
        let second = stop.begin();
        stop.cancel(first);
        assert!(!stop.is_cancelled() && !readable(&stop));
        stop.cancel(second);
        stop.cancel(second);
        assert!(stop.is_cancelled() && readable(&stop));
        let third = stop.begin();
        assert!(!stop.is_cancelled() && !readable(&stop));
        stop.cancel(third);
        assert!(stop.woken() && !readable(&stop));
    }
}
