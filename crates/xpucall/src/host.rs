//! The shim's side of what it shares with one process. The client's side is `process`.
//!
//! The process can write anything into its call region at any time: it is read word by word, once, and only as numbers. It
//! can neither shrink the memory files nor write the notice page.

use crate::abi::{self, ASLEEP, ENDED, Header, REPLY, REQUEST, RUNG_AT, Reply, Request, SHIM_SLEEPS, SLOTS};
use os::mapping::Mapping;
use os::memfd;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The word at `offset` of a mapping.
pub(crate) fn word(mapping: &Mapping, offset: usize) -> &AtomicU32 {
    assert!(offset.is_multiple_of(4) && offset + 4 <= mapping.len(), "a word lies within its mapping");
    // SAFETY: in bounds and aligned, by the assertion; mapped as long as the borrow lives. Shared memory may change at any
    // time, which is what an atomic is for.
    unsafe { &*mapping.at(offset).cast::<AtomicU32>() }
}

/// The double word at `offset` of a mapping.
pub(crate) fn double(mapping: &Mapping, offset: usize) -> &AtomicU64 {
    assert!(offset.is_multiple_of(8) && offset + 8 <= mapping.len(), "a double word lies within its mapping");
    // SAFETY: as for `word`.
    unsafe { &*mapping.at(offset).cast::<AtomicU64>() }
}

/// Writes the header of a memory file that nobody else has yet.
fn head(mapping: &Mapping, slots: u32) {
    double(mapping, 0).store(abi::MAGIC, Ordering::Relaxed);
    word(mapping, 8).store(abi::VERSION, Ordering::Relaxed);
    word(mapping, 12).store(slots, Ordering::Release);
}

/// What a memory file begins with.
pub(crate) fn header(mapping: &Mapping) -> Header {
    let (magic, version) = (double(mapping, 0).load(Ordering::Relaxed), word(mapping, 8).load(Ordering::Relaxed));
    Header { magic, version, slots: word(mapping, 12).load(Ordering::Relaxed) }
}

/// Where one process puts its calls.
#[derive(Debug)]
pub struct CallRegion {
    mapping: Mapping,
    slots: u32,
    /// The number of the last call taken.
    taken: u32,
}

impl CallRegion {
    pub fn create(slots: u32) -> io::Result<(Self, OwnedFd)> {
        let file = memfd::sealed("lichen-calls", abi::call_bytes(slots) as u64)?;
        let mapping = Mapping::shared(&file, abi::call_bytes(slots))?;
        head(&mapping, slots);
        Ok((Self { mapping, slots, taken: 0 }, file))
    }

    /// The call that was made since this was last asked, and its number.
    #[inline]
    pub fn take(&mut self) -> Option<(u32, Request)> {
        let number = word(&self.mapping, REQUEST).load(Ordering::Acquire);
        if number == self.taken {
            return None;
        }
        self.taken = number;
        let argument = |i: usize| double(&self.mapping, REQUEST + 16 + 8 * i).load(Ordering::Relaxed);
        let call = word(&self.mapping, REQUEST + 8).load(Ordering::Relaxed);
        Some((number, Request::of(call, [argument(0), argument(1), argument(2), argument(3)])))
    }

    /// Publishes the answer to call `number`: whether the process sleeps and has to be told of it.
    pub fn answer(&self, number: u32, reply: &Reply) -> bool {
        word(&self.mapping, REPLY + 8).store(reply.status, Ordering::Relaxed);
        word(&self.mapping, REPLY + 12).store(reply.descriptors, Ordering::Relaxed);
        for (i, value) in reply.values.iter().enumerate() {
            double(&self.mapping, REPLY + 16 + 8 * i).store(*value, Ordering::Relaxed);
        }
        word(&self.mapping, REPLY).store(number, Ordering::Release);
        fence(Ordering::SeqCst);
        word(&self.mapping, ASLEEP).load(Ordering::Relaxed) != 0
    }

    /// When the process last rang, as it says ([`interconnect::waking::ticks`]).
    pub fn rung_at(&self) -> u64 {
        double(&self.mapping, RUNG_AT).load(Ordering::Relaxed)
    }

    /// What the process says of a slot.
    pub fn hand(&self, slot: u32) -> u32 {
        debug_assert!(slot < self.slots);
        word(&self.mapping, SLOTS + 4 * slot as usize).load(Ordering::Acquire)
    }
}

/// What one process is told of in memory.
#[derive(Debug)]
pub struct NoticePage {
    mapping: Mapping,
    slots: u32,
}

impl NoticePage {
    pub fn create(slots: u32) -> io::Result<(Self, OwnedFd)> {
        let (mapping, file) = memfd::published("lichen-notices", abi::notice_bytes(slots))?;
        head(&mapping, slots);
        word(&mapping, SHIM_SLEEPS).store(1, Ordering::Relaxed);
        Ok((Self { mapping, slots }, file))
    }

    /// Whether the process has to ring for its calls. To be followed by one more look at them where it has.
    pub fn sleeps(&self, yes: bool) {
        word(&self.mapping, SHIM_SLEEPS).store(yes.into(), Ordering::Relaxed);
        if yes {
            fence(Ordering::SeqCst);
        }
    }

    /// Says why the attachment ends, and wakes nobody: its socket hangs up.
    pub fn end(&self, why: u32) {
        word(&self.mapping, ENDED).store(why, Ordering::Release);
    }

    fn cut_word(&self, slot: u32) -> &AtomicU32 {
        assert!(slot < self.slots);
        word(&self.mapping, SLOTS + 4 * slot as usize)
    }

    fn news_word(&self, slot: u32) -> &AtomicU32 {
        assert!(slot < self.slots);
        word(&self.mapping, SLOTS + 4 * (self.slots + slot) as usize)
    }

    /// Makes a slot ready for a new use.
    pub fn open(&self, slot: u32) {
        self.cut_word(slot).store(0, Ordering::Release);
    }

    /// Ends a slot for good, and wakes whoever sleeps on its news, which are counted in slot `news`. After this and a look
    /// at [`CallRegion::hand`] that finds 0, nothing that the process writes there is read.
    pub fn cut(&self, slot: u32, news: u32, cause: u32) {
        self.cut_word(slot).store(cause, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.tell(news);
    }

    /// Counts what happened to the FIFO that is read through this slot, and wakes whoever sleeps on that.
    pub fn tell(&self, slot: u32) {
        let word = self.news_word(slot);
        // The shim alone writes it.
        word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::SeqCst);
        interconnect::doorbell::wake_all(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_taken_once() {
        let (mut calls, _file) = CallRegion::create(16).unwrap();
        assert_eq!(calls.take(), None);
        double(&calls.mapping, REQUEST + 16).store(9, Ordering::Relaxed);
        word(&calls.mapping, REQUEST + 8).store(abi::call::CREATE, Ordering::Relaxed);
        word(&calls.mapping, REQUEST).store(1, Ordering::Release);
        assert_eq!(calls.take(), Some((1, Request::of(abi::call::CREATE, [9, 0, 0, 0]))));
        assert_eq!(calls.take(), None);
    }

    #[test]
    fn a_sleeper_is_told() {
        let (calls, _file) = CallRegion::create(16).unwrap();
        assert!(!calls.answer(1, &Reply::default()));
        word(&calls.mapping, ASLEEP).store(1, Ordering::Relaxed);
        assert!(calls.answer(2, &Reply::default()));
    }
}
