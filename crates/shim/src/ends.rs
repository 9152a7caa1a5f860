//! Ends of FIFOs that processes of this PU have: made, handed over, told of news, cut.
//!
//! ```text
//!   writer   Make ──▶ region, bell, slot ──▶ the process, by the answer to its call
//!   reader   slot, socket for news ──▶ the process, by the answer to its call; Open ──▶ a lane more, by its news
//!   Cut      words of the notice page, bell shut down, (writer) wait until its hand rests ──▶ Ended; memory given back
//! ```

use crate::admission::Kind;
use crate::lanes::{Busy, Lane, Occupant, Seat, bytes, word};
use crate::poller::{Name, WRITE};
use crate::protocol::{Cause, EndId, FifoLimits, Input, Side, Source};
use crate::shim::Shim;
use crate::slots::{News, ReaderEnd, Slot};
use interconnect::lane::LaneSpec;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use xpucall::abi::{Reply, ended};
use xpucall::host::NoticePage;
use xpucall::id::XpuPid;
use xpucall::wire;

/// How long a writer may be in the middle of a message that is not to be written any more, and how long if it would go on
/// but for others that have its core.
const PATIENCE: Duration = Duration::from_millis(10);
const PATIENCE_RUNNABLE: Duration = Duration::from_millis(250);

/// Threads of a process that are looked at.
const THREADS_MAX: usize = 64;

/// A reply and the descriptors that go with it.
pub(crate) type WithDescriptors = (Reply, Vec<OwnedFd>);

fn slot_reply(slot: u32) -> Reply {
    Reply { values: [slot.into(), 0, 0, 0], ..Reply::default() }
}

pub(crate) fn spec(limits: &FifoLimits) -> LaneSpec {
    LaneSpec { ring: limits.ring as usize, message_max: limits.message_max as usize }
}

impl Shim {
    /// Makes the lane of a writer: whether there is room for it.
    pub(crate) fn make(&mut self, lane: EndId, by: XpuPid, limits: &FifoLimits) -> bool {
        let Some(&key) = self.by_pid.get(&by) else { return false };
        let Some(process) = self.processes.get_mut(&key) else { return false };
        let memory = bytes(spec(limits));
        if !self.admission.take(&process.identity, &mut process.usage, Kind::Memory, memory) {
            return false;
        }
        let made = process.slots.put(Slot::Writer { lane }).and_then(|slot| {
            process.notices.open(slot);
            let seat = Seat { process: key, slot, news: slot };
            match Lane::create(spec(limits), Occupant::Here(seat)) {
                Ok(made) => Some(made),
                Err(error) => {
                    tracing::warn!(%error, "a lane could not be made");
                    process.slots.take(slot);
                    None
                }
            }
        });
        match made {
            Some(made) => drop(self.lanes.all.insert(lane, made)),
            None => {
                self.admission.give(&process.identity, &mut process.usage, Kind::Memory, memory);
                return false;
            }
        }
        true
    }

    /// What a writer gets.
    pub(crate) fn writer_reply(&self, key: u64, lane: &Lane) -> io::Result<WithDescriptors> {
        let Occupant::Here(seat) = lane.writer else { return Err(io::ErrorKind::NotFound.into()) };
        if seat.process != key {
            return Err(io::ErrorKind::NotFound.into());
        }
        let bell = lane.writer_bell.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let region = lane.region.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok((slot_reply(seat.slot), vec![region.try_clone()?, bell.try_clone()?]))
    }

    /// What a reader gets: a socket for its news.
    pub(crate) fn reader_reply(&mut self, key: u64, end: EndId) -> io::Result<WithDescriptors> {
        let (ours, theirs) = os::seqpacket::pair()?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        rustix::io::ioctl_fionbio(&theirs, true)?;
        let name = self.number();
        self.poller.add(&ours, Name::News(name), rustix::event::epoll::EventFlags::empty())?;
        let process = self.processes.get_mut(&key).ok_or(io::ErrorKind::NotFound)?;
        let reader = ReaderEnd { end, news: ours, name, waiting: VecDeque::new(), crowded: false, lanes: 0 };
        let Some(slot) = process.slots.put(Slot::Reader(reader)) else {
            return Err(rustix::io::Errno::MFILE.into());
        };
        process.notices.open(slot);
        self.readers.insert(end, (key, slot));
        self.news.insert(name, (key, slot));
        Ok((slot_reply(slot), vec![theirs]))
    }

    /// Closes an end that could not be handed to its process.
    pub(crate) fn give_up(&mut self, key: u64, end: EndId) {
        let Some(process) = self.processes.get(&key) else { return };
        let (by, id) = (process.pid, crate::protocol::CallId(self.number()));
        // Nobody waits for the answer.
        self.inputs.push_back(Input::Call { id, by, call: crate::protocol::Call::Close { end } });
    }

    /// A reader here has a lane more.
    pub(crate) fn add_lane(&mut self, lane: EndId, reader: EndId, writer: XpuPid, limits: &FifoLimits, source: Source) {
        if let Err(error) = self.try_add_lane(lane, reader, writer, limits, source) {
            tracing::warn!(%lane, %error, "a reader was not told of a lane");
            // Its writer hears that it is closed, and may connect again.
            self.end_relay(lane);
            self.side_over(lane, Side::Reader);
        }
    }

    fn try_add_lane(
        &mut self,
        lane: EndId,
        reader: EndId,
        writer: XpuPid,
        limits: &FifoLimits,
        source: Source,
    ) -> io::Result<()> {
        match source {
            Source::Own => {}
            Source::Carried(carried) => {
                let mut carried = self.links.take_carried(carried).into_iter();
                let (Some(region), Some(bell), None) = (carried.next(), carried.next(), carried.next()) else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                self.lanes.all.insert(lane, Lane::carried(region, bell));
            }
            Source::Relayed => {
                let made = Lane::create(spec(limits), Occupant::Relay)?;
                self.lanes.all.insert(lane, made);
                self.relay_in(lane)?;
            }
        }
        let lanes = self.lanes.all.len();
        let (&(key, news), Some(here)) =
            (self.readers.get(&reader).ok_or(io::ErrorKind::NotFound)?, self.lanes.all.get_mut(&lane))
        else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (region, bell) = here.for_reader()?;
        let process = self.processes.get_mut(&key).ok_or(io::ErrorKind::NotFound)?;
        let most = process.identity.quota(&self.config.quotas).writers.saturating_mul(2);
        let end = process.slots.reader(news).filter(|end| end.lanes < most).ok_or(rustix::io::Errno::DQUOT)?;
        end.lanes += 1;
        let slot = process.slots.put(Slot::Lane { lane, reader: news }).ok_or(rustix::io::Errno::MFILE)?;
        process.notices.open(slot);
        here.reader = Occupant::Here(Seat { process: key, slot, news });
        if lanes > self.bells_max {
            here.writer_bell = None;
        }
        if let Some(end) = process.slots.reader(news) {
            end.waiting.push_back(News { slot, from: writer, region, bell });
        }
        self.deliver(key, news);
        Ok(())
    }

    /// Tells a reader of the lanes that it has not been told of, as many as its socket has room for.
    pub(crate) fn deliver(&mut self, key: u64, slot: u32) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let Some(reader) = process.slots.reader(slot) else { return };
        let waited = reader.crowded;
        reader.crowded = false;
        let mut told = false;
        while let Some(news) = reader.waiting.front() {
            match tell(&reader.news, news) {
                Ok(()) => told = reader.waiting.pop_front().is_some(),
                // Whatever else it is: it has hung up, and its process will close it, or is about to end.
                Err(error) => {
                    reader.crowded = error.kind() == io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        if waited != reader.crowded {
            let flags = if reader.crowded { WRITE } else { rustix::event::epoll::EventFlags::empty() };
            let _ = self.poller.change(&reader.news, Name::News(reader.name), flags);
        }
        if told {
            process.notices.tell(slot);
        }
    }

    /// A reader here is connected no more. Its process will say when it knows.
    pub(crate) fn dismiss(&mut self, reader: EndId, cause: Cause) {
        let Some(&(key, slot)) = self.readers.get(&reader) else { return };
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.notices.cut(slot, slot, word(cause));
        if let Some(end) = process.slots.reader(slot) {
            end.waiting.clear();
            let _ = rustix::net::shutdown(&end.news, rustix::net::Shutdown::Both);
        }
    }

    /// A reader that its process does not have any more.
    pub(crate) fn forget_reader(&mut self, reader: &ReaderEnd) {
        self.poller.remove(&reader.news);
        self.readers.remove(&reader.end);
        self.news.remove(&reader.name);
    }

    /// Ends one side of a lane.
    pub(crate) fn cut(&mut self, lane: EndId, side: Side, cause: Cause, drain: bool) {
        if !self.lanes.all.contains_key(&lane) {
            return self.inputs.push_back(Input::Ended { lane, side });
        }
        if drain && self.drain_relay(lane, side, cause) {
            return;
        }
        self.end_relay(lane);
        let Some(here) = self.lanes.all.get_mut(&lane) else { return };
        match *here.occupant(side) {
            Occupant::Here(seat) => self.cut_seat(lane, side, seat, cause, drain),
            Occupant::Relay | Occupant::Away | Occupant::Over => self.side_over(lane, side),
        }
    }

    fn cut_seat(&mut self, lane: EndId, side: Side, seat: Seat, cause: Cause, drain: bool) {
        let Some(process) = self.processes.get_mut(&seat.process) else { return self.side_over(lane, side) };
        process.notices.cut(seat.slot, seat.news, word(cause));
        if let Some(here) = self.lanes.all.get(&lane) {
            here.hang_up();
        }
        if let (Side::Reader, Some(reader)) = (side, process.slots.reader(seat.news)) {
            // For one that waits in an event loop. Where there is no room for it, there is something else to wake it.
            let _ = os::seqpacket::send(&reader.news, &[IoSlice::new(&[0])], &[]);
        }
        match side {
            // Its process says when it has taken what was written.
            Side::Reader if drain => {}
            Side::Reader => {
                process.slots.end(seat.slot);
                process.slots.lane_left(seat.news);
                self.side_over(lane, side);
            }
            Side::Writer => {
                self.lanes.busy.push(Busy { lane, seat, since: Instant::now() });
                self.look_at_busy();
            }
        }
    }

    /// Ends the writers' ends whose hands rest by now; those that do not, too late, cost their processes the attachment.
    pub(crate) fn look_at_busy(&mut self) {
        let mut at = 0;
        while let Some(&busy) = self.lanes.busy.get(at) {
            let process = self.processes.get_mut(&busy.seat.process);
            let rests = process.as_ref().is_none_or(|process| process.calls.hand(busy.seat.slot) == 0);
            let since = busy.since.elapsed();
            let late = since >= PATIENCE
                && (since >= PATIENCE_RUNNABLE || process.as_ref().is_none_or(|process| !is_runnable(process.number)));
            if !rests && !late {
                at += 1;
                continue;
            }
            self.lanes.busy.swap_remove(at);
            match process {
                Some(process) if rests => drop(process.slots.end(busy.seat.slot)),
                Some(_) => self.detach(busy.seat.process, ended::STUCK),
                None => {}
            }
            self.side_over(busy.lane, Side::Writer);
        }
    }

    /// Nothing passes this side of a lane any more.
    pub(crate) fn side_over(&mut self, lane: EndId, side: Side) {
        self.inputs.push_back(Input::Ended { lane, side });
        let Some(here) = self.lanes.all.get_mut(&lane) else { return };
        *here.occupant(side) = Occupant::Over;
        if here.is_over()
            && let Some(over) = self.lanes.all.remove(&lane)
            && let Some(payer) = self.processes.get_mut(&over.payer)
        {
            self.admission.give(&payer.identity, &mut payer.usage, Kind::Memory, over.memory);
        }
    }

    /// A process has done with a lane of a FIFO that it reads.
    pub(crate) fn leave_lane(&mut self, key: u64, slot: u32) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let Slot::Lane { lane, reader } = process.slots.take(slot) else { return };
        process.slots.lane_left(reader);
        // Also one that was not cut: its writer has broken it, or the process has no room for it. The node tells the writer.
        self.end_relay(lane);
        self.side_over(lane, Side::Reader);
        self.settle();
    }

    /// What was in a slot of a process that is gone is nobody's. The node will cut it; until then nothing more happens to it.
    pub(crate) fn vacate(&mut self, notices: &NoticePage, slot: u32, what: Slot) {
        match what {
            Slot::Reader(reader) => self.forget_reader(&reader),
            Slot::Lane { lane, reader } => {
                notices.cut(slot, reader, interconnect::lane::Cause::Fenced as u32);
                self.leave_side(lane, Side::Reader);
            }
            Slot::Writer { lane } => {
                notices.cut(slot, slot, interconnect::lane::Cause::Fenced as u32);
                self.leave_side(lane, Side::Writer);
            }
            Slot::Free | Slot::Over { .. } => {}
        }
    }

    pub(crate) fn leave_side(&mut self, lane: EndId, side: Side) {
        if let Some(here) = self.lanes.all.get_mut(&lane) {
            *here.occupant(side) = Occupant::Over;
        }
    }
}

/// Whether any thread of a process has, or waits for, a core. Of one with very many threads it is not asked.
fn is_runnable(process: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return false };
    let runs = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
    };
    threads.flatten().take(THREADS_MAX).any(runs)
}

fn tell(socket: &OwnedFd, news: &News) -> io::Result<()> {
    let mut buffer = [0; 32];
    let lane = wire::Lane { slot: news.slot, from: news.from };
    let bytes = postcard::to_slice(&lane, &mut buffer).map_err(io::Error::other)?;
    os::seqpacket::send(socket, &[IoSlice::new(bytes)], &[news.region.as_fd(), news.bell.as_fd()])
}
