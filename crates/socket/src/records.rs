//! The records that one process sends through, to one other or to those of its pod.
//!
//! Taking one asks nobody: the process's own list of what has come back, of which it takes what came back lately, but not last:
//! a sender that is at work while its receiver is takes lines of the cache from it otherwise, which costs more than
//! memory does. So a few go round that lie in the cache, and others stay untouched until the broker takes their memory. Else the
//! next one that was never used. What bounds it is one word that the broker alone writes, and what
//! the broker is told are the [`Claim`]s, which it reads without being waited for. Beyond the bound a stream has its
//! local record: slower, never an error.
//!
//! A record comes back when its stream looks where its receiver is. Where one does not, because nothing more is sent, the
//! store looks itself before it says that it has none.

use crate::calls::Sleep;
use crate::family::Family;
use crate::layout::{CONNECTIONS, Claim, FREE, GONE, RECORDS, SETS, STORES_MAX};
use crate::lock::{Held, Lock};
use crate::notice::Told;
use crate::region::Region;
use crate::sync::Ordering;
use interconnect::doorbell;
use interconnect::lane::Word;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

/// Records that a process may have taken at once where nobody says otherwise: 64 MiB.
pub const LIMIT: u32 = 2048;
/// How often a store in which none is free is asked, at least, before it looks again whether some have come back.
const PATIENCE: usize = 32;
/// Records that go round, at least, where a process has but few: a MiB. And where much is sent, of which so few at a time are new, as each
/// costs its memory when it is first used: more than a processor's own cache holds, from which its lines would have to be fetched.
const ROUND: usize = 32;
const WIDE: usize = 128;
const SELDOM: usize = 8;

/// What a process may take, over all of its pairs. Children that it forks take of the same.
pub struct Quota {
    told: Told,
    counts: Family<Counts>,
    /// Where a broker that sleeps is told.
    bell: Option<Lock<OwnedFd>>,
}

struct Counts {
    taken: AtomicUsize,
    /// Records that were ever used.
    used: AtomicUsize,
    /// For which of its naps the broker was told.
    told_for: AtomicU32,
    /// Bytes that were sent and not seen to be received, and on how many streams.
    ahead: AtomicU64,
    streams: AtomicU64,
}

impl Quota {
    /// Bounded by what a broker says, which is told by a bell when it sleeps.
    pub fn new(told: Told, bell: Option<OwnedFd>) -> io::Result<Arc<Self>> {
        // SAFETY: atomics, of which zeroes are some.
        let counts = unsafe { Family::zeroed()? };
        Ok(Arc::new(Self { told, counts, bell: bell.map(Lock::new) }))
    }

    /// For processes that have no broker: [`LIMIT`].
    pub fn own() -> io::Result<Arc<Self>> {
        let limit = Word::own();
        limit.store(LIMIT, Ordering::Relaxed);
        Self::new(Told { limit, frozen: Word::own(), asleep: Word::own() }, None)
    }

    /// Records that are taken.
    pub fn taken(&self) -> usize {
        self.counts.taken.load(Ordering::Relaxed)
    }

    /// Bytes that were sent and not seen to be received, over all streams, and on how many of them. (What a child that was killed has
    /// counted stays.)
    pub(crate) fn ahead(&self) -> (u64, u64) {
        (self.counts.ahead.load(Ordering::Relaxed), self.counts.streams.load(Ordering::Relaxed))
    }

    /// On one stream it is so much now.
    pub(crate) fn count_ahead(&self, before: u64, now: u64) {
        self.counts.ahead.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        if (before == 0) != (now == 0) {
            self.counts.streams.fetch_add(if now == 0 { u64::MAX } else { 1 }, Ordering::Relaxed);
        }
    }

    pub(crate) fn bell(&self) -> Option<RawFd> {
        Some(self.bell.as_ref()?.lock().as_raw_fd())
    }

    /// It is another broker that is told from now on, under the descriptor of the one before.
    pub(crate) fn hear_from(&self, broker: impl AsFd) -> io::Result<()> {
        self.counts.told_for.store(0, Ordering::Relaxed);
        let Some(bell) = &self.bell else { return Ok(()) };
        rustix::io::dup3(broker, &mut bell.lock(), rustix::io::DupFlags::CLOEXEC)?;
        Ok(())
    }

    fn admits(&self) -> bool {
        // Several threads may pass at once, and each then takes one more.
        self.taken() < self.told.limit.load(Ordering::Relaxed) as usize
    }

    /// Whether much fewer were ever used than may be taken.
    fn has_plenty(&self) -> bool {
        self.counts.used.load(Ordering::Relaxed) < self.told.limit.load(Ordering::Relaxed) as usize / 4
    }

    /// Something was taken: a broker that sleeps is told, once for each nap.
    fn stir(&self) {
        let Some(bell) = &self.bell else { return };
        let nap = doorbell::sleeper(&self.told.asleep);
        if nap != 0 && self.counts.told_for.swap(nap, Ordering::Relaxed) != nap {
            doorbell::knock(&*bell.lock());
        }
    }
}

/// One record's way, and 1 more, if it is taken, and the positions it is taken from and up to.
#[derive(Clone, Copy)]
struct Slot {
    way: u32,
    start: u64,
    end: u64,
}

/// Of zeroes: a store that was never used.
struct State {
    /// What was used and has come back, in this order: so many, which, and where the first is.
    free: usize,
    first: usize,
    frees: [u32; RECORDS],
    /// Of each record that was ever used: so many, and what of them.
    used: usize,
    slots: [Slot; RECORDS],
    /// How often not to look.
    patience: usize,
    /// How often one was taken.
    takes: usize,
}

impl State {
    /// Whether one that was never used is better taken than one that has come back.
    fn widens(&self) -> bool {
        self.used < ROUND || self.used < WIDE && self.takes.is_multiple_of(SELDOM)
    }

    /// Takes one that has come back, [`WIDE`] others since; if fewer have, the one that came back first.
    fn reuse(&mut self) -> u32 {
        let at = |index: usize| (self.first + index) % RECORDS;
        let taken = self.free.saturating_sub(WIDE);
        let record = self.frees[at(taken)];
        if taken == 0 {
            self.first = at(1);
        } else {
            (taken + 1..self.free).for_each(|index| {
                self.frees[(self.first + index - 1) % RECORDS] = self.frees[(self.first + index) % RECORDS]
            });
        }
        self.free -= 1;
        record
    }
}

/// What a process and its forked children keep together.
struct Books {
    state: Lock<State>,
    /// For which sleep of each set of each process it was rung last.
    rung: [[AtomicU64; SETS]; STORES_MAX],
}

/// A process's own records in one memory, and its forked children's.
pub struct Store {
    region: Arc<Region>,
    number: usize,
    quota: Arc<Quota>,
    books: Family<Books>,
    /// How often a stream had to do without.
    refused: AtomicU32,
}

impl Store {
    pub(crate) fn new(region: Arc<Region>, number: usize, quota: Arc<Quota>) -> io::Result<Self> {
        // SAFETY: numbers, atomics, and a lock, of which zeroes are one that is free.
        let books = unsafe { Family::zeroed()? };
        let store = Self { region, number, quota, books, refused: AtomicU32::new(0) };
        store.resume();
        Ok(store)
    }

    /// Goes on where this process's store before this one ended, whose connections were all closed: what it has sent and nobody
    /// has received yet is left alone, and not counted, since a peer could say that it is all of them.
    fn resume(&self) {
        let state = &mut *self.state();
        let top = (self.region.store_line(self.number).top.load(Ordering::Relaxed) as usize).min(RECORDS);
        for record in 0..top as u32 {
            let claim = self.claim(record);
            let (way, end) = (claim.way.load(Ordering::Acquire), claim.end.load(Ordering::Relaxed));
            let is_taken = way != 0 && way & FREE == 0;
            let is_known = way as usize <= 2 * CONNECTIONS;
            if !is_taken || is_known && self.is_received(way - 1, end) {
                claim.way.store(FREE | way, Ordering::Release);
                state.frees[state.free] = record;
                state.free += 1;
            }
        }
        state.used = top;
        self.quota.counts.used.fetch_add(top, Ordering::Relaxed);
    }

    /// How often a stream had to do without.
    pub fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Records that are taken.
    pub fn taken(&self) -> usize {
        let state = self.state();
        state.slots[..state.used].iter().filter(|slot| slot.way != 0).count()
    }

    pub(crate) fn quota(&self) -> &Quota {
        &self.quota
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
        state.slots[record as usize] = Slot { way: way + 1, start, end: u64::MAX };
        self.quota.counts.taken.fetch_add(1, Ordering::Relaxed);
        let claim = self.claim(record);
        claim.end.store(u64::MAX, Ordering::Relaxed);
        claim.way.store(way + 1, Ordering::Release);
        self.quota.stir();
        Some(record)
    }

    /// Writes down that whoever receives on this way was asleep, and is to look.
    pub(crate) fn call(&self, way: u32) {
        let _alone = self.state();
        self.region.calls(self.number).call(way);
    }

    fn rung(&self, receiver: usize, set: usize) -> &AtomicU64 {
        &self.books.rung[receiver % STORES_MAX][set % SETS]
    }

    /// Whether this process has rung for this sleep of another's set.
    pub(crate) fn has_rung(&self, receiver: usize, set: usize, sleep: Sleep) -> bool {
        sleep.which() != 0 && self.rung(receiver, set).load(Ordering::Acquire) == sleep.which()
    }

    /// It has.
    pub(crate) fn rang(&self, receiver: usize, set: usize, sleep: Sleep) {
        self.rung(receiver, set).store(sleep.which(), Ordering::Release);
    }

    pub(crate) fn close(&self, record: u32, way: u32, start: u64, end: u64) {
        let slot = &mut self.state().slots[record as usize];
        if (slot.way, slot.start) == (way + 1, start) {
            slot.end = end;
            self.claim(record).end.store(end, Ordering::Release);
        }
    }

    /// A record that was collected meanwhile is another's.
    pub(crate) fn give_back(&self, record: u32, way: u32, start: u64) {
        let state = &mut *self.state();
        let slot = state.slots[record as usize];
        if (slot.way, slot.start) == (way + 1, start) {
            self.free(state, record);
        }
    }

    fn state(&self) -> Held<'_, State> {
        self.books.state.lock()
    }

    fn claim(&self, record: u32) -> &Claim {
        self.region.claim(self.number, record as usize)
    }

    fn any(&self, state: &mut State) -> Option<u32> {
        state.takes = state.takes.wrapping_add(1);
        let few = state.widens() && self.quota.has_plenty();
        if state.free == 0 && !few {
            self.collect(state);
        }
        if state.free > 0 && !few {
            return Some(state.reuse());
        }
        let record = state.used;
        (record < RECORDS).then(|| {
            state.used += 1;
            self.quota.counts.used.fetch_add(1, Ordering::Relaxed);
            self.region.store_line(self.number).top.store(record as u32 + 1, Ordering::Relaxed);
            record as u32
        })
    }

    fn free(&self, state: &mut State, record: u32) {
        let way = std::mem::take(&mut state.slots[record as usize].way);
        if way == 0 {
            return;
        }
        state.frees[(state.first + state.free) % RECORDS] = record;
        state.free += 1;
        self.quota.counts.taken.fetch_sub(1, Ordering::Relaxed);
        self.claim(record).way.store(FREE | way, Ordering::Release);
    }

    /// Takes back what was received on streams that send nothing any more.
    fn collect(&self, state: &mut State) {
        if state.patience > 0 {
            state.patience -= 1;
            return;
        }
        let before = state.free;
        for record in 0..state.used {
            let slot = state.slots[record];
            if slot.way != 0 && self.is_received(slot.way - 1, slot.end) {
                self.free(state, record as u32);
            }
        }
        if state.free == before {
            state.patience = PATIENCE.max(state.used / 4);
        }
    }

    fn is_received(&self, way: u32, end: u64) -> bool {
        let way = self.region.way(way as usize / 2, way as usize % 2);
        way.receiver.tail.load(Ordering::Acquire) & !GONE >= end
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.quota.counts.taken.fetch_sub(self.taken(), Ordering::Relaxed);
        self.quota.counts.used.fetch_sub(self.state().used, Ordering::Relaxed);
    }
}
