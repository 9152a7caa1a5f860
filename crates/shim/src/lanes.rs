//! The lanes of which this shim has an end, or both.

use crate::protocol::{Cause, EndId, Side};
use interconnect::lane;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// One end that a process of this PU has: whose, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The shim's own number of the process.
    pub process: u64,
    pub slot: u32,
    /// Where its news are counted.
    pub news: u32,
}

/// Who is at one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// Somebody on another PU, or nobody yet.
    Away,
    Here(Seat),
    /// This shim itself, for a PU that shares no memory.
    Relay,
    /// Nobody any more.
    Over,
}

/// A lane.
#[derive(Debug)]
pub struct Lane {
    /// What its reader is handed, until it is.
    pub region: Option<OwnedFd>,
    pub reader_bell: Option<OwnedFd>,
    /// By which both ends are woken when it is cut; none where there are too many lanes for that.
    pub writer_bell: Option<OwnedFd>,
    pub writer: Occupant,
    pub reader: Occupant,
    /// Bytes that were taken from a process's quota until this lane is no more, and whose that is.
    pub memory: u64,
    pub payer: u64,
}

/// A writer's end that was cut while its process was in the middle of a message.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    pub lane: EndId,
    pub seat: Seat,
    pub since: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Lanes {
    pub all: HashMap<EndId, Lane>,
    /// Ends that have been cut, and are not at rest yet.
    pub busy: Vec<Busy>,
}

/// The word by which a process is told of an end.
pub fn word(cause: Cause) -> u32 {
    let cause = match cause {
        Cause::Closed => lane::Cause::Closed,
        Cause::Died => lane::Cause::Died,
        Cause::Lost => lane::Cause::Lost,
        Cause::Revoked => lane::Cause::Revoked,
    };
    cause as u32
}

impl Lane {
    pub fn occupant(&mut self, side: Side) -> &mut Occupant {
        match side {
            Side::Writer => &mut self.writer,
            Side::Reader => &mut self.reader,
        }
    }

    /// Wakes whoever waits at a bell of this lane: from now on it polls as hung up.
    pub fn hang_up(&self) {
        for bell in [&self.writer_bell, &self.reader_bell].into_iter().flatten() {
            let _ = rustix::net::shutdown(bell, rustix::net::Shutdown::Both);
        }
    }

    /// What the reader is handed, once.
    pub fn for_reader(&mut self) -> io::Result<(OwnedFd, OwnedFd)> {
        self.region.take().zip(self.reader_bell.take()).ok_or(io::ErrorKind::NotFound.into())
    }

    /// Whether nobody of this PU has an end of it any more.
    pub fn is_over(&self) -> bool {
        let gone = |occupant| matches!(occupant, Occupant::Away | Occupant::Over);
        gone(self.writer) && gone(self.reader)
    }

    /// Makes the region and the bell of a lane whose writer is `writer`.
    pub fn create(spec: lane::LaneSpec, writer: Occupant) -> io::Result<Self> {
        let region = lane::create(spec).map_err(|error| match error {
            lane::CreateError::Memory(error) => error,
            error @ lane::CreateError::Spec(_) => io::Error::new(io::ErrorKind::InvalidInput, error),
        })?;
        let (writer_bell, reader_bell) = interconnect::doorbell::bells()?;
        let memory = bytes(spec);
        let payer = if let Occupant::Here(seat) = writer { seat.process } else { 0 };
        let (writer_bell, reader_bell) = (Some(writer_bell), Some(reader_bell));
        let region = Some(region);
        Ok(Self { region, writer_bell, reader_bell, writer, reader: Occupant::Away, memory, payer })
    }
}

impl Lane {
    /// A lane that another shim has made, for a reader here.
    pub fn carried(region: OwnedFd, bell: OwnedFd) -> Self {
        let (writer, reader) = (Occupant::Away, Occupant::Away);
        Self { region: Some(region), writer_bell: None, reader_bell: Some(bell), writer, reader, memory: 0, payer: 0 }
    }
}

/// Bytes of a lane, as if all of it were used.
pub fn bytes(spec: lane::LaneSpec) -> u64 {
    let rings = spec.ring + lane::layout::wide_bytes(spec.ring);
    4096 + rings as u64 + spec.message_max.next_multiple_of(4096) as u64
}
