//! Memory for large outputs: one sparse memory file per engine, mapped once, from which extents are taken.
//!
//! ```text
//!  file   ┌──── extent, being written ────┬──── blob ────┬─ free ─┬── blob ──┬──────── free ────────
//!         │ pages that are there │ reserved only         │        │
//!         ╰── charged ───────────╯
//! ```
//!
//! Addresses are plenty, pages are not: whoever writes reserves a long extent, so that its bytes stay in one piece
//! without ever being moved, and is charged for the pages that it comes to. When it is done it keeps these only. Pages are
//! given back to the kernel when the last holder of a blob drops it, but for some at the beginning, and read as zeroes when
//! they are used again.
//!
//! Not here: small bytes, which live on the heap.

pub mod room;

use crate::blob::{Blob, Paged};
use os::mapping::Mapping;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PAGE: u64 = 4096;
/// What is charged at a time.
const GRANULE: u64 = 64 << 10;
/// At the file's beginning, where room is looked for first: pages that stay, since a fault costs ten times what zeroing does.
const KEPT: u64 = 2 << 20;
/// Addresses per byte that may be held: what is reserved and not used must never be the bound.
const SPARSENESS: u64 = 64;

/// The arena holds all that it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the arena holds {held} of its {limit} bytes")]
pub struct Full {
    pub held: u64,
    pub limit: u64,
}

/// Where large blobs of one engine lie. Clones are the same arena.
#[derive(Debug, Clone)]
pub struct Arena(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    mapping: Mapping,
    file: OwnedFd,
    limit: u64,
    held: AtomicU64,
    /// Free extents by their offset. Neighbours are one.
    free: Mutex<BTreeMap<u64, u64>>,
}

/// Bytes that are being written: grows at its end, in place.
#[derive(Debug)]
pub struct Extent {
    memory: Arc<Memory>,
    start: u64,
    reserved: u64,
    charged: u64,
    len: u64,
    /// No byte from here on was ever written.
    touched: u64,
}

fn pages_of(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}

impl Arena {
    /// An arena that holds at most `limit` bytes.
    pub fn new(limit: u64) -> io::Result<Self> {
        let size = pages_of(limit.max(GRANULE)) * SPARSENESS;
        let file = memfd_create("lichen-arena", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, size)?;
        let mapping = Mapping::shared(&file, size as usize)?;
        let free = Mutex::new(BTreeMap::from([(0, size)]));
        Ok(Self(Arc::new(Memory { mapping, file, limit, held: AtomicU64::new(0), free })))
    }

    /// Bytes of pages that are held now.
    pub fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    pub fn file(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }

    /// Room for what will have at most `most` bytes: as much of it in one piece as there is.
    pub fn extent(&self, most: u64) -> Result<Extent, Full> {
        let mut want = pages_of(most.max(GRANULE));
        loop {
            if let Some(start) = self.0.reserve(want) {
                let memory = self.0.clone();
                return Ok(Extent { memory, start, reserved: want, charged: 0, len: 0, touched: 0 });
            }
            if want == GRANULE {
                return Err(self.0.full());
            }
            want = pages_of(want / 2).max(GRANULE);
        }
    }
}

impl Memory {
    fn full(&self) -> Full {
        Full { held: self.held.load(Ordering::Relaxed), limit: self.limit }
    }

    fn free(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Addresses as far to the beginning as possible.
    fn reserve(&self, want: u64) -> Option<u64> {
        let mut free = self.free();
        let (start, len) = free.iter().find(|(_, len)| **len >= want).map(|(start, len)| (*start, *len))?;
        free.remove(&start);
        if len > want {
            free.insert(start + want, len - want);
        }
        Some(start)
    }

    /// Addresses as far to the end as possible.
    fn reserve_last(&self, want: u64) -> Option<u64> {
        let mut free = self.free();
        let (start, len) = free.iter_mut().rev().find(|(_, len)| **len >= want)?;
        *len -= want;
        let (start, left) = (*start, *len);
        if left == 0 {
            free.remove(&start);
        }
        Some(start + left)
    }

    fn release(&self, mut start: u64, mut len: u64) {
        if len == 0 {
            return;
        }
        let mut free = self.free();
        if let Some((&before, &its)) = free.range(..start).next_back()
            && before + its == start
        {
            free.remove(&before);
            (start, len) = (before, its + len);
        }
        if let Some(after) = free.remove(&(start + len)) {
            len += after;
        }
        free.insert(start, len);
    }

    fn charge(&self, bytes: u64) -> Result<(), Full> {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.limit {
            self.refund(bytes);
            return Err(self.full());
        }
        Ok(())
    }

    fn refund(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Makes pages that are there read as zeroes: the first ones stay for whoever comes next, the others are given back.
    fn wipe(&self, start: u64, len: u64) {
        if start + len > KEPT {
            return self.punch(start, len);
        }
        // SAFETY: the range lies in the mapping (checked by `at`), and belongs to the caller alone.
        unsafe { self.mapping.at(start as usize).write_bytes(0, len as usize) };
    }

    /// Gives pages back: they read as zeroes from now on.
    fn punch(&self, start: u64, len: u64) {
        if len > 0 && self.mapping.punch(start as usize, len as usize).is_err() {
            // Without this the next user would see the bytes.
            // SAFETY: the range lies in the mapping (checked by `at`), and belongs to the caller alone.
            unsafe { self.mapping.at(start as usize).write_bytes(0, len as usize) };
        }
    }
}

impl Extent {
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the extent is ours until Drop, `len` bytes of it are charged, and nobody writes while it is borrowed.
        unsafe { std::slice::from_raw_parts(self.memory.mapping.at(self.start as usize), self.len as usize) }
    }

    /// The bytes from `from` to `to`, which becomes the end if it lies beyond: to be written. What lies between the old
    /// end and `from` reads as zeroes.
    pub fn range_mut(&mut self, from: usize, to: usize) -> Result<&mut [u8], Full> {
        assert!(from <= to, "a range that ends before it begins");
        self.grow(to as u64)?;
        let at = self.start as usize + from;
        // SAFETY: as in `bytes`, and borrowed exclusively.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.memory.mapping.at(at), to - from) })
    }

    /// Makes the extent at least `to` bytes long.
    fn grow(&mut self, to: u64) -> Result<(), Full> {
        if to <= self.len {
            return Ok(());
        }
        if to > self.reserved {
            self.relocate(to)?;
        }
        if to > self.charged {
            let charged = to.next_multiple_of(GRANULE).min(self.reserved);
            self.memory.charge(charged - self.charged)?;
            self.charged = charged;
        }
        self.len = to;
        self.touched = self.touched.max(to);
        Ok(())
    }

    /// Only where addresses are so fragmented that the first reservation was short.
    fn relocate(&mut self, to: u64) -> Result<(), Full> {
        let mut wider = Arena(self.memory.clone()).extent((to * 2).max(self.reserved * 2))?;
        if wider.reserved < to {
            return Err(self.memory.full());
        }
        os::mapping::copy_slice(self.bytes(), wider.range_mut(0, self.len as usize)?);
        *self = wider;
        Ok(())
    }

    /// Drops the bytes from `len` on.
    pub fn truncate(&mut self, len: usize) {
        let len = len as u64;
        if len < self.len {
            let end = pages_of(len).min(self.touched);
            // SAFETY: both ends lie within what is charged of this extent, which is borrowed exclusively.
            unsafe { self.memory.mapping.at((self.start + len) as usize).write_bytes(0, (end - len) as usize) };
            self.memory.punch(self.start + end, pages_of(self.touched).saturating_sub(end));
            (self.len, self.touched) = (len, len);
        }
    }

    /// The bytes as they are now, for good. What was reserved and not used is free again.
    pub fn freeze(mut self) -> Blob {
        let kept = pages_of(self.len);
        self.memory.release(self.start + kept, self.reserved - kept);
        self.memory.refund(self.charged - kept);
        (self.reserved, self.charged) = (kept, kept);
        Blob::paged(Arc::new(self))
    }
}

impl Paged for Extent {
    fn bytes(&self) -> &[u8] {
        Extent::bytes(self)
    }

    fn file(&self) -> (BorrowedFd<'_>, u64) {
        (self.memory.file.as_fd(), self.start)
    }
}

impl Drop for Extent {
    fn drop(&mut self) {
        self.memory.wipe(self.start, pages_of(self.touched));
        self.memory.refund(self.charged);
        self.memory.release(self.start, self.reserved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(arena: &Arena, bytes: usize, with: u8) -> Extent {
        let mut extent = arena.extent(1 << 20).unwrap();
        extent.range_mut(0, bytes).unwrap().fill(with);
        extent
    }

    #[test]
    fn blobs_hold_their_pages_and_give_them_back() {
        let arena = Arena::new(1 << 20).unwrap();
        let blob = filled(&arena, 100_000, 7).freeze();
        assert_eq!(arena.held(), 102_400);
        let (_, offset, len) = blob.pages().unwrap();
        assert_eq!((offset, len), (0, 100_000));
        let part = blob.slice(50_000..50_010);
        drop(blob);
        assert_eq!(part.as_ref(), [7; 10]);
        assert_eq!(part.pages().unwrap().1, 50_000);
        drop(part);
        assert_eq!(arena.held(), 0);
        assert_eq!(arena.0.free().len(), 1);
        let again = filled(&arena, 0, 0).range_mut(0, 102_400).unwrap().to_vec();
        assert!(again.iter().all(|byte| *byte == 0), "bytes of the last holder are still there");
    }

    #[test]
    fn what_was_cut_off_is_gone() {
        let arena = Arena::new(1 << 20).unwrap();
        let mut extent = filled(&arena, 70_000, 9);
        extent.truncate(5_000);
        assert_eq!(extent.len(), 5_000);
        let rest = &extent.range_mut(0, 70_000).unwrap()[5_000..];
        assert!(rest.iter().all(|byte| *byte == 0));
        extent.truncate(0);
        assert!(extent.freeze().is_empty());
        assert_eq!((arena.held(), arena.0.free().len()), (0, 1));
    }

    #[test]
    fn it_is_bounded_and_says_so() {
        let arena = Arena::new(1 << 20).unwrap();
        let first = filled(&arena, 900_000, 1);
        let mut second = arena.extent(1 << 20).unwrap();
        assert!(matches!(second.range_mut(0, 500_000), Err(Full { limit: 1_048_576, .. })));
        drop(first);
        assert!(second.range_mut(0, 500_000).is_ok());
    }

    #[test]
    fn short_addresses_are_made_up_for() {
        let arena = Arena::new(GRANULE).unwrap();
        let size = GRANULE * SPARSENESS;
        let blobs: Vec<_> = (0..SPARSENESS).map(|_| arena.extent(GRANULE).unwrap()).collect();
        assert!(arena.extent(1).is_err(), "addresses are used up");
        drop(blobs);
        let mut all = arena.extent(size * 2).unwrap();
        assert_eq!(all.reserved, size);
        assert!(all.range_mut(0, GRANULE as usize + 1).is_err(), "and pages are bounded besides");
    }
}
