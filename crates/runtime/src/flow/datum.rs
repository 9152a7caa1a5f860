//! The data of an item while a run holds it, and how much there may be of it: an item takes its room when it comes into a
//! run, and gives it back when nothing of the run holds it any more.

use crate::dispatch::{Holding, Payload};
use bytes::Bytes;
use flow::plan::Data;
use sets::wire::{self, Encode, Held};
use sets::{Set, Sets};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What an item takes beside its data: its name, and its places in the plan.
const OVERHEAD: u64 = 160;

/// Room for items.
#[derive(Debug)]
pub struct Room {
    used: AtomicU64,
    limit: u64,
}

impl Room {
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit })
    }

    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn is_full(&self) -> bool {
        self.used() >= self.limit
    }

    /// Whether less than a quarter of it would be left.
    fn is_tight(&self, more: u64) -> bool {
        self.used().saturating_add(more) > self.limit / 4 * 3
    }

    fn take(&self, bytes: u64) -> bool {
        let used = self.used.fetch_add(bytes, Relaxed);
        let fits = used.saturating_add(bytes) <= self.limit;
        if !fits {
            self.used.fetch_sub(bytes, Relaxed);
        }
        fits
    }
}

/// Whose room an item takes: the run's, and the node's.
#[derive(Clone, Debug)]
pub struct Purse {
    pub run: Arc<Room>,
    pub node: Arc<Room>,
}

/// Which room is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Run,
    Node,
}

#[derive(Debug)]
struct Charge {
    purse: Purse,
    bytes: u64,
    /// Where an engine has it.
    held: Option<(Held, Arc<Holding>)>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some((held, holding)) = &self.held {
            holding.give_up(*held);
        }
        self.purse.run.used.fetch_sub(self.bytes, Relaxed);
        self.purse.node.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[derive(Clone, Debug)]
pub struct Datum {
    place: Payload,
    /// None for a flow's fixed items, which are there once for all its runs.
    _charge: Option<Arc<Charge>>,
}

impl Datum {
    /// None where an engine has them.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.place {
            wire::Data::Inline(bytes) => Some(bytes),
            wire::Data::Held(_) => None,
        }
    }
}

impl From<Bytes> for Datum {
    fn from(bytes: Bytes) -> Self {
        Self { place: wire::Data::Inline(bytes), _charge: None }
    }
}

impl Data for Datum {
    fn is_away(&self) -> bool {
        self.bytes().is_none()
    }
}

impl Encode for Datum {
    fn data(&self) -> wire::Data<&[u8]> {
        self.place.data()
    }
}

impl Purse {
    fn rooms(&self) -> impl Iterator<Item = &Room> {
        [&*self.run, &*self.node].into_iter()
    }

    pub fn hold(&self, bytes: Bytes) -> Result<Datum, Full> {
        self.take(wire::Data::Inline(bytes), None)
    }

    fn take(&self, place: Payload, holding: Option<&Arc<Holding>>) -> Result<Datum, Full> {
        let held = match (&place, holding) {
            (wire::Data::Held(held), Some(holding)) => Some((*held, holding.clone())),
            _ => None,
        };
        let bytes = place.len().saturating_add(OVERHEAD);
        if !self.run.take(bytes) {
            return Err(Full::Run);
        }
        if !self.node.take(bytes) {
            self.run.used.fetch_sub(bytes, Relaxed);
            return Err(Full::Node);
        }
        Ok(Datum { place, _charge: Some(Arc::new(Charge { purse: self.clone(), bytes, held })) })
    }

    /// `holding`: where the data is that is not here.
    pub fn hold_all(&self, sets: Sets<Payload>, holding: Option<&Arc<Holding>>) -> Result<Sets<Datum>, Full> {
        let taken = |set: Set<Payload>| {
            let items = set
                .items
                .into_iter()
                .map(|item| Ok(sets::Item::new(item.name, item.key, self.take(item.data, holding)?)));
            Ok(Set { name: set.name, items: items.collect::<Result<_, Full>>()? })
        };
        sets.into_iter().map(taken).collect()
    }
}

/// The room of what a run remembers of its items that engines have.
#[derive(Debug)]
pub struct Memory {
    purse: Purse,
    bytes: u64,
}

impl Memory {
    pub fn of(purse: &Purse) -> Self {
        Self { purse: purse.clone(), bytes: 0 }
    }

    /// Has it take room for so many things. Whether there is enough left for more to come, beside so many bytes of items.
    pub fn take(&mut self, things: usize, items: u64) -> bool {
        self.give_back();
        let bytes = things as u64 * OVERHEAD;
        let is_tight = self.purse.rooms().any(|room| room.is_tight(bytes.saturating_add(items)));
        if !is_tight {
            self.bytes = bytes;
            self.purse.rooms().for_each(|room| _ = room.used.fetch_add(bytes, Relaxed));
        }
        !is_tight
    }

    fn give_back(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.purse.rooms().for_each(|room| _ = room.used.fetch_sub(bytes, Relaxed));
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Data that is all here.
pub fn inline(sets: Sets<Bytes>) -> Sets<Payload> {
    sets.into_iter().map(|set| set.map(wire::Data::Inline)).collect()
}
