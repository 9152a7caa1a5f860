//! The ring into which programs write, and from which one process reads.
//!
//! ```text
//! page of the reader   position u64                  readable and writable
//! page of the writers  position u64                  read only, as what follows
//! bytes, twice         record: length and two flags u32 │ u32 │ bytes, padded to eight
//! ```
//! Positions count for ever. The bytes are mapped twice, one after the other, so that no record is in two parts.

use super::make_ring;
use crate::mapping::Mapping;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
const HEADER_LEN: usize = 8;

#[derive(Debug)]
pub struct Ring {
    fd: OwnedFd,
    reader: Mapping,
    writers: Mapping,
    page: usize,
    len: usize,
}

impl Ring {
    /// A ring of `len` bytes: a power of two, and whole pages.
    pub fn new(len: u32) -> io::Result<Self> {
        let fd = make_ring(len)?;
        // SAFETY: sysconf reads no memory of ours.
        let (page, len) = (unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize, len as usize);
        let reader = Mapping::shared(&fd, page)?;
        let writers = Mapping::readable_from(&fd, page as u64, page + 2 * len)?;
        Ok(Self { fd, reader, writers, page, len })
    }

    /// Takes what was written until now.
    pub fn drain(&self, mut each: impl FnMut(&[u8])) {
        // SAFETY: the first eight bytes of a page that is mapped as long as `self`; the kernel uses them as such a word.
        let read = unsafe { AtomicU64::from_ptr(self.reader.at(0).cast()) };
        let mut at = read.load(Ordering::Relaxed);
        while let Some((record, next)) = self.record(at) {
            if let Some(record) = record {
                each(&record);
            }
            at = next;
            read.store(at, Ordering::Release);
        }
    }

    /// The record at a position, or nothing for one that was given up; and where the next one is.
    fn record(&self, at: u64) -> Option<(Option<Vec<u8>>, u64)> {
        // SAFETY: as in `drain`; the page can only be read, and is.
        let written = unsafe { AtomicU64::from_ptr(self.writers.at(0).cast()) }.load(Ordering::Acquire);
        if at >= written {
            return None;
        }
        let start = self.page + (at as usize & (self.len - 1));
        // SAFETY: within the bytes, and aligned, as all records are.
        let head = unsafe { AtomicU32::from_ptr(self.writers.at(start).cast()) }.load(Ordering::Acquire);
        let len = (head & !(BUSY | DISCARDED)) as usize;
        if head & BUSY != 0 || len > self.len - HEADER_LEN {
            return None;
        }
        let next = at + (HEADER_LEN + len).next_multiple_of(8) as u64;
        if head & DISCARDED != 0 {
            return Some((None, next));
        }
        let mut bytes = vec![0; len];
        // SAFETY: the record lies within the bytes that are mapped twice, and nobody writes it before it was read.
        unsafe { std::ptr::copy_nonoverlapping(self.writers.at(start + HEADER_LEN), bytes.as_mut_ptr(), len) };
        Some((Some(bytes), next))
    }
}

/// It polls readable while there is something in it.
impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
