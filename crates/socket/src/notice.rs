//! What the broker tells one process: a page that the broker writes, and never believes.
//!
//! ```text
//! 0       4        8        12
//! │ limit │ frozen │ asleep │ 0 …
//! ```
//!
//! `limit`: records that the process may have taken, over all of its pairs. `frozen`: not 0 while none may be written.
//! `asleep`: another number for each time the broker goes to sleep, and 0 while it is awake: who takes a record while it
//! sleeps tells it once, so a machine on which nothing moves has a broker that does nothing.
//!
//! The process keeps the page when its broker ends, and gives it to the next one ([`Notice::of`]): its senders, in whichever of the
//! children that it has forked, look at one page all their life. A process that writes to it itself misleads itself alone: how
//! much memory its records have, the kernel says.

use crate::freeze;
use interconnect::lane::Word;
use os::mapping::Mapping;
use os::memfd;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the page.
const BYTES: usize = 4096;
const LIMIT: usize = 0;
const FROZEN: usize = 4;
const ASLEEP: usize = 8;

/// The broker's end.
pub struct Notice(Mapping);

impl Notice {
    /// A page that says that nothing may be taken, and the descriptor by which a process reads it.
    pub fn publish() -> io::Result<(Self, OwnedFd)> {
        let file = memfd::sealed("lichen-notice", BYTES as u64)?;
        Ok((Self(Mapping::shared(&file, BYTES)?), file))
    }

    /// The page by which a broker that has ended told a process: nothing is frozen, and nobody asleep.
    pub fn of(file: impl AsFd) -> io::Result<Self> {
        let file = file.as_fd();
        if memfd::sealed_len(file)? != BYTES as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let notice = Self(Mapping::shared(file, BYTES)?);
        notice.thaw();
        notice.sleep(0);
        Ok(notice)
    }

    /// Bounds how many records the process may have taken.
    pub fn limit(&self, records: u32) {
        self.word(LIMIT).store(records, Ordering::Relaxed);
    }

    /// Keeps the process's senders out of their records, until it is thawed.
    pub fn freeze(&self) {
        freeze::freeze(self.word(FROZEN));
    }

    pub fn thaw(&self) {
        freeze::thaw(self.word(FROZEN));
    }

    /// Says that the broker goes to sleep, for the `nap`th time, or that it is awake: 0. To be followed by one more look.
    pub fn sleep(&self, nap: u32) {
        interconnect::doorbell::announce(self.word(ASLEEP), nap);
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the offsets above lie in the page, aligned.
        unsafe { &*self.0.at(offset).cast() }
    }
}

/// The process's end.
pub struct Told {
    pub limit: Word,
    pub frozen: Word,
    pub asleep: Word,
}

impl Told {
    /// Reads what a broker has published.
    pub fn attach(file: impl AsFd) -> io::Result<Self> {
        if memfd::sealed_len(&file)? != BYTES as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let page = Arc::new(Mapping::read_only(file, BYTES)?);
        let word = |offset| Word::new(&page, offset);
        Ok(Self { limit: word(LIMIT), frozen: word(FROZEN), asleep: word(ASLEEP) })
    }
}
