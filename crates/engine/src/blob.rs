//! Immutable bytes that are shared, not copied.
//!
//! Small ones lie on the heap, or within the message that they came with; large ones in pages of a memory file, so that
//! these can be mapped into another context or another process. Who asks for the bytes does not see the difference.

use bytes::Bytes;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::{fmt, ops};

/// From here on bytes are kept in pages: below, copying costs less than a fault per page.
pub const PAGED_FROM: usize = 64 << 10;

/// Bytes in pages of a memory file that nobody writes as long as this exists.
pub trait Paged: Send + Sync {
    fn bytes(&self) -> &[u8];

    /// The file, and where in it the bytes begin.
    fn file(&self) -> (BorrowedFd<'_>, u64);
}

/// Immutable bytes: cheap to clone, and to take a part of.
#[derive(Clone)]
pub struct Blob(Place);

#[derive(Clone)]
enum Place {
    Heap(Bytes),
    Pages { pages: Arc<dyn Paged>, start: usize, end: usize },
}

impl Blob {
    pub fn new(bytes: Bytes) -> Self {
        Self(Place::Heap(bytes))
    }

    /// All bytes of `pages`, which are released when the last blob of them is dropped.
    pub fn paged(pages: Arc<dyn Paged>) -> Self {
        let end = pages.bytes().len();
        Self(Place::Pages { pages, start: 0, end })
    }

    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file in whose pages the bytes lie, their offset there and their number: to be mapped elsewhere. None for
    /// those on the heap.
    pub fn pages(&self) -> Option<(BorrowedFd<'_>, u64, usize)> {
        match &self.0 {
            Place::Heap(_) => None,
            Place::Pages { pages, start, end } => {
                let (file, offset) = pages.file();
                Some((file, offset + *start as u64, end - start))
            }
        }
    }

    /// A part, which keeps all of it alive. Panics outside of it.
    pub fn slice(&self, range: ops::Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of a blob of {} bytes", self.len());
        match &self.0 {
            Place::Heap(bytes) => Self(Place::Heap(bytes.slice(range))),
            Place::Pages { pages, start, .. } => {
                Self(Place::Pages { pages: pages.clone(), start: start + range.start, end: start + range.end })
            }
        }
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Place::Heap(bytes) => bytes,
            Place::Pages { pages, start, end } => &pages.bytes()[*start..*end],
        }
    }
}

impl ops::Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

impl Default for Blob {
    fn default() -> Self {
        Self(Place::Heap(Bytes::new()))
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes.into())
    }
}

impl From<&'static [u8]> for Blob {
    fn from(bytes: &'static [u8]) -> Self {
        Self::new(Bytes::from_static(bytes))
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Blob {}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pages().is_some() { "in pages" } else { "on the heap" };
        write!(f, "Blob({} bytes {place})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_part_shares_its_bytes() {
        let blob = Blob::from(b"0123456789".as_slice());
        let part = blob.slice(2..8).slice(1..3);
        assert_eq!(part.as_ref(), b"34");
        assert_eq!(part.as_ptr(), blob[3..].as_ptr());
        assert!(part.pages().is_none());
    }

    #[test]
    #[should_panic(expected = "of a blob of 3 bytes")]
    fn there_is_nothing_outside() {
        Blob::from(vec![1, 2, 3]).slice(2..4);
    }
}
