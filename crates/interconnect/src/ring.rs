//! A single-producer, single-consumer ring of framed messages.
//!
//! ```text
//!            tail (consumer's)              head (producer's)
//!              │                              │
//!   ┄┄┄────────┼──────────┬─────────┬─────────┼──────────┄┄┄      positions count bytes for ever, modulo 2³²;
//!     free     │ frame ▒▒ │ frame ▒ │ frame ▒ │  free             a byte's place is its position modulo the size
//!   ┄┄┄────────┴──────────┴─────────┴─────────┴──────────┄┄┄
//! ```
//!
//! Each side keeps its own position in private memory and only *publishes* it: what the other side writes over it is
//! never read back. The other side's position is checked against the ring's size before use.

mod bytes;

use crate::layout::{FRAME, Frame};
use crate::sync::{AtomicU32, Ordering};
use bytes::Bytes;
use thiserror::Error;

/// Why nothing was written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PushError {
    #[error("the ring has no room for {0} more bytes until its reader reads")]
    Full(usize),
    #[error("the reader's position is impossible: it has broken the ring")]
    Broken,
}

/// Why nothing could be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PopError {
    #[error("the writer's position or frame is impossible: it has broken the ring")]
    Broken,
}

fn padded(len: usize) -> usize {
    FRAME + len.next_multiple_of(FRAME)
}

/// The writing end.
pub struct Producer<'a> {
    bytes: Bytes,
    head: u32,
    /// The reader's position as last looked up: looked up again only when there seems to be no room.
    seen_tail: u32,
    shared_head: &'a AtomicU32,
    shared_tail: &'a AtomicU32,
}

/// The reading end.
pub struct Consumer<'a> {
    bytes: Bytes,
    tail: u32,
    /// The writer's position as last looked up: looked up again only when there seems to be nothing.
    seen_head: u32,
    published: u32,
    shared_head: &'a AtomicU32,
    shared_tail: &'a AtomicU32,
}

impl<'a> Producer<'a> {
    /// The writing end of an empty ring.
    ///
    /// # Safety
    /// `base` must be valid for `size` bytes, a power of two, for `'a`, and this the only producer of the ring.
    #[cfg(not(loom))]
    pub unsafe fn new(base: *mut u8, size: usize, head: &'a AtomicU32, tail: &'a AtomicU32) -> Self {
        Self::over(Bytes::new(base, size), head, tail)
    }

    fn over(bytes: Bytes, shared_head: &'a AtomicU32, shared_tail: &'a AtomicU32) -> Self {
        Self { bytes, head: 0, seen_tail: 0, shared_head, shared_tail }
    }

    /// The word that every push changes.
    pub fn head(&self) -> &'a AtomicU32 {
        self.shared_head
    }

    /// The word that the reader changes when it has made room.
    pub fn tail(&self) -> &'a AtomicU32 {
        self.shared_tail
    }

    /// Whether the reader has taken everything, as far as it says.
    pub fn is_read(&self) -> bool {
        self.shared_tail.load(Ordering::Acquire) == self.head
    }

    /// Whether a payload of `len` bytes fits now, by a fresh look at the reader's position.
    pub fn has_room(&mut self, len: usize) -> Result<bool, PushError> {
        Ok(padded(len) <= self.look()?)
    }

    /// Bytes of room for frames, at least `need` if there are as many.
    pub fn room(&mut self, need: usize) -> Result<usize, PushError> {
        let known = self.free();
        if known >= need { Ok(known) } else { self.look() }
    }

    fn free(&self) -> usize {
        (self.bytes.len() - self.head.wrapping_sub(self.seen_tail)) as usize
    }

    fn look(&mut self) -> Result<usize, PushError> {
        let tail = self.shared_tail.load(Ordering::Acquire);
        if self.head.wrapping_sub(tail) > self.bytes.len() {
            return Err(PushError::Broken);
        }
        self.seen_tail = tail;
        Ok(self.free())
    }

    /// Appends one frame whose payload is `parts`, one after the other. The reader sees it whole or not at all.
    pub fn push(&mut self, frame: Frame, parts: &[&[u8]]) -> Result<(), PushError> {
        self.stage(frame, parts.iter().copied())?;
        self.publish();
        Ok(())
    }

    /// As [`Producer::push`], but the reader sees it only after [`Producer::publish`].
    pub fn stage<'p>(&mut self, frame: Frame, parts: impl Iterator<Item = &'p [u8]>) -> Result<(), PushError> {
        let need = padded(frame.len as usize);
        if self.room(need)? < need {
            return Err(PushError::Full(need));
        }
        self.bytes.write(self.head, &encode(frame));
        let mut position = self.head.wrapping_add(FRAME as u32);
        let mut left = frame.len as usize;
        for part in parts {
            left = left.checked_sub(part.len()).expect("the parts are as long as the frame says");
            self.bytes.write(position, part);
            position = position.wrapping_add(part.len() as u32);
        }
        assert_eq!(left, 0, "the parts are as long as the frame says");
        self.head = self.head.wrapping_add(need as u32);
        Ok(())
    }

    /// Gets ready for the next frame, when there is nothing better to do.
    pub fn prepare(&self) {
        self.bytes.prepare(self.head);
    }

    /// Lets the reader see what was staged.
    pub fn publish(&mut self) {
        self.shared_head.store(self.head, Ordering::Release);
    }
}

impl<'a> Consumer<'a> {
    /// The reading end of an empty ring.
    ///
    /// # Safety
    /// `base` must be valid for `size` bytes, a power of two, for `'a`, and this the only consumer of the ring.
    #[cfg(not(loom))]
    pub unsafe fn new(base: *mut u8, size: usize, head: &'a AtomicU32, tail: &'a AtomicU32) -> Self {
        Self::over(Bytes::new(base, size), head, tail)
    }

    fn over(bytes: Bytes, shared_head: &'a AtomicU32, shared_tail: &'a AtomicU32) -> Self {
        Self { bytes, tail: 0, seen_head: 0, published: 0, shared_head, shared_tail }
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.shared_head.load(Ordering::Acquire) == self.tail
    }

    /// The word that every push changes, and what it holds while there is nothing to read.
    pub fn head(&self) -> (&'a AtomicU32, u32) {
        (self.shared_head, self.tail)
    }

    /// Takes the next frame, its payload into `payload`.
    pub fn pop(&mut self, payload: &mut Vec<u8>) -> Result<Option<Frame>, PopError> {
        if self.is_known_empty() {
            self.look();
        }
        let Some(frame) = self.peek()? else { return Ok(None) };
        payload.clear();
        self.take(frame.len, payload);
        self.publish();
        Ok(Some(frame))
    }

    /// Whether nothing is left of what was there at the last look.
    pub fn is_known_empty(&self) -> bool {
        self.seen_head == self.tail
    }

    /// Looks up how far the writer has come.
    pub fn look(&mut self) {
        self.seen_head = self.shared_head.load(Ordering::Acquire);
    }

    /// The header of the next of the frames that were there at the last look, read once and checked; to be followed by
    /// [`Consumer::take`] with its length.
    pub fn peek(&mut self) -> Result<Option<Frame>, PopError> {
        let available = self.seen_head.wrapping_sub(self.tail);
        if available == 0 {
            return Ok(None);
        }
        if available > self.bytes.len() || (available as usize) < FRAME {
            return Err(PopError::Broken);
        }
        let mut header = [0; FRAME];
        self.bytes.read(self.tail, &mut header);
        let frame = decode(header);
        // Compared before padding: a length close to 2³² must not wrap.
        if frame.len > available || padded(frame.len as usize) > available as usize || frame.head > frame.len {
            return Err(PopError::Broken);
        }
        Ok(Some(frame))
    }

    /// Appends the next frame's `len` bytes of payload to `to`, and passes over the frame.
    pub fn take(&mut self, len: u32, to: &mut Vec<u8>) {
        let whole = padded(len as usize);
        assert!(whole <= self.seen_head.wrapping_sub(self.tail) as usize, "a frame that `peek` has checked");
        self.bytes.append(self.tail.wrapping_add(FRAME as u32), len as usize, to);
        self.tail = self.tail.wrapping_add(whole as u32);
    }

    /// Bytes that were taken and of which the writer has not been told.
    pub fn taken(&self) -> usize {
        self.tail.wrapping_sub(self.published) as usize
    }

    /// The word that [`Consumer::publish`] changes.
    pub fn tail(&self) -> &'a AtomicU32 {
        self.shared_tail
    }

    /// Gives the writer the room of what was taken.
    pub fn publish(&mut self) {
        self.published = self.tail;
        self.shared_tail.store(self.tail, Ordering::Release);
    }
}

fn encode(frame: Frame) -> [u8; FRAME] {
    let mut bytes = [0; FRAME];
    for (to, from) in bytes.chunks_exact_mut(4).zip([frame.len, frame.head, frame.bulk, frame.kind]) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    bytes
}

fn decode(bytes: [u8; FRAME]) -> Frame {
    let word = |i: usize| u32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    Frame { len: word(0), head: word(4), bulk: word(8), kind: word(12) }
}

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
