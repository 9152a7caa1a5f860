//! A pair as the broker sees it: what is taken, what lies there, what can be taken back.
//!
//! The broker takes no part in any conversation and is never waited for. It reads the claims that senders leave, and gives
//! the memory of records that have not been used for a while back to the kernel ([`Watched::punch`], which zeroes it too),
//! while senders are kept out ([`crate::freeze`]). Whose a record is does not change by it. What a hostile process claims costs
//! itself: its own bytes read as zeroes, or are not trimmed and count against it ([`Watched::resident`] asks the kernel).

use crate::layout::{self, CONNECTIONS, FREE, GONE, RECORD, RECORDS};
use crate::migration::{MEETING, TURN};
use crate::region::{JoinError, Region};
use crate::sync::Ordering;
use rustix::fs::SeekFrom;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What was last seen of a record, and since when.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Use {
    way: u32,
    end: u64,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    was: Use,
    since: u64,
    /// Whether its memory was given back since it was used.
    clean: bool,
}

/// What there is to do about a store's records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// Those that could be punched.
    pub records: Vec<u32>,
    /// How many others have memory.
    pub others: usize,
}

/// A pair's or a pod's memory, seen from outside.
pub struct Watched {
    region: Arc<Region>,
    file: Arc<OwnedFd>,
    /// Of each store.
    seen: Vec<Vec<Seen>>,
    /// Records of each that were had there ahead of their use.
    committed: Vec<usize>,
}

impl Watched {
    pub fn new(file: Arc<OwnedFd>) -> Result<Self, JoinError> {
        let region = Region::map(&*file)?;
        let stores = region.stores();
        Ok(Self { region, file, seen: vec![Vec::new(); stores], committed: vec![0; stores] })
    }

    /// Processes that share it, at most: 2 are a pair.
    pub fn stores(&self) -> usize {
        self.region.stores()
    }

    /// Which memory this is, whoever names it.
    pub fn identity(file: &OwnedFd) -> io::Result<(u64, u64)> {
        let stat = rustix::fs::fstat(file)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Records that a store has ever taken, as it says.
    pub fn top(&self, store: usize) -> usize {
        (self.region.store_line(store).top.load(Ordering::Relaxed) as usize).min(RECORDS)
    }

    /// Records that a store has taken now, as it says.
    pub fn taken(&self, store: usize) -> usize {
        (0..self.top(store)).filter(|&record| self.used(store, record).is_taken()).count()
    }

    /// Whether a connection's number can be given to another meeting than the one of this number: both ends were there, and have
    /// left. If `waived`, or none was given it, it need not be known that they were.
    pub fn is_free(&self, connection: usize, meeting: u64, waived: bool) -> bool {
        let was =
            |side| self.region.way(connection, side).sender_rest.notes[MEETING].load(Ordering::Acquire) == meeting;
        self.region.is_quiet(connection) && (waived || was(0) && was(1))
    }

    /// Whether the `side` of a meeting was there, and has left.
    pub fn has_left(&self, connection: usize, side: usize, meeting: u64) -> bool {
        let notes = &self.region.way(connection, side).sender_rest.notes;
        notes[MEETING].load(Ordering::Acquire) == meeting && !self.is_open(connection, side, meeting)
    }

    /// Whether the `side` of a meeting has it open.
    pub fn is_open(&self, connection: usize, side: usize, meeting: u64) -> bool {
        let (sends, receives) = (self.region.way(connection, side), self.region.way(connection, 1 - side));
        let was = sends.sender_rest.notes[MEETING].load(Ordering::Acquire) == meeting;
        let is_open = sends.sender.open.load(Ordering::Acquire) | receives.receiver.open.load(Ordering::Acquire);
        was && is_open != 0
    }

    /// Whether the `side` of a meeting sends through memory now, as it says.
    pub fn sends_through(&self, connection: usize, side: usize, meeting: u64) -> bool {
        let notes = &self.region.way(connection, side).sender_rest.notes;
        notes[MEETING].load(Ordering::Acquire) == meeting && notes[TURN].load(Ordering::Relaxed) & 1 == 1
    }

    /// Records that each connection has taken, over all stores, as their senders say.
    pub fn held(&self) -> BTreeMap<usize, usize> {
        let mut held = BTreeMap::new();
        for store in 0..self.stores() {
            let numbers = (0..self.top(store)).filter_map(|record| self.used(store, record).number());
            numbers.for_each(|(connection, _)| *held.entry(connection).or_default() += 1);
        }
        held
    }

    /// Bytes of memory in a store's records, as the kernel says.
    pub fn resident(&self, store: usize) -> io::Result<u64> {
        let mut sum = 0;
        self.extents(layout::records(store), RECORDS * RECORD, |from, to| sum += to - from)?;
        Ok(sum)
    }

    /// Bytes of memory in all of the pair.
    pub fn whole(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&*self.file)?.st_blocks as u64 * 512)
    }

    /// Looks through a store's records: those that nobody has used since `idle` nanoseconds before `now`, `most` at most.
    pub fn look(&mut self, store: usize, now: u64, idle: u64, most: usize) -> Idle {
        let mut found = Idle::default();
        let top = self.top(store);
        if self.seen[store].len() < top {
            self.seen[store].resize(top, Seen { since: now, ..Seen::default() });
        }
        for record in 0..top {
            let used = self.used(store, record);
            let seen = &mut self.seen[store][record];
            if seen.was != used {
                *seen = Seen { was: used, since: now, clean: false };
            }
            let Seen { since, clean, .. } = *seen;
            if !clean {
                let idle = now.saturating_sub(since) >= idle && self.is_received(used);
                if idle && found.records.len() < most {
                    found.records.push(record as u32);
                } else {
                    found.others += 1;
                }
            }
        }
        found
    }

    /// Whether all of a store's senders are out: asked while they are kept out.
    pub fn is_out(&self, store: usize) -> io::Result<bool> {
        let opened = (self.region.store_line(store).opened.load(Ordering::Relaxed) as usize).min(CONNECTIONS);
        let mut out = true;
        // Where there is no memory, there is no hand; and to look there would take some.
        self.extents(layout::WAYS, opened * 2 * layout::WAY, |from, to| {
            let ways =
                (from as usize - layout::WAYS) / (2 * layout::WAY)..(to as usize - layout::WAYS) / (2 * layout::WAY);
            out &= ways.into_iter().all(|connection| {
                [0, 1].into_iter().all(|side| {
                    let sender = &self.region.way(connection, side).sender;
                    sender.store.load(Ordering::Relaxed) as usize != store || crate::freeze::is_out(&sender.hand)
                })
            });
        })?;
        Ok(out)
    }

    /// Gives the memory of records back that are idle still. To be called while the store's senders are out, or their process
    /// is gone.
    pub fn punch(&mut self, store: usize, records: &[u32]) {
        for &record in records {
            let (used, seen) = (self.used(store, record as usize), &mut self.seen[store][record as usize]);
            if seen.was == used && self.region.punch(layout::records(store) + record as usize * RECORD, RECORD).is_ok()
            {
                seen.clean = true;
            }
        }
    }

    /// Gives all memory of a store's records back, whatever is in them: nobody receives it, or it is more than the store may
    /// have.
    pub fn clear(&self, store: usize) -> io::Result<()> {
        self.region.punch(layout::records(store), RECORDS * RECORD)
    }

    /// Leaves a connection in the place of an end that was killed, as that would have done. To be called when nobody has that end any
    /// more, and the other end has left.
    pub fn leave(&self, connection: usize, side: usize) {
        let sender = &self.region.way(connection, side).sender;
        sender.base.store(sender.head.load(Ordering::Acquire), Ordering::Relaxed);
        sender.base_segments.store(sender.segments.load(Ordering::Relaxed), Ordering::Relaxed);
        sender.hand.store(0, Ordering::Relaxed);
        sender.open.store(0, Ordering::Release);
        let other = self.region.way(connection, 1 - side);
        let sent = other.sender.head.load(Ordering::Acquire) & !GONE;
        other.receiver.tail.store(GONE | sent, Ordering::Release);
        other.receiver.open.store(0, Ordering::Release);
    }

    /// Makes a store what it was when nobody had had it. To be called when nobody has it, or has a connection to one who had it.
    pub fn reset(&mut self, store: usize) -> io::Result<()> {
        self.region.punch(layout::claim(store, 0), layout::STORE)?;
        let line = self.region.store_line(store);
        (self.seen[store], self.committed[store]) = (Vec::new(), 0);
        line.top.store(0, Ordering::Relaxed);
        line.opened.store(0, Ordering::Release);
        Ok(())
    }

    /// Gives the memory of a connection's local records back. To be called while the connection is free.
    pub fn clear_locals(&self, connection: usize) -> io::Result<()> {
        assert!(connection < CONNECTIONS, "a connection of the memory");
        self.region.punch(layout::local(connection, 0), 2 * layout::LOCAL)
    }

    /// Has the memory of a store's next `ahead` records there before they are used, up to its first `most`.
    pub fn commit(&mut self, store: usize, ahead: usize, most: usize) -> io::Result<usize> {
        let (from, to) = (self.committed[store].max(self.top(store)), (self.top(store) + ahead).min(most).min(RECORDS));
        if from >= to {
            return Ok(0);
        }
        self.region.populate(layout::records(store) + from * RECORD, (to - from) * RECORD)?;
        self.committed[store] = to;
        Ok(to - from)
    }

    /// Gives back what was had there ahead and was not used.
    pub fn uncommit(&mut self, store: usize) -> io::Result<()> {
        let (from, to) = (self.top(store), std::mem::take(&mut self.committed[store]));
        if from < to { self.region.punch(layout::records(store) + from * RECORD, (to - from) * RECORD) } else { Ok(()) }
    }

    fn used(&self, store: usize, record: usize) -> Use {
        let claim = self.region.claim(store, record);
        let (way, end) = (claim.way.load(Ordering::Acquire), claim.end.load(Ordering::Relaxed));
        let used = Use { way, end };
        match used.number() {
            // A record that is being filled is in use where its stream moves.
            Some((connection, side)) if end == u64::MAX => {
                Use { way, end: FILLING | self.region.way(connection, side).sender.head.load(Ordering::Acquire) }
            }
            _ => used,
        }
    }

    /// Whether nothing in a record is unread.
    fn is_received(&self, used: Use) -> bool {
        used.number().is_none_or(|(connection, side)| {
            let tail = self.region.way(connection, side).receiver.tail.load(Ordering::Acquire);
            tail & !GONE >= used.end & !FILLING
        })
    }

    /// Calls `each` for the runs of memory that is there among `len` bytes from `from` on.
    fn extents(&self, from: usize, len: usize, mut each: impl FnMut(u64, u64)) -> io::Result<()> {
        let (mut at, end) = (from as u64, (from + len) as u64);
        while at < end {
            at = match rustix::fs::seek(&*self.file, SeekFrom::Data(at)) {
                Ok(at) if at < end => at,
                Ok(_) | Err(rustix::io::Errno::NXIO) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let hole = rustix::fs::seek(&*self.file, SeekFrom::Hole(at))?.min(end);
            each(at, hole);
            at = hole;
        }
        Ok(())
    }
}

/// The bit of an end that is where a record's stream is now.
const FILLING: u64 = 1 << 63;

impl Use {
    fn is_taken(self) -> bool {
        self.way != 0 && self.way & FREE == 0
    }

    /// The connection and the sending side of the way that has taken it; none if none has, or there is no such.
    fn number(self) -> Option<(usize, usize)> {
        let number = self.is_taken().then(|| self.way as usize - 1)?;
        (number < 2 * CONNECTIONS).then_some((number / 2, number % 2))
    }
}
