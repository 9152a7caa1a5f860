//! The writing end of a lane.

use super::end::{AttachError, Guard, Region};
use super::sleep::{Patience, park, wake};
use super::{Cause, Word, layout};
use crate::doorbell::{self, Sleeps, Wakes};
use crate::guard;
use crate::layout::{Frame, LINE};
use crate::ring::{Producer, PushError};
use crate::waking;
use crate::wide::{self, Tenant};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Why a message was not written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    #[error("the lane is full until its reader reads")]
    Full,
    #[error("a message of {len} bytes is longer than this lane's limit of {limit}")]
    TooLong { len: usize, limit: usize },
    #[error("the lane has ended: {0:?}")]
    Cut(Cause),
    #[error("the reader has broken the lane")]
    Broken,
}

impl From<PushError> for WriteError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Full(_) => Self::Full,
            PushError::Broken => Self::Broken,
        }
    }
}

/// What a lane with a wide ring has besides: in cache lines of its own, as the other end may be another thread's.
#[repr(align(128))]
struct Wide {
    /// The ring that messages do not go through now.
    other: Producer<'static>,
    hand: Word,
    notice: Word,
    /// What speaks for moving in: waits for room, and bytes at speed. And how much of it there must be.
    urge: u32,
    reluctance: u32,
    /// Bytes since the clock was last looked at, and when that was, in nanoseconds; whether they were fast.
    flowed: usize,
    since: u64,
    fast: bool,
    /// Whether the writer has slept since, or asked for its bell: then the reader is no quicker for a wider ring.
    slept: bool,
    /// Bytes since it moved in.
    carried: usize,
}

/// How much urge it takes to move to the wide ring, at least and at most. A wait for room counts for one, [`FLOW`] bytes
/// within [`FAST`] nanoseconds for [`STREAM`], if the reader then is behind when another message begins: if not, they are
/// questions and answers, for which the usual ring is better, and all urge is gone. So it is with whoever slept meanwhile: ends
/// that take turns on a processor are slower through a wide ring. After a stay that was too short for its pages to be worth
/// it, it takes twice as much.
const RELUCTANCE: u32 = 64;
const STREAM: u32 = 16;
const RELUCTANCE_MAX: u32 = 1 << 16;
const FLOW: usize = 1 << 20;
const FAST: u64 = 1_000_000;
/// Messages that are shorter do not urge: what they cost is not the copying of their bytes.
const WORTH: usize = 1024;

/// What the last message that did not fit waits for.
#[derive(Clone, Copy)]
enum Wanted {
    Ring(usize),
    Bulk,
}

/// The writing end. Used by one thread at a time.
pub struct Writer {
    // Declared before the region that its references point into, so they are dropped first.
    /// The ring that messages go through now.
    ring: Producer<'static>,
    /// Whether that is the wide one.
    tenant: Tenant,
    wide: Option<Box<Wide>>,
    sleeping: Word,
    sleeps: Sleeps,
    reader_sleeping: Word,
    wakes: Wakes,
    called_at: &'static AtomicU64,
    called_on: &'static AtomicU32,
    released: Word,
    bulk_sent: u32,
    wanted: Wanted,
    hand: Word,
    patience: Patience,
    guard: Guard,
    bell: OwnedFd,
    region: Region,
}

impl Writer {
    /// Attaches to a lane as its writer, with this end of its bell. `hand` is a word that only this process and the shim
    /// have. The region's descriptor may be closed afterwards.
    pub fn attach(region: impl AsFd, bell: OwnedFd, guard: Guard, hand: Word) -> Result<Self, AttachError> {
        let region = Region::attach(region)?;
        // SAFETY: ring and words lie in the region, which this struct keeps; the reader has the other half.
        let (ring, wide, called_at, called_on) = unsafe {
            let words = [layout::CALLS, layout::TAIL, layout::WIDE_TAIL, layout::CALLED_ON];
            let [calls, tail, wide_tail, called_on] = words.map(|offset| region.borrowed_word(offset));
            let wide = region.wide().map(|(base, bytes)| Producer::new(base, bytes, calls, wide_tail));
            let ring = Producer::new(region.ring_base(), region.ring, calls, tail);
            (ring, wide, region.borrowed_time(layout::CALLED_AT), called_on)
        };
        let wide = wide.map(|other| {
            Box::new(Wide {
                other,
                hand: region.word(layout::HAND),
                notice: region.word(layout::NOTICE),
                urge: 0,
                reluctance: RELUCTANCE,
                flowed: 0,
                since: 0,
                fast: false,
                slept: false,
                carried: 0,
            })
        });
        Ok(Self {
            ring,
            tenant: Tenant::default(),
            wide,
            sleeping: region.word(layout::WRITER_SLEEPING),
            sleeps: Sleeps::default(),
            reader_sleeping: region.word(layout::READER_SLEEPING),
            wakes: Wakes::default(),
            called_at,
            called_on,
            released: region.word(layout::RELEASED),
            bulk_sent: 0,
            wanted: Wanted::Ring(0),
            hand,
            patience: Patience::new(),
            guard,
            bell,
            region,
        })
    }

    /// Writes one message, `parts` one after the other, and wakes the reader if it sleeps. All of it or nothing.
    pub fn try_write(&mut self, parts: &[&[u8]]) -> Result<(), WriteError> {
        let len = self.length(parts)?;
        self.begin(len);
        let put = |writer: &mut Self| {
            writer.put(parts, len)?;
            writer.publish();
            Ok(())
        };
        match self.with_hand(put) {
            Err(WriteError::Full) if self.urge(1, len)? => self.with_hand(put)?,
            result => result?,
        }
        self.wake();
        self.count(len);
        Ok(())
    }

    /// As [`Writer::try_write`], but the reader need not see it before [`Writer::flush`]: for several messages that are
    /// published by one store and one wake. Full: what was staged before still waits for the flush.
    pub fn stage(&mut self, parts: &[&[u8]]) -> Result<(), WriteError> {
        let len = self.length(parts)?;
        self.with_hand(|writer| writer.put(parts, len))
    }

    /// Lets the reader see what was staged.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.with_hand(|writer| {
            writer.publish();
            Ok(())
        })?;
        self.wake();
        Ok(())
    }

    /// Writes one message, waiting for room: looking for up to `spin`, then sleeping, until `deadline` at most, when it
    /// fails with [`WriteError::Full`].
    pub fn write(&mut self, parts: &[&[u8]], spin: Duration, deadline: Option<Instant>) -> Result<(), WriteError> {
        let mut done = 0;
        loop {
            match self.resume(parts, &mut done) {
                Err(WriteError::Full) if deadline.is_none_or(|deadline| Instant::now() < deadline) => {
                    self.wait(spin, deadline);
                }
                result => return result,
            }
        }
    }

    /// Writes what there is room for of a message of which the first `done` bytes are written, 0 at first. After
    /// [`WriteError::Full`] it goes on where it was, if it is asked again with the same message; if another message is
    /// written instead, this one is never delivered. A message of several pieces begins when there is room for the first,
    /// and goes through the ring however long it is: while the reader reads that is many times faster than the bulk area,
    /// whose pages the kernel takes and gives.
    pub fn resume(&mut self, parts: &[&[u8]], done: &mut usize) -> Result<(), WriteError> {
        let len = self.length(parts)?;
        if *done == 0 {
            self.begin(len);
        }
        loop {
            let from = *done;
            let put = |writer: &mut Self| {
                let put = writer.put_some(parts, len, from)?;
                writer.publish();
                Ok(put)
            };
            let put = match self.with_hand(put) {
                Err(WriteError::Full) if self.urge(1, len)? => continue,
                result => result?,
            };
            *done += put;
            self.wake();
            self.count(put);
            if *done == len {
                return Ok(());
            }
        }
    }

    /// Puts the message, or a piece of it if it is longer than one or has begun as several: how many bytes.
    fn put_some(&mut self, parts: &[&[u8]], len: usize, from: usize) -> Result<usize, WriteError> {
        if from > 0 || len > self.piece() {
            return self.put_piece(parts, len, from);
        }
        self.put_ring(parts, len)?;
        Ok(len)
    }

    /// What staged frames are published by, too: the wide ring is not given up while it has some.
    fn with_hand<T>(&mut self, write: impl FnOnce(&mut Self) -> Result<T, WriteError>) -> Result<T, WriteError> {
        let arrives = self.tenant.is_in() && !self.ring.is_staged();
        if arrives {
            self.knocks();
        }
        let begun = guard::begin(&self.hand, &self.guard.cut);
        if arrives {
            self.stays_or_leaves();
        }
        let result = begun.map_err(WriteError::Cut).and_then(|()| {
            let result = write(self);
            guard::end(&self.hand);
            result
        });
        if self.tenant.is_in() && !self.ring.is_staged() {
            self.wide.iter().for_each(|wide| wide::lower(&wide.hand));
        }
        result
    }

    /// In the wide ring, before a fence.
    fn knocks(&self) {
        self.wide.iter().for_each(|wide| self.tenant.raise(&wide.hand));
    }

    /// In the wide ring, after the fence: leaves it, if it was asked to.
    fn stays_or_leaves(&mut self) {
        let Some(wide) = &mut self.wide else { return };
        if !self.tenant.stays(&wide.hand, &wide.notice) {
            let paid = wide.carried >= 4 * self.ring.size();
            wide.reluctance = if paid { RELUCTANCE } else { (2 * wide.reluctance).min(RELUCTANCE_MAX) };
            self.ring.trade(&mut wide.other);
        }
    }

    fn publish(&mut self) {
        self.ring.publish();
    }

    /// A message of `len` bytes begins: whether what was written before it is a stream.
    fn begin(&mut self, len: usize) {
        let Some(wide) = self.wide.as_mut().filter(|wide| wide.fast) else { return };
        wide.fast = false;
        if self.ring.lag() as usize > self.ring.size() / 8 {
            // An error now is the next write's to tell.
            let _ = self.urge(STREAM, len);
        } else {
            wide.urge = 0;
        }
    }

    /// So many bytes have been written.
    #[inline]
    fn count(&mut self, len: usize) {
        let Some(wide) = &mut self.wide else { return };
        wide.flowed += len;
        if wide.flowed < FLOW {
            return;
        }
        wide.carried = wide.carried.saturating_add(wide.flowed);
        wide.flowed = 0;
        let now = os::monotonic_ns();
        let slept = std::mem::take(&mut wide.slept);
        wide.fast = !self.tenant.is_in() && now - std::mem::replace(&mut wide.since, now) < FAST && !slept;
        if slept {
            wide.urge = 0;
        }
    }

    /// Moves to the wide ring, if there is urge enough, and a reader that is awake. Whether it has.
    fn urge(&mut self, more: u32, len: usize) -> Result<bool, WriteError> {
        let (Some(wide), Wanted::Ring(_), WORTH..) = (&mut self.wide, self.wanted, len) else { return Ok(false) };
        wide.urge = if wide.slept { 0 } else { wide.urge.saturating_add(more) };
        let may = wide.urge >= wide.reluctance && !self.tenant.is_in() && !self.ring.is_staged();
        if !may || !Sleeps::is_awake(&self.reader_sleeping) || !self.tenant.enter(&wide.notice) {
            return Ok(false);
        }
        (wide.urge, wide.carried) = (0, 0);
        self.ring.trade(&mut wide.other);
        let frame = Frame { len: 0, head: 0, bulk: 0, kind: layout::WIDEN };
        let told = self.with_hand(|writer| match &mut writer.wide {
            Some(wide) if writer.tenant.is_in() => Ok(wide.other.push(frame, &[])?),
            _ => Err(WriteError::Full),
        });
        if let (Err(_), true, Some(wide)) = (&told, self.tenant.is_in(), &mut self.wide) {
            self.tenant.leave(&wide.hand);
            self.ring.trade(&mut wide.other);
        }
        told?;
        self.wake();
        Ok(true)
    }

    fn length(&self, parts: &[&[u8]]) -> Result<usize, WriteError> {
        let (len, limit) = (parts.iter().map(|part| part.len()).sum(), self.region.message_max);
        if len > limit { Err(WriteError::TooLong { len, limit }) } else { Ok(len) }
    }

    fn piece(&self) -> usize {
        layout::piece(self.ring.size())
    }

    fn put(&mut self, parts: &[&[u8]], len: usize) -> Result<(), WriteError> {
        if len > layout::ring_max(self.ring.size()) { self.put_bulk(parts, len) } else { self.put_ring(parts, len) }
    }

    fn put_ring(&mut self, parts: &[&[u8]], len: usize) -> Result<(), WriteError> {
        self.want(layout::ring_bytes(self.ring.size(), len))?;
        if len <= self.piece() {
            let frame = Frame { len: len as u32, head: 0, bulk: 0, kind: layout::WHOLE };
            return Ok(self.ring.stage(frame, parts.iter().copied())?);
        }
        for from in (0..len).step_by(self.piece()) {
            self.put_piece(parts, len, from)?;
            self.publish();
        }
        Ok(())
    }

    /// One piece of a message of `len` bytes, that from its byte `from` on: how many bytes.
    fn put_piece(&mut self, parts: &[&[u8]], len: usize, from: usize) -> Result<usize, WriteError> {
        assert!(from < len, "a message that is not yet written");
        let piece = self.piece().min(len - from);
        self.want(layout::ring_bytes(self.ring.size(), piece))?;
        let kind = if from == 0 { layout::FIRST } else { layout::FURTHER };
        let frame = Frame { len: piece as u32, head: 0, bulk: len as u32, kind };
        self.ring.stage(frame, range(parts, from, piece))?;
        Ok(piece)
    }

    /// In a ring beside which there is a wide one there is always room for the frame that says so.
    fn want(&mut self, need: usize) -> Result<(), WriteError> {
        let need = need + if self.wide.is_some() { LINE } else { 0 };
        self.wanted = Wanted::Ring(need);
        if self.ring.room(need)? < need { Err(WriteError::Full) } else { Ok(()) }
    }

    fn put_bulk(&mut self, parts: &[&[u8]], len: usize) -> Result<(), WriteError> {
        self.wanted = Wanted::Bulk;
        if !self.is_bulk_free() {
            return Err(WriteError::Full);
        }
        self.want(layout::ring_bytes(self.ring.size(), 0))?;
        self.region.write_bulk(parts, len);
        self.ring.stage(Frame { len: 0, head: 0, bulk: len as u32, kind: layout::BULK }, std::iter::empty())?;
        self.bulk_sent = self.bulk_sent.wrapping_add(1);
        Ok(())
    }

    fn is_bulk_free(&self) -> bool {
        self.released.load(Ordering::Acquire) == self.bulk_sent
    }

    fn wake(&mut self) {
        let (ring, bell, called_at, called_on) = (&mut self.ring, &self.bell, self.called_at, self.called_on);
        self.wakes.after(&self.reader_sleeping, |how| {
            called_at.store(waking::ticks(), Ordering::Relaxed);
            called_on.store(waking::processor(), Ordering::Relaxed);
            wake(how, ring.call(), bell)
        });
        self.ring.prepare();
    }

    /// Whether the message that did not fit would, or there is an error to tell.
    fn is_ready(&mut self) -> bool {
        guard::verdict(&self.guard.cut).is_some()
            || match self.wanted {
                Wanted::Ring(need) => self.ring.room(need).map_or(true, |room| room >= need),
                Wanted::Bulk => self.is_bulk_free(),
            }
    }

    /// After [`WriteError::Full`]: waits until there may be room, or the lane has ended: looking for up to `spin`, then
    /// sleeping, until `deadline` or for [`super::ASLEEP_MAX`] at most.
    pub fn wait(&mut self, spin: Duration, deadline: Option<Instant>) {
        let mut patience = std::mem::replace(&mut self.patience, Patience::new());
        let come = self.is_ready() || patience.look(spin, deadline, || self.is_ready());
        self.patience = patience;
        if come {
            return;
        }
        self.falls_asleep();
        self.sleeps.begin(&self.sleeping, doorbell::FUTEX);
        let (tail, news) = (self.ring.tail(), self.guard.news.load(Ordering::Acquire));
        let seen = tail.load(Ordering::Acquire);
        if !self.is_ready() {
            park(tail, seen, &self.guard.news, news, deadline);
        }
        self.sleeps.end(&self.sleeping);
    }

    fn falls_asleep(&mut self) {
        self.wide.iter_mut().for_each(|wide| wide.slept = true);
    }

    /// After [`WriteError::Full`]: the reader is to ring the bell when it gives room back, unless [`Writer::disarm`] comes
    /// first. True: there is none yet, so one may wait for the bell.
    pub fn arm(&mut self) -> bool {
        self.falls_asleep();
        self.sleeps.begin(&self.sleeping, doorbell::EVENT);
        !self.is_ready()
    }

    /// Takes what has rung, and asks for no more of it. False: the other end of the bell is gone.
    pub fn disarm(&mut self) -> bool {
        self.sleeps.end(&self.sleeping);
        doorbell::heard(&self.bell)
    }

    /// What becomes readable when the bell rings.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Why the lane has ended, if it has: for whoever has nothing to write at the moment.
    pub fn ended(&self) -> Option<Cause> {
        guard::verdict(&self.guard.cut)
    }

    /// The longest message that this lane carries, in bytes.
    pub fn message_max(&self) -> usize {
        self.region.message_max
    }
}

/// The bytes `from..from + len` of what `parts` are together.
fn range<'p>(parts: &'p [&'p [u8]], from: usize, len: usize) -> impl Iterator<Item = &'p [u8]> {
    let mut skip = from;
    let mut left = len;
    parts.iter().filter_map(move |part| {
        let start = skip.min(part.len());
        skip -= start;
        let end = (start + left).min(part.len());
        left -= end - start;
        (end > start).then(|| &part[start..end])
    })
}
