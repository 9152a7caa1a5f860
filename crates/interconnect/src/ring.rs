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

use crate::layout::{FRAME, Frame};
use crate::sync::{AtomicU32, Ordering};
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

/// The bytes of a ring, shared with the other side.
#[derive(Clone, Copy)]
struct Bytes {
    base: *mut u8,
    size: u32,
}

impl Bytes {
    /// Copies `from` to the bytes from `position` on.
    fn write(self, position: u32, from: &[u8]) {
        let at = (position & (self.size - 1)) as usize;
        let first = from.len().min(self.size as usize - at);
        // SAFETY: `at + first` ≤ size and the rest is shorter than size, as no caller writes more than the free bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(from.as_ptr(), self.base.add(at), first);
            std::ptr::copy_nonoverlapping(from.as_ptr().add(first), self.base, from.len() - first);
        }
    }

    /// Copies the bytes from `position` on to `to`.
    fn read(self, position: u32, to: &mut [u8]) {
        let at = (position & (self.size - 1)) as usize;
        let first = to.len().min(self.size as usize - at);
        // SAFETY: as in `write`; the other side may change the bytes meanwhile, which changes what is copied only.
        unsafe {
            std::ptr::copy_nonoverlapping(self.base.add(at), to.as_mut_ptr(), first);
            std::ptr::copy_nonoverlapping(self.base, to.as_mut_ptr().add(first), to.len() - first);
        }
    }
}

fn padded(len: usize) -> usize {
    FRAME + len.next_multiple_of(FRAME)
}

/// The writing end.
pub struct Producer<'a> {
    bytes: Bytes,
    head: u32,
    shared_head: &'a AtomicU32,
    shared_tail: &'a AtomicU32,
}

/// The reading end.
pub struct Consumer<'a> {
    bytes: Bytes,
    tail: u32,
    shared_head: &'a AtomicU32,
    shared_tail: &'a AtomicU32,
}

// SAFETY: the pointers are into memory shared between processes anyway; each end is used by one thread at a time.
unsafe impl Send for Producer<'_> {}
// SAFETY: as above.
unsafe impl Send for Consumer<'_> {}

impl<'a> Producer<'a> {
    /// The writing end of an empty ring.
    ///
    /// # Safety
    /// `base` must be valid for `size` bytes, a power of two, for `'a`, and this the only producer of the ring.
    pub unsafe fn new(base: *mut u8, size: usize, head: &'a AtomicU32, tail: &'a AtomicU32) -> Self {
        assert!(size.is_power_of_two() && size < 1 << 31);
        Self { bytes: Bytes { base, size: size as u32 }, head: 0, shared_head: head, shared_tail: tail }
    }

    /// The word that every push changes.
    pub fn head(&self) -> &'a AtomicU32 {
        self.shared_head
    }

    /// Whether the reader has taken everything, as far as it says.
    pub fn is_read(&self) -> bool {
        self.shared_tail.load(Ordering::Acquire) == self.head
    }

    /// Whether a payload of `len` bytes fits now.
    pub fn has_room(&self, len: usize) -> Result<bool, PushError> {
        let used = self.head.wrapping_sub(self.shared_tail.load(Ordering::Acquire));
        if used > self.bytes.size {
            return Err(PushError::Broken);
        }
        Ok(padded(len) <= (self.bytes.size - used) as usize)
    }

    /// Appends one frame whose payload is `parts`, one after the other. The reader sees it whole or not at all.
    pub fn push(&mut self, frame: Frame, parts: &[&[u8]]) -> Result<(), PushError> {
        let need = padded(frame.len as usize);
        debug_assert_eq!(parts.iter().map(|p| p.len()).sum::<usize>(), frame.len as usize);
        if !self.has_room(frame.len as usize)? {
            return Err(PushError::Full(need));
        }
        self.bytes.write(self.head, &encode(frame));
        let mut position = self.head.wrapping_add(FRAME as u32);
        for part in parts {
            self.bytes.write(position, part);
            position = position.wrapping_add(part.len() as u32);
        }
        self.head = self.head.wrapping_add(need as u32);
        self.shared_head.store(self.head, Ordering::Release);
        Ok(())
    }
}

impl<'a> Consumer<'a> {
    /// The reading end of an empty ring.
    ///
    /// # Safety
    /// `base` must be valid for `size` bytes, a power of two, for `'a`, and this the only consumer of the ring.
    pub unsafe fn new(base: *mut u8, size: usize, head: &'a AtomicU32, tail: &'a AtomicU32) -> Self {
        assert!(size.is_power_of_two() && size < 1 << 31);
        Self { bytes: Bytes { base, size: size as u32 }, tail: 0, shared_head: head, shared_tail: tail }
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
        let available = self.shared_head.load(Ordering::Acquire).wrapping_sub(self.tail);
        if available == 0 {
            return Ok(None);
        }
        if available > self.bytes.size || (available as usize) < FRAME {
            return Err(PopError::Broken);
        }
        let mut header = [0; FRAME];
        self.bytes.read(self.tail, &mut header);
        let frame = decode(header);
        // Compared before padding: a length close to 2³² must not wrap.
        if frame.len > available || padded(frame.len as usize) > available as usize || frame.head > frame.len {
            return Err(PopError::Broken);
        }
        payload.resize(frame.len as usize, 0);
        self.bytes.read(self.tail.wrapping_add(FRAME as u32), payload);
        self.tail = self.tail.wrapping_add(padded(frame.len as usize) as u32);
        self.shared_tail.store(self.tail, Ordering::Release);
        Ok(Some(frame))
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

#[cfg(all(test, not(loom)))]
mod tests;
