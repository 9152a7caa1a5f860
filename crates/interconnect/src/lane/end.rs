//! What both ends of a lane have: its region, checked, and the words by which the shim ends it.

use super::{Word, layout};
use crate::region;
use os::mapping::{Mapping, copy};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

pub use crate::region::AttachError;

/// The words by which the shim ends one end of a lane: of its process's notice page, which the shim alone writes.
#[derive(Clone, Debug)]
pub struct Guard {
    /// 0, then why the lane has ended ([`super::Cause`]).
    pub cut: Word,
    /// Changes with every cut, and with whatever else the end's owner is to be woken for.
    pub news: Word,
}

impl Guard {
    /// For ends that have no shim: never cut, never woken.
    pub fn none() -> Self {
        Self { cut: Word::own(), news: Word::own() }
    }
}

/// A lane's region, as one end maps it.
pub(super) struct Region {
    mapping: Arc<Mapping>,
    /// Bytes of the ring.
    pub ring: usize,
    /// Bytes of the longest message.
    pub message_max: usize,
}

impl Region {
    pub fn attach(region: impl AsFd) -> Result<Self, AttachError> {
        let (header, mapping) = region::attach(region, layout::MAGIC, layout::VERSION, layout::whole)?;
        // Both are bounded by `whole`.
        Ok(Self { mapping: Arc::new(mapping), ring: header.ring as usize, message_max: header.bulk as usize })
    }

    pub fn word(&self, offset: usize) -> Word {
        Word::new(&self.mapping, offset)
    }

    /// # Safety
    /// The answer must not be used after this region was dropped, whatever its type says.
    pub unsafe fn borrowed_word(&self, offset: usize) -> &'static AtomicU32 {
        // SAFETY: offsets come from `layout`: in bounds and aligned. Other processes may change the word at any time,
        // which is what an atomic is for. The lifetime is the caller's care.
        unsafe { &*self.mapping.at(offset).cast::<AtomicU32>() }
    }

    /// # Safety
    /// As [`Region::borrowed_word`]'s.
    pub unsafe fn borrowed_time(&self, offset: usize) -> &'static AtomicU64 {
        // SAFETY: as above.
        unsafe { &*self.mapping.at(offset).cast::<AtomicU64>() }
    }

    pub fn ring_base(&self) -> *mut u8 {
        self.mapping.at(layout::RING)
    }

    /// Where the wide ring begins, if there is one, and its bytes.
    pub fn wide(&self) -> Option<(*mut u8, usize)> {
        let bytes = layout::wide_bytes(self.ring);
        (bytes > 0).then(|| (self.mapping.at(layout::RING + self.ring), bytes))
    }

    fn bulk_at(&self) -> usize {
        layout::RING + self.ring + layout::wide_bytes(self.ring)
    }

    fn bulk_base(&self, len: usize) -> *mut u8 {
        assert!(len <= self.bulk_len(), "a message that the bulk area has no room for");
        self.mapping.at(self.bulk_at())
    }

    pub fn bulk_len(&self) -> usize {
        layout::bulk_bytes(self.ring, self.message_max)
    }

    /// Writes `parts`, of `len` bytes in all, to the bulk area.
    pub fn write_bulk(&self, parts: &[&[u8]], len: usize) {
        let base = self.bulk_base(len);
        let mut at = 0;
        for part in parts {
            assert!(part.len() <= len - at, "the parts are as long as said");
            // SAFETY: `at + part.len()` ≤ len, which the area has room for.
            unsafe { copy(part.as_ptr(), base.add(at), part.len()) };
            at += part.len();
        }
    }

    /// Puts the first `len` bytes of the bulk area in the place of what is in `message`.
    pub fn read_bulk(&self, len: usize, message: &mut Vec<u8>) {
        let base = self.bulk_base(len);
        message.clear();
        message.reserve(len);
        // SAFETY: the area has `len` bytes, the vector room for them, and all of them are written before they are its.
        unsafe {
            copy(base, message.as_mut_ptr(), len);
            message.set_len(len);
        }
    }

    /// Gives all pages but the first, which has the words, back to the kernel, whoever else has them mapped.
    pub fn punch(&self) {
        let _ = self.mapping.punch(layout::RING, self.mapping.len() - layout::RING);
    }

    /// Gives the pages of the bulk area's first `len` bytes back to the kernel.
    pub fn punch_bulk(&self, len: usize) {
        // Failing to give pages back costs memory, not correctness.
        let _ = self.mapping.punch(self.bulk_at(), len.next_multiple_of(crate::layout::PAGE));
    }

    /// Gives the pages of the wide ring back to the kernel.
    pub fn punch_wide(&self) {
        // As above: what is left in it is nothing that its marks would let be read.
        let _ = self.mapping.punch(layout::RING + self.ring, layout::wide_bytes(self.ring));
    }
}
