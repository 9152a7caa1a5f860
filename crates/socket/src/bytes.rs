//! The memory beneath a stream's end, as it is: bytes of a mapping that another process changes at any time.

use crate::calls::Sleep;
use crate::freeze;
use crate::layout::{self, LOCAL, RECORD, RECORDS, Way};
use crate::records::Store;
use crate::region::Region;
use crate::stream::{Board, Memory, Spot};
use os::mapping::copy;
use std::ptr::NonNull;
use std::sync::Arc;

/// Who keeps the memory there beneath an end.
pub trait Hold {
    fn region(&self) -> &Region;
    fn store(&self) -> &Store;
}

/// The end itself.
#[derive(Clone)]
pub struct Counted {
    pub(crate) region: Arc<Region>,
    pub(crate) store: Arc<Store>,
}

impl Hold for Counted {
    fn region(&self) -> &Region {
        &self.region
    }

    fn store(&self) -> &Store {
        &self.store
    }
}

/// Somebody else, in each process that has the end.
#[derive(Clone)]
pub struct Kept {
    pub(crate) region: NonNull<Region>,
    pub(crate) store: NonNull<Store>,
}

// SAFETY: both may be used from any thread.
unsafe impl Send for Kept {}

impl Hold for Kept {
    fn region(&self) -> &Region {
        // SAFETY: whoever has opened the end keeps its pair, which has both.
        unsafe { self.region.as_ref() }
    }

    fn store(&self) -> &Store {
        // SAFETY: as in `region`.
        unsafe { self.store.as_ref() }
    }
}

/// What one end of a stream stands on. There is one sending and one receiving end of a way in a process at most: its
/// region sees to that.
pub struct End<H: Hold> {
    hold: H,
    connection: usize,
    /// The side that sends this way, the number of its store, and of the receiver's.
    side: usize,
    number: usize,
    receiver: usize,
    sends: bool,
    way: *const Way,
}

// SAFETY: the pointer is into the region, which is kept; what it points to are atomics.
unsafe impl<H: Hold + Send> Send for End<H> {}

impl<H: Hold> End<H> {
    /// An end of the way in which `side` sends out of the first of these stores to the second one's process: the hold's is its own.
    pub(crate) fn new(
        hold: H,
        (connection, side): (usize, usize),
        [number, receiver]: [usize; 2],
        sends: bool,
    ) -> Self {
        let way: *const Way = hold.region().way(connection, side);
        Self { hold, connection, side, number, receiver, sends, way }
    }

    fn number(&self) -> u32 {
        layout::way_number(self.connection, self.side)
    }

    /// Where `len` bytes at `at` lie. Panics where they are not all there.
    fn record(&self, record: u32, at: usize, len: usize) -> *mut u8 {
        assert!((record as usize) < RECORDS && at <= RECORD && len <= RECORD - at, "bytes of a record");
        self.hold.region().at(layout::records(self.number) + record as usize * RECORD + at)
    }

    /// Where the first of `len` bytes lie in the local record, how many of them there, and where the rest.
    fn local(&self, at: usize, len: usize) -> (*mut u8, usize, *mut u8) {
        assert!(at < LOCAL && len <= LOCAL, "bytes of a local record");
        let begin = layout::local(self.connection, self.side);
        (self.hold.region().at(begin + at), len.min(LOCAL - at), self.hold.region().at(begin))
    }
}

impl<H: Hold> Memory for End<H> {
    fn way(&self) -> &Way {
        // SAFETY: it lies in the region, which `self` keeps.
        unsafe { &*self.way }
    }

    fn put(&self, at: Spot, from: &[u8]) {
        // SAFETY: `record` and `local` give out addresses of the region only, with as many bytes behind them.
        unsafe {
            match at {
                Spot::Record(record, at) => {
                    copy(from.as_ptr(), self.record(record, at, from.len()), from.len());
                }
                Spot::Local(at) => {
                    let (to, first, begin) = self.local(at, from.len());
                    copy(from.as_ptr(), to, first);
                    copy(from.as_ptr().add(first), begin, from.len() - first);
                }
            }
        }
    }

    fn get(&self, at: Spot, to: &mut [u8]) {
        // SAFETY: as in `put`; the other side may change the bytes meanwhile, which changes what is copied only.
        unsafe {
            match at {
                Spot::Record(record, at) => {
                    copy(self.record(record, at, to.len()), to.as_mut_ptr(), to.len());
                }
                Spot::Local(at) => {
                    let (from, first, begin) = self.local(at, to.len());
                    copy(from, to.as_mut_ptr(), first);
                    copy(begin, to.as_mut_ptr().add(first), to.len() - first);
                }
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn expect(&self, at: Spot) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        if let Spot::Local(at) = at {
            // SAFETY: of the region; nothing is read.
            unsafe { _mm_prefetch(self.local(at, 0).0.cast(), _MM_HINT_T0) };
        }
    }

    fn call(&self, set: usize) -> Option<Sleep> {
        self.hold.store().call(self.number());
        let sleep = self.hold.region().calls(self.receiver).sleeps(set);
        sleep.filter(|sleep| !self.hold.store().has_rung(self.receiver, set, *sleep))
    }

    fn rang(&self, set: usize, sleep: Sleep) {
        self.hold.store().rang(self.receiver, set, sleep);
    }

    fn board(&self) -> Option<Board> {
        let region = self.hold.region();
        let (theirs, own) = (region.calls(self.number), region.calls(self.receiver));
        Some(Board { theirs, own, way: self.number() })
    }

    fn count_ahead(&self, before: u64, now: u64) {
        self.hold.store().quota().count_ahead(before, now);
    }

    fn ahead(&self) -> (u64, u64) {
        self.hold.store().quota().ahead()
    }

    fn has(&self, record: u32) -> bool {
        (record as usize) < RECORDS
    }

    fn enter(&self) -> bool {
        freeze::enter(&self.way().sender.hand, self.hold.store().frozen())
    }

    fn take(&self, start: u64) -> Option<u32> {
        self.hold.store().take(self.number(), start)
    }

    fn close(&self, record: u32, start: u64, end: u64) {
        self.hold.store().close(record, self.number(), start, end);
    }

    fn give_back(&self, record: u32, start: u64) {
        self.hold.store().give_back(record, self.number(), start);
    }
}

impl<H: Hold> Drop for End<H> {
    fn drop(&mut self) {
        self.hold.region().leave(self.connection, self.side, self.sends);
    }
}
