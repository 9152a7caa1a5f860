//! A process's attachment to the shim of its PU, and what it can ask there.
//!
//! Dropping the last clone ends the attachment, and with it everything that the process had. A child that a fork makes does
//! not inherit it: its calls are refused before they reach any shared memory.

use crate::abi::{self, Request, call, status};
use crate::calling::{Calling, receive};
use crate::error::{AttachError, Broken, CheckError, CreateError, GrantError, ReleaseError, RevokeError, SpawnError};
use crate::host::header;
use crate::id::{FifoId, PuId, Rights, XpuPid};
use crate::wire::{Event, Hello, Program, Transport};
use os::mapping::{ForkMark, Mapping};
use os::{memfd, seqpacket};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The environment variable that tells a started program the number of its connection to the shim.
pub const INHERITED: &str = "LICHEN_XPU_FD";
/// How long a shim may take to answer a new process.
const WELCOME: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// An attachment. Clones are the same attachment; it can be used by several threads.
#[derive(Clone, Debug)]
pub struct Process {
    pub(crate) calling: Arc<Calling>,
    pid: XpuPid,
}

/// What a FIFO is to be able to carry; 0 leaves it to the shim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the longest message.
    pub message_max: u64,
    /// Bytes of each writer's ring: a power of two.
    pub ring: u64,
}

impl Process {
    /// Attaches this process to the shim that listens at `path`.
    pub fn attach(path: &Path, transport: Transport) -> Result<Self, AttachError> {
        let socket =
            seqpacket::connect(path).map_err(|source| AttachError::NoShim { path: path.to_owned(), source })?;
        Self::attach_over(socket, transport)
    }

    /// Attaches this process over the connection that whoever started it has left it, if there is one: see
    /// [`spawn`](Self::spawn). To be asked once, and before the program opens descriptors of its own.
    pub fn inherited(transport: Transport) -> Result<Option<Self>, AttachError> {
        let Some(text) = std::env::var_os(INHERITED) else { return Ok(None) };
        let text = text.to_string_lossy().into_owned();
        let number = text.parse().ok().filter(|number| *number >= os::child::FIRST_DESCRIPTOR);
        let socket = number.and_then(|number| os::child::take(number).ok());
        Self::attach_over(socket.ok_or(AttachError::NotInherited(text))?, transport).map(Some)
    }

    /// Attaches this process over a connection to a shim.
    pub fn attach_over(socket: OwnedFd, transport: Transport) -> Result<Self, AttachError> {
        let hello = Hello { magic: abi::MAGIC, version: abi::VERSION, transport };
        let bytes = postcard::to_stdvec(&hello).map_err(|_| AttachError::Foreign)?;
        rustix::io::ioctl_fionbio(&socket, true).map_err(|error| AttachError::Connection(error.into()))?;
        seqpacket::send(&socket, &[IoSlice::new(&bytes)], &[]).map_err(AttachError::Connection)?;
        let mut descriptors = Vec::new();
        match welcome(&socket, &mut descriptors)? {
            Event::Welcome { pid, slots, transport } => {
                let calling = map(socket, descriptors, slots, transport)?;
                Ok(Self { calling: Arc::new(calling), pid })
            }
            Event::Refused { status: status::QUOTA, .. } => Err(AttachError::Quota(crate::error::Resource::Processes)),
            Event::Refused { status: status::NOT_PERMITTED, .. } => Err(AttachError::NotPermitted),
            Event::Refused { status: status::FENCED, .. } => Err(AttachError::Fenced),
            _ => Err(AttachError::Foreign),
        }
    }

    /// This attachment's id, unique among all PUs and over all time.
    pub fn pid(&self) -> XpuPid {
        self.pid
    }

    /// The same, from the shim.
    pub fn get_xpupid(&self) -> Result<XpuPid, CheckError> {
        let answer = self.calling.call(Request::of(call::IDENTIFY, [0; 4]))?;
        done(&answer.reply).then_some(XpuPid(answer.reply.values[0])).ok_or_else(|| CheckError::of(&answer.reply))
    }

    /// Whether this process holds these rights on a FIFO, now.
    pub fn check(&self, fifo: FifoId, rights: Rights) -> Result<(), CheckError> {
        let answer = self.calling.call(Request::identify(fifo, rights))?;
        done(&answer.reply).then_some(()).ok_or_else(|| CheckError::of(&answer.reply))
    }

    /// Makes a FIFO that this process owns, with this id if one is given. It lives until it is released or its creator ends.
    pub fn create(&self, id: Option<FifoId>, limits: Limits) -> Result<FifoId, CreateError> {
        let arguments = [id.map_or(0, |id| id.0), limits.message_max, limits.ring, 0];
        let answer = self.calling.call(Request::of(call::CREATE, arguments))?;
        done(&answer.reply).then_some(FifoId(answer.reply.values[0])).ok_or_else(|| CreateError::of(&answer.reply))
    }

    /// Gives rights that this process has, and owns, to another.
    pub fn grant(&self, pid: XpuPid, fifo: FifoId, rights: Rights) -> Result<(), GrantError> {
        let answer = self.calling.call(Request::grant(pid, fifo, rights))?;
        done(&answer.reply).then_some(()).ok_or_else(|| GrantError::of(&answer.reply))
    }

    /// Takes rights from another process. When this returns, no PU lets it use them, and nothing that it writes is read.
    pub fn revoke(&self, pid: XpuPid, fifo: FifoId, rights: Rights) -> Result<(), RevokeError> {
        let answer = self.calling.call(Request::revoke(pid, fifo, rights))?;
        done(&answer.reply).then_some(()).ok_or_else(|| RevokeError::of(&answer.reply))
    }

    /// Ends a FIFO: every lane of it, and every capability on it.
    pub fn release(&self, fifo: FifoId) -> Result<(), ReleaseError> {
        let answer = self.calling.call(Request::of(call::RELEASE, [fifo.0, 0, 0, 0]))?;
        done(&answer.reply).then_some(()).ok_or_else(|| ReleaseError::of(&answer.reply))
    }

    /// Starts a program on a PU, attached from birth with just the capabilities named. It runs as this process's user, in
    /// that PU's namespaces.
    pub fn spawn(&self, pu: PuId, program: Program) -> Result<XpuPid, SpawnError> {
        // Some room is left for the call around it.
        let len = postcard::to_stdvec(&program).map_err(|_| SpawnError::TooLong)?.len();
        if len + 128 > crate::wire::MESSAGE_MAX {
            return Err(SpawnError::TooLong);
        }
        let answer = self.calling.call_with(Request::of(call::SPAWN, [pu.0.into(), 0, 0, 0]), program)?;
        done(&answer.reply).then_some(XpuPid(answer.reply.values[0])).ok_or_else(|| SpawnError::of(&answer.reply))
    }

    /// Why the attachment has ended; nothing while it lives.
    pub fn ended(&self) -> Option<Broken> {
        if let Err(forked) = self.calling.check() {
            return Some(forked);
        }
        self.calling.is_over().then(|| self.calling.why())
    }
}

impl AsFd for Process {
    /// The connection to the shim: to be polled for its hang-up only, which is the end of the attachment.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.calling.socket.as_fd()
    }
}

pub(crate) fn done(reply: &abi::Reply) -> bool {
    reply.status == status::DONE
}

fn welcome(socket: &OwnedFd, descriptors: &mut Vec<OwnedFd>) -> Result<Event, AttachError> {
    loop {
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&WELCOME)) {
            Ok(0) => return Err(AttachError::Connection(io::ErrorKind::TimedOut.into())),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(AttachError::Connection(error.into())),
        }
        match receive(socket, descriptors) {
            Ok(Some(event)) => return Ok(event),
            Ok(None) => {}
            Err(_) => return Err(AttachError::Foreign),
        }
    }
}

/// Maps what came with a welcome. Its sizes are checked although the shim is trusted: this process's life hangs on them.
fn map(socket: OwnedFd, got: Vec<OwnedFd>, slots: u32, transport: Transport) -> Result<Calling, AttachError> {
    let [calls, notices, doorbell] = <[OwnedFd; 3]>::try_from(got).map_err(|_| AttachError::Foreign)?;
    let fits = |file: &OwnedFd, bytes: usize| memfd::sealed_len(file).is_ok_and(|len| len == bytes as u64);
    if slots > 1 << 24 || !fits(&calls, abi::call_bytes(slots)) || !fits(&notices, abi::notice_bytes(slots)) {
        return Err(AttachError::Foreign);
    }
    let calls = Mapping::shared(&calls, abi::call_bytes(slots)).map_err(AttachError::Memory)?;
    let notices = Mapping::read_only(&notices, abi::notice_bytes(slots)).map_err(AttachError::Memory)?;
    let expected = abi::Header { magic: abi::MAGIC, version: abi::VERSION, slots };
    if header(&calls) != expected || header(&notices) != expected {
        return Err(AttachError::Foreign);
    }
    let mark = ForkMark::new().map_err(AttachError::Memory)?;
    let (calls, notices) = (Arc::new(calls), Arc::new(notices));
    Ok(Calling { socket, calls, notices, slots, doorbell, transport, mark, last: Mutex::new(0) })
}
