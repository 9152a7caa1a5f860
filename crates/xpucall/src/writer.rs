//! A writer's end of a FIFO: a lane of its own.
//!
//! A message goes from memory to memory, without the shim. Whether the shim still is there is asked only while waiting.

use crate::abi::{Request, call};
use crate::calling::Calling;
use crate::error::{Broken, ConnectError, End, WriteError};
use crate::id::FifoId;
use crate::process::{Process, done};
use interconnect::{lane, waking};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an end looks at its lane before it sleeps. Lanes learn when less is better.
pub(crate) fn spin() -> Duration {
    Duration::from_nanos(waking::limit())
}

/// How often a sleeper looks whether its shim, which would have woken it, is still there.
pub(crate) const LIVENESS: Duration = lane::ASLEEP_MAX;

/// The writing end of a FIFO. Used by one thread at a time; closed when dropped.
pub struct Writer {
    lane: lane::Writer,
    calling: Arc<Calling>,
    fifo: FifoId,
    slot: u32,
}

impl Process {
    /// Connects this process as a writer of a FIFO. What it writes waits for a reader.
    pub fn connect_writer(&self, fifo: FifoId) -> Result<Writer, ConnectError> {
        let answer = self.calling.call(Request::of(call::WRITER, [fifo.0, 0, 0, 0]))?;
        if !done(&answer.reply) {
            return Err(ConnectError::of(&answer.reply));
        }
        let [region, bell] = <[OwnedFd; 2]>::try_from(answer.descriptors).map_err(|_| Broken::Foreign)?;
        let slot = u32::try_from(answer.reply.values[0]).map_err(|_| Broken::Foreign)?;
        let (guard, hand) = (self.calling.guard(slot, slot)?, self.calling.hand(slot)?);
        match lane::Writer::attach(region, bell, guard, hand) {
            Ok(lane) => Ok(Writer { lane, calling: self.calling.clone(), fifo, slot }),
            Err(error) => {
                self.calling.close(slot);
                Err(ConnectError::Lane(error))
            }
        }
    }
}

impl Writer {
    pub fn fifo(&self) -> FifoId {
        self.fifo
    }

    /// The longest message that the FIFO carries, in bytes.
    pub fn message_max(&self) -> usize {
        self.lane.message_max()
    }

    /// Writes one message; waits for room as long as it takes.
    pub fn write(&mut self, message: &[u8]) -> Result<(), WriteError> {
        self.write_parts(&[message], None)
    }

    /// Writes one message; waits for room until `deadline`.
    pub fn write_by(&mut self, message: &[u8], deadline: Instant) -> Result<(), WriteError> {
        self.write_parts(&[message], Some(deadline))
    }

    /// Writes one message if there is room for it now.
    pub fn try_write(&mut self, message: &[u8]) -> Result<(), WriteError> {
        self.try_write_parts(&[message])
    }

    /// The same with a message in several parts.
    pub fn try_write_parts(&mut self, parts: &[&[u8]]) -> Result<(), WriteError> {
        self.calling.check()?;
        self.lane.try_write(parts).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: lane::WriteError) -> WriteError {
        match error {
            lane::WriteError::Full => WriteError::Full,
            lane::WriteError::TooLong { len, limit } => WriteError::TooLong { len, limit },
            lane::WriteError::Cut(cause) => self.why(cause),
            // One that was cut may have been cleared as well, which its reader has no part in.
            lane::WriteError::Broken => self.ended().unwrap_or(WriteError::Ended(End::Broken)),
        }
    }

    /// Writes a message in several parts; waits for room until `deadline`, if there is one.
    pub fn write_parts(&mut self, parts: &[&[u8]], deadline: Option<Instant>) -> Result<(), WriteError> {
        self.calling.check()?;
        let (mut done, mut alive) = (0, None);
        loop {
            match self.lane.resume(parts, &mut done) {
                Err(lane::WriteError::Full) => {}
                result => return result.map_err(|error| self.failed(error)),
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(WriteError::TimedOut);
            }
            let since = *alive.get_or_insert_with(Instant::now);
            self.lane.wait(spin(), deadline);
            if since.elapsed() >= LIVENESS {
                if self.calling.is_over() {
                    return Err(self.calling.why().into());
                }
                alive = None;
            }
        }
    }

    fn why(&self, cause: lane::Cause) -> WriteError {
        End::of(cause).map_or_else(|| self.calling.why().into(), WriteError::Ended)
    }

    /// Why nobody will read any more; nothing while somebody may.
    pub fn ended(&self) -> Option<WriteError> {
        self.lane.ended().map(|cause| self.why(cause))
    }

    /// For event loops, after [`WriteError::Full`]: from now on this descriptor becomes readable when there is room, or an
    /// end. True: there is none yet, so one may wait for it. To be followed by [`disarm`](Self::disarm).
    pub fn arm(&mut self) -> Result<bool, WriteError> {
        self.calling.check()?;
        Ok(self.lane.arm())
    }

    /// Takes what has rung.
    pub fn disarm(&mut self) -> Result<(), WriteError> {
        self.calling.check()?;
        self.lane.disarm();
        Ok(())
    }
}

impl AsFd for Writer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lane.bell()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.calling.close(self.slot);
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Writer").field("fifo", &self.fifo).field("slot", &self.slot).finish_non_exhaustive()
    }
}
