//! Where an item comes from, as a path of indices: it orders the items of a set in the same way in every run, whichever
//! shard was done first.
//!
//! An item's tag is that of the shard that made it, and its index there; a shard's tag is those of what it was given. A
//! path that grows beyond [`LONGEST`] is cut: items beyond are in order of arrival, and nothing else changes.

use std::sync::Arc;

/// Tests compare orders to the last item.
const LONGEST: usize = if cfg!(test) { 1 << 16 } else { 128 };

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(Arc<[u32]>);

impl Tag {
    pub fn root() -> Self {
        Self(Arc::from([]))
    }

    pub fn index(index: usize) -> Self {
        Self::root().then(index)
    }

    pub fn key(key: u64) -> Self {
        Self(Arc::from([(key >> 32) as u32, key as u32]))
    }

    pub fn then(&self, index: usize) -> Self {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Self(self.0.iter().copied().chain([index]).take(LONGEST).collect())
    }

    /// One behind the other, each behind its length: no two lists of tags come to the same.
    pub fn join<'a>(tags: &[&'a Tag]) -> Self {
        if let [one] = tags {
            return (*one).clone();
        }
        let with_length = |tag: &&'a Tag| [tag.0.len() as u32].into_iter().chain(tag.0.iter().copied());
        Self(tags.iter().flat_map(with_length).take(LONGEST).collect())
    }
}
