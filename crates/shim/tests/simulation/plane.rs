//! The lanes themselves: who has mapped what, and what is written and read, also by those who should not.
//!
//! A hostile writer stores into its lane's memory as long as it lives, whatever it was told; a hostile reader sees whatever
//! is stored there. What the shims must reach is that neither matters once a revoke has returned.

use super::oracle::{Moment, Oracle, Tie};
use shim::protocol::{EndId, Side};
use std::collections::{BTreeMap, VecDeque};
use xpucall::id::{PuId, XpuPid};

/// A side's way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    Open,
    Draining,
    Cut,
    Ended,
}

pub struct Reading {
    pub pid: XpuPid,
    pub end: EndId,
    pub tie: Option<Tie>,
    pub course: Course,
    /// What was relayed to it; `None` where it reads the writer's memory.
    pub relayed: Option<VecDeque<Moment>>,
}

pub struct Lane {
    pub writer: XpuPid,
    pub tie: Option<Tie>,
    pub course: Course,
    /// When each message was written.
    pub memory: VecDeque<Moment>,
    /// Messages that its writer wrote while nobody had told it to stop, and those that were read.
    counts: [usize; 2],
    pub reading: Option<Reading>,
    /// Bytes that may be relayed, of a lane that is.
    pub credit: Option<u32>,
}

#[derive(Default)]
pub struct Plane {
    pub lanes: BTreeMap<EndId, Lane>,
    pub ties: BTreeMap<EndId, Option<Tie>>,
    pub written: usize,
    pub read: usize,
}

impl Plane {
    pub fn make(&mut self, lane: EndId, writer: XpuPid) {
        let made = Lane {
            writer,
            tie: None,
            course: Course::Open,
            memory: VecDeque::new(),
            counts: [0; 2],
            reading: None,
            credit: None,
        };
        assert!(self.lanes.insert(lane, made).is_none(), "lane {lane} was made twice");
    }

    pub fn open(&mut self, id: EndId, reader: EndId, pid: XpuPid, relayed: bool) {
        let tie = self.ties.get(&reader).copied().flatten();
        let lane = self.lanes.get_mut(&id).expect("a lane that was never made has a reader");
        assert!(lane.reading.is_none(), "lane {id} has two readers");
        let relayed = relayed.then(VecDeque::new);
        lane.reading = Some(Reading { pid, end: reader, tie, course: Course::Open, relayed });
    }

    /// Stores a message, as an honest writer (not after it was told to stop) or a hostile one.
    pub fn write(&mut self, id: EndId, hostile: bool, oracle: &mut Oracle) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.course != Course::Open && !hostile {
            return;
        }
        let now = oracle.tick();
        if let (Course::Open | Course::Draining | Course::Cut, Some(reading)) = (lane.course, &lane.reading) {
            let sees = reading.relayed.is_none() && !oracle.is_gone(reading.pid);
            let revoked = reading.tie.is_some_and(|tie| oracle.was_revoked(reading.pid, tie, Side::Reader, now));
            assert!(!(sees && revoked), "{} still writes on {id} to {}, revoked", lane.writer, reading.pid);
        }
        lane.counts[0] += usize::from(lane.course == Course::Open);
        lane.memory.push_back(now);
        self.written += 1;
    }

    /// What the writer's shim relays next, a message in a frame of that length.
    pub fn take_frame(&mut self, id: EndId, length: u32) -> Option<Moment> {
        let lane = self.lanes.get_mut(&id).filter(|lane| matches!(lane.course, Course::Open | Course::Draining))?;
        let left = lane.credit?.checked_sub(length)?;
        let written = lane.memory.pop_front()?;
        lane.credit = Some(left);
        Some(written)
    }

    /// What was relayed comes into the memory of the reader.
    pub fn frame(&mut self, id: EndId, written: Moment, oracle: &Oracle) {
        let reading = self.lanes.get_mut(&id).and_then(|lane| lane.reading.as_mut()).expect("a frame for no reader");
        let revoked = reading.tie.is_some_and(|tie| oracle.was_revoked(reading.pid, tie, Side::Reader, written));
        assert!(!revoked, "{} is sent on {id} what was written after it was revoked", reading.pid);
        reading.relayed.as_mut().expect("a frame of a lane that is not relayed").push_back(written);
    }

    /// Takes the next message, as far as the reader was not told to stop.
    pub fn read(&mut self, id: EndId, oracle: &mut Oracle) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let Some(reading) = lane.reading.as_mut() else { return false };
        if !matches!(reading.course, Course::Open | Course::Draining) {
            return false;
        }
        let queue = reading.relayed.as_mut().unwrap_or(&mut lane.memory);
        let Some(written) = queue.pop_front() else { return false };
        lane.counts[1] += 1;
        let now = oracle.tick();
        let by_writer = lane.tie.is_some_and(|tie| oracle.was_revoked(lane.writer, tie, Side::Writer, written));
        assert!(!by_writer, "{} read on {id} what {} wrote after it was revoked", reading.pid, lane.writer);
        let by_reader = reading.tie.is_some_and(|tie| oracle.was_revoked(reading.pid, tie, Side::Reader, now));
        assert!(!by_reader, "{} read on {id} after it was revoked", reading.pid);
        self.read += 1;
        true
    }

    /// A reader that takes what was written until its end has taken all of it.
    pub fn check_drained(&self, id: EndId, side: Side) {
        let Some(lane) = self.lanes.get(&id).filter(|_| side == Side::Reader) else { return };
        let drained = lane.reading.as_ref().is_some_and(|reading| reading.course == Course::Draining);
        let [written, read] = lane.counts;
        assert!(!drained || read >= written, "lane {id} was closed and drained: {read} read of {written} written");
    }

    pub fn is_drained(&self, id: EndId, side: Side) -> bool {
        let Some(lane) = self.lanes.get(&id) else { return true };
        match side {
            Side::Writer => lane.memory.is_empty(),
            Side::Reader => {
                lane.reading.as_ref().is_none_or(|reading| reading.relayed.as_ref().unwrap_or(&lane.memory).is_empty())
            }
        }
    }

    pub fn course(&self, id: EndId, side: Side) -> Option<Course> {
        let lane = self.lanes.get(&id)?;
        match side {
            Side::Writer => Some(lane.course),
            Side::Reader => lane.reading.as_ref().map(|reading| reading.course),
        }
    }

    /// A side gets nearer to its end; what has ended stays so.
    pub fn turn(&mut self, id: EndId, side: Side, to: Course) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let course = match (side, &mut lane.reading) {
            (Side::Writer, _) => &mut lane.course,
            (Side::Reader, Some(reading)) => &mut reading.course,
            (Side::Reader, None) => return,
        };
        if *course != Course::Ended {
            *course = to;
        }
    }

    /// Everything that processes of that PU have mapped is gone, or nothing passes it any more.
    pub fn lose(&mut self, pu: PuId) {
        for lane in self.lanes.values_mut() {
            if lane.writer.pu() == pu {
                lane.course = Course::Ended;
            }
            if let Some(reading) = lane.reading.as_mut().filter(|reading| reading.pid.pu() == pu) {
                reading.course = Course::Ended;
            }
        }
    }

    pub fn sides(&self, pid: XpuPid, side: Side) -> Vec<EndId> {
        let held = |lane: &Lane| match side {
            Side::Writer => lane.writer == pid,
            Side::Reader => lane.reading.as_ref().is_some_and(|reading| reading.pid == pid),
        };
        self.lanes.iter().filter(|(_, lane)| held(lane)).map(|(id, _)| *id).collect()
    }

    /// At rest no lane is open at one side and over at the other.
    pub fn check_whole(&self) {
        for (id, lane) in &self.lanes {
            let Some(reading) = &lane.reading else { continue };
            let (writer, reader) = (lane.course, reading.course);
            let over = |course| matches!(course, Course::Cut | Course::Ended);
            assert_eq!(
                over(writer),
                over(reader),
                "lane {id}: writer {writer:?}, reader {reader:?}, and nothing moves"
            );
            assert!(writer != Course::Draining && reader != Course::Draining, "lane {id} drains for ever");
        }
    }
}
