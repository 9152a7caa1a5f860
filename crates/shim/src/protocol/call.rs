//! What a process asks of its shim, and what it is told.
//!
//! The daemon has checked what only it can know (who asks, its class, lengths); rights, names and counts are checked here.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;
use xpucall::id::{FifoId, PuId, Rights, XpuPid};

/// The daemon's name for one call, given back with its answer. Never that of a call still in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// One end of a connection, named by the shim of the process that holds it. A writer's end names its lane as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndId {
    pub pu: PuId,
    pub incarnation: u32,
    pub serial: u64,
}

impl fmt::Display for EndId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}.{}", self.pu, self.incarnation, self.serial)
    }
}

/// What one may do at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    Reader,
    Writer,
}

impl Side {
    /// The right by which such an end lives.
    pub const fn right(self) -> Rights {
        match self {
            Self::Reader => Rights::READ,
            Self::Writer => Rights::WRITE,
        }
    }
}

/// Why an end is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// The other end, or the FIFO's creator, has closed it. The reader still gets what was written.
    Closed,
    /// The process of the other end, or the creator's, has died. The reader still gets what was written.
    Died,
    /// The other end's PU, or the FIFO's, is out of reach. Nothing more is read.
    Lost,
    /// The right of one of the ends was revoked. Nothing more is read.
    Revoked,
}

impl Cause {
    /// Whether what was written and not yet read is gone.
    pub const fn abrupt(self) -> bool {
        matches!(self, Self::Lost | Self::Revoked)
    }
}

/// What a FIFO may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FifoLimits {
    /// Bytes of each lane's ring.
    pub ring: u32,
    /// Bytes of the longest message.
    pub message_max: u32,
    /// Writers connected at once.
    pub lanes: u32,
    /// Processes with rights on it, besides its creator.
    pub capabilities: u32,
}

/// What one process may hold at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// FIFOs of its own.
    pub fifos: u32,
    /// Ends it has connected.
    pub ends: u32,
}

/// A program to start on another PU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    pub path: Vec<u8>,
    pub argv: Vec<Vec<u8>>,
    pub envp: Vec<Vec<u8>>,
}

impl Program {
    /// Bytes of its strings, each with its end.
    pub fn length(&self) -> usize {
        self.path.len() + self.argv.iter().chain(&self.envp).map(|text| text.len() + 1).sum::<usize>()
    }
}

/// The paper's Table 2, but for what needs no shim (`xfifo_read`, `xfifo_write`) or no protocol (`get_xpupid`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `xfifo_init`; `None`: the shim gives an id.
    Create { fifo: Option<FifoId>, limits: FifoLimits },
    /// `grant_cap`
    Grant { to: XpuPid, fifo: FifoId, rights: Rights },
    /// `revoke_cap`
    Revoke { from: XpuPid, fifo: FifoId, rights: Rights },
    /// `xfifo_connect`
    Connect { fifo: FifoId, side: Side },
    /// `xfifo_close` of one end.
    Close { end: EndId },
    /// `xfifo_close` of the FIFO, by its creator.
    Release { fifo: FifoId },
    /// `xspawn`
    Spawn { pu: PuId, program: Program, capabilities: Vec<(FifoId, Rights)> },
}

/// The result of a call; one variant per [`Call`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Created(Result<FifoId, CreateError>),
    Granted(Result<(), GrantError>),
    Revoked(Result<(), RevokeError>),
    /// To a writer only after its lane is made: the end's id is the lane's.
    Connected(Result<EndId, ConnectError>),
    Closed(Result<(), CloseError>),
    Released(Result<(), ReleaseError>),
    Spawned(Result<XpuPid, SpawnError>),
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AttachError {
    #[error("this PU is not, or not now, part of the computer: attach again in a moment")]
    Fenced,
    #[error("every process id of this life of the PU has been used: restart its shim")]
    Exhausted,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CreateError {
    #[error("a FIFO of that id exists, or has not been released everywhere yet: choose another id, or try again")]
    Exists,
    #[error("0 is no FIFO's id: choose another one, or none at all")]
    NoId,
    #[error("the process, or its PU, has as many FIFOs as it may: close some")]
    Quota,
    #[error("this PU is not, or not now, part of the computer: attach again")]
    Fenced,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum GrantError {
    #[error("there is no such FIFO: it was never created, or is released")]
    NoSuchFifo,
    #[error("there is no such process: it has never attached, or is gone")]
    NoSuchProcess,
    #[error("only an owner may grant, and only rights that it holds itself")]
    NotPermitted,
    #[error("as many processes have rights on that FIFO as may: revoke some")]
    Quota,
    #[error("this PU is not, or not now, part of the computer: attach again")]
    Fenced,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RevokeError {
    #[error("there is no such FIFO: it was never created, or is released")]
    NoSuchFifo,
    #[error("only an owner may revoke, and nobody from the FIFO's creator")]
    NotPermitted,
    #[error("too many calls of this PU wait: try again")]
    Quota,
    #[error("this PU is not, or not now, part of the computer: attach again")]
    Fenced,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ConnectError {
    #[error("there is no such FIFO: it was never created, or is released")]
    NoSuchFifo,
    #[error("the process has no right to this end of the FIFO: have it granted")]
    NotPermitted,
    #[error("the FIFO has a reader: wait until it closes")]
    Busy,
    #[error("the process has as many ends, or the FIFO as many writers, as it may: close some")]
    Quota,
    #[error("no memory for the lane: try again, or with smaller limits")]
    NoMemory,
    #[error("the FIFO's PU is out of reach, and the FIFO gone with it")]
    Lost,
    #[error("this PU is not, or not now, part of the computer: attach again")]
    Fenced,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CloseError {
    #[error("the process holds no such end")]
    NoSuchEnd,
    #[error("this PU is not, or not now, part of the computer: attach again")]
    Fenced,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReleaseError {
    #[error("there is no such FIFO: it was never created, or is released")]
    NoSuchFifo,
    #[error("only its creator may release a FIFO")]
    NotPermitted,
    #[error("this PU is not, or not now, part of the computer: attach again")]
    Fenced,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SpawnError {
    #[error("there is no such PU, or it is out of reach")]
    NoSuchPu,
    #[error("a capability named is of no FIFO")]
    NoSuchFifo,
    #[error("a capability named is neither owned nor, for reading and writing, held by the caller")]
    NotPermitted,
    #[error("program and capabilities are longer than a start may be: pass less by its arguments and environment")]
    TooLong,
    #[error("that PU has as many children as it may, or a FIFO as many holders of rights")]
    Quota,
    #[error("that PU could not start the program: {0}")]
    NotStarted(#[from] StartError),
    #[error("this PU is not, or not now, part of the computer: attach again")]
    Fenced,
}

/// Why a program did not run.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartError {
    #[error("error {0} of the operating system")]
    Os(i32),
    #[error("children of that kind are not allowed there")]
    Refused,
}
