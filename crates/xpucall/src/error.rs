//! Why an XPUcall did not do what it was asked: one type per operation.

use crate::abi::{Reply, ended, quota, status};
use crate::id::PuId;
use interconnect::lane::{self, Cause};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why no call can be made at all any more.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Broken {
    #[error("this process was forked from the one that attached: attach it by itself")]
    Forked,
    #[error("the shim is gone: attach again when it is back")]
    ShimGone,
    #[error("this PU was cut off from the others: attach again when it has joined them")]
    Fenced,
    #[error("the shim has ended this attachment: it was in the middle of a write for longer than a revoke waits")]
    Stuck,
    #[error("the shim has ended this attachment: it did not keep to the protocol, or did not read what it was sent")]
    Misbehaved,
    #[error("the shim has answered with something that is no answer")]
    Foreign,
}

impl Broken {
    /// What the shim has written in the notice page.
    pub(crate) fn of(word: u32) -> Self {
        match word {
            ended::FENCED => Self::Fenced,
            ended::STUCK => Self::Stuck,
            ended::MISBEHAVED => Self::Misbehaved,
            _ => Self::ShimGone,
        }
    }
}

/// What a process has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Fifos,
    Lanes,
    Capabilities,
    Memory,
    Children,
    Slots,
    Processes,
    Calls,
}

impl Resource {
    fn of(value: u64) -> Option<Self> {
        Some(match value {
            quota::FIFOS => Self::Fifos,
            quota::LANES => Self::Lanes,
            quota::CAPABILITIES => Self::Capabilities,
            quota::MEMORY => Self::Memory,
            quota::CHILDREN => Self::Children,
            quota::SLOTS => Self::Slots,
            quota::PROCESSES => Self::Processes,
            quota::CALLS => Self::Calls,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Fifos => "FIFOs",
            Self::Lanes => "lanes",
            Self::Capabilities => "granted capabilities",
            Self::Memory => "memory of lanes",
            Self::Children => "children",
            Self::Slots => "open ends",
            Self::Processes => "attached processes",
            Self::Calls => "calls at once",
        })
    }
}

/// Why a process is not attached.
#[derive(Debug, Error)]
pub enum AttachError {
    #[error("no shim listens at {path}: is `lichen serve` running?")]
    NoShim { path: PathBuf, source: io::Error },
    #[error("descriptor {0} of LICHEN_XPU_FD is no connection to a shim")]
    NotInherited(String),
    #[error("the shim takes no more processes like this one: {0} are at their limit")]
    Quota(Resource),
    #[error("the shim does not let this process poll without end: use the transport `adaptive`")]
    NotPermitted,
    #[error("this PU is cut off from the others: try again when it has joined them")]
    Fenced,
    #[error("the shim hung up, or speaks another version than {}", crate::abi::VERSION)]
    Foreign,
    #[error("the connection to the shim failed")]
    Connection(#[source] io::Error),
    #[error("the shim's memory could not be mapped")]
    Memory(#[source] io::Error),
}

/// Makes an error of an operation from a refusal; what this operation is never refused for is `Broken::Foreign`.
macro_rules! refusals {
    ($type:ty, |$reply:ident| { $($status:ident => $error:expr),* $(,)? }) => {
        impl $type {
            pub(crate) fn of($reply: &Reply) -> Self {
                match $reply.status {
                    $(status::$status => $error,)*
                    status::FENCED => Self::Broken(Broken::Fenced),
                    _ => Self::Broken(Broken::Foreign),
                }
            }
        }
        impl From<Broken> for $type {
            fn from(broken: Broken) -> Self { Self::Broken(broken) }
        }
    };
    ($type:ty, with quota, |$reply:ident| { $($status:ident => $error:expr),* $(,)? }) => {
        impl $type {
            pub(crate) fn of($reply: &Reply) -> Self {
                match $reply.status {
                    $(status::$status => $error,)*
                    status::FENCED => Self::Broken(Broken::Fenced),
                    status::QUOTA => Resource::of($reply.values[0]).map_or(Self::Broken(Broken::Foreign), Self::Quota),
                    status::RESOURCES => Self::Resources(io::Error::from_raw_os_error($reply.values[0] as i32)),
                    _ => Self::Broken(Broken::Foreign),
                }
            }
        }
        impl From<Broken> for $type {
            fn from(broken: Broken) -> Self { Self::Broken(broken) }
        }
    };
}

/// Why a right could not be confirmed.
#[derive(Debug, Error)]
pub enum CheckError {
    #[error("this process may not do that with that FIFO")]
    NotPermitted,
    #[error("there is no such FIFO")]
    NoSuchFifo,
    #[error(transparent)]
    Broken(Broken),
}
refusals!(CheckError, |reply| { NOT_PERMITTED => Self::NotPermitted, NO_SUCH_FIFO => Self::NoSuchFifo });

/// Why a FIFO was not made.
#[derive(Debug, Error)]
pub enum CreateError {
    #[error("a FIFO of that id exists already, somewhere among the PUs: choose another, or let the shim choose")]
    Exists,
    #[error("messages of that length, or a ring of that size, are not to be had: see the limits of the shim")]
    Limits,
    #[error("this process has as many {0} as it may")]
    Quota(Resource),
    #[error("the shim could not make it")]
    Resources(#[source] io::Error),
    #[error(transparent)]
    Broken(Broken),
}
refusals!(CreateError, with quota, |reply| { EXISTS => Self::Exists, INVALID => Self::Limits });

/// Why rights were not granted.
#[derive(Debug, Error)]
pub enum GrantError {
    #[error("there is no such FIFO")]
    NoSuchFifo,
    #[error("there is no such process")]
    NoSuchProcess,
    #[error("this process does not own that FIFO, or lacks a right that it would grant")]
    NotPermitted,
    #[error("this process has granted as many {0} as it may")]
    Quota(Resource),
    #[error("the shim could not record it")]
    Resources(#[source] io::Error),
    #[error(transparent)]
    Broken(Broken),
}
refusals!(GrantError, with quota, |reply| {
    NO_SUCH_FIFO => Self::NoSuchFifo, NO_SUCH_PROCESS => Self::NoSuchProcess, NOT_PERMITTED => Self::NotPermitted,
    INVALID => Self::NotPermitted,
});

/// Why rights were not revoked.
#[derive(Debug, Error)]
pub enum RevokeError {
    #[error("there is no such FIFO")]
    NoSuchFifo,
    #[error("there is no such process, or it has none of these rights")]
    NoSuchProcess,
    #[error("this process does not own that FIFO, or would revoke from its creator")]
    NotPermitted,
    #[error(transparent)]
    Broken(Broken),
}
refusals!(RevokeError, |reply| {
    NO_SUCH_FIFO => Self::NoSuchFifo, NO_SUCH_PROCESS => Self::NoSuchProcess, NOT_PERMITTED => Self::NotPermitted,
    INVALID => Self::NotPermitted,
});

/// Why this process is not connected to a FIFO.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("there is no such FIFO")]
    NoSuchFifo,
    #[error("this process may not do that with that FIFO: ask an owner to grant it")]
    NotPermitted,
    #[error("the FIFO has a reader already")]
    Busy,
    #[error("the PU that the FIFO lives on is gone")]
    Lost,
    #[error("the two PUs share no memory, and no link between their shims carries this FIFO")]
    NoPath,
    #[error("this process has as many {0} as it may")]
    Quota(Resource),
    #[error("the shim could not make the lane")]
    Resources(#[source] io::Error),
    #[error("the lane could not be opened in this process: perhaps it and the node are of different builds of Lichen")]
    Lane(#[source] lane::AttachError),
    #[error("this process lacks descriptors or memory for it")]
    Own(#[source] io::Error),
    #[error(transparent)]
    Broken(Broken),
}
refusals!(ConnectError, with quota, |reply| {
    NO_SUCH_FIFO => Self::NoSuchFifo, NOT_PERMITTED => Self::NotPermitted, BUSY => Self::Busy, LOST => Self::Lost,
    NO_PATH => Self::NoPath, NO_SUCH_PROCESS => Self::Lost,
});

/// Why a FIFO was not released by its owner.
#[derive(Debug, Error)]
pub enum ReleaseError {
    #[error("there is no such FIFO (any more)")]
    NoSuchFifo,
    #[error("this process does not own that FIFO")]
    NotPermitted,
    #[error(transparent)]
    Broken(Broken),
}
refusals!(ReleaseError, |reply| { NO_SUCH_FIFO => Self::NoSuchFifo, NOT_PERMITTED => Self::NotPermitted });

/// Why a program was not started.
#[derive(Debug, Error)]
pub enum SpawnError {
    #[error("PU {0} is not there")]
    NoSuchPu(PuId),
    #[error("this process may not start programs, or lacks a right that it would give")]
    NotPermitted,
    #[error("a FIFO that it names does not exist")]
    NoSuchFifo,
    #[error(
        "path, arguments, environment and capabilities together are longer than {} bytes",
        crate::wire::MESSAGE_MAX
    )]
    TooLong,
    #[error("the program could not be started")]
    NotStarted(#[source] io::Error),
    #[error("this process has as many {0} as it may")]
    Quota(Resource),
    #[error("the shim could not prepare it")]
    Resources(#[source] io::Error),
    #[error(transparent)]
    Broken(Broken),
}
refusals!(SpawnError, with quota, |reply| {
    NOT_PERMITTED => Self::NotPermitted, NO_SUCH_FIFO => Self::NoSuchFifo, INVALID => Self::TooLong,
    NOT_STARTED => Self::NotStarted(io::Error::from_raw_os_error(reply.values[0] as i32)),
    LOST => Self::NoSuchPu(PuId(reply.values[0] as u8)),
});

/// Why the other end, or this one, will not go on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum End {
    #[error("it was closed")]
    Closed,
    #[error("the process has ended")]
    Died,
    #[error("its PU is gone or cut off")]
    Lost,
    #[error("the right to it was revoked")]
    Revoked,
    #[error("it has written what no lane carries")]
    Broken,
}

impl End {
    /// What a lane says of its end; none where it is this process's own attachment that has ended.
    pub(crate) fn of(cause: Cause) -> Option<Self> {
        Some(match cause {
            Cause::Closed => Self::Closed,
            Cause::Died => Self::Died,
            Cause::Lost => Self::Lost,
            Cause::Revoked => Self::Revoked,
            Cause::Fenced => return None,
        })
    }
}

/// Why a message was not written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    #[error("the reader has not yet read earlier messages")]
    Full,
    #[error("the reader did not make room in time")]
    TimedOut,
    #[error("a message of {len} bytes is longer than this FIFO's limit of {limit}")]
    TooLong { len: usize, limit: usize },
    #[error("nobody will read this any more: {0}")]
    Ended(End),
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Why nothing was read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    #[error("no message has come in time")]
    TimedOut,
    #[error("this process has no descriptor left to wait with (error {0})")]
    NoDescriptor(i32),
    #[error("this FIFO can be read no more: {0}")]
    Ended(End),
    #[error(transparent)]
    Broken(#[from] Broken),
}
