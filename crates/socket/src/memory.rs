//! The memory of one connection, version 1: what two processes share, and nobody else has.
//!
//! ```text
//! 0        128          384             896               1408                1664               4096
//! ├────────┼────────────┼───────────────┼─────────────────┼───────────────────┼──────────────────┼─ … ────┼─ … ────┤
//! │ header │ greetings  │ senders' words of way 0, way 1  │ receivers' words of way 0, way 1     │ ring 0 │ ring 1 │
//! └────────┴────────────┴─────────────────────────────────┴──────────────────────────────────────┴────────┴────────┘
//! ```
//!
//! Way 0 is the direction in which side 0 sends, way 1 the other. Each word has one writer. Positions in a ring count the
//! bytes that ever went through it. What the words mean is in [`crate::migration`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// "lichsock", read as a little-endian number.
const MAGIC: u64 = 0x6b63_6f73_6863_696c;
const VERSION: u64 = 1;

/// Bytes of a ring. A power of two. Its pages are there once they are written to.
pub const RING: usize = 256 * 1024;
/// Changes between TCP and memory that a receiver may lag behind. A power of two.
pub const TURNS: usize = 8;
const RINGS: usize = 4096;
/// Bytes of the whole.
pub const WHOLE: usize = RINGS + 2 * RING;

#[repr(C)]
struct Header {
    magic: u64,
    version: u64,
}

/// A piece of the caller's memory, as an iovec has it. One of no length may be anywhere.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub at: *mut u8,
    pub len: usize,
}

impl Part {
    /// Bytes to be sent; nothing is written to them.
    pub fn of(bytes: &[u8]) -> Self {
        Self { at: bytes.as_ptr().cast_mut(), len: bytes.len() }
    }

    /// Room for bytes.
    pub fn into(bytes: &mut [u8]) -> Self {
        Self { at: bytes.as_mut_ptr(), len: bytes.len() }
    }
}

/// How two ends make sure of each other: each writes a number of its own, and the one that it has read from the other.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct Greeting {
    pub nonce: AtomicU64,
    pub echo: AtomicU64,
}

/// Where a stretch of the stream ended: bytes ever in memory or ever over TCP, whichever it was; and with how many bytes
/// over TCP the next one began.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Turn {
    pub end: AtomicU64,
    pub tcp: AtomicU64,
}

/// What the sender of a way says.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct SenderWords {
    /// Bytes ever put into the ring.
    pub tail: AtomicU64,
    /// Stretches that have ended. An even one goes over TCP, an odd one through memory.
    pub turn: AtomicU32,
    /// The processor on which it last ran, and 1 more.
    pub cpu: AtomicU32,
    /// Bytes ever given to TCP when the last bell was rung, that one included.
    pub bells: AtomicU64,
    pub turns: [Turn; TURNS],
}

/// What the receiver of a way says.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct ReceiverWords {
    /// Bytes ever taken from the ring.
    pub head: AtomicU64,
    /// Stretches that it has left behind.
    pub turn: AtomicU32,
    /// Odd while it sleeps, or may.
    pub nap: AtomicU32,
    /// The processor on which it last ran, and 1 more.
    pub cpu: AtomicU32,
    /// Not 0: this way is to stay on TCP, and what was not taken from the ring is to go over TCP.
    pub recall: AtomicU32,
}

const _: () = assert!(size_of::<Greeting>() == 128 && size_of::<SenderWords>() == 256);
const _: () = assert!(size_of::<ReceiverWords>() == 128);
const _: () = assert!(RING.is_power_of_two() && TURNS.is_power_of_two());

const GREETINGS: usize = 128;
const SENDERS: usize = 384;
const RECEIVERS: usize = SENDERS + 512;
const _: () = assert!(RECEIVERS + 2 * 128 <= RINGS);

/// Memory for a connection, as its two ends are given it.
pub fn create() -> io::Result<OwnedFd> {
    let file = os::memfd::sealed("lichen-socket", WHOLE as u64)?;
    let header = [MAGIC.to_ne_bytes(), VERSION.to_ne_bytes()].concat();
    rustix::io::pwrite(&file, &header, 0)?;
    Ok(file)
}

/// The memory of a connection in this process, until it is unmapped with [`Memory::unmap`]; it may be copied, and handed to
/// children of this process, where it is at the same place.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    base: NonNull<u8>,
    side: usize,
}

// SAFETY: an address of memory that is shared anyway; all access is by atomics, or within bounds that they give.
unsafe impl Send for Memory {}

impl Memory {
    /// Maps what another process has made, as side 0 or 1. An error if it is of another kind, or can be resized.
    pub fn map(file: impl AsFd, side: usize) -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        if os::memfd::sealed_len(&file)? != WHOLE as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { mmap(std::ptr::null_mut(), WHOLE, rights, MapFlags::SHARED, &file, 0)? };
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let memory = Self { base, side: side & 1 };
        // SAFETY: the mapping begins with room for a header. Read once.
        let header = unsafe { base.cast::<Header>().as_ptr().read_volatile() };
        if header.magic != MAGIC || header.version != VERSION {
            // SAFETY: nobody else knows of this mapping.
            unsafe { memory.unmap() };
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(memory)
    }

    /// Gives the mapping up, in this process.
    ///
    /// # Safety
    /// No copy is used any more in this process.
    pub unsafe fn unmap(self) {
        // SAFETY: the whole of a mapping that `map` made, which the caller says nobody uses.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), WHOLE) };
    }

    fn words<T>(&self, offset: usize) -> &T {
        // SAFETY: offsets are this file's, within the mapping and aligned; the words are atomics, valid whatever they hold.
        unsafe { self.base.add(offset).cast().as_ref() }
    }

    pub fn greeting(&self) -> &Greeting {
        self.words(GREETINGS + self.side * 128)
    }

    pub fn their_greeting(&self) -> &Greeting {
        self.words(GREETINGS + (1 - self.side) * 128)
    }

    /// The words of the sender of the way in which this side sends, or of the other one.
    pub fn sender(&self, mine: bool) -> &SenderWords {
        self.words(SENDERS + self.way(mine) * 256)
    }

    /// The words of the receiver of the way in which this side sends, or of the other one.
    pub fn receiver(&self, mine: bool) -> &ReceiverWords {
        self.words(RECEIVERS + self.way(mine) * 128)
    }

    fn way(&self, mine: bool) -> usize {
        if mine { self.side } else { 1 - self.side }
    }

    fn ring(&self, mine: bool) -> *mut u8 {
        // SAFETY: within the mapping.
        unsafe { self.base.as_ptr().add(RINGS + self.way(mine) * RING) }
    }

    /// Copies what lies behind the first `skip` bytes of `parts` to position `at` of the ring in which this side sends, `most`
    /// bytes at most: how many.
    ///
    /// # Safety
    /// The parts can be read.
    pub unsafe fn put(&self, at: u64, most: usize, parts: &[Part], skip: usize) -> usize {
        let ring = self.ring(true);
        walk(at, most.min(RING), parts, skip, |offset, theirs, len| {
            // SAFETY: offset + len lies within the ring; `theirs` is `len` bytes of a part.
            unsafe { std::ptr::copy_nonoverlapping(theirs, ring.add(offset), len) }
        })
    }

    /// Copies `most` bytes at most from position `at` of the ring in which this side receives, behind the first `skip` bytes
    /// of `parts`: how many.
    ///
    /// # Safety
    /// The parts can be written.
    pub unsafe fn take(&self, at: u64, most: usize, parts: &[Part], skip: usize) -> usize {
        let ring = self.ring(false);
        walk(at, most.min(RING), parts, skip, |offset, theirs, len| {
            // SAFETY: as in `put`. What a hostile peer changes meanwhile is what the caller gets: bytes, of which all are valid.
            unsafe { std::ptr::copy_nonoverlapping(ring.add(offset), theirs, len) }
        })
    }

    /// As [`Memory::take`], from the ring in which this side sends: what the other end did not take.
    pub fn take_back(&self, at: u64, bytes: &mut [u8]) -> usize {
        let ring = self.ring(true);
        let most = bytes.len().min(RING);
        walk(at, most, &[Part::into(bytes)], 0, |offset, theirs, len| {
            // SAFETY: as in `take`.
            unsafe { std::ptr::copy_nonoverlapping(ring.add(offset), theirs, len) }
        })
    }
}

/// Calls `copy` for each run that is in one piece both in the ring and among the caller's pieces: how many bytes in all.
fn walk(at: u64, most: usize, parts: &[Part], mut skip: usize, copy: impl Fn(usize, *mut u8, usize)) -> usize {
    let mut done = 0;
    for &Part { at: start, len } in parts {
        let (mut from, skipped) = (skip.min(len), skip.min(len));
        skip -= skipped;
        while from < len && done < most {
            let offset = (at + done as u64) as usize & (RING - 1);
            let run = (len - from).min(most - done).min(RING - offset);
            copy(offset, start.wrapping_add(from), run);
            from += run;
            done += run;
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_round_the_corner() {
        let file = create().unwrap();
        let (a, b) = (Memory::map(&file, 0).unwrap(), Memory::map(&file, 1).unwrap());
        let at = RING as u64 - 3;
        // SAFETY: slices of this frame.
        let put = unsafe { a.put(at, 100, &[Part::of(b"xxhel"), Part::of(b"lo")], 2) };
        let (mut one, mut two) = ([0; 2], [0; 9]);
        // SAFETY: as above.
        let took = unsafe { b.take(at, put, &[Part::into(&mut one), Part::into(&mut two)], 1) };
        assert_eq!((put, took, one[1], &two[..4]), (5, 5, b'h', &b"ello"[..]));
        let mut back = [0; 5];
        assert_eq!((a.take_back(at, &mut back), &back), (5, b"hello"));
        // SAFETY: neither is used any more.
        unsafe { (a.unmap(), b.unmap()) };
    }

    #[test]
    fn other_memory_is_refused() {
        assert!(Memory::map(os::memfd::sealed("other", WHOLE as u64).unwrap(), 0).is_err());
        assert!(Memory::map(os::memfd::sealed("short", 4096).unwrap(), 0).is_err());
    }
}
