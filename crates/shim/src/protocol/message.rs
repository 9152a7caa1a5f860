//! What shims say to each other, and how it looks on a link.
//!
//! ```text
//!   0         1
//!   ├ VERSION ┼ postcard ─ … ─┤   at most MESSAGE_MAX bytes
//! ```
//!
//! What comes from outside is decoded as hostile: nothing is taken that is longer than it may be, of another version, or
//! followed by anything. Whether a message makes sense is for those who read it.

use super::call::{Cause, EndId, FifoLimits, Program, Side, StartError};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xpucall::id::{FifoId, PuId, Rights, XpuPid};

/// Of the messages. Shims of different versions do not speak to each other.
pub const VERSION: u8 = 1;
/// Bytes of the longest message.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// Bytes of the longest frame of a relayed lane.
pub const FRAME_MAX: usize = 32 * 1024;
/// Bytes of a relayed lane that may be on their way.
pub const WINDOW: u32 = 256 * 1024;
/// Bytes of a program's path, arguments and environment.
pub const PROGRAM_MAX: usize = 48 * 1024;
/// Capabilities given to a child.
pub const ENDOWMENT_MAX: usize = 64;

/// The number of a change. The first is 1.
pub type Seq = u64;

/// One life of one PU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub pu: PuId,
    pub incarnation: u32,
}

impl Place {
    /// Where a process is attached.
    pub const fn of(pid: XpuPid) -> Self {
        Self { pu: pid.pu(), incarnation: pid.incarnation() }
    }

    /// Where an end is held.
    pub const fn of_end(end: EndId) -> Self {
        Self { pu: end.pu, incarnation: end.incarnation }
    }
}

/// A change that a caller waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    Create { fifo: FifoId, by: XpuPid, limits: FifoLimits },
    Grant { by: XpuPid, to: XpuPid, fifo: FifoId, rights: Rights },
    Revoke { by: XpuPid, from: XpuPid, fifo: FifoId, rights: Rights },
    Endow { by: XpuPid, child: XpuPid, capabilities: Vec<(FifoId, Rights)> },
}

/// What nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lazy {
    /// A process is gone, its FIFOs and capabilities with it.
    Gone(XpuPid),
    /// The FIFO of that id that was created by change `born` is released.
    Released { fifo: FifoId, born: Seq },
}

/// A numbered change, checked by the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    Create { fifo: FifoId, creator: XpuPid, limits: FifoLimits },
    Grant { to: XpuPid, fifo: FifoId, rights: Rights },
    Revoke { from: XpuPid, fifo: FifoId, rights: Rights },
    Endow { child: XpuPid, capabilities: Vec<(FifoId, Rights)> },
    Join { place: Place, shares: bool },
    Fence { place: Place },
    Lazy(Vec<Lazy>),
}

/// A piece of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    Member { place: Place, shares: bool },
    Fifo { fifo: FifoId, creator: XpuPid, limits: FifoLimits, born: Seq },
    Capability { fifo: FifoId, pid: XpuPid, rights: Rights },
}

/// Why an order was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    Exists,
    NoSuchFifo,
    NoSuchProcess,
    NotPermitted,
    Quota,
}

/// Why a FIFO's home did not connect an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Declined {
    NoSuchFifo,
    NotPermitted,
    Busy,
    Quota,
}

/// A member's word that a change is in force on its PU. `absent`: the process that was to get rights is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    pub seq: Seq,
    pub absent: bool,
}

/// Over one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    // From a member to the head.
    /// It has nothing attached and nothing open, and wants to be a member. `asked`: as in `Renew`.
    Join {
        asked: u64,
    },
    /// It has taken so many parts of its snapshot.
    Took {
        parts: u32,
    },
    /// It wants its lease renewed. `asked`: when, by its own clock, in microseconds.
    Renew {
        asked: u64,
    },
    Request {
        id: u64,
        order: Order,
    },
    Acknowledge {
        incarnation: u32,
        acks: Vec<Ack>,
    },
    Lazy {
        items: Vec<Lazy>,
    },
    /// That PU has not ended a lane in time.
    Blame {
        place: Place,
    },
    // From the head to a member.
    /// The member's incarnation to be, and what its snapshot has in it.
    Welcome {
        incarnation: u32,
        seq: Seq,
        parts: u32,
    },
    Part {
        number: u32,
        records: Vec<Record>,
    },
    Renewed {
        asked: u64,
    },
    Entry {
        seq: Seq,
        entry: Entry,
    },
    Answered {
        id: u64,
        result: Result<(), Refusal>,
    },
    // From any shim to any, passed on by the head.
    Routed {
        from: Place,
        to: Place,
        body: Body,
    },
}

/// From a shim to a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    // To a FIFO's home.
    Connect {
        end: EndId,
        by: XpuPid,
        fifo: FifoId,
        side: Side,
    },
    /// The end is over by itself.
    Left {
        end: EndId,
        cause: Cause,
    },
    /// A writer has done with a lane whose reader, if there is one, has yet to be handed what was written.
    Leaving {
        end: EndId,
        cause: Cause,
    },
    /// As told by `Cut`.
    Ended {
        lane: EndId,
        side: Side,
    },
    // From a FIFO's home.
    Connected {
        end: EndId,
        result: Result<FifoLimits, Declined>,
    },
    /// To a writer's shim: who reads the lane.
    Meet {
        lane: EndId,
        reader: EndId,
    },
    /// To a reader's shim: the writer's will offer it that lane.
    Expect {
        lane: EndId,
        reader: EndId,
        writer: XpuPid,
        limits: FifoLimits,
    },
    /// End that side of it, and say so when it has ended. `drain`: when its reader has what was written.
    Cut {
        lane: EndId,
        side: Side,
        cause: Cause,
        drain: bool,
    },
    /// To a reader's shim: it is connected no more.
    Dismiss {
        reader: EndId,
        cause: Cause,
    },
    // Between the shims of a lane's ends.
    /// The lane's descriptors go with it, unless `relayed`.
    Offer {
        lane: EndId,
        relayed: bool,
    },
    Frame {
        lane: EndId,
        bytes: Vec<u8>,
    },
    Credit {
        lane: EndId,
        bytes: u32,
    },
    // Starts.
    Reserve {
        id: u64,
        by: XpuPid,
    },
    Reserved {
        id: u64,
        child: Option<XpuPid>,
    },
    Start {
        child: XpuPid,
        program: Program,
    },
    Started {
        child: XpuPid,
        result: Result<(), StartError>,
    },
    /// The child will not be started.
    Abandon {
        child: XpuPid,
    },
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("a message of {length} bytes, where {MESSAGE_MAX} are allowed")]
    TooLong { length: usize },
    #[error("a message of version {found}, where this shim speaks {VERSION}: run the same release on every PU")]
    Version { found: u8 },
    #[error("no message at all")]
    Empty,
    #[error("not a message: {0}")]
    Malformed(#[from] postcard::Error),
    #[error("a message followed by {extra} bytes that belong to none")]
    Trailing { extra: usize },
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("a message that is longer than {MESSAGE_MAX} bytes")]
pub struct EncodeError;

impl Message {
    /// The message as it goes over a link.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let bytes = postcard::to_extend(self, vec![VERSION]).map_err(|_| EncodeError)?;
        if bytes.len() <= MESSAGE_MAX { Ok(bytes) } else { Err(EncodeError) }
    }

    /// Reads one message, of which `bytes` must be the whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MESSAGE_MAX {
            return Err(DecodeError::TooLong { length: bytes.len() });
        }
        let (version, rest) = bytes.split_first().ok_or(DecodeError::Empty)?;
        if *version != VERSION {
            return Err(DecodeError::Version { found: *version });
        }
        let (message, extra) = postcard::take_from_bytes(rest)?;
        if extra.is_empty() { Ok(message) } else { Err(DecodeError::Trailing { extra: extra.len() }) }
    }
}
