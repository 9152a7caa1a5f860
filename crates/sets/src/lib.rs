//! Sets of items: what pure functions and flows take and give, and how they are written down.
//!
//! | module | what it is |
//! |---|---|
//! | [`name`] | which names sets and items may have |
//! | [`limits`] | how much of everything a decoder takes |
//! | [`wire`] | the binary form, for channels between gateway and engines |
//! | [`json`] | the form for people and for handlers |
//! | [`multipart`] | which item a part of a form is, and the other way round |
//!
//! Not here: where data lies (a [`Item`] is generic over it), and who makes names unique. Names within a set need not
//! be: the outputs of many shards lie in one set, and each may call its item `out`. Who shows a set as a folder tells
//! them apart.
#![forbid(unsafe_code)]

pub mod json;
pub mod limits;
pub mod multipart;
pub mod name;
#[cfg(test)]
mod tests;
pub mod wire;

pub use limits::{Limits, OverLimit};
pub use name::NameError;

/// A named piece of data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<D> {
    /// See [`name::check`].
    pub name: String,
    /// What items are grouped and joined by.
    pub key: u64,
    pub data: D,
}

/// A bag of items: their order means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set<D> {
    /// See [`name::check`].
    pub name: String,
    pub items: Vec<Item<D>>,
}

pub type Sets<D> = Vec<Set<D>>;

impl<D> Item<D> {
    pub fn new(name: impl Into<String>, key: u64, data: D) -> Self {
        Self { name: name.into(), key, data }
    }

    /// The same item with its data in another place.
    pub fn map<E>(self, f: impl FnOnce(D) -> E) -> Item<E> {
        Item { name: self.name, key: self.key, data: f(self.data) }
    }
}

impl<D> Set<D> {
    pub fn new(name: impl Into<String>, items: Vec<Item<D>>) -> Self {
        Self { name: name.into(), items }
    }

    /// The same set with its items' data in another place.
    pub fn map<E>(self, mut f: impl FnMut(D) -> E) -> Set<E> {
        Set { name: self.name, items: self.items.into_iter().map(|item| item.map(&mut f)).collect() }
    }
}
