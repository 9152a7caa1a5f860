//! A file's bytes, and what a run's files may take in all.
//!
//! What came in is a blob, and stays one until it is written to. What is written begins on the heap and moves, once, to an
//! extent of the arena when it becomes large. Either becomes a blob without another copy.

use super::errno::{Answer, Errno, Refusal};
use crate::arena::{Extent, Full};
use crate::blob::PAGED_FROM;
use crate::{Arena, Blob, Limits, RunError};

/// Longer no file becomes, whatever the limits are: offsets beyond are mistakes.
const LONGEST: u64 = 1 << 40;

/// What is left of a run's limits.
#[derive(Debug)]
pub struct Budget {
    of: Limits,
    bytes: u64,
    entries: usize,
    arena: Arena,
}

impl Budget {
    pub fn new(of: Limits, arena: Arena) -> Self {
        Self { of, bytes: of.output_bytes, entries: of.output_items, arena }
    }

    pub fn limits(&self) -> &Limits {
        &self.of
    }

    pub fn take_entry(&mut self) -> Answer<()> {
        let over = Refusal::Over(RunError::TooManyItems { limit: self.of.output_items });
        self.entries = self.entries.checked_sub(1).ok_or(over)?;
        Ok(())
    }

    pub fn give_entry(&mut self) {
        self.entries = (self.entries + 1).min(self.of.output_items);
    }

    fn take(&mut self, bytes: u64) -> Answer<()> {
        let over = Refusal::Over(RunError::OutputTooLarge { limit: self.of.output_bytes });
        self.bytes = self.bytes.checked_sub(bytes).ok_or(over)?;
        Ok(())
    }

    fn give(&mut self, bytes: u64) {
        self.bytes = (self.bytes + bytes).min(self.of.output_bytes);
    }
}

fn busy(full: Full) -> Refusal {
    Refusal::Over(RunError::Busy(full.held))
}

/// The bytes of one file.
#[derive(Debug)]
pub enum Data {
    /// Nobody has written to it.
    Given(Blob),
    Heap(Vec<u8>),
    Pages(Extent),
}

impl Default for Data {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Data {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Given(blob) => blob,
            Self::Heap(bytes) => bytes,
            Self::Pages(extent) => extent.bytes(),
        }
    }

    pub fn size(&self) -> u64 {
        self.bytes().len() as u64
    }

    /// The bytes from `from` on, as many as `len`, to be written: the file is made as long as that takes.
    pub fn range_mut(&mut self, from: u64, len: usize, budget: &mut Budget) -> Answer<&mut [u8]> {
        let to = from.checked_add(len as u64).filter(|to| *to <= LONGEST).ok_or(Errno::TooBig)?;
        self.make_ours(to, budget)?;
        let (from, to) = (from as usize, to as usize);
        match self {
            Self::Heap(bytes) => {
                if bytes.len() < to {
                    bytes.resize(to, 0);
                }
                Ok(&mut bytes[from..to])
            }
            Self::Pages(extent) => extent.range_mut(from, to).map_err(busy),
            Self::Given(_) => unreachable!("made ours above"),
        }
    }

    /// Makes the bytes ones that can be written, up to `to`, and charges what is new.
    fn make_ours(&mut self, to: u64, budget: &mut Budget) -> Answer<()> {
        let len = self.size();
        let charge = if matches!(self, Self::Given(_)) { to.max(len) } else { to.saturating_sub(len) };
        budget.take(charge)?;
        let paged = to.max(len) >= PAGED_FROM as u64;
        match self {
            Self::Given(blob) if !paged => *self = Self::Heap(blob.to_vec()),
            Self::Given(_) | Self::Heap(_) if paged => *self = Self::Pages(self.to_pages(budget)?),
            _ => {}
        }
        Ok(())
    }

    fn to_pages(&self, budget: &Budget) -> Answer<Extent> {
        let mut extent = budget.arena.extent(budget.of.output_bytes).map_err(busy)?;
        let bytes = self.bytes();
        os::mapping::copy_slice(bytes, extent.range_mut(0, bytes.len()).map_err(busy)?);
        Ok(extent)
    }

    pub fn set_len(&mut self, len: u64, budget: &mut Budget) -> Answer<()> {
        let now = self.size();
        if len > now {
            return self.range_mut(now, usize::try_from(len - now).map_err(|_| Errno::TooBig)?, budget).map(drop);
        }
        match self {
            Self::Given(blob) => *self = Self::Given(blob.slice(0..len as usize)),
            Self::Heap(bytes) => bytes.truncate(len as usize),
            Self::Pages(extent) => extent.truncate(len as usize),
        }
        if !matches!(self, Self::Given(_)) {
            budget.give(now - len);
        }
        Ok(())
    }

    /// The file is gone: what it took is free again.
    pub fn refund(&self, budget: &mut Budget) {
        if !matches!(self, Self::Given(_)) {
            budget.give(self.size());
        }
    }

    /// The bytes as they are now; the file goes on with the same, uncopied.
    pub fn share(&mut self) -> Blob {
        let blob = match std::mem::take(self) {
            Self::Given(blob) => blob,
            Self::Heap(bytes) => Blob::from(bytes),
            Self::Pages(extent) => extent.freeze(),
        };
        *self = Self::Given(blob.clone());
        blob
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(output_bytes: u64) -> Budget {
        Budget::new(Limits { output_bytes, ..Limits::default() }, Arena::new(1 << 20).unwrap())
    }

    #[test]
    fn bytes_move_to_pages_when_they_are_many() {
        let mut budget = budget(1 << 20);
        let mut data = Data::default();
        data.range_mut(10, 3, &mut budget).unwrap().copy_from_slice(b"abc");
        assert!(matches!(data, Data::Heap(_)));
        data.range_mut(70_000, 1, &mut budget).unwrap()[0] = b'z';
        assert!(matches!(data, Data::Pages(_)));
        assert_eq!((&data.bytes()[9..14], data.bytes()[70_000]), (b"\0abc\0".as_slice(), b'z'));
        assert!(data.share().pages().is_some());
    }

    #[test]
    fn what_was_given_is_not_changed_by_writing() {
        let mut budget = budget(100);
        let given = Blob::from(b"0123456789".as_slice());
        let mut data = Data::Given(given.clone());
        data.range_mut(9, 2, &mut budget).unwrap().copy_from_slice(b"xy");
        assert_eq!((data.bytes(), &*given), (b"012345678xy".as_slice(), b"0123456789".as_slice()));
        assert_eq!(budget.bytes, 89);
    }

    #[test]
    fn the_budget_ends_the_run_and_is_given_back() {
        let mut budget = budget(100);
        let mut data = Data::default();
        data.set_len(100, &mut budget).unwrap();
        let over = Refusal::Over(RunError::OutputTooLarge { limit: 100 });
        assert_eq!(data.range_mut(100, 1, &mut budget).unwrap_err(), over);
        assert_eq!(data.range_mut(u64::MAX, 1, &mut budget).unwrap_err(), Refusal::Errno(Errno::TooBig));
        data.set_len(40, &mut budget).unwrap();
        assert_eq!(budget.bytes, 60);
        data.refund(&mut budget);
        assert_eq!(budget.bytes, 100);
    }
}
