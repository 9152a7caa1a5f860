//! The writing end of a lane.

use super::end::{AttachError, Guard, Region};
use super::sleep::{Patience, park, wake};
use super::{Cause, Word, layout};
use crate::doorbell::{self, Sleeps, Wakes};
use crate::guard;
use crate::layout::Frame;
use crate::ring::{Producer, PushError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
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

/// What the last message that did not fit waits for.
#[derive(Clone, Copy)]
enum Wanted {
    Ring(usize),
    Bulk,
}

/// The writing end. Used by one thread at a time.
pub struct Writer {
    // Declared before the region that its references point into, so it is dropped first.
    ring: Producer<'static>,
    sleeping: Word,
    sleeps: Sleeps,
    reader_sleeping: Word,
    wakes: Wakes,
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
        let ring = unsafe {
            let (calls, tail) = (region.borrowed_word(layout::CALLS), region.borrowed_word(layout::TAIL));
            Producer::new(region.ring_base(), region.ring, calls, tail)
        };
        Ok(Self {
            ring,
            sleeping: region.word(layout::WRITER_SLEEPING),
            sleeps: Sleeps::default(),
            reader_sleeping: region.word(layout::READER_SLEEPING),
            wakes: Wakes::default(),
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
        self.with_hand(|writer| {
            writer.put(parts)?;
            writer.ring.publish();
            Ok(())
        })?;
        self.wake();
        Ok(())
    }

    /// As [`Writer::try_write`], but the reader need not see it before [`Writer::flush`]: for several messages that are
    /// published by one store and one wake. Full: what was staged before still waits for the flush.
    pub fn stage(&mut self, parts: &[&[u8]]) -> Result<(), WriteError> {
        self.with_hand(|writer| writer.put(parts))
    }

    /// Lets the reader see what was staged.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.with_hand(|writer| {
            writer.ring.publish();
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
        let (len, piece) = (self.length(parts)?, self.piece());
        loop {
            let from = *done;
            self.with_hand(|writer| {
                if len <= piece {
                    writer.put_ring(parts, len)?
                } else {
                    writer.put_piece(parts, len, from)?
                }
                writer.ring.publish();
                Ok(())
            })?;
            self.wake();
            *done = len.min(from + piece);
            if *done == len {
                return Ok(());
            }
        }
    }

    fn with_hand(&mut self, write: impl FnOnce(&mut Self) -> Result<(), WriteError>) -> Result<(), WriteError> {
        guard::begin(&self.hand, &self.guard.cut).map_err(WriteError::Cut)?;
        let result = write(self);
        guard::end(&self.hand);
        result
    }

    fn length(&self, parts: &[&[u8]]) -> Result<usize, WriteError> {
        let (len, limit) = (parts.iter().map(|part| part.len()).sum(), self.region.message_max);
        if len > limit { Err(WriteError::TooLong { len, limit }) } else { Ok(len) }
    }

    fn piece(&self) -> usize {
        layout::piece(self.region.ring)
    }

    fn put(&mut self, parts: &[&[u8]]) -> Result<(), WriteError> {
        let len = self.length(parts)?;
        if len > layout::ring_max(self.region.ring) { self.put_bulk(parts, len) } else { self.put_ring(parts, len) }
    }

    fn put_ring(&mut self, parts: &[&[u8]], len: usize) -> Result<(), WriteError> {
        self.want(layout::ring_bytes(self.region.ring, len))?;
        if len <= self.piece() {
            let frame = Frame { len: len as u32, head: 0, bulk: 0, kind: layout::WHOLE };
            return Ok(self.ring.stage(frame, parts.iter().copied())?);
        }
        for from in (0..len).step_by(self.piece()) {
            self.put_piece(parts, len, from)?;
            self.ring.publish();
        }
        Ok(())
    }

    /// One piece of a message of `len` bytes: that from its byte `from` on.
    fn put_piece(&mut self, parts: &[&[u8]], len: usize, from: usize) -> Result<(), WriteError> {
        assert!(from < len, "a message that is not yet written");
        let piece = self.piece().min(len - from);
        self.want(layout::ring_bytes(self.region.ring, piece))?;
        let kind = if from == 0 { layout::FIRST } else { layout::FURTHER };
        let frame = Frame { len: piece as u32, head: 0, bulk: len as u32, kind };
        Ok(self.ring.stage(frame, range(parts, from, piece))?)
    }

    fn want(&mut self, need: usize) -> Result<(), WriteError> {
        self.wanted = Wanted::Ring(need);
        if self.ring.room(need)? < need { Err(WriteError::Full) } else { Ok(()) }
    }

    fn put_bulk(&mut self, parts: &[&[u8]], len: usize) -> Result<(), WriteError> {
        self.wanted = Wanted::Bulk;
        if !self.is_bulk_free() {
            return Err(WriteError::Full);
        }
        self.want(layout::ring_bytes(self.region.ring, 0))?;
        self.region.write_bulk(parts, len);
        self.ring.stage(Frame { len: 0, head: 0, bulk: len as u32, kind: layout::BULK }, std::iter::empty())?;
        self.bulk_sent = self.bulk_sent.wrapping_add(1);
        Ok(())
    }

    fn is_bulk_free(&self) -> bool {
        self.released.load(Ordering::Acquire) == self.bulk_sent
    }

    fn wake(&mut self) {
        let (ring, bell) = (&mut self.ring, &self.bell);
        self.wakes.after(&self.reader_sleeping, |how| wake(how, ring.call(), bell));
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
    /// sleeping, until `deadline` at most.
    pub fn wait(&mut self, spin: Duration, deadline: Option<Instant>) {
        let mut patience = std::mem::replace(&mut self.patience, Patience::new());
        let come = self.is_ready() || patience.look(spin, deadline, || self.is_ready());
        self.patience = patience;
        if come {
            return;
        }
        self.sleeps.begin(&self.sleeping, doorbell::FUTEX);
        let (tail, news) = (self.ring.tail(), self.guard.news.load(Ordering::Acquire));
        let seen = tail.load(Ordering::Acquire);
        if !self.is_ready() {
            park(tail, seen, &self.guard.news, news, deadline);
        }
        self.sleeps.end(&self.sleeping);
    }

    /// After [`WriteError::Full`]: the reader is to ring the bell when it gives room back, unless [`Writer::disarm`] comes
    /// first. True: there is none yet, so one may wait for the bell.
    pub fn arm(&mut self) -> bool {
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
