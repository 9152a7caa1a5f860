//! The least that an exchange through memory takes, to measure others beside: two words, and a plain ring.
//!
//! ```text
//!   0      128    256    384    512           4096                        +RING
//!   ├──────┼──────┼──────┼──────┼─ … ─────────┼───────────────────────────┼──────────────────────────┤
//!   │head  │tail  │head  │tail  │ bell        │ down: pieces, each after  │ up: the same             │
//!   │down  │down  │up    │up    │             │ its message's length      │                          │
//!   └──────┴──────┴──────┴──────┴─────────────┴───────────────────────────┴──────────────────────────┘
//! ```
//!
//! The ring is copied into and out of, an index tells how far, and nothing else is done: the ends trust each other, cannot be
//! cut, and are woken only when a series begins ([`Floor::rouse`]). Nothing but measurements is to use it.

use crate::doorbell;
use crate::lane::Word;
use crate::layout::PAGE;
use os::mapping::{Mapping, copy};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes of a ring, as a lane usually has, and of what is copied at a time.
const RING: usize = 128 * 1024;
const PIECE: usize = 16 * 1024;
/// Bytes of a message's length, and what every piece is padded to.
const LENGTH: usize = 8;
const LINE: usize = 64;
/// How long an end looks and keeps its processor, and looks and offers it; how long it then naps between two looks; and when
/// it gives up.
const EAGER: Duration = Duration::from_micros(100);
const AWAKE: Duration = Duration::from_millis(3);
const NAP: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(120);
const LOOKS: u32 = 1 << 10;
const BELL: usize = 512;

/// One direction, from one end.
struct Way {
    head: Word,
    tail: Word,
    ring: usize,
    at: u32,
}

impl Way {
    fn new(page: &Arc<Mapping>, index: usize) -> Self {
        let word = |offset| Word::new(page, 256 * index + offset);
        Self { head: word(0), tail: word(128), ring: PAGE + RING * index, at: 0 }
    }
}

/// One end.
pub struct Floor {
    page: Arc<Mapping>,
    bell: Word,
    out: Way,
    inward: Way,
}

impl Floor {
    /// The first end, and what the other attaches to.
    pub fn create() -> io::Result<(OwnedFd, Self)> {
        let memory = os::memfd::sealed("lichen-floor", (PAGE + 2 * RING) as u64)?;
        let end = Self::attach(&memory, 0)?;
        Ok((memory, end))
    }

    /// The other end.
    pub fn join(memory: impl AsFd) -> io::Result<Self> {
        Self::attach(memory, 1)
    }

    fn attach(memory: impl AsFd, out: usize) -> io::Result<Self> {
        if os::memfd::sealed_len(&memory)? != (PAGE + 2 * RING) as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let page = Arc::new(Mapping::shared(memory, PAGE + 2 * RING)?);
        let (bell, out, inward) = (Word::new(&page, BELL), Way::new(&page, out), Way::new(&page, 1 - out));
        Ok(Self { page, bell, out, inward })
    }

    /// Wakes the other end, before a series of exchanges.
    pub fn rouse(&self) {
        self.bell.store(self.bell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
        doorbell::wake_all(&self.bell);
    }

    /// Changes the word that the other end looks at.
    pub fn say(&mut self) {
        self.out.at = self.out.at.wrapping_add(LINE as u32);
        self.out.head.store(self.out.at, Ordering::Release);
    }

    /// Waits until the other end's word has changed.
    pub fn hear(&mut self) -> io::Result<()> {
        self.inward.at = self.inward.at.wrapping_add(LINE as u32);
        let (head, next) = (&self.inward.head, self.inward.at);
        self.until(|| head.load(Ordering::Acquire) == next)
    }

    /// The same, and wakes the other end, which sleeps for it.
    pub fn call(&mut self) {
        self.say();
        doorbell::wake(&self.out.head);
    }

    /// Sleeps until the other end's word has changed, however long that takes.
    pub fn doze(&mut self) {
        let before = self.inward.at;
        self.inward.at = before.wrapping_add(LINE as u32);
        while self.inward.head.load(Ordering::Acquire) == before {
            doorbell::sleep(&self.inward.head, before, None);
        }
    }

    /// Sends one message.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let (first, rest) = message.split_at(message.len().min(PIECE - LENGTH));
        self.put(&(message.len() as u64).to_ne_bytes(), first)?;
        rest.chunks(PIECE).try_for_each(|piece| self.put(&[], piece))
    }

    /// Waits for the next message, and puts it in the place of what is in `message`.
    pub fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<()> {
        message.clear();
        let mut length = [0; LENGTH];
        self.await_piece()?;
        self.copy(self.inward.ring, self.inward.at, Copied::Out(&mut length));
        let whole = u64::from_ne_bytes(length) as usize;
        let first = whole.min(PIECE - LENGTH);
        self.take(LENGTH, first, message);
        while message.len() < whole {
            self.await_piece()?;
            self.take(0, PIECE.min(whole - message.len()), message);
        }
        Ok(())
    }

    fn put(&mut self, header: &[u8], piece: &[u8]) -> io::Result<()> {
        let next = self.out.at.wrapping_add((header.len() + piece.len()).next_multiple_of(LINE) as u32);
        self.until(|| next.wrapping_sub(self.out.tail.load(Ordering::Acquire)) as usize <= RING)?;
        self.copy(self.out.ring, self.out.at, Copied::In(header));
        self.copy(self.out.ring, self.out.at.wrapping_add(header.len() as u32), Copied::In(piece));
        self.out.at = next;
        self.out.head.store(next, Ordering::Release);
        Ok(())
    }

    fn await_piece(&self) -> io::Result<()> {
        self.until(|| self.inward.head.load(Ordering::Acquire) != self.inward.at)
    }

    /// Appends the `len` bytes that follow the piece's first `skip`, and gives its room back.
    fn take(&mut self, skip: usize, len: usize, message: &mut Vec<u8>) {
        let filled = message.len();
        message.resize(filled + len, 0);
        self.copy(self.inward.ring, self.inward.at.wrapping_add(skip as u32), Copied::Out(&mut message[filled..]));
        self.inward.at = self.inward.at.wrapping_add((skip + len).next_multiple_of(LINE) as u32);
        self.inward.tail.store(self.inward.at, Ordering::Release);
    }

    fn copy(&self, ring: usize, at: u32, what: Copied<'_>) {
        let (at, len) = (at as usize % RING, what.len());
        assert!(len <= RING, "no more than a ring has");
        let first = len.min(RING - at);
        let [near, far] = [ring + at, ring].map(|offset| self.page.at(offset));
        // SAFETY: both halves lie within this way's ring, by the lines above; the other end leaves them alone meanwhile, or
        // makes a mess of its own measurement.
        unsafe {
            match what {
                Copied::In(from) => {
                    copy(from.as_ptr(), near, first);
                    copy(from.as_ptr().add(first), far, len - first);
                }
                Copied::Out(to) => {
                    copy(near, to.as_mut_ptr(), first);
                    copy(far, to.as_mut_ptr().add(first), len - first);
                }
            }
        }
    }

    /// Looks until it is so; after a while, and between series, only now and then.
    fn until(&self, so: impl Fn() -> bool) -> io::Result<()> {
        let mut since = None;
        loop {
            if (0..LOOKS).any(|_| so()) {
                return Ok(());
            }
            let rung = self.bell.load(Ordering::Acquire);
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            if waited > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if waited > AWAKE && !so() {
                doorbell::sleep(&self.bell, rung, Some(NAP));
            } else if waited > EAGER {
                std::thread::yield_now();
            }
        }
    }
}

enum Copied<'b> {
    In(&'b [u8]),
    Out(&'b mut [u8]),
}

impl Copied<'_> {
    fn len(&self) -> usize {
        match self {
            Self::In(bytes) => bytes.len(),
            Self::Out(bytes) => bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_all_lengths_come_back() {
        let (memory, mut here) = Floor::create().unwrap();
        let mut there = Floor::join(&memory).unwrap();
        let echo = std::thread::spawn(move || {
            let mut message = Vec::new();
            loop {
                there.receive(&mut message).unwrap();
                there.send(&message).unwrap();
                if message.is_empty() {
                    return;
                }
            }
        });
        let mut back = Vec::new();
        for len in [1, 64, PIECE - LENGTH, PIECE, PIECE + 1, RING, 3 * RING + 17, 0] {
            let text: Vec<u8> = (0..len).map(|i| i as u8).collect();
            here.rouse();
            here.send(&text).unwrap();
            here.receive(&mut back).unwrap();
            assert!(back == text, "{len} bytes");
        }
        echo.join().unwrap();
    }
}
