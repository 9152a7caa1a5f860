//! The reading end of a lane.

use super::end::{AttachError, Guard, Region};
use super::sleep::{Patience, wake};
use super::{Cause, Word, layout};
use crate::doorbell::{self, Sleeps, Wakes};
use crate::guard;
use crate::layout::Frame;
use crate::ring::{Consumer, PopError};
use crate::waking;
use crate::wide::Landlord;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Frames that one [`Reader::try_read`] looks at: a writer that begins messages and never ends one does not hold it.
const FRAMES_MAX: usize = 256;
/// Long messages from this length on leave no memory behind.
const KEPT_MAX: usize = 64 * 1024;
/// How long the reader of an empty wide ring rests before it takes its memory back.
const REST: Duration = Duration::from_secs(1);

/// Why nothing can be read any more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    #[error("the lane has ended: {0:?}")]
    Cut(Cause),
    #[error("the writer has broken the lane")]
    Broken,
}

/// What a lane with a wide ring has besides: in cache lines of its own, as the other end may be another thread's.
#[repr(align(128))]
struct Wide {
    /// The ring in which the next frame is not.
    other: Consumer<'static>,
    hand: Word,
    notice: Word,
    /// Where the reader was when it began to rest in the wide ring, and when that was.
    rest: (u32, Option<Instant>),
}

/// The reading end. Used by one thread at a time.
pub struct Reader {
    // Declared before the region that its references point into, so they are dropped first.
    /// The ring in which the next frame will be.
    ring: Consumer<'static>,
    /// Whether that is the wide one.
    is_in: bool,
    landlord: Landlord,
    wide: Option<Box<Wide>>,
    sleeping: Word,
    sleeps: Sleeps,
    /// The bell may have rung for a wait that is over.
    rung: bool,
    /// When the writer last woke this end, and on which processor.
    called_at: &'static AtomicU64,
    called_on: &'static AtomicU32,
    writer_sleeping: Word,
    wakes: Wakes,
    released: Word,
    /// What there is of a message whose other pieces are still to come, and its whole length.
    partial: Vec<u8>,
    whole: usize,
    bulk_read: u32,
    /// The lane has ended, and what had been written before is being read.
    draining: Option<Cause>,
    ended: Option<ReadError>,
    patience: Patience,
    guard: Guard,
    bell: OwnedFd,
    region: Region,
}

impl Reader {
    /// Attaches to a lane as its reader, with this end of its bell. The region's descriptor may be closed afterwards.
    pub fn attach(region: impl AsFd, bell: OwnedFd, guard: Guard) -> Result<Self, AttachError> {
        let region = Region::attach(region)?;
        // SAFETY: ring and words lie in the region, which this struct keeps; the writer has the other half.
        let (ring, wide, called_at, called_on) = unsafe {
            let words = [layout::CALLS, layout::TAIL, layout::WIDE_TAIL, layout::CALLED_ON];
            let [calls, tail, wide_tail, called_on] = words.map(|offset| region.borrowed_word(offset));
            let wide = region.wide().map(|(base, bytes)| Consumer::new(base, bytes, calls, wide_tail));
            let ring = Consumer::new(region.ring_base(), region.ring, calls, tail);
            (ring, wide, region.borrowed_time(layout::CALLED_AT), called_on)
        };
        let wide = wide.map(|other| {
            Box::new(Wide {
                other,
                hand: region.word(layout::HAND),
                notice: region.word(layout::NOTICE),
                rest: (0, None),
            })
        });
        Ok(Self {
            ring,
            is_in: false,
            landlord: Landlord::default(),
            wide,
            sleeping: region.word(layout::READER_SLEEPING),
            sleeps: Sleeps::default(),
            rung: false,
            called_at,
            called_on,
            writer_sleeping: region.word(layout::WRITER_SLEEPING),
            wakes: Wakes::default(),
            released: region.word(layout::RELEASED),
            partial: Vec::new(),
            whole: 0,
            bulk_read: 0,
            draining: None,
            ended: None,
            patience: Patience::new(),
            guard,
            bell,
            region,
        })
    }

    /// Puts the next message in the place of what is in `message`. False: there is none now.
    pub fn try_read(&mut self, message: &mut Vec<u8>) -> Result<bool, ReadError> {
        if let Some(error) = self.ended {
            return Err(error);
        }
        for _ in 0..FRAMES_MAX {
            let step = match self.ring.peek() {
                Ok(Some(frame)) => self.take(frame, message),
                Ok(None) => match self.nothing()? {
                    true => return Ok(false),
                    false => continue,
                },
                Err(PopError::Broken) => None,
            };
            let Some(complete) = step else {
                // A lane that was cut may have been cleared as well, which its writer has no part in.
                self.judge()?;
                return Err(self.end(ReadError::Broken));
            };
            self.judge()?;
            self.give_back();
            if complete {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Copies one frame: whether a message is complete now; `None` from one that cannot be.
    fn take(&mut self, frame: Frame, message: &mut Vec<u8>) -> Option<bool> {
        let (len, said) = (frame.len as usize, frame.bulk as usize);
        match frame.kind {
            layout::WHOLE if len <= self.region.message_max => {
                self.give_up_partial();
                message.clear();
                self.ring.take(frame.len, message);
                Some(true)
            }
            layout::FIRST if len < said && said <= self.region.message_max => {
                self.give_up_partial();
                self.whole = said;
                self.partial.reserve(said);
                self.take_piece(frame.len);
                Some(false)
            }
            layout::FURTHER if len > 0 && len <= self.whole - self.partial.len() => {
                self.take_piece(frame.len);
                let complete = self.partial.len() == self.whole;
                if complete {
                    std::mem::swap(message, &mut self.partial);
                    self.give_up_partial();
                }
                Some(complete)
            }
            layout::BULK if len == 0 && said <= self.region.message_max.min(self.region.bulk_len()) => {
                self.give_up_partial();
                self.ring.take(0, message);
                self.region.read_bulk(said, message);
                self.release(said);
                Some(true)
            }
            layout::WIDEN if len == 0 && self.wide.is_some() && !self.is_in => {
                self.ring.take(0, message);
                self.publish();
                self.trade();
                Some(false)
            }
            _ => None,
        }
    }

    fn take_piece(&mut self, len: u32) {
        self.ring.take(len, &mut self.partial);
    }

    /// The next message will be in the other ring.
    fn trade(&mut self) {
        if let Some(wide) = &mut self.wide {
            std::mem::swap(&mut self.ring, &mut wide.other);
            self.is_in = !self.is_in;
        }
    }

    /// When the wide ring's memory is to be given back, if nothing comes; to be asked with every wait.
    fn rests_until(&mut self) -> Option<Instant> {
        if !self.is_in || self.landlord.has_asked() {
            return None;
        }
        let (at, since) = &mut self.wide.as_mut()?.rest;
        if *at != self.ring.position() {
            (*at, *since) = (self.ring.position(), None);
        }
        Some(*since.get_or_insert_with(Instant::now) + REST)
    }

    /// This reader rests: asks the writer to leave the wide ring, which is empty.
    fn ask_back(&mut self) {
        if let Some(wide) = self.wide.as_ref().filter(|_| self.is_in && !self.landlord.has_asked()) {
            self.landlord.ask(&wide.notice);
        }
        self.settle();
    }

    /// Whether the writer has left the wide ring, as it was asked to.
    fn is_alone(&self) -> bool {
        self.landlord.has_asked() && self.wide.as_ref().is_some_and(|wide| self.landlord.is_alone(&wide.hand))
    }

    /// If so, and all of it is read, gives its memory back and goes on in the usual ring. Whether there is something new to be
    /// looked at.
    fn settle(&mut self) -> bool {
        if !self.is_alone() {
            return false;
        }
        if self.draining.is_some() || self.ring.is_empty() {
            self.region.punch_wide();
            self.trade();
            self.wide.iter().for_each(|wide| self.landlord.settle(&wide.notice));
        }
        true
    }

    fn give_up_partial(&mut self) {
        self.partial.clear();
        self.whole = 0;
    }

    fn release(&mut self, len: usize) {
        if len > KEPT_MAX {
            self.region.punch_bulk(len);
        }
        self.bulk_read = self.bulk_read.wrapping_add(1);
        self.released.store(self.bulk_read, Ordering::Release);
        self.publish();
    }

    /// Whether what was copied may be believed.
    fn judge(&mut self) -> Result<(), ReadError> {
        match guard::verdict(&self.guard.cut) {
            None => Ok(()),
            Some(cause) if cause.drains() => {
                self.drain(cause);
                Ok(())
            }
            Some(cause) => Err(self.end(ReadError::Cut(cause))),
        }
    }

    /// From the first sight of an end on, only what is there now is read: nobody can go on writing for ever.
    fn drain(&mut self, cause: Cause) {
        if self.draining.replace(cause).is_none() {
            self.ring.finish();
            self.wide.iter_mut().for_each(|wide| wide.other.finish());
        }
    }

    /// There is nothing at the moment: whether that is all there is to say.
    fn nothing(&mut self) -> Result<bool, ReadError> {
        self.publish();
        if self.settle() {
            return Ok(false);
        }
        if let Some(cause) = self.draining {
            return Err(self.end(ReadError::Cut(cause)));
        }
        self.judge()?;
        Ok(self.draining.is_none())
    }

    fn end(&mut self, error: ReadError) -> ReadError {
        self.ended = Some(error);
        self.partial = Vec::new();
        error
    }

    /// Tells the writer of room when there is much of it. What is less is told when there is nothing else to do: not
    /// between a question and its answer.
    fn give_back(&mut self) {
        if self.ring.taken() >= self.ring.size() / 4 {
            self.publish();
        }
    }

    fn publish(&mut self) {
        if self.ring.taken() == 0 {
            return;
        }
        self.ring.publish();
        let (tail, bell) = (self.ring.tail(), &self.bell);
        self.wakes.after(&self.writer_sleeping, |how| wake(how, tail, bell));
    }

    /// How often there was news, to be asked before looking at whatever [`Guard::news`] is rung for, and given to
    /// [`Reader::wait`].
    pub fn news(&self) -> u32 {
        self.guard.news.load(Ordering::Acquire)
    }

    /// Whether [`Reader::try_read`] has something to say.
    fn is_ready(&self) -> bool {
        self.ended.is_some() || !self.ring.is_empty() || guard::verdict(&self.guard.cut).is_some() || self.is_alone()
    }

    /// Waits until there may be a message, an end, or news since `news`: looking for up to `spin`, then sleeping, until
    /// `deadline` or for [`super::ASLEEP_MAX`] at most.
    pub fn wait(&mut self, spin: Duration, deadline: Option<Instant>, news: u32) {
        let mut patience = std::mem::replace(&mut self.patience, Patience::new());
        let come = self.is_ready()
            || patience.look(spin, deadline, || self.is_ready() || self.news() != news)
            || self.give_turn(&mut patience, news);
        self.patience = patience;
        if come {
            return;
        }
        let rest = self.rests_until();
        let until = rest.map_or(deadline, |rest| Some(deadline.map_or(rest, |deadline| deadline.min(rest))));
        let (calls, seen) = self.ring.calls();
        self.sleeps.begin(&self.sleeping, doorbell::FUTEX);
        if self.is_ready() {
            self.patience.found(spin);
        } else {
            let slept = self.patience.is_to_learn().then(waking::Sleep::begin);
            self.patience.park(calls, seen, &self.guard.news, news, until);
            if let Some(woken) = slept.and_then(|slept| slept.end(self.called_at.load(Ordering::Relaxed))) {
                let near = self.called_on.load(Ordering::Relaxed) == waking::processor();
                self.patience.learn(woken, near, spin);
            }
        }
        self.sleeps.end(&self.sleeping);
        if rest.is_some_and(|rest| Instant::now() >= rest) && !self.is_ready() {
            self.ask_back();
        }
    }

    /// Offers the processor to the writer, if that seems to wait for it: whether something has come of it.
    fn give_turn(&mut self, patience: &mut Patience, news: u32) -> bool {
        let position = self.ring.position();
        if !patience.is_turn_due(position, self.ring.size()) {
            return false;
        }
        self.sleeps.begin(&self.sleeping, doorbell::TURN);
        let come = || (self.is_ready() || self.news() != news).then(|| self.called_at.load(Ordering::Relaxed));
        let came = self.is_ready() || patience.give_turn(position, come);
        self.sleeps.end(&self.sleeping);
        came
    }

    /// The writer is to ring the bell for the next message, unless [`Reader::disarm`] or [`Reader::wake`] comes first: for
    /// readers that wait for many things. True: there is nothing yet, so one may wait for the bell. The shim's news come by
    /// other ways.
    pub fn arm(&mut self) -> bool {
        if std::mem::take(&mut self.rung) {
            doorbell::heard(&self.bell);
        }
        self.sleeps.begin(&self.sleeping, doorbell::EVENT);
        if self.is_ready() {
            return false;
        }
        self.ask_back();
        !self.is_ready()
    }

    /// Takes what has rung, and asks for no more of it. False: the other end of the bell is gone.
    pub fn disarm(&mut self) -> bool {
        self.sleeps.end(&self.sleeping);
        self.rung = false;
        doorbell::heard(&self.bell)
    }

    /// Asks for no more rings, and leaves what has rung until the reader is disarmed, or armed again: a call of the kernel that a
    /// message need not wait for. The bell stays readable meanwhile.
    pub fn wake(&mut self) {
        self.sleeps.end(&self.sleeping);
        self.rung = true;
    }

    /// What becomes readable when the bell rings.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// After its end: gives the lane's memory back to the kernel, although its writer may still have it mapped.
    pub fn clear(&self) {
        self.region.punch();
    }

    /// The longest message that this lane carries, in bytes.
    pub fn message_max(&self) -> usize {
        self.region.message_max
    }
}
