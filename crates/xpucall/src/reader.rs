//! The reader's end of a FIFO: all its writers' lanes, in turn.
//!
//! ```text
//!   news socket ── a lane more ──▶ lanes: │ A │ B │ C │ ── try each, from where the last message came ──▶ event
//!   news word ── something happened (a lane more, a lane's end) ──▶ look at the socket and the cuts
//! ```
//!
//! Waiting: for one lane on its head and the news word, in the kernel; for several by an epoll of their bells. Of a lane's
//! end one event tells, after its last message. A writer that breaks its lane ends that lane and no other.

use crate::abi::{Request, call};
use crate::calling::Calling;
use crate::error::{Broken, ConnectError, End, ReadError};
use crate::id::{FifoId, XpuPid};
use crate::process::{Process, done};
use crate::wire;
use crate::writer::{LIVENESS, spin};
use interconnect::lane::{self, Cause, Guard};
use interconnect::{doorbell, waking};
use os::seqpacket;
use rustix::event::{Timespec, epoll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The longest news of a lane.
const NEWS_MAX: usize = 64;

/// A message, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub from: XpuPid,
    pub bytes: Vec<u8>,
}

/// What a reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Message(Message),
    /// That writer will write no more.
    Ended {
        from: XpuPid,
        why: End,
    },
}

/// What was found, where the message lies in the caller's buffer.
enum Found {
    Message(XpuPid),
    Ended(XpuPid, End),
}

struct Lane {
    lane: lane::Reader,
    slot: u32,
    from: XpuPid,
}

/// The reading end of a FIFO. Used by one thread at a time; closed when dropped.
pub struct Reader {
    lanes: Vec<Lane>,
    /// Writers that were gone before their lanes could be looked at.
    missed: Vec<(XpuPid, End)>,
    /// Whose turn it is.
    turn: usize,
    /// The value of the news word up to which the news have been taken.
    seen: u32,
    guard: Guard,
    news: OwnedFd,
    epoll: Option<OwnedFd>,
    calling: Arc<Calling>,
    fifo: FifoId,
    slot: u32,
}

impl Process {
    /// Connects this process as the reader of a FIFO.
    pub fn connect_reader(&self, fifo: FifoId) -> Result<Reader, ConnectError> {
        let answer = self.calling.call(Request::of(call::READER, [fifo.0, 0, 0, 0]))?;
        if !done(&answer.reply) {
            return Err(ConnectError::of(&answer.reply));
        }
        let [news] = <[OwnedFd; 1]>::try_from(answer.descriptors).map_err(|_| Broken::Foreign)?;
        let slot = u32::try_from(answer.reply.values[0]).map_err(|_| Broken::Foreign)?;
        let guard = self.calling.guard(slot, slot)?;
        // One less than it is: what came with the connection is news already.
        let seen = guard.news.load(Ordering::Acquire).wrapping_sub(1);
        let calling = self.calling.clone();
        Ok(Reader {
            lanes: Vec::new(),
            missed: Vec::new(),
            turn: 0,
            seen,
            guard,
            news,
            epoll: None,
            calling,
            fifo,
            slot,
        })
    }
}

impl Reader {
    pub fn fifo(&self) -> FifoId {
        self.fifo
    }

    /// How many writers there are, as far as was looked.
    pub fn writers(&self) -> usize {
        self.lanes.len()
    }

    /// The next message or the end of a writer; waits as long as it takes.
    pub fn event(&mut self) -> Result<Event, ReadError> {
        let mut bytes = Vec::new();
        let found = self.find(&mut bytes, None)?;
        Ok(found.event(bytes))
    }

    /// The same, waiting until `deadline`.
    pub fn event_by(&mut self, deadline: Instant) -> Result<Event, ReadError> {
        let mut bytes = Vec::new();
        let found = self.find(&mut bytes, Some(deadline))?;
        Ok(found.event(bytes))
    }

    /// The next message or end, if there is one now.
    pub fn try_event(&mut self) -> Result<Option<Event>, ReadError> {
        let mut bytes = Vec::new();
        let found = self.look(&mut bytes)?;
        Ok(found.map(|found| found.event(bytes)))
    }

    /// The next message; waits as long as it takes. Ends of writers are passed over.
    pub fn read(&mut self) -> Result<Message, ReadError> {
        let mut bytes = Vec::new();
        let from = self.read_into(&mut bytes, None)?;
        Ok(Message { from, bytes })
    }

    /// The next message in the place of what is in `bytes`, and whose it is; waits until `deadline`, if there is one.
    pub fn read_into(&mut self, bytes: &mut Vec<u8>, deadline: Option<Instant>) -> Result<XpuPid, ReadError> {
        loop {
            if let Found::Message(from) = self.find(bytes, deadline)? {
                return Ok(from);
            }
        }
    }

    /// The next message, if there is one now.
    pub fn try_read(&mut self) -> Result<Option<Message>, ReadError> {
        let mut bytes = Vec::new();
        let from = self.try_read_into(&mut bytes)?;
        Ok(from.map(|from| Message { from, bytes }))
    }

    /// The next message in the place of what is in `bytes`, and whose it is, if there is one now.
    pub fn try_read_into(&mut self, bytes: &mut Vec<u8>) -> Result<Option<XpuPid>, ReadError> {
        loop {
            match self.look(bytes)? {
                Some(Found::Message(from)) => return Ok(Some(from)),
                Some(Found::Ended(..)) => {}
                None => return Ok(None),
            }
        }
    }

    fn find(&mut self, bytes: &mut Vec<u8>, deadline: Option<Instant>) -> Result<Found, ReadError> {
        loop {
            if let Some(found) = self.look(bytes)? {
                return Ok(found);
            }
            if let Some(found) = self.spin(bytes)? {
                return Ok(found);
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(ReadError::TimedOut);
            }
            self.wait(deadline)?;
            if let Some(found) = self.look(bytes)? {
                return Ok(found);
            }
            if self.calling.is_over() {
                return Err(self.calling.why().into());
            }
        }
    }

    /// Looks at every lane once, from the one whose turn it is.
    #[inline]
    fn look(&mut self, bytes: &mut Vec<u8>) -> Result<Option<Found>, ReadError> {
        self.calling.check()?;
        if self.guard.news.load(Ordering::Acquire) != self.seen {
            self.take_news()?;
        }
        if let Some((from, why)) = self.missed.pop() {
            return Ok(Some(Found::Ended(from, why)));
        }
        for _ in 0..self.lanes.len() {
            if self.turn >= self.lanes.len() {
                self.turn = 0;
            }
            let lane = &mut self.lanes[self.turn];
            match lane.lane.try_read(bytes) {
                Ok(false) => self.turn += 1,
                Ok(true) => {
                    self.turn += 1;
                    return Ok(Some(Found::Message(self.lanes[self.turn - 1].from)));
                }
                Err(error) => return self.remove(self.turn, error).map(Some),
            }
        }
        match Cause::of(self.guard.cut.load(Ordering::Acquire)) {
            Some(cause) if self.lanes.is_empty() => Err(self.why(cause)),
            _ => Ok(None),
        }
    }

    fn why(&self, cause: Cause) -> ReadError {
        End::of(cause).map_or_else(|| self.calling.why().into(), ReadError::Ended)
    }

    fn remove(&mut self, index: usize, error: lane::ReadError) -> Result<Found, ReadError> {
        let lane = self.lanes.swap_remove(index);
        if let Some(epoll) = &self.epoll {
            // Closing does not do it: the shim has a copy of the bell.
            let _ = epoll::delete(epoll, lane.lane.bell());
        }
        lane.lane.clear();
        self.calling.close(lane.slot);
        match error {
            lane::ReadError::Broken => Ok(Found::Ended(lane.from, End::Broken)),
            lane::ReadError::Cut(cause) => match End::of(cause) {
                Some(end) => Ok(Found::Ended(lane.from, end)),
                None => Err(self.calling.why().into()),
            },
        }
    }

    /// Takes the lanes that have come.
    fn take_news(&mut self) -> Result<(), ReadError> {
        self.seen = self.guard.news.load(Ordering::Acquire);
        let (mut buffer, mut descriptors) = ([0; NEWS_MAX], Vec::new());
        loop {
            match seqpacket::receive(&self.news, &mut buffer, &mut descriptors) {
                // The connection is over: `cut` says why, once the lanes are read to their ends. Where it does not, the shim
                // is gone.
                Ok(0) if self.guard.cut.load(Ordering::Acquire) == 0 => return Err(self.calling.why().into()),
                Ok(0) => return Ok(()),
                // A lane has been cut: which, the lanes are asked.
                Ok(1) => {}
                Ok(len) => self.add(&buffer[..len], &mut descriptors)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.calling.why().into()),
            }
        }
    }

    fn add(&mut self, news: &[u8], descriptors: &mut Vec<OwnedFd>) -> Result<(), ReadError> {
        let wire::Lane { slot, from } = postcard::from_bytes(news).map_err(|_| Broken::Foreign)?;
        let (Some(bell), Some(region), None) = (descriptors.pop(), descriptors.pop(), descriptors.pop()) else {
            return Err(Broken::Foreign.into());
        };
        let guard = self.calling.guard(slot, self.slot)?;
        let cut = guard.cut.clone();
        let Ok(lane) = lane::Reader::attach(region, bell, guard) else {
            // Cut and cleared before it was looked at; or one that this process has no room for, and gives up.
            self.calling.close(slot);
            let cause = Cause::of(cut.load(Ordering::Acquire));
            self.missed.push((from, cause.map_or(Some(End::Broken), End::of).unwrap_or(End::Lost)));
            return Ok(());
        };
        if let Some(epoll) = &self.epoll {
            let _ = epoll::add(epoll, lane.bell(), epoll::EventData::new_u64(0), epoll::EventFlags::IN);
        }
        self.lanes.push(Lane { lane, slot, from });
        Ok(())
    }

    /// Waits until something may have come, until `deadline` or for [`LIVENESS`] at most.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<(), ReadError> {
        let left =
            || deadline.map_or(LIVENESS, |deadline| deadline.saturating_duration_since(Instant::now()).min(LIVENESS));
        match &mut self.lanes[..] {
            [] => {
                doorbell::sleep(&self.guard.news, self.seen, Some(left()));
                Ok(())
            }
            [lane] => {
                lane.lane.wait(spin(), deadline, self.seen);
                Ok(())
            }
            _ => self.wait_for_many(left()),
        }
    }

    fn wait_for_many(&mut self, left: Duration) -> Result<(), ReadError> {
        let ready = self.arm()?;
        if ready && let Some(epoll) = &self.epoll {
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut events = Vec::with_capacity(1);
            let _ = epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
        }
        self.disarm()
    }

    /// Looks for a while at several lanes in turn, never for long: nobody learns here whether it pays. One alone is looked at by
    /// [`lane::Reader::wait`].
    fn spin(&mut self, bytes: &mut Vec<u8>) -> Result<Option<Found>, ReadError> {
        if self.lanes.len() < 2 {
            return Ok(None);
        }
        let end = os::monotonic_ns() + waking::LIMIT_MIN;
        while os::monotonic_ns() < end {
            if let Some(found) = self.look(bytes)? {
                return Ok(Some(found));
            }
            std::hint::spin_loop();
        }
        Ok(None)
    }

    /// For event loops: from now on [`poll_fd`](Self::poll_fd) becomes readable when there is something. True: there is
    /// nothing yet, so one may wait for it. To be followed by [`disarm`](Self::disarm).
    pub fn arm(&mut self) -> Result<bool, ReadError> {
        self.calling.check()?;
        self.poll_fd()?;
        let known = self.lanes.len() + self.missed.len();
        // Whatever has come wakes nobody a second time, where edges are waited for: also what is not counted as news yet.
        self.take_news()?;
        let mut rests = known == self.lanes.len() + self.missed.len();
        for lane in &mut self.lanes {
            rests &= lane.lane.arm();
        }
        rests &= self.guard.news.load(Ordering::Acquire) == self.seen;
        // A shim that has hung up rings for ever.
        if rests && self.calling.is_over() {
            return Err(self.calling.why().into());
        }
        Ok(rests)
    }

    /// Takes what has rung.
    pub fn disarm(&mut self) -> Result<(), ReadError> {
        self.calling.check()?;
        for lane in &mut self.lanes {
            lane.lane.disarm();
        }
        Ok(())
    }

    /// As [`disarm`](Self::disarm), but what has rung is left until this is armed again, or [hushed](Self::hush): messages need
    /// not wait for it. Meanwhile [`poll_fd`](Self::poll_fd) stays readable.
    pub fn wake(&mut self) -> Result<(), ReadError> {
        self.calling.check()?;
        for lane in &mut self.lanes {
            lane.lane.wake();
        }
        Ok(())
    }

    /// Takes all that keeps [`poll_fd`](Self::poll_fd) readable but messages, for loops that wait for it while none are read.
    pub fn hush(&mut self) -> Result<(), ReadError> {
        self.disarm()?;
        self.take_news()
    }

    /// What becomes readable when there is something, once armed.
    pub fn poll_fd(&mut self) -> Result<BorrowedFd<'_>, ReadError> {
        if self.epoll.is_none() {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
                .map_err(|error| ReadError::NoDescriptor(error.raw_os_error()))?;
            let bells = self.lanes.iter().map(|lane| lane.lane.bell()).chain([self.news.as_fd()]);
            for bell in bells {
                epoll::add(&epoll, bell, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
                    .map_err(|error| ReadError::NoDescriptor(error.raw_os_error()))?;
            }
            self.epoll = Some(epoll);
        }
        Ok(self.epoll.as_ref().map(AsFd::as_fd).expect("it was made just now"))
    }
}

impl Found {
    fn event(self, bytes: Vec<u8>) -> Event {
        match self {
            Self::Message(from) => Event::Message(Message { from, bytes }),
            Self::Ended(from, why) => Event::Ended { from, why },
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.calling.close(self.slot);
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = out.debug_struct("Reader");
        debug.field("fifo", &self.fifo).field("slot", &self.slot).field("writers", &self.lanes.len());
        debug.finish_non_exhaustive()
    }
}
