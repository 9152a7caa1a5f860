//! FIFOs whose creator is on this PU: who reads them, and their lanes from the first word to the last.
//!
//! A revoke is in force when every lane that lived by the right has ended on both sides. Only the home knows both, also
//! while they have not heard of each other, so its acknowledgement is the one that waits for them. A lane that ends for a
//! lesser reason is kept until both sides have ended: a revoke that comes meanwhile turns it into a sharper end.
//!
//! ```text
//!   drained: writer first ──Ended──▶ then its reader, which takes what was written ──Ended──▶ gone
//!   at once: both ──Ended, Ended──▶ gone
//! ```

use super::ends::Ending;
use super::message::{Body, Declined, Message, Seq};
use super::state::State;
use super::{Cause, EndId, Node, Place, Side};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use xpucall::id::{FifoId, Rights, XpuPid};

#[derive(Clone, Copy)]
struct Connected {
    end: EndId,
    by: XpuPid,
}

/// A FIFO to which something is, or was, connected.
struct Hall {
    reader: Option<Connected>,
    lanes: BTreeSet<EndId>,
}

struct Lane {
    fifo: FifoId,
    born: Seq,
    writer: XpuPid,
    reader: Option<Connected>,
    ending: Option<Ending>,
    writer_ended: bool,
    reader_ended: bool,
    holds: Vec<Seq>,
}

impl Lane {
    fn lives_by(&self, pid: XpuPid, rights: Rights) -> bool {
        let writes = self.writer == pid && rights.contain(Rights::WRITE);
        writes || (self.reader.is_some_and(|reader| reader.by == pid) && rights.contain(Rights::READ))
    }

    fn place(&self, lane: EndId, side: Side) -> Option<Place> {
        match side {
            Side::Writer => Some(Place::of_end(lane)),
            Side::Reader => self.reader.map(|reader| Place::of_end(reader.end)),
        }
    }

    fn ended(&self, side: Side) -> bool {
        match side {
            Side::Writer => self.writer_ended,
            Side::Reader => self.reader_ended || self.reader.is_none(),
        }
    }

    fn end(&mut self, side: Side) {
        match side {
            Side::Writer => self.writer_ended = true,
            Side::Reader => self.reader_ended = true,
        }
    }
}

#[derive(Default)]
pub struct Home {
    halls: BTreeMap<FifoId, Hall>,
    readers: BTreeMap<EndId, FifoId>,
    lanes: BTreeMap<EndId, Lane>,
    /// Of `lanes`, those that are ending.
    ending: BTreeSet<EndId>,
    /// When lanes that end at once will be late, in order.
    late: VecDeque<(Duration, EndId)>,
    /// FIFOs that are released here and not yet everywhere.
    released: BTreeMap<FifoId, Seq>,
}

impl Home {
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    pub fn is_released(&self, fifo: FifoId) -> bool {
        self.released.contains_key(&fifo)
    }

    /// After a batch of releases: what is not in the state any more.
    pub fn forget_released(&mut self, state: &State) {
        self.released.retain(|fifo, born| state.fifos().get(fifo).is_some_and(|held| held.born == *born));
    }
}

impl Node {
    pub(super) fn connect_at_home(&mut self, from: Place, end: EndId, by: XpuPid, fifo: FifoId, side: Side) {
        let known = self.home.lanes.contains_key(&end) || self.home.readers.contains_key(&end);
        if Place::of_end(end) != from || Place::of(by) != from || known {
            return;
        }
        match self.admit(by, fifo, side) {
            Err(declined) => self.tell(from, Body::Connected { end, result: Err(declined) }),
            Ok(born) => match side {
                Side::Writer => self.admit_writer(Connected { end, by }, fifo, born),
                Side::Reader => self.admit_reader(Connected { end, by }, fifo),
            },
        }
    }

    fn admit(&self, by: XpuPid, id: FifoId, side: Side) -> Result<Seq, Declined> {
        let alive = |pid| self.processes.contains_key(&pid) && !self.home.is_released(id);
        let fifo = self.state.fifos().get(&id).filter(|fifo| alive(fifo.creator)).ok_or(Declined::NoSuchFifo)?;
        if !fifo.rights(by).contain(side.right()) {
            return Err(Declined::NotPermitted);
        }
        let (read, lanes) =
            self.home.halls.get(&id).map_or((false, 0), |hall| (hall.reader.is_some(), hall.lanes.len()));
        match side {
            Side::Reader if read => Err(Declined::Busy),
            Side::Writer if lanes >= fifo.limits.lanes as usize => Err(Declined::Quota),
            _ => Ok(fifo.born),
        }
    }

    fn admit_writer(&mut self, writer: Connected, fifo: FifoId, born: Seq) {
        let hall = self.home.halls.entry(fifo).or_insert_with(|| Hall { reader: None, lanes: BTreeSet::new() });
        hall.lanes.insert(writer.end);
        let reader = hall.reader;
        let (writer_ended, reader_ended, holds) = (false, false, Vec::new());
        let lane =
            Lane { fifo, born, writer: writer.by, reader: None, ending: None, writer_ended, reader_ended, holds };
        self.home.lanes.insert(writer.end, lane);
        self.welcome(writer.end, fifo);
        if let Some(reader) = reader {
            self.join_lane(writer.end, reader);
        }
    }

    fn admit_reader(&mut self, reader: Connected, fifo: FifoId) {
        let hall = self.home.halls.entry(fifo).or_insert_with(|| Hall { reader: None, lanes: BTreeSet::new() });
        hall.reader = Some(reader);
        let lanes: Vec<EndId> = hall.lanes.iter().copied().collect();
        self.home.readers.insert(reader.end, fifo);
        self.welcome(reader.end, fifo);
        lanes.into_iter().for_each(|lane| self.join_lane(lane, reader));
    }

    fn welcome(&mut self, end: EndId, fifo: FifoId) {
        if let Some(limits) = self.state.fifos().get(&fifo).map(|fifo| fifo.limits) {
            self.tell(Place::of_end(end), Body::Connected { end, result: Ok(limits) });
        }
    }

    /// The reader's shim hears of the lane before the writer's may offer it.
    fn join_lane(&mut self, id: EndId, reader: Connected) {
        let Some(lane) = self.home.lanes.get_mut(&id) else { return };
        lane.reader = Some(reader);
        let (writer, fifo) = (lane.writer, lane.fifo);
        let Some(limits) = self.state.fifos().get(&fifo).map(|fifo| fifo.limits) else { return };
        self.tell(Place::of_end(reader.end), Body::Expect { lane: id, reader: reader.end, writer, limits });
        self.tell(Place::of_end(id), Body::Meet { lane: id, reader: reader.end });
    }

    pub(super) fn left(&mut self, from: Place, end: EndId, cause: Cause) {
        if Place::of_end(end) != from {
            return;
        }
        match self.home.lanes.get_mut(&end) {
            Some(lane) if lane.ending.is_some() => self.ended_elsewhere(from, end, Side::Writer),
            Some(lane) => {
                lane.end(Side::Writer);
                self.end_lane(end, Ending { cause, drain: !cause.abrupt() });
            }
            None => self.reader_left(end, cause),
        }
    }

    /// A writer has left a lane that nobody has been handed yet: it ends in order, writer first.
    pub(super) fn leaving(&mut self, from: Place, end: EndId, cause: Cause) {
        if Place::of_end(end) == from && self.home.lanes.get(&end).is_some_and(|lane| lane.ending.is_none()) {
            self.end_lane(end, Ending { cause, drain: !cause.abrupt() });
        }
    }

    fn reader_left(&mut self, end: EndId, cause: Cause) {
        let fifo = self.home.readers.remove(&end);
        if let Some(hall) = fifo.and_then(|fifo| self.home.halls.get_mut(&fifo)) {
            hall.reader = None;
        }
        let lanes = self.lanes_of(fifo, |lane| lane.reader.is_some_and(|reader| reader.end == end));
        lanes.into_iter().for_each(|lane| self.end_lane(lane, Ending::now(cause)));
        if let Some(fifo) = fifo {
            self.tidy_hall(fifo);
        }
    }

    /// Of the lanes of a FIFO, and of all that are ending, those that are wanted.
    fn lanes_of(&self, fifo: Option<FifoId>, which: impl Fn(&Lane) -> bool) -> Vec<EndId> {
        let hall = fifo.and_then(|fifo| self.home.halls.get(&fifo));
        let lanes = hall.into_iter().flat_map(|hall| &hall.lanes).chain(&self.home.ending);
        lanes.copied().filter(|id| self.home.lanes.get(id).is_some_and(&which)).collect()
    }

    fn end_lane(&mut self, id: EndId, ending: Ending) {
        let Some(lane) = self.home.lanes.get_mut(&id) else { return };
        let fifo = lane.fifo;
        if lane.ending.is_none_or(|old| old.drain && !ending.drain) {
            lane.ending = Some(ending);
            self.home.ending.insert(id);
            if let Some(hall) = self.home.halls.get_mut(&fifo) {
                hall.lanes.remove(&id);
            }
            if !ending.drain {
                self.home.late.push_back((self.now + self.config.timing.patience / 2, id));
            }
            self.tell_ending(id);
        }
        self.settle_lane(id);
        self.tidy_hall(fifo);
    }

    /// Tells the sides whose turn it is.
    fn tell_ending(&mut self, id: EndId) {
        let Some(lane) = self.home.lanes.get_mut(&id) else { return };
        let Some(Ending { cause, drain }) = lane.ending else { return };
        let mut told = Vec::new();
        for side in [Side::Writer, Side::Reader] {
            if lane.ended(side) || (drain && side == Side::Reader && !lane.writer_ended) {
                continue;
            }
            match lane.place(id, side).filter(|place| self.state.current(*place)) {
                Some(place) => told.push((place, side)),
                // A PU that is fenced has ended everything.
                None => lane.end(side),
            }
        }
        for (place, side) in told {
            self.tell(place, Body::Cut { lane: id, side, cause, drain });
        }
    }

    fn settle_lane(&mut self, id: EndId) {
        let over = |lane: &Lane| lane.ending.is_some() && lane.ended(Side::Writer) && lane.ended(Side::Reader);
        if self.home.lanes.get(&id).is_some_and(over) {
            self.home.ending.remove(&id);
            if let Some(lane) = self.home.lanes.remove(&id) {
                self.acks.release(lane.holds);
            }
        }
    }

    pub(super) fn ended_elsewhere(&mut self, from: Place, id: EndId, side: Side) {
        let Some(lane) = self.home.lanes.get_mut(&id) else { return };
        if lane.place(id, side) != Some(from) || lane.ended(side) {
            return;
        }
        lane.end(side);
        match lane.ending {
            // Its reader has no use for it.
            None => self.end_lane(id, Ending::now(Cause::Closed)),
            Some(Ending { drain: true, .. }) if side == Side::Writer => self.tell_ending(id),
            Some(_) => {}
        }
        self.settle_lane(id);
    }

    fn tidy_hall(&mut self, fifo: FifoId) {
        if self.home.halls.get(&fifo).is_some_and(|hall| hall.reader.is_none() && hall.lanes.is_empty()) {
            self.home.halls.remove(&fifo);
        }
    }

    /// The FIFO is released here, and everywhere soon.
    pub(super) fn close_fifo(&mut self, id: FifoId, cause: Cause) {
        let Some(born) = self.state.fifos().get(&id).map(|fifo| fifo.born) else { return };
        if self.home.released.insert(id, born).is_some() {
            return;
        }
        let Some(hall) = self.home.halls.remove(&id) else { return };
        for lane in hall.lanes {
            self.end_lane(lane, Ending { cause, drain: true });
        }
        if let Some(reader) = hall.reader {
            self.home.readers.remove(&reader.end);
            self.tell(Place::of_end(reader.end), Body::Dismiss { reader: reader.end, cause });
        }
    }

    /// Ends what lives by a right that is revoked, or did and has not ended. Returns how many lanes hold the change.
    pub(super) fn revoke_at_home(&mut self, seq: Seq, from: XpuPid, id: FifoId, rights: Rights) -> usize {
        let Some(born) = self.state.fifos().get(&id).map(|fifo| fifo.born) else { return 0 };
        let lanes = self.lanes_of(Some(id), |lane| lane.fifo == id && lane.born == born && lane.lives_by(from, rights));
        let reader = self.home.halls.get(&id).and_then(|hall| hall.reader).filter(|reader| reader.by == from);
        if let Some(reader) = reader.filter(|_| rights.contain(Rights::READ)) {
            self.unseat(id, reader.end, Cause::Revoked);
        }
        self.end_for(seq, lanes, Cause::Revoked)
    }

    fn unseat(&mut self, fifo: FifoId, reader: EndId, cause: Cause) {
        if let Some(hall) = self.home.halls.get_mut(&fifo) {
            hall.reader = None;
        }
        self.home.readers.remove(&reader);
        self.tell(Place::of_end(reader), Body::Dismiss { reader, cause });
        self.tidy_hall(fifo);
    }

    fn end_for(&mut self, seq: Seq, lanes: Vec<EndId>, cause: Cause) -> usize {
        let mut holds = 0;
        for id in lanes {
            self.end_lane(id, Ending::now(cause));
            if let Some(lane) = self.home.lanes.get_mut(&id) {
                lane.holds.push(seq);
                holds += 1;
            }
        }
        holds
    }

    /// Ends lanes of which a side was on a PU that is lost. Returns how many hold the change.
    pub(super) fn lose_at_home(&mut self, seq: Seq, lost: Place) -> usize {
        let readers: Vec<(EndId, FifoId)> = self.home.readers.iter().map(|(end, fifo)| (*end, *fifo)).collect();
        for (end, fifo) in readers.into_iter().filter(|(end, _)| Place::of_end(*end) == lost) {
            self.unseat(fifo, end, Cause::Lost);
        }
        let mut lanes = Vec::new();
        for (id, lane) in &mut self.home.lanes {
            for side in [Side::Writer, Side::Reader] {
                if lane.place(*id, side) == Some(lost) {
                    lane.end(side);
                    lanes.push(*id);
                }
            }
        }
        lanes.dedup();
        self.end_for(seq, lanes, Cause::Lost)
    }

    /// Tells the head of PUs that have not ended a lane in time, for which it would otherwise take this one to be late.
    pub(super) fn blame_late(&mut self) {
        while let Some((due, id)) = self.home.late.front().copied() {
            let lane = self.home.lanes.get(&id);
            if lane.is_some() && due > self.now {
                return;
            }
            self.home.late.pop_front();
            let Some(lane) = lane else { continue };
            let sides = [Side::Writer, Side::Reader].into_iter().filter(|side| !lane.ended(*side));
            let places: Vec<Place> = sides.filter_map(|side| lane.place(id, side)).collect();
            let own = self.config.pu;
            places.into_iter().filter(|place| place.pu != own).for_each(|place| self.report(Message::Blame { place }));
        }
    }

    pub(super) fn next_blame(&self) -> Option<Duration> {
        self.home.late.front().map(|(due, _)| *due)
    }
}
