//! What others know of an instance while one owner holds it: the worker's news of it, and its deadline.
//!
//! The owner asks by [`Shared::poll`]; whoever has news sets it and wakes the owner.

use crate::placement::Terms;
use sandbox::spec::End;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// That there is no instance (any more).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    NotSpawned { reason: String },
    Ended { end: End, memory_peak: u64 },
}

/// What ends an invocation although no answer came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Departed(Departure),
    TimedOut,
}

/// An instance, as the worker's events and the clock know it.
#[derive(Debug)]
pub(super) struct Shared {
    pub id: u64,
    /// Whose instance it is.
    pub post: u64,
    /// Where it runs, and on which terms.
    pub terms: Terms,
    control: Mutex<Control>,
}

#[derive(Debug, Default)]
struct Control {
    departure: Option<Departure>,
    /// When the invocation times out (`CLOCK_MONOTONIC`, nanoseconds); 0 for never.
    due: u64,
    /// When the clock looks at this next; 0 for never.
    looked_at: u64,
    timed_out: bool,
    waker: Option<Waker>,
    spawned: bool,
    /// Nobody wants it any more.
    retired: bool,
    /// Reads as the peak of memory use, in bytes.
    memory: Option<OwnedFd>,
}

impl Shared {
    pub fn new(id: u64, post: u64, terms: Terms) -> Self {
        Self { id, post, terms, control: Mutex::default() }
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance is gone. The first news counts.
    pub fn depart(&self, departure: Departure) {
        let mut control = self.control();
        control.departure.get_or_insert(departure);
        let waker = control.waker.take();
        drop(control);
        waker.into_iter().for_each(Waker::wake);
    }

    pub fn is_departed(&self) -> bool {
        self.control().departure.is_some()
    }

    /// What has happened; if nothing, wakes when something does.
    pub fn poll(&self, cx: &mut Context<'_>) -> Option<Verdict> {
        let mut control = self.control();
        if let Some(departure) = &control.departure {
            return Some(Verdict::Departed(departure.clone()));
        }
        if control.timed_out {
            return Some(Verdict::TimedOut);
        }
        match &mut control.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        None
    }

    /// Sets the deadline. Answers whether the clock must be told, as it would look too late.
    pub fn set_due(&self, due: u64) -> bool {
        let mut control = self.control();
        (control.due, control.timed_out) = (due, false);
        let late = control.looked_at == 0 || control.looked_at > due;
        if late {
            control.looked_at = due;
        }
        late
    }

    /// There is no deadline.
    pub fn clear_due(&self) {
        let mut control = self.control();
        (control.due, control.timed_out) = (0, false);
    }

    /// The clock looks, at `now`, because of what was set for `at`. Answers when it is to look again.
    pub fn look(&self, at: u64, now: u64) -> Option<u64> {
        let mut control = self.control();
        if control.looked_at != at {
            return None;
        }
        control.looked_at = 0;
        if control.due == 0 {
            return None;
        }
        if control.due > now {
            control.looked_at = control.due;
            return Some(control.due);
        }
        control.timed_out = true;
        let waker = control.waker.take();
        drop(control);
        waker.into_iter().for_each(Waker::wake);
        None
    }

    /// When the clock looks next.
    pub fn looked_at(&self) -> Option<u64> {
        Some(self.control().looked_at).filter(|at| *at > 0)
    }

    /// The worker has made it; `memory` reads as the peak of its memory use. Answers whether it was retired before, so
    /// that the worker is to be told now.
    pub fn spawned(&self, memory: Option<OwnedFd>) -> bool {
        let mut control = self.control();
        control.spawned = true;
        if !control.retired {
            control.memory = memory;
        }
        control.retired
    }

    /// Nobody wants it any more. Answers whether the worker is to be told now: one that has departed needs no end, and
    /// one that the worker is still making is not known to it yet.
    pub fn retire(&self) -> bool {
        let mut control = self.control();
        (control.retired, control.memory) = (true, None);
        control.spawned && control.departure.is_none()
    }

    pub fn is_spawned(&self) -> bool {
        self.control().spawned
    }

    /// Bytes of memory used at most so far; 0 where unknown.
    pub fn memory_peak(&self) -> u64 {
        let control = self.control();
        if let Some(Departure::Ended { memory_peak, .. }) = control.departure {
            return memory_peak;
        }
        let Some(memory) = &control.memory else { return 0 };
        let mut text = [0; 24];
        let len = rustix::io::pread(memory, &mut text, 0).unwrap_or(0);
        std::str::from_utf8(&text[..len]).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(shared: &Shared) -> Option<Verdict> {
        shared.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_deadline_is_moved_without_telling_the_clock() {
        let shared = Shared::new(1, 1, Terms::default());
        assert!(shared.set_due(100), "nobody looks yet");
        shared.clear_due();
        assert!(!shared.set_due(150), "the clock looks at 100, and sees");
        assert_eq!(shared.look(100, 101), Some(150));
        assert_eq!(poll(&shared), None);
        assert!(shared.set_due(120), "150 is too late");
        assert_eq!(shared.look(120, 120), None);
        assert_eq!(poll(&shared), Some(Verdict::TimedOut));
        assert_eq!(shared.look(150, 150), None, "what was set before does not count any more");
        assert!(shared.set_due(200));
        assert_eq!(poll(&shared), None);
    }

    #[test]
    fn the_first_departure_counts() {
        let shared = Shared::new(1, 1, Terms::default());
        let ended = Departure::Ended { end: End::Exit(0), memory_peak: 7 };
        shared.depart(ended.clone());
        shared.depart(Departure::Ended { end: End::Lost, memory_peak: 0 });
        assert_eq!(poll(&shared), Some(Verdict::Departed(ended)));
        assert_eq!(shared.memory_peak(), 7);
    }

    #[test]
    fn one_that_is_retired_while_it_is_made_is_ended_when_it_is_there() {
        let [early, late, gone] = [1, 2, 3].map(|id| Shared::new(id, 1, Terms::default()));
        assert!(!early.retire());
        assert!(early.spawned(None));
        assert!(!late.spawned(None));
        assert!(late.retire());
        assert!(!gone.spawned(None));
        gone.depart(Departure::Ended { end: End::Exit(0), memory_peak: 0 });
        assert!(!gone.retire());
    }

    #[test]
    fn memory_is_read_from_its_file() {
        let shared = Shared::new(1, 1, Terms::default());
        assert_eq!(shared.memory_peak(), 0);
        let file = tempfile::tempfile().unwrap();
        rustix::io::pwrite(&file, b"12345\n", 0).unwrap();
        shared.spawned(Some(file.into()));
        assert_eq!([shared.memory_peak(), shared.memory_peak()], [12345, 12345]);
    }
}
