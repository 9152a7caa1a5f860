//! One direction of one connection: bytes in order, with marks between them.
//!
//! ```text
//!    tail (receiver's)                             head (sender's)
//!     │                                             │            positions count bytes for ever
//!  ───┼──────────┬──────────────┬────────┬─┬────────┼──
//!     │ local …  │ record 7     │rec. 12 │m│ local …│            parts: where the bytes lie
//!  ───┴──────────┴──────────────┴────────┴─┴────────┴──
//! ```
//!
//! A stream begins in its local record, used as a ring; while that has room, sending is a copy and one store, and so small
//! writes cost no more than their bytes. Where a reader is behind, the sender goes on in records that it takes from its own
//! side's store without asking anybody, and comes back. A part is described by one word, which says where it begins and
//! lies; it ends where the next begins, so a sender may go on filling the last one. A *mark* is a part of one position and
//! no byte: it says to the reader, in order, what no byte can (the end; that what follows comes by TCP).
//!
//! The sender needs no message back: where the receiver's position is beyond a part, that part's record is free again.

mod receiver;
mod sender;

pub use receiver::{News, Receiver};
pub use sender::{Sender, Taken};

use crate::calls::Sleep;
use crate::layout::{Calls, LOCAL_AT, MARK, Way};
use thiserror::Error;

/// Bytes that are copied before the other end is told of them: it copies them while this one copies the next.
const PIECE: usize = if cfg!(loom) { 4 } else { 16 * 1024 };

/// Why a stream does not go on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Fault {
    #[error("the other end's words are impossible: it has broken the stream")]
    Broken,
    #[error("the receiver has left")]
    Gone,
}

/// A byte of the memory beneath a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// In the local record, from whose end one goes on at its beginning.
    Local(usize),
    /// In a record: its number, and the offset in it.
    Record(u32, usize),
}

/// Where senders write down whom they have woken, and receivers whether they sleep.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    /// What the sender's process says, and what this one does. They are there for as long as the memory is.
    pub theirs: *const Calls,
    pub own: *const Calls,
    /// By what number the sender does.
    pub way: u32,
}

// SAFETY: of atomics that any thread may look at, while they are there.
unsafe impl Send for Board {}

/// The memory beneath one end of a stream.
pub trait Memory {
    /// The words of this direction.
    fn way(&self) -> &Way;
    /// Copies to a place that this end may write: never beyond its record, and never more than the local record has.
    fn put(&self, at: Spot, from: &[u8]);
    /// Copies from a place.
    fn get(&self, at: Spot, to: &mut [u8]);
    /// Has the processor fetch what is there, while something else is waited for.
    fn expect(&self, _at: Spot) {}
    /// Writes down that the receiver was asleep, and is to look. None: who waits by this set does so himself before he sleeps, or was rung for
    /// already; else he is to be rung for, and sleeps so.
    fn call(&self, _set: usize) -> Option<Sleep> {
        Some(Sleep::UNKNOWN)
    }
    /// Who sleeps so by this set was rung for.
    fn rang(&self, _set: usize, _sleep: Sleep) {}
    /// Where that is written down; none where it is not.
    fn board(&self) -> Option<Board> {
        None
    }
    /// So much more was sent by this process, over all of its streams, that was not seen to be received, or less.
    fn count_ahead(&self, _before: u64, _now: u64) {}
    /// How much that is, and of how many streams.
    fn ahead(&self) -> (u64, u64) {
        (0, 0)
    }
    /// Whether there is a record of this number.
    fn has(&self, record: u32) -> bool;
    /// Whether records may be written now. If so, the way's hand is up, and to be put down.
    fn enter(&self) -> bool;
    /// Takes a record to send through, from this position on.
    fn take(&self, start: u64) -> Option<u32>;
    /// Says where what was sent through a record, from `start` on, ends.
    fn close(&self, record: u32, start: u64, end: u64);
    /// Gives back what was taken at `start`.
    fn give_back(&self, record: u32, start: u64);
}

/// Where a part lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Local(usize),
    Record(u32),
    Mark(u8),
}

impl Place {
    fn word(self, start: u64) -> u64 {
        let place = match self {
            Self::Local(at) => LOCAL_AT | at as u32,
            Self::Record(record) => record,
            Self::Mark(mark) => MARK | u32::from(mark),
        };
        u64::from(place) << 32 | (start & u64::from(u32::MAX))
    }

    /// What a word's upper half says; none if no place can be that.
    fn of(word: u64, memory: &impl Memory) -> Option<Self> {
        let place = (word >> 32) as u32;
        if place & MARK != 0 {
            return u8::try_from(place & !MARK).ok().map(Self::Mark);
        }
        if place & LOCAL_AT != 0 {
            let at = (place & !LOCAL_AT) as usize;
            return (at < crate::layout::LOCAL).then_some(Self::Local(at));
        }
        memory.has(place).then_some(Self::Record(place))
    }
}

/// How far a receiver says that it is: `base` where it has not begun, and whether it has left.
fn received(tail: u64, base: u64) -> (u64, bool) {
    use crate::layout::GONE;
    let at = tail & !GONE;
    // What the last connection's receiver has left behind is about that connection.
    if at <= base { (base, false) } else { (at, tail & GONE != 0) }
}

#[cfg(all(test, not(loom)))]
mod fuzz;
#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
