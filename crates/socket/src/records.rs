//! The records that one process sends through, to one other or to those of its pod.
//!
//! Taking one asks nobody: the process's own list of what has come back, last first, so that what is in the processor's cache
//! is used again; else the next one that was never used. What bounds it is one word that the broker alone writes, and what
//! the broker is told are the [`Claim`]s, which it reads without being waited for. Beyond the bound a stream has its
//! local record: slower, never an error.
//!
//! A record comes back when its stream looks where its receiver is. Where one does not, because nothing more is sent, the
//! store looks itself before it says that it has none.

use crate::layout::{Claim, FREE, GONE, RECORDS};
use crate::notice::Told;
use crate::region::Region;
use crate::sync::Ordering;
use interconnect::doorbell;
use interconnect::lane::Word;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Records that a process may have taken at once where nobody says otherwise: 64 MiB.
pub const LIMIT: u32 = 2048;
/// How often a store in which none is free is asked, at least, before it looks again whether some have come back.
const PATIENCE: usize = 32;

/// What a process may take, over all of its pairs.
pub struct Quota {
    told: Told,
    taken: AtomicUsize,
    /// Where a broker that sleeps is told, and for which of its naps it was.
    bell: Option<OwnedFd>,
    told_for: AtomicU32,
}

impl Quota {
    /// Bounded by what a broker says, which is told by a bell when it sleeps.
    pub fn new(told: Told, bell: Option<OwnedFd>) -> Arc<Self> {
        Arc::new(Self { told, taken: AtomicUsize::new(0), bell, told_for: AtomicU32::new(0) })
    }

    /// For processes that have no broker: [`LIMIT`].
    pub fn own() -> Arc<Self> {
        let limit = Word::own();
        limit.store(LIMIT, Ordering::Relaxed);
        Self::new(Told { limit, frozen: Word::own(), asleep: Word::own() }, None)
    }

    /// Records that are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn admits(&self) -> bool {
        // Several threads may pass at once, and each then takes one more.
        self.taken() < self.told.limit.load(Ordering::Relaxed) as usize
    }

    /// Something was taken: a broker that sleeps is told, once for each nap.
    fn stir(&self) {
        let Some(bell) = &self.bell else { return };
        let nap = doorbell::sleeper(&self.told.asleep);
        if nap != 0 && self.told_for.swap(nap, Ordering::Relaxed) != nap {
            doorbell::knock(bell);
        }
    }
}

/// One record's way, if it is taken, and the positions it is taken from and up to.
#[derive(Clone, Copy)]
struct Slot {
    way: Option<u32>,
    start: u64,
    end: u64,
}

struct State {
    /// What was used and has come back, the last on top.
    free: Vec<u32>,
    /// Of each record that was ever used.
    slots: Vec<Slot>,
    /// How often not to look.
    patience: usize,
}

/// A process's own records in one memory.
pub struct Store {
    region: Arc<Region>,
    number: usize,
    quota: Arc<Quota>,
    state: Mutex<State>,
    /// How often a stream had to do without.
    refused: AtomicU32,
}

impl Store {
    pub(crate) fn new(region: Arc<Region>, number: usize, quota: Arc<Quota>) -> Self {
        let state = State { free: Vec::new(), slots: Vec::new(), patience: 0 };
        Self { region, number, quota, state: Mutex::new(state), refused: AtomicU32::new(0) }
    }

    /// How often a stream had to do without.
    pub fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Records that are taken.
    pub fn taken(&self) -> usize {
        self.state().slots.iter().filter(|slot| slot.way.is_some()).count()
    }

    pub(crate) fn frozen(&self) -> &AtomicU32 {
        &self.quota.told.frozen
    }

    pub(crate) fn take(&self, way: u32, start: u64) -> Option<u32> {
        let state = &mut *self.state();
        if !self.quota.admits() {
            self.collect(state);
        }
        let record = self.quota.admits().then(|| self.any(state)).flatten();
        let Some(record) = record else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        state.slots[record as usize] = Slot { way: Some(way), start, end: u64::MAX };
        self.quota.taken.fetch_add(1, Ordering::Relaxed);
        let claim = self.claim(record);
        claim.end.store(u64::MAX, Ordering::Relaxed);
        claim.way.store(way + 1, Ordering::Release);
        self.quota.stir();
        Some(record)
    }

    pub(crate) fn close(&self, record: u32, way: u32, start: u64, end: u64) {
        let slot = &mut self.state().slots[record as usize];
        if (slot.way, slot.start) == (Some(way), start) {
            slot.end = end;
            self.claim(record).end.store(end, Ordering::Release);
        }
    }

    /// A record that was collected meanwhile is another's.
    pub(crate) fn give_back(&self, record: u32, way: u32, start: u64) {
        let state = &mut *self.state();
        let slot = state.slots[record as usize];
        if (slot.way, slot.start) == (Some(way), start) {
            self.free(state, record);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claim(&self, record: u32) -> &Claim {
        self.region.claim(self.number, record as usize)
    }

    fn any(&self, state: &mut State) -> Option<u32> {
        if state.free.is_empty() {
            self.collect(state);
        }
        state.free.pop().or_else(|| {
            let record = state.slots.len();
            (record < RECORDS).then(|| {
                state.slots.push(Slot { way: None, start: 0, end: 0 });
                self.region.store_line(self.number).top.store(record as u32 + 1, Ordering::Relaxed);
                record as u32
            })
        })
    }

    fn free(&self, state: &mut State, record: u32) {
        let Some(way) = state.slots[record as usize].way.take() else { return };
        state.free.push(record);
        self.quota.taken.fetch_sub(1, Ordering::Relaxed);
        self.claim(record).way.store(FREE | (way + 1), Ordering::Release);
    }

    /// Takes back what was received on streams that send nothing any more.
    fn collect(&self, state: &mut State) {
        if state.patience > 0 {
            state.patience -= 1;
            return;
        }
        let before = state.free.len();
        for record in 0..state.slots.len() {
            let slot = state.slots[record];
            if slot.way.is_some_and(|way| self.is_received(way, slot.end)) {
                self.free(state, record as u32);
            }
        }
        if state.free.len() == before {
            state.patience = PATIENCE.max(state.slots.len() / 4);
        }
    }

    fn is_received(&self, way: u32, end: u64) -> bool {
        let way = self.region.way(way as usize / 2, way as usize % 2);
        way.receiver.tail.load(Ordering::Acquire) & !GONE >= end
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.quota.taken.fetch_sub(self.taken(), Ordering::Relaxed);
    }
}
