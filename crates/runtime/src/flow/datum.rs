//! The data of an item while a run holds it, and how much there may be of it: an item takes its room when it comes into a
//! run, and gives it back when nothing of the run holds it any more.

use bytes::Bytes;
use sets::wire::{Data, Encode};
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
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.purse.run.used.fetch_sub(self.bytes, Relaxed);
        self.purse.node.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[derive(Clone, Debug)]
pub struct Datum {
    bytes: Bytes,
    /// None for a flow's fixed items, which are there once for all its runs.
    _charge: Option<Arc<Charge>>,
}

impl Datum {
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl From<Bytes> for Datum {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, _charge: None }
    }
}

impl AsRef<[u8]> for Datum {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Encode for Datum {
    fn data(&self) -> Data<&[u8]> {
        Data::Inline(&self.bytes)
    }
}

impl Purse {
    pub fn hold(&self, bytes: Bytes) -> Result<Datum, Full> {
        let size = bytes.len() as u64 + OVERHEAD;
        if !self.run.take(size) {
            return Err(Full::Run);
        }
        if !self.node.take(size) {
            self.run.used.fetch_sub(size, Relaxed);
            return Err(Full::Node);
        }
        Ok(Datum { bytes, _charge: Some(Arc::new(Charge { purse: self.clone(), bytes: size })) })
    }

    pub fn hold_all(&self, sets: Sets<Bytes>) -> Result<Sets<Datum>, Full> {
        let held = |set: Set<Bytes>| {
            let items = set
                .items
                .into_iter()
                .map(|item| Ok(sets::Item { name: item.name, key: item.key, data: self.hold(item.data)? }));
            Ok(Set { name: set.name, items: items.collect::<Result<_, Full>>()? })
        };
        sets.into_iter().map(held).collect()
    }
}
