//! What comes in at one input of an application, and the parts that it is divided into.
//!
//! `each` gives parts as items come. All others wait until the set is complete; its items are then brought into the order
//! of their tags, so that parts do not depend on who was faster.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use sets::Item;

use super::past::{Have, Trace};
use super::tag::Tag;
use crate::graph::{Mode, Port};

/// What one shard gets of one input. Shards that get the same share it.
pub type Piece<D> = Arc<Lot<D>>;

#[derive(Debug)]
pub struct Lot<D> {
    pub items: Vec<Item<Have<D>>>,
    /// Made when something is left elsewhere that was made of it.
    trace: OnceLock<Arc<Trace<D>>>,
}

impl<D> Lot<D> {
    fn new(items: Vec<Item<Have<D>>>) -> Piece<D> {
        Arc::new(Self { items, trace: OnceLock::new() })
    }

    pub fn traced(items: Vec<Item<Have<D>>>, trace: Arc<Trace<D>>) -> Piece<D> {
        Arc::new(Self { items, trace: OnceLock::from(trace) })
    }

    pub fn into_items(lot: Piece<D>) -> Vec<Item<Have<D>>>
    where
        D: Clone,
    {
        Arc::try_unwrap(lot).map_or_else(|shared| shared.items.clone(), |lot| lot.items)
    }

    pub fn trace_or(&self, make: impl FnOnce() -> Arc<Trace<D>>) -> Arc<Trace<D>> {
        self.trace.get_or_init(make).clone()
    }
}

/// A piece, with what it is told apart and joined by.
#[derive(Debug, Clone)]
pub struct Part<D> {
    pub piece: Piece<D>,
    pub tag: Tag,
    pub key: Option<u64>,
}

impl<D> Part<D> {
    pub fn one(tag: Tag, item: Item<Have<D>>) -> Self {
        Self { tag, key: Some(item.key), piece: Lot::new(vec![item]) }
    }

    pub fn empty() -> Self {
        Self { piece: Lot::new(Vec::new()), tag: Tag::root(), key: None }
    }
}

/// The items of one input that wait to be divided.
#[derive(Debug)]
pub struct Gathered<D> {
    items: Vec<(Tag, Item<Have<D>>)>,
    pub seen: bool,
}

impl<D> Gathered<D> {
    pub fn new() -> Self {
        Self { items: Vec::new(), seen: false }
    }

    pub fn push(&mut self, tag: Tag, item: Item<Have<D>>) {
        self.items.push((tag, item));
    }

    /// The parts, once all items are there. `spread` is how many the platform would like where that is its to choose.
    /// `joined` inputs have a part for each key or item, since they meet others by these.
    pub fn divide(&mut self, port: &Port, joined: bool, spread: usize) -> VecDeque<Part<D>> {
        let mut items = std::mem::take(&mut self.items);
        if items.is_empty() {
            return VecDeque::new();
        }
        items.sort_by(|a, b| a.0.cmp(&b.0));
        match port.mode {
            Mode::All => VecDeque::from([whole(items.into_iter().map(|(_, item)| item).collect(), Tag::root())]),
            Mode::Keyed => keyed(items),
            Mode::AnyKeyed if joined => keyed(items),
            Mode::AnyKeyed => some_keys(items, spread),
            Mode::AnyEach if !joined => some(items, spread),
            Mode::Each | Mode::AnyEach => items.into_iter().map(|(tag, item)| Part::one(tag, item)).collect(),
        }
    }
}

fn whole<D>(items: Vec<Item<Have<D>>>, tag: Tag) -> Part<D> {
    Part { piece: Lot::new(items), tag, key: None }
}

fn groups<D>(items: Vec<(Tag, Item<Have<D>>)>) -> BTreeMap<u64, Vec<Item<Have<D>>>> {
    let mut groups: BTreeMap<u64, Vec<Item<Have<D>>>> = BTreeMap::new();
    for (_, item) in items {
        groups.entry(item.key).or_default().push(item);
    }
    groups
}

fn keyed<D>(items: Vec<(Tag, Item<Have<D>>)>) -> VecDeque<Part<D>> {
    let part = |(key, items)| Part { piece: Lot::new(items), tag: Tag::key(key), key: Some(key) };
    groups(items).into_iter().map(part).collect()
}

/// Nearly equal numbers of items.
fn some<D>(items: Vec<(Tag, Item<Have<D>>)>, spread: usize) -> VecDeque<Part<D>> {
    let count = spread.clamp(1, items.len());
    let (total, mut parts) = (items.len(), VecDeque::with_capacity(count));
    let mut items = items.into_iter().map(|(_, item)| item);
    for index in 0..count {
        let size = total * (index + 1) / count - total * index / count;
        parts.push_back(whole(items.by_ref().take(size).collect(), Tag::index(index)));
    }
    parts
}

/// Whole keys, each in the part that has the fewest items so far, large keys first.
fn some_keys<D>(items: Vec<(Tag, Item<Have<D>>)>, spread: usize) -> VecDeque<Part<D>> {
    let mut groups: Vec<(u64, Vec<Item<Have<D>>>)> = groups(items).into_iter().collect();
    let mut parts: Vec<Vec<Item<Have<D>>>> = (0..spread.clamp(1, groups.len())).map(|_| Vec::new()).collect();
    groups.sort_by_key(|(key, items)| (std::cmp::Reverse(items.len()), *key));
    for (_, items) in groups {
        if let Some(least) = parts.iter_mut().min_by_key(|part| part.len()) {
            least.extend(items);
        }
    }
    parts.into_iter().enumerate().map(|(index, items)| whole(items, Tag::index(index))).collect()
}
