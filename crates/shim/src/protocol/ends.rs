//! Ends that are held on this PU: writers, readers, and the lanes that lead to those readers.
//!
//! ```text
//!   writer   Asking ──Connected──▶ Making ──made──▶ Open ──────────▶ Cutting ──ended──▶ gone
//!   reader   Asking ──Connected──▶ Open ──Dismiss──▶ Dismissed ──close──▶ gone
//!   lane to a reader   (Expect) Expected ──Offer──▶ Open ──────────▶ Cutting ──ended──▶ gone
//! ```
//!
//! Only a FIFO's home decides who is connected. An end that is over by itself is told to it (`Left`), and every lane ends by
//! its word (`Cut`), of which each side says when it is so (`Ended`): a side that is not there has ended.

use super::call::{Answer, CallId, ConnectError, FifoLimits};
use super::message::{Body, Declined, Seq, WINDOW};
use super::step::{Action, Attachment, Source};
use super::{Cause, EndId, Node, Place, Side};
use std::collections::{BTreeMap, BTreeSet};
use xpucall::id::{FifoId, XpuPid};

/// How a side of a lane is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    pub cause: Cause,
    pub drain: bool,
}

impl Ending {
    pub const fn now(cause: Cause) -> Self {
        Self { cause, drain: false }
    }
}

/// Where a side of a lane is on its way to its end.
enum Course {
    Open,
    Cutting { drain: bool },
}

impl Course {
    /// Whether `ending` is news.
    fn turn(&mut self, ending: Ending) -> bool {
        let news = match self {
            Self::Open => true,
            Self::Cutting { drain } => *drain && !ending.drain,
        };
        if news {
            *self = Self::Cutting { drain: ending.drain };
        }
        news
    }
}

/// One side of a lane, as far as both kinds are alike.
struct Lane {
    home: Place,
    course: Course,
    /// Whether the home has said to end it, and waits to hear that it has.
    told: bool,
    /// Changes that are not in force before it has ended.
    holds: Vec<Seq>,
}

impl Lane {
    fn new(home: Place) -> Self {
        Self { home, course: Course::Open, told: false, holds: Vec::new() }
    }
}

pub struct Writer {
    by: XpuPid,
    fifo: FifoId,
    lane: Lane,
    /// The call that connects it, until it is answered.
    call: Option<CallId>,
    /// Whether its region is made.
    made: bool,
    /// Whether the home has not answered yet.
    asking: bool,
    reader: Option<EndId>,
    /// Bytes that may still be sent, of a lane that is relayed.
    pub credit: Option<u32>,
    /// Why its process left.
    left: Option<Cause>,
}

impl Writer {
    pub fn reader(&self) -> Option<EndId> {
        self.reader
    }

    /// Whether what its process writes, or has written, still goes to the reader.
    pub fn flows(&self) -> bool {
        matches!(self.lane.course, Course::Open | Course::Cutting { drain: true })
    }
}

struct Reader {
    by: XpuPid,
    home: Place,
    call: Option<CallId>,
    dismissed: bool,
    lanes: BTreeSet<EndId>,
}

pub struct Incoming {
    reader: EndId,
    by: XpuPid,
    writer: XpuPid,
    limits: FifoLimits,
    lane: Lane,
    /// Whether the writer's shim has handed it over.
    offered: bool,
    /// Bytes that may still come, of a lane that is relayed.
    pub room: Option<u32>,
}

impl Incoming {
    /// Whether what comes is for its reader.
    pub fn flows(&self) -> bool {
        self.offered && matches!(self.lane.course, Course::Open | Course::Cutting { drain: true })
    }
}

#[derive(Default)]
pub struct Ends {
    pub writers: BTreeMap<EndId, Writer>,
    readers: BTreeMap<EndId, Reader>,
    pub incoming: BTreeMap<EndId, Incoming>,
}

impl Ends {
    pub fn count(&self) -> usize {
        self.writers.len() + self.readers.len() + self.incoming.len()
    }

    pub fn expected(&self) -> usize {
        self.incoming.values().filter(|incoming| !incoming.offered).count()
    }

    /// Calls that wait for an end.
    pub fn asking(&self) -> usize {
        let writers = self.writers.values().filter(|end| end.call.is_some());
        writers.count() + self.readers.values().filter(|end| end.call.is_some()).count()
    }

    pub fn take_asking(&mut self) -> Vec<(CallId, XpuPid)> {
        let writers = self.writers.values_mut().map(|end| (end.call.take(), end.by));
        let readers = self.readers.values_mut().map(|end| (end.call.take(), end.by));
        writers.chain(readers).filter_map(|(call, by)| Some((call?, by))).collect()
    }
}

impl Node {
    pub(super) fn ask_for_end(&mut self, id: CallId, by: XpuPid, fifo: FifoId, side: Side, home: Place) {
        let Some(place) = self.place() else { return };
        let end = self.next_end(place);
        if let Some(process) = self.processes.get_mut(&by) {
            process.ends.insert(end);
        }
        let call = Some(id);
        match side {
            Side::Writer => {
                let lane = Lane::new(home);
                let (made, asking, reader, credit, left) = (false, true, None, None, None);
                let writer = Writer { by, fifo, lane, call, made, asking, reader, credit, left };
                self.ends.writers.insert(end, writer);
            }
            Side::Reader => {
                let reader = Reader { by, home, call, dismissed: false, lanes: BTreeSet::new() };
                self.ends.readers.insert(end, reader);
            }
        }
        self.tell(home, Body::Connect { end, by, fifo, side });
    }

    fn disown(&mut self, by: XpuPid, end: EndId) {
        if let Some(process) = self.processes.get_mut(&by) {
            process.ends.remove(&end);
        }
    }

    pub(super) fn connected(&mut self, from: Place, end: EndId, result: Result<FifoLimits, Declined>) {
        if self.ends.writers.get(&end).is_some_and(|writer| writer.asking && writer.lane.home == from) {
            self.writer_connected(end, result);
        }
        let Some(reader) = self.ends.readers.get_mut(&end).filter(|reader| reader.home == from) else { return };
        let Some(call) = reader.call.take() else { return };
        let by = reader.by;
        if result.is_err() {
            self.ends.readers.remove(&end);
            self.disown(by, end);
        }
        self.answer(call, by, Answer::Connected(result.map(|_| end).map_err(connect_error)));
    }

    fn writer_connected(&mut self, lane: EndId, result: Result<FifoLimits, Declined>) {
        let Some(writer) = self.ends.writers.get_mut(&lane) else { return };
        writer.asking = false;
        let by = writer.by;
        match result {
            Ok(limits) => self.out.push(Action::Make { lane, by, limits }),
            Err(declined) => {
                let call = writer.call.take();
                self.ends.writers.remove(&lane);
                self.refuse(call, by, lane, connect_error(declined));
            }
        }
    }

    /// The process will not have the end that it has asked for.
    fn refuse(&mut self, call: Option<CallId>, by: XpuPid, end: EndId, error: ConnectError) {
        self.disown(by, end);
        if let Some(call) = call {
            self.answer(call, by, Answer::Connected(Err(error)));
        }
    }

    pub(super) fn made(&mut self, lane: EndId, made: bool) {
        let Some(writer) = self.ends.writers.get_mut(&lane) else { return };
        let Some(call) = writer.call.take() else { return };
        let (by, home) = (writer.by, writer.lane.home);
        if made {
            writer.made = true;
            self.answer(call, by, Answer::Connected(Ok(lane)));
            self.offer(lane);
        } else {
            self.ends.writers.remove(&lane);
            self.refuse(Some(call), by, lane, ConnectError::NoMemory);
            self.tell(home, Body::Left { end: lane, cause: Cause::Closed });
        }
    }

    pub(super) fn meet(&mut self, from: Place, lane: EndId, reader: EndId) {
        let Some(writer) = self.ends.writers.get_mut(&lane).filter(|writer| writer.lane.home == from) else { return };
        writer.reader = Some(reader);
        self.offer(lane);
    }

    /// Hands a lane to its reader's shim, once it is made and there is one.
    fn offer(&mut self, lane: EndId) {
        let Some(place) = self.place() else { return };
        let Some(writer) = self.ends.writers.get_mut(&lane) else { return };
        let (true, Course::Open, Some(reader)) = (writer.made, &writer.lane.course, writer.reader) else { return };
        let to = Place::of_end(reader);
        let shares = |pu| self.state.members().get(&pu).is_some_and(|member| member.shares);
        let relayed = to != place && !(shares(place.pu) && shares(to.pu));
        if relayed {
            writer.credit = Some(WINDOW);
            self.out.push(Action::Relay { lane, credit: WINDOW });
        }
        let with = (!relayed).then_some(Attachment::Lane(lane));
        self.tell_with(to, Body::Offer { lane, relayed }, with);
    }

    pub(super) fn expect(&mut self, from: Place, lane: EndId, reader: EndId, writer: XpuPid, limits: FifoLimits) {
        let Some(end) = self.ends.readers.get_mut(&reader).filter(|end| end.home == from && !end.dismissed) else {
            return;
        };
        end.lanes.insert(lane);
        let by = end.by;
        let incoming = Incoming { reader, by, writer, limits, lane: Lane::new(from), offered: false, room: None };
        self.ends.incoming.insert(lane, incoming);
    }

    pub(super) fn offered(&mut self, from: Place, lane: EndId, relayed: bool, with: Option<Attachment>) {
        let Some(incoming) = self.ends.incoming.get_mut(&lane) else { return };
        if incoming.offered || Place::of_end(lane) != from {
            return;
        }
        let source = match with {
            _ if relayed => Source::Relayed,
            Some(Attachment::Lane(_)) => Source::Own,
            Some(Attachment::Carried(carried)) => Source::Carried(carried),
            None => return,
        };
        incoming.offered = true;
        incoming.room = relayed.then_some(WINDOW);
        let Incoming { reader, by, writer, limits, .. } = *incoming;
        self.out.push(Action::Open { lane, reader, by, writer, limits, source });
    }

    /// The process, which does not hold it any more, has closed an end or is gone.
    pub(super) fn close_end(&mut self, end: EndId, cause: Cause) {
        if let Some(writer) = self.ends.writers.get_mut(&end) {
            if writer.asking {
                let home = writer.lane.home;
                self.ends.writers.remove(&end);
                self.tell(home, Body::Left { end, cause });
            } else if writer.reader.is_none() && matches!(writer.lane.course, Course::Open) {
                // Word of a reader may be on its way: its home ends the lane, after that.
                let home = writer.lane.home;
                self.tell(home, Body::Leaving { end, cause });
            } else {
                (writer.left, writer.call) = (Some(cause), None);
                self.cut_writer(end, Ending { cause, drain: true });
            }
        }
        if let Some(reader) = self.ends.readers.remove(&end) {
            // Also where it was dismissed: what still comes to it need not.
            self.tell(reader.home, Body::Left { end, cause });
            reader.lanes.into_iter().for_each(|lane| self.cut_incoming(lane, Ending::now(cause)));
        }
    }

    fn cut_writer(&mut self, lane: EndId, ending: Ending) {
        let Some(writer) = self.ends.writers.get_mut(&lane) else { return };
        // What is written to memory that the reader has too is there.
        let ending = Ending { drain: ending.drain && writer.credit.is_some(), ..ending };
        if !writer.lane.course.turn(ending) {
            return;
        }
        let (call, by, fifo) = (writer.call.take(), writer.by, writer.fifo);
        self.out.push(Action::Cut { lane, side: Side::Writer, cause: ending.cause, drain: ending.drain });
        self.disown(by, lane);
        if let Some(call) = call {
            // Over before the process had it, by what happened to its reader: as if it had asked now.
            self.connect(call, by, fifo, Side::Writer);
        }
    }

    fn cut_incoming(&mut self, lane: EndId, ending: Ending) {
        let Some(incoming) = self.ends.incoming.get_mut(&lane) else { return };
        if !incoming.offered {
            // Whatever comes of it finds nothing here.
            self.drop_incoming(lane);
        } else if incoming.lane.course.turn(ending) {
            self.out.push(Action::Cut { lane, side: Side::Reader, cause: ending.cause, drain: ending.drain });
        }
    }

    fn drop_incoming(&mut self, lane: EndId) -> Option<Incoming> {
        let incoming = self.ends.incoming.remove(&lane)?;
        if let Some(reader) = self.ends.readers.get_mut(&incoming.reader) {
            reader.lanes.remove(&lane);
        }
        Some(incoming)
    }

    pub(super) fn cut_by_home(&mut self, from: Place, lane: EndId, side: Side, ending: Ending) {
        match side {
            Side::Writer => self.cut_writer(lane, ending),
            Side::Reader => self.cut_incoming(lane, ending),
        }
        match self.side(lane, side) {
            Some(held) if held.home == from => held.told = true,
            Some(_) => {}
            None => self.tell(from, Body::Ended { lane, side }),
        }
    }

    fn side(&mut self, lane: EndId, side: Side) -> Option<&mut Lane> {
        match side {
            Side::Writer => self.ends.writers.get_mut(&lane).map(|writer| &mut writer.lane),
            Side::Reader => self.ends.incoming.get_mut(&lane).map(|incoming| &mut incoming.lane),
        }
    }

    pub(super) fn side_ended(&mut self, lane: EndId, side: Side) {
        let (held, left) = match side {
            Side::Writer => {
                if self.ends.writers.get(&lane).is_some_and(|writer| writer.asking) {
                    return;
                }
                let Some(writer) = self.ends.writers.remove(&lane) else { return };
                self.refuse(writer.call, writer.by, lane, ConnectError::NoMemory);
                // What was written is there, whoever gave up.
                (writer.lane, Some(writer.left.unwrap_or(Cause::Closed)))
            }
            Side::Reader => {
                let Some(incoming) = self.drop_incoming(lane) else { return };
                (incoming.lane, None)
            }
        };
        match left {
            Some(cause) if !held.told => self.tell(held.home, Body::Left { end: lane, cause }),
            _ => self.tell(held.home, Body::Ended { lane, side }),
        }
        self.acks.release(held.holds);
    }

    pub(super) fn dismissed(&mut self, from: Place, end: EndId, cause: Cause) {
        let Some(reader) = self.ends.readers.get_mut(&end).filter(|reader| reader.home == from) else { return };
        if !reader.dismissed {
            reader.dismissed = true;
            let (by, call) = (reader.by, reader.call.take());
            match call {
                None => self.out.push(Action::Dismiss { reader: end, by, cause }),
                Some(_) => {
                    self.ends.readers.remove(&end);
                    self.refuse(call, by, end, ConnectError::Lost);
                }
            }
        }
    }

    /// Ends what lives by FIFOs of a PU that is lost. Returns how many sides hold the change.
    pub(super) fn lose_ends(&mut self, seq: Seq, lost: Place) -> usize {
        let writers: Vec<EndId> = of(&self.ends.writers, |writer| writer.lane.home == lost);
        let readers: Vec<EndId> = of(&self.ends.readers, |reader| reader.home == lost);
        let incoming: Vec<EndId> = of(&self.ends.incoming, |incoming| incoming.lane.home == lost);
        let mut holds = 0;
        for lane in writers {
            let Some(writer) = self.ends.writers.get_mut(&lane) else { continue };
            let (call, by, asking) = (writer.call.take(), writer.by, writer.asking);
            self.refuse(call, by, lane, ConnectError::Lost);
            if asking {
                self.ends.writers.remove(&lane);
                continue;
            }
            self.cut_writer(lane, Ending::now(Cause::Lost));
            holds += self.hold(seq, lane, Side::Writer);
        }
        for end in readers {
            self.dismissed(lost, end, Cause::Lost);
        }
        for lane in incoming {
            self.cut_incoming(lane, Ending::now(Cause::Lost));
            holds += self.hold(seq, lane, Side::Reader);
        }
        holds
    }

    fn hold(&mut self, seq: Seq, lane: EndId, side: Side) -> usize {
        let held = self.side(lane, side).map(|held| held.holds.push(seq));
        usize::from(held.is_some())
    }
}

fn of<T>(ends: &BTreeMap<EndId, T>, which: impl Fn(&T) -> bool) -> Vec<EndId> {
    ends.iter().filter(|(_, end)| which(end)).map(|(id, _)| *id).collect()
}

fn connect_error(declined: Declined) -> ConnectError {
    match declined {
        Declined::NoSuchFifo => ConnectError::NoSuchFifo,
        Declined::NotPermitted => ConnectError::NotPermitted,
        Declined::Busy => ConnectError::Busy,
        Declined::Quota => ConnectError::Quota,
    }
}
