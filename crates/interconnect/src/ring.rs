//! A single-producer, single-consumer ring of framed messages.
//!
//! ```text
//!            tail (consumer's)              head (producer's)
//!              │                              │
//!   ┄┄┄────────┼──────────┬─────────┬─────────┼─┬────────┄┄┄      positions count bytes for ever, modulo 2³²;
//!     free     │m frame ▒ │m frame ▒│m frame ▒│0│ free            a byte's place is its position modulo the size
//!   ┄┄┄────────┴──────────┴─────────┴─────────┴─┴────────┄┄┄
//! ```
//!
//! A frame tells of itself: its first word is its *mark*, written last, so that whoever looks for a message fetches what
//! it looks for, and a short message is one cache line. Before a frame is marked, the producer clears the mark after it:
//! a consumer never takes for a mark what a payload has left there a lap ago, whoever has chosen that payload. It does so
//! ahead of time where the next frame is as long as the last one: a line that the consumer has had is slow to come by. Of
//! several frames that are published at once, the first is marked last. A consumer that sleeps does so on a word of its
//! own, `calls`: it is written only to call one.
//!
//! Each side keeps its own position in private memory; the consumer *publishes* it, and what the producer finds there is
//! checked against the ring's size before use. Marks are read once, and checked.

mod bytes;

use crate::layout::{FRAME, Frame, LINE};
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
    #[error("the writer's frame is impossible: it has broken the ring")]
    Broken,
}

/// Bytes that a frame with a payload of `len` bytes takes.
pub const fn padded(len: usize) -> usize {
    (FRAME + len).next_multiple_of(LINE)
}

/// Lines of a frame that are fetched before it is there; of longer ones that costs their writer more than it brings.
const SHORT: u32 = 8;

/// The longest payload of a ring of `size` bytes: a line after its frame has the mark that is clear.
const fn longest(size: u32) -> usize {
    size as usize - LINE - FRAME
}

/// The writing end.
pub struct Producer<'a> {
    bytes: Bytes,
    head: u32,
    /// The first frame that was staged and not published, and its mark.
    first: Option<(u32, u32)>,
    /// Where, besides at its head, the mark is known to be clear; and how long the last frame was, with its padding.
    clear: u32,
    last: u32,
    /// The reader's position as last looked up: looked up again only when there seems to be no room.
    seen_tail: u32,
    called: u32,
    calls: &'a AtomicU32,
    shared_tail: &'a AtomicU32,
}

/// The reading end.
pub struct Consumer<'a> {
    bytes: Bytes,
    tail: u32,
    /// Bytes that are still to be read, once no more are to come.
    left: Option<u32>,
    published: u32,
    /// Lines of the last frame, if it was short.
    lines: u32,
    calls: &'a AtomicU32,
    shared_tail: &'a AtomicU32,
}

impl<'a> Producer<'a> {
    /// The writing end of an empty ring.
    ///
    /// # Safety
    /// `base` must be valid for `size` bytes, a power of two, for `'a`, and this the only producer of the ring.
    #[cfg(not(loom))]
    pub unsafe fn new(base: *mut u8, size: usize, calls: &'a AtomicU32, tail: &'a AtomicU32) -> Self {
        Self::over(Bytes::new(base, size), calls, tail)
    }

    fn over(bytes: Bytes, calls: &'a AtomicU32, shared_tail: &'a AtomicU32) -> Self {
        Self { bytes, head: 0, first: None, clear: 0, last: LINE as u32, seen_tail: 0, called: 0, calls, shared_tail }
    }

    /// Calls a reader that sleeps: the word that it is to be woken by, changed.
    pub fn call(&mut self) -> &'a AtomicU32 {
        self.called = self.called.wrapping_add(1);
        self.calls.store(self.called, Ordering::Release);
        self.calls
    }

    /// Becomes `other`, and `other` this one: two rings whose reader is called by the same word.
    pub fn trade(&mut self, other: &mut Self) {
        std::mem::swap(self, other);
        self.called = other.called;
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len() as usize
    }

    /// How many bytes it has written, modulo 2³².
    pub fn position(&self) -> u32 {
        self.head
    }

    /// The word that the reader changes when it has made room.
    pub fn tail(&self) -> &'a AtomicU32 {
        self.shared_tail
    }

    /// Whether the reader has taken everything, as far as it says.
    pub fn is_read(&self) -> bool {
        self.shared_tail.load(Ordering::Acquire) == self.head
    }

    /// How many bytes the reader has still to give back, by a fresh look, as far as it says.
    pub fn lag(&self) -> u32 {
        self.head.wrapping_sub(self.shared_tail.load(Ordering::Acquire))
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

    /// But for the line whose mark is clear.
    fn free(&self) -> usize {
        (self.bytes.len() - self.head.wrapping_sub(self.seen_tail)).saturating_sub(LINE as u32) as usize
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
        let next = self.head.wrapping_add(need as u32);
        if self.clear != next {
            self.clear(next);
        }
        self.write(frame, parts);
        let mark = frame.len + 1;
        match self.first {
            Some(_) => self.bytes.mark(self.head).store(mark, Ordering::Release),
            None => self.first = Some((self.head, mark)),
        }
        (self.head, self.last) = (next, need as u32);
        Ok(())
    }

    /// Writes a frame but for its mark. The line that it begins with comes last, at once: a reader that looks for the mark
    /// takes the line away between one write to it and the next. The line after it comes right before, so that the processor asks
    /// the reader's for both together; nothing is put together elsewhere first, as who reads what it has just written in
    /// other pieces waits until they have left it.
    fn write<'p>(&self, frame: Frame, mut parts: impl Iterator<Item = &'p [u8]>) {
        let payload = self.head.wrapping_add(FRAME as u32);
        let first = parts.next().unwrap_or_default();
        let mut at = first.len();
        for part in parts {
            assert!(at + part.len() <= frame.len as usize, "the parts are as long as the frame says");
            self.bytes.write(payload.wrapping_add(at as u32), part);
            at += part.len();
        }
        assert_eq!(at, frame.len as usize, "the parts are as long as the frame says");
        let (here, further) = first.split_at(first.len().min(LINE - FRAME));
        self.bytes.write(payload.wrapping_add(here.len() as u32), further);
        self.bytes.begin(self.head, [frame.head, frame.bulk, frame.kind]);
        self.bytes.write(payload, here);
    }

    /// Gets ready for a next frame like the last one, when there is nothing better to do. The line that it begins with is
    /// left to the reader, who looks at it.
    pub fn prepare(&mut self) {
        let next = self.head.wrapping_add(self.last);
        let taken = next.wrapping_sub(self.seen_tail);
        if self.clear != next && taken <= self.bytes.len() - LINE as u32 {
            self.clear(next);
        }
    }

    fn clear(&mut self, position: u32) {
        self.bytes.mark(position).store(0, Ordering::Relaxed);
        self.clear = position;
    }

    /// Whether something was staged that is not published.
    pub fn is_staged(&self) -> bool {
        self.first.is_some()
    }

    /// Lets the reader see what was staged.
    pub fn publish(&mut self) {
        if let Some((position, mark)) = self.first.take() {
            self.bytes.mark(position).store(mark, Ordering::Release);
        }
    }
}

impl<'a> Consumer<'a> {
    /// The reading end of an empty ring.
    ///
    /// # Safety
    /// `base` must be valid for `size` bytes, a power of two, for `'a`, and this the only consumer of the ring.
    #[cfg(not(loom))]
    pub unsafe fn new(base: *mut u8, size: usize, calls: &'a AtomicU32, tail: &'a AtomicU32) -> Self {
        Self::over(Bytes::new(base, size), calls, tail)
    }

    fn over(bytes: Bytes, calls: &'a AtomicU32, shared_tail: &'a AtomicU32) -> Self {
        Self { bytes, tail: 0, left: None, published: 0, lines: 0, calls, shared_tail }
    }

    /// Whether there is nothing to read. For those who look again and again: where the last frame was short, all the lines
    /// that another one like it would have are fetched with the first.
    pub fn is_empty(&self) -> bool {
        for line in 1..self.lines {
            self.bytes.fetch(self.tail.wrapping_add(line * LINE as u32));
        }
        self.bytes.mark(self.tail).load(Ordering::Acquire) == 0
    }

    /// The mark of the next frame, which is 0 until that is there. It is another one as soon as a frame was taken.
    #[cfg(not(loom))]
    pub fn next_mark(&self) -> *const AtomicU32 {
        self.bytes.mark(self.tail)
    }

    /// The word that changes when a sleeping reader is called, and what it holds. To be asked for before the reader says
    /// that it sleeps, and looks once more.
    pub fn calls(&self) -> (&'a AtomicU32, u32) {
        (self.calls, self.calls.load(Ordering::Acquire))
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len() as usize
    }

    /// How many bytes it has taken, modulo 2³².
    pub fn position(&self) -> u32 {
        self.tail
    }

    /// Takes the next frame, its payload into `payload`.
    pub fn pop(&mut self, payload: &mut Vec<u8>) -> Result<Option<Frame>, PopError> {
        let Some(frame) = self.peek()? else { return Ok(None) };
        payload.clear();
        self.take(frame.len, payload);
        self.publish();
        Ok(Some(frame))
    }

    /// From now on no more is read than what there is.
    pub fn finish(&mut self) {
        let mut left = 0;
        while left < self.bytes.len() {
            let mark = self.bytes.mark(self.tail.wrapping_add(left)).load(Ordering::Acquire);
            match mark.checked_sub(1).map(|len| len as usize) {
                Some(len) if len <= longest(self.bytes.len()) => left += padded(len) as u32,
                _ => break,
            }
        }
        self.left.get_or_insert(left);
    }

    /// The header of the next frame, read once and checked; to be followed by [`Consumer::take`] with its length.
    pub fn peek(&mut self) -> Result<Option<Frame>, PopError> {
        let mark = self.bytes.mark(self.tail).load(Ordering::Acquire);
        let Some(len) = mark.checked_sub(1) else { return Ok(None) };
        let [head, bulk, kind] = self.bytes.rest(self.tail);
        let frame = Frame { len, head, bulk, kind };
        // Compared before padding: a length close to 2³² must not wrap.
        if len as usize > longest(self.bytes.len()) || frame.head > len {
            return Err(PopError::Broken);
        }
        let ends = self.left.is_some_and(|left| padded(len as usize) > left as usize);
        Ok((!ends).then_some(frame))
    }

    /// Appends the next frame's `len` bytes of payload to `to`, and passes over the frame.
    pub fn take(&mut self, len: u32, to: &mut Vec<u8>) {
        assert!(len as usize <= longest(self.bytes.len()), "a frame that `peek` has checked");
        let whole = padded(len as usize) as u32;
        self.bytes.append(self.tail.wrapping_add(FRAME as u32), len as usize, to);
        self.tail = self.tail.wrapping_add(whole);
        self.lines = if whole <= SHORT * LINE as u32 { whole / LINE as u32 } else { 0 };
        self.left = self.left.map(|left| left.saturating_sub(whole));
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

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;
