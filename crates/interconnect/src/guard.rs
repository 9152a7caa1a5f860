//! Ending a lane for good, while its ends are at work: what each end does for a message, and what the shim does to cut.
//!
//! The shim writes two words of each end's notice page, which that process can only read: `cut`, 0 and then the cause, and
//! `news`, a count. The writer's process has a third in a page that only it and the shim map: its `hand`, 1 while a message
//! is being written.
//!
//! ```text
//!   reader: copy the message ─▶ fence ─▶ look at cut: 0 → it is a message; else it never was one
//!   writer: hand = 1 ─▶ fence ─▶ look at cut: 0 → write, publish ─▶ hand = 0; else hand = 0, nothing written
//!   shim:   cut = cause ─▶ fence ─▶ news += 1, wake who sleeps on it ─▶ wait for hand = 0
//! ```
//!
//! What the reader copied while `cut` was 0 had been written before the shim wrote it, so before the revoke returned: this
//! holds whatever the writer does. The writer's half is there for the case in which the reader is the hostile one: once
//! the shim has seen the hand at rest, no write of this FIFO begins any more (Dekker, as in [`crate::doorbell`]). A hand
//! that is never put down is a process that is to be detached, not waited for: that is the shim's business.

use crate::sync::{AtomicU32, Ordering, fence};

/// Why a lane has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Cause {
    /// The other end, or the FIFO, was closed.
    Closed = 1,
    /// The process at the other end is gone.
    Died = 2,
    /// The other end's processing unit cannot be reached.
    Lost = 3,
    /// The right to it was revoked.
    Revoked = 4,
    /// This end's own processing unit was fenced, or its process detached.
    Fenced = 5,
}

impl Cause {
    /// The cause that a `cut` word says; none while it is 0. What is not known ends a lane like a revoke.
    pub fn of(word: u32) -> Option<Self> {
        match word {
            0 => None,
            1 => Some(Self::Closed),
            2 => Some(Self::Died),
            3 => Some(Self::Lost),
            5 => Some(Self::Fenced),
            _ => Some(Self::Revoked),
        }
    }

    /// Whether what had been written before the end is still read. A right that is revoked after such an end takes it
    /// away all the same: the shim then writes [`Cause::Revoked`] over it.
    pub fn drains(self) -> bool {
        matches!(self, Self::Closed | Self::Died)
    }
}

/// The writer takes up its hand. Why not, where the lane is cut: then the hand is down again.
pub(crate) fn begin(hand: &AtomicU32, cut: &AtomicU32) -> Result<(), Cause> {
    hand.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    let Some(cause) = Cause::of(cut.load(Ordering::Relaxed)) else { return Ok(()) };
    end(hand);
    Err(cause)
}

/// The writer puts its hand down: all it wrote before is done.
pub(crate) fn end(hand: &AtomicU32) {
    hand.store(0, Ordering::Release);
}

/// The reader, after copying and before it believes what it copied: whether the lane had been cut.
pub(crate) fn verdict(cut: &AtomicU32) -> Option<Cause> {
    fence(Ordering::Acquire);
    Cause::of(cut.load(Ordering::Relaxed))
}

/// The shim cuts: to be followed by a wake of who sleeps on `news`.
pub(crate) fn cut(cut: &AtomicU32, news: &AtomicU32, cause: Cause) {
    cut.store(cause as u32, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    // The shim alone writes it: no read-modify-write is needed.
    news.store(news.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}

/// The shim, after cutting: whether the writer's hand is down, so that nothing is written any more.
pub(crate) fn is_down(hand: &AtomicU32) -> bool {
    hand.load(Ordering::Acquire) == 0
}

#[cfg(all(test, loom))]
mod model;
