//! The memory beneath a stream's end, as it is: bytes of a mapping that another process changes at any time.

use crate::freeze;
use crate::layout::{self, LOCAL, RECORD, RECORDS, Way};
use crate::records::Store;
use crate::region::Region;
use crate::stream::{Memory, Spot};
use std::sync::Arc;

/// What one end of a stream stands on. There is one sending and one receiving end of a way in a process at most: its
/// region sees to that.
pub struct End {
    region: Arc<Region>,
    store: Arc<Store>,
    connection: usize,
    /// The side that sends this way, and the number of its store.
    side: usize,
    number: usize,
    sends: bool,
    way: *const Way,
}

// SAFETY: the pointer is into the region, which this keeps; what it points to are atomics.
unsafe impl Send for End {}

impl End {
    /// An end of the way in which `side` sends out of the store of that `number`: `store`, if this end does.
    pub(crate) fn new(
        region: &Arc<Region>,
        store: &Arc<Store>,
        way: (usize, usize),
        number: usize,
        sends: bool,
    ) -> Self {
        let (connection, side) = way;
        let way: *const Way = region.way(connection, side);
        Self { region: region.clone(), store: store.clone(), connection, side, number, sends, way }
    }

    fn number(&self) -> u32 {
        layout::way_number(self.connection, self.side)
    }

    /// Where `len` bytes at `at` lie. Panics where they are not all there.
    fn record(&self, record: u32, at: usize, len: usize) -> *mut u8 {
        assert!((record as usize) < RECORDS && at <= RECORD && len <= RECORD - at, "bytes of a record");
        self.region.at(layout::records(self.number) + record as usize * RECORD + at)
    }

    /// Where the first of `len` bytes lie in the local record, how many of them there, and where the rest.
    fn local(&self, at: usize, len: usize) -> (*mut u8, usize, *mut u8) {
        assert!(at < LOCAL && len <= LOCAL, "bytes of a local record");
        let begin = layout::local(self.connection, self.side);
        (self.region.at(begin + at), len.min(LOCAL - at), self.region.at(begin))
    }
}

impl Memory for End {
    fn way(&self) -> &Way {
        // SAFETY: it lies in the region, which `self` keeps.
        unsafe { &*self.way }
    }

    fn put(&self, at: Spot, from: &[u8]) {
        // SAFETY: `record` and `local` give out addresses of the region only, with as many bytes behind them.
        unsafe {
            match at {
                Spot::Record(record, at) => {
                    std::ptr::copy_nonoverlapping(from.as_ptr(), self.record(record, at, from.len()), from.len());
                }
                Spot::Local(at) => {
                    let (to, first, begin) = self.local(at, from.len());
                    std::ptr::copy_nonoverlapping(from.as_ptr(), to, first);
                    std::ptr::copy_nonoverlapping(from.as_ptr().add(first), begin, from.len() - first);
                }
            }
        }
    }

    fn get(&self, at: Spot, to: &mut [u8]) {
        // SAFETY: as in `put`; the other side may change the bytes meanwhile, which changes what is copied only.
        unsafe {
            match at {
                Spot::Record(record, at) => {
                    std::ptr::copy_nonoverlapping(self.record(record, at, to.len()), to.as_mut_ptr(), to.len());
                }
                Spot::Local(at) => {
                    let (from, first, begin) = self.local(at, to.len());
                    std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), first);
                    std::ptr::copy_nonoverlapping(begin, to.as_mut_ptr().add(first), to.len() - first);
                }
            }
        }
    }

    fn has(&self, record: u32) -> bool {
        (record as usize) < RECORDS
    }

    fn enter(&self) -> bool {
        freeze::enter(&self.way().sender.hand, self.store.frozen())
    }

    fn take(&self, start: u64) -> Option<u32> {
        self.store.take(self.number(), start)
    }

    fn close(&self, record: u32, start: u64, end: u64) {
        self.store.close(record, self.number(), start, end);
    }

    fn give_back(&self, record: u32, start: u64) {
        self.store.give_back(record, self.number(), start);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.region.leave(self.connection, self.side, self.sends);
    }
}
