//! The reading end of a lane.

use super::end::{AttachError, Guard, Region};
use super::sleep::{Patience, park, wake};
use super::{Cause, Word, layout};
use crate::doorbell::{self, Sleeps, Wakes};
use crate::guard;
use crate::layout::Frame;
use crate::ring::{Consumer, PopError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Frames that one [`Reader::try_read`] looks at: a writer that begins messages and never ends one does not hold it.
const FRAMES_MAX: usize = 256;
/// Long messages from this length on leave no memory behind.
const KEPT_MAX: usize = 64 * 1024;

/// Why nothing can be read any more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    #[error("the lane has ended: {0:?}")]
    Cut(Cause),
    #[error("the writer has broken the lane")]
    Broken,
}

/// The reading end. Used by one thread at a time.
pub struct Reader {
    // Declared before the region that its references point into, so it is dropped first.
    ring: Consumer<'static>,
    sleeping: Word,
    sleeps: Sleeps,
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
        let ring = unsafe {
            let (calls, tail) = (region.borrowed_word(layout::CALLS), region.borrowed_word(layout::TAIL));
            Consumer::new(region.ring_base(), region.ring, calls, tail)
        };
        Ok(Self {
            ring,
            sleeping: region.word(layout::READER_SLEEPING),
            sleeps: Sleeps::default(),
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
                self.ring.take(frame.len, &mut self.partial);
                Some(false)
            }
            layout::FURTHER if len > 0 && len <= self.whole - self.partial.len() => {
                self.ring.take(frame.len, &mut self.partial);
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
            _ => None,
        }
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
        }
    }

    /// There is nothing at the moment: whether that is all there is to say.
    fn nothing(&mut self) -> Result<bool, ReadError> {
        self.publish();
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
        if self.ring.taken() >= self.region.ring / 4 {
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
        self.ended.is_some() || !self.ring.is_empty() || guard::verdict(&self.guard.cut).is_some()
    }

    /// Waits until there may be a message, an end, or news since `news`: looking for up to `spin`, then sleeping, until
    /// `deadline` at most.
    pub fn wait(&mut self, spin: Duration, deadline: Option<Instant>, news: u32) {
        let mut patience = std::mem::replace(&mut self.patience, Patience::new());
        let come = self.is_ready() || patience.look(spin, deadline, || self.is_ready() || self.news() != news);
        self.patience = patience;
        if come {
            return;
        }
        let (calls, seen) = self.ring.calls();
        self.sleeps.begin(&self.sleeping, doorbell::FUTEX);
        if !self.is_ready() {
            park(calls, seen, &self.guard.news, news, deadline);
        }
        self.sleeps.end(&self.sleeping);
    }

    /// The writer is to ring the bell for the next message, unless [`Reader::disarm`] comes first: for readers
    /// that wait for many things. True: there is nothing yet, so one may wait for the bell. The shim's news come by other
    /// ways.
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

    /// After its end: gives the lane's memory back to the kernel, although its writer may still have it mapped.
    pub fn clear(&self) {
        self.region.punch();
    }

    /// The longest message that this lane carries, in bytes.
    pub fn message_max(&self) -> usize {
        self.region.message_max
    }
}
