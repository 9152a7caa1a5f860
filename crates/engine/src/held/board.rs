//! What an engine holds, where the other engines of its unit can look it up: a table in a memory file that only its engine
//! writes, and all others have mapped to be read.
//!
//! ```text
//! word 0: runs, odd while one goes on that uses what others hold
//! slot n: id │ run (two words) │ offset in the arena │ length │ … to a line of the cache
//! ```
//!
//! A slot's id is written last, and taken away first: whoever has seen the same id before and after has read what belongs
//! to it.

use os::mapping::Mapping;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use sets::wire::RunId;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Items that one engine holds at most.
pub const SLOTS: usize = 4095;
const LINE: usize = 64;
const BYTES: usize = (SLOTS + 1) * LINE;

/// An item, as its engine describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub id: u64,
    pub run: RunId,
    /// In the arena's file.
    pub offset: u64,
    pub len: u64,
}

/// The table of one engine.
#[derive(Debug)]
pub struct Board(Mapping);

/// Makes an empty table.
pub fn make() -> io::Result<(Board, OwnedFd)> {
    let file = memfd_create("lichen-held", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, BYTES as u64)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok((Board(Mapping::shared(&file, BYTES)?), file))
}

impl Board {
    /// Another engine's.
    pub fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        let size = rustix::fs::fstat(file)?.st_size;
        match usize::try_from(size) == Ok(BYTES) {
            true => Ok(Self(Mapping::readable(file.as_fd(), BYTES)?)),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn word(&self, line: usize, word: usize) -> &AtomicU64 {
        assert!(line <= SLOTS && word < LINE / 8, "a word outside of the table");
        // SAFETY: in bounds by the assertion, and aligned: lines begin at multiples of 64 of a page. Others may change what
        // is there at any time, which is what an atomic is for. Of a table that is mapped to be read only loads are made.
        unsafe { &*self.0.at(line * LINE + word * 8).cast::<AtomicU64>() }
    }

    /// How many runs there were, twice; odd while one goes on.
    pub fn runs(&self) -> u64 {
        self.word(0, 0).load(Ordering::SeqCst)
    }

    /// A run begins, or ends. By the table's own engine.
    pub fn turn(&self) {
        self.word(0, 0).fetch_add(1, Ordering::SeqCst);
    }

    /// By the table's own engine.
    pub fn put(&self, slot: usize, entry: &Entry) {
        let [low, high] = halves(entry.run);
        for (word, value) in [(1, low), (2, high), (3, entry.offset), (4, entry.len)] {
            self.word(slot + 1, word).store(value, Ordering::Relaxed);
        }
        self.word(slot + 1, 0).store(entry.id, Ordering::SeqCst);
    }

    /// By the table's own engine.
    pub fn clear(&self, slot: usize) {
        self.word(slot + 1, 0).store(0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// What is in a slot, if it is the item of this id.
    pub fn entry(&self, slot: usize, id: u64) -> Option<Entry> {
        if slot >= SLOTS || id == 0 || self.word(slot + 1, 0).load(Ordering::SeqCst) != id {
            return None;
        }
        let [low, high, offset, len] = [1, 2, 3, 4].map(|word| self.word(slot + 1, word).load(Ordering::Acquire));
        let stays = self.word(slot + 1, 0).load(Ordering::SeqCst) == id;
        stays.then(|| Entry { id, run: whole([low, high]), offset, len })
    }
}

fn halves(run: RunId) -> [u64; 2] {
    let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| run[at + byte]));
    [half(0), half(8)]
}

fn whole([low, high]: [u64; 2]) -> RunId {
    let bytes = [low.to_le_bytes(), high.to_le_bytes()];
    std::array::from_fn(|byte| bytes[byte / 8][byte % 8])
}
