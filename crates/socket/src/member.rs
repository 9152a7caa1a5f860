//! A process and its broker: who is told of pairs, and says how much may be taken.
//!
//! ```text
//!   process                                        broker
//!      │ HELLO, its build ────────────────────────▶ │  who it is, the kernel says
//!      │ ◀──────────────── ADMITTED, a key, a notice │  or REFUSED, and the broker's build; before the notice, processors
//!      │ a memory, and the process's number in it ─▶ │  checked; watched until its processes are gone
//!      │ ◀────────────────────── ADMITTED or REFUSED │
//!      │ KNOCK, once for each of its naps ─────────▶ │  (`records`)
//!
//!   the same process, to a broker that has taken the place of another
//!      │ HELLO, its build, the notice it has ─────▶ │  all who have one notice have one place
//!      │ HAS: connections, their memory and sockets ▶ │  checked; watched from now on
//!      │ ◀──────────────────────── ADMITTED, a key │
//!
//!   an offer, by a socket of its own
//!      │ OFFER, the key, an end of a TCP connection ▶ │  which one it is, the kernel says; perhaps its bell
//!      │ ◀───────── MET: where, and the memory for it │  when the other end was offered too; and that one's bell
//!
//!   one who asks, likewise
//!      │ LIST ────────────────────────────────────▶ │
//!      │ ◀──────────────── LISTED, a file with a text │  all connections that the broker knows
//! ```
//!
//! A process whose broker is not there, or refuses, does without records of other size than a connection's own.

use crate::build;
use crate::lock::Lock;
use crate::notice::Told;
use crate::records::Quota;
use os::seqpacket;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// The first message of a process begins so; then it says of which build it is ([`crate::build`]).
pub const HELLO: &[u8] = b"lichen socket ";
/// The broker's answers.
pub const ADMITTED: u8 = 1;
pub const REFUSED: u8 = 2;
/// The first byte of a message with a pair's or pod's memory; the second is the process's number in it.
pub const PAIR: u8 = b'p';
/// The first byte of a message about memory that connections lie in: the process's number in it is the second, then comes a
/// [`Connection`] each. With the memory, and behind it a socket of each.
pub const HAS: u8 = b'h';
/// The first byte of a message that offers an end of a connection, before the key of who offers it and the number of
/// its receiver's bell, in 8 bytes. With one that is not 0, the bell comes behind the end.
pub const OFFER: u8 = b'o';
/// The first byte of what the broker says when both ends were offered.
pub const MET: u8 = b'm';
/// Asks for all that the broker knows, and its answer, with a file.
pub const LIST: &[u8] = b"l";
pub const LISTED: u8 = b'l';
/// Bytes of a key.
pub const KEY: usize = 16;
/// What nobody can guess who was not told.
pub type Key = [u8; KEY];
/// The longest message either way.
pub const MESSAGE_MAX: usize = 512;
/// Connections that one message can speak of.
pub const CONNECTIONS_MAX: usize = 32;

/// The named pipe by which a broker that has begun calls those who have been here before.
pub fn call_beside(broker: &Path) -> PathBuf {
    let mut name = broker.as_os_str().to_owned();
    name.push(".call");
    name.into()
}

/// How long a broker's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process's place with its broker, which ends with it.
pub struct Member {
    socket: OwnedFd,
    quota: Arc<Quota>,
    /// None while a new broker has not answered.
    key: Lock<Option<Key>>,
    /// The notice, to be given to the next broker, if there was room to keep it.
    notice: Option<OwnedFd>,
    /// A broker's words about processors, until they are mapped.
    processors: Lock<Option<OwnedFd>>,
}

/// The first message of this build's processes.
pub fn hello() -> Vec<u8> {
    [HELLO, build::own().as_bytes()].concat()
}

/// Why a process has no place with its broker.
#[derive(Debug, Error)]
pub enum NoPlace {
    #[error("the broker is of build {0}, this library of {own}: they do not understand each other", own = build::name())]
    Build(build::Other),
    #[error("the broker is user {0}'s, and not this program's user's or root's")]
    Owner(u32),
    #[error("the broker has hung up: it has no room, has just ended, or is of an older build than this library's: {own}", own = build::name())]
    Refused,
}

/// The key in a broker's answer.
fn admitted(answer: &[u8]) -> io::Result<Key> {
    let why = match answer {
        [ADMITTED, key @ ..] => return key.try_into().map_err(|_| io::ErrorKind::InvalidData.into()),
        [REFUSED, said @ ..] if !said.is_empty() => build::understands(said).err().map(NoPlace::Build),
        _ => None,
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why.unwrap_or(NoPlace::Refused)))
}

/// One who has asked for a place.
pub struct Joining(OwnedFd);

impl Joining {
    /// Asks the broker that listens at `path`.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let socket = seqpacket::connect(path)?;
        seqpacket::send(&socket, &[IoSlice::new(&hello())], &[])?;
        Ok(Self(socket))
    }

    /// As [`Joining::begin`], by a socket that was connected, and whose reads do not wait.
    pub fn by(socket: OwnedFd) -> io::Result<Self> {
        seqpacket::send(&socket, &[IoSlice::new(&hello())], &[])?;
        Ok(Self(socket))
    }

    /// The place, if the broker has answered. An error: there is none to be had.
    pub fn poll(self) -> io::Result<Result<Member, Self>> {
        let (mut message, mut descriptors) = ([0; MESSAGE_MAX], Vec::new());
        let len = match seqpacket::receive(&self.0, &mut message, &mut descriptors) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Err(self)),
            Err(error) => return Err(error),
        };
        let key = admitted(&message[..len])?;
        let notice = descriptors.pop().ok_or(io::ErrorKind::InvalidData)?;
        let told = Told::attach(&notice)?;
        let quota = Quota::new(told, Some(rustix::io::fcntl_dupfd_cloexec(&self.0, HIGH)?))?;
        let notice = rustix::io::fcntl_dupfd_cloexec(&notice, HIGH).ok();
        // A broker may have none.
        let processors = Lock::new(descriptors.pop());
        Ok(Ok(Member { socket: self.0, quota, key: Lock::new(Some(key)), notice, processors }))
    }
}

/// Descriptors that stay are out of the way of the program's.
const HIGH: i32 = 500;

impl Member {
    /// Joins the broker that listens at `path`: waits for its answer.
    pub fn join(path: &Path) -> io::Result<Self> {
        let mut joining = Joining::begin(path)?;
        loop {
            wait(joining.0.as_fd())?;
            joining = match joining.poll()? {
                Ok(member) => return Ok(member),
                Err(joining) => joining,
            };
        }
    }

    /// What it offers connections by, if a broker that it has asked again has answered. An error: that has refused.
    pub fn key(&self) -> io::Result<Option<Key>> {
        let mut known = self.key.lock();
        if known.is_none() {
            let (mut message, mut descriptors) = ([0; MESSAGE_MAX], Vec::new());
            let len = match seqpacket::receive(&self.socket, &mut message, &mut descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                result => result?,
            };
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            *self.processors.lock() = descriptors.pop();
            *known = Some(admitted(&message[..len])?);
        }
        Ok(*known)
    }

    /// The broker's words about processors ([`crate::processors`]), once for each broker that has answered.
    pub fn take_processors(&self) -> Option<OwnedFd> {
        self.processors.lock().take()
    }

    /// The notice: by it another broker knows the place.
    pub fn notice(&self) -> Option<BorrowedFd<'_>> {
        Some(self.notice.as_ref()?.as_fd())
    }

    /// Has the place with another broker from now on, which is asked by this socket, whose reads do not wait: under the descriptors that
    /// it had with the one that has ended. Nothing is waited for. An error: all is as it was.
    pub fn rejoin(&mut self, socket: impl AsFd) -> io::Result<()> {
        let notice = self.notice.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        seqpacket::send(&socket, &[IoSlice::new(&hello())], &[notice.as_fd()])?;
        rustix::io::dup3(&socket, &mut self.socket, rustix::io::DupFlags::CLOEXEC)?;
        *self.key.lock() = None;
        self.quota.hear_from(&self.socket)
    }

    /// Tells a broker that was asked again of connections of this process, and shows it their sockets. Their memory is watched if the
    /// broker finds nothing wrong with it. Not waiting: an error where the broker has much to hear already.
    pub fn tell_of(
        &self,
        (memory, store): (BorrowedFd<'_>, u8),
        connections: &[(Connection, BorrowedFd<'_>)],
    ) -> io::Result<()> {
        for some in connections.chunks(CONNECTIONS_MAX) {
            let mut message = vec![HAS, store];
            message.extend(some.iter().flat_map(|(connection, _)| connection.written()));
            let files: Vec<BorrowedFd<'_>> =
                std::iter::once(memory).chain(some.iter().map(|(_, socket)| *socket)).collect();
            seqpacket::send(&self.socket, &[IoSlice::new(&message)], &files)?;
        }
        Ok(())
    }

    /// Whether the broker is there no more.
    pub fn is_alone(&self) -> bool {
        let mut hangs = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut hangs, Some(&now)).is_ok() && !hangs[0].revents().is_empty()
    }

    /// The descriptors that this place has.
    pub fn descriptors(&self) -> [i32; 3] {
        let number = |file: Option<i32>| file.unwrap_or(-1);
        let notice = self.notice.as_ref().map(AsRawFd::as_raw_fd);
        [self.socket.as_raw_fd(), number(self.quota.bell()), number(notice)]
    }

    /// What this process may take.
    pub fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// Tells of the memory of a pair, or a pod, in which this process has that number. An error: the broker does not watch it,
    /// so no record of it is to be used.
    pub fn tell(&self, memory: impl AsFd, number: u8) -> io::Result<()> {
        seqpacket::send(&self.socket, &[IoSlice::new(&[PAIR, number])], &[memory.as_fd()])?;
        match receive(self.socket.as_fd())? {
            ADMITTED => Ok(()),
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

/// How long the number of a connection in a pod's memory is an end's to come to, in nanoseconds; its broker waits somewhat longer until
/// it gives it to others.
pub const COME_WITHIN: u64 = 8_000_000_000;

/// A meeting, as the broker tells an end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// Never 0, and never used again.
    pub number: u64,
    pub side: u8,
    pub connection: u16,
    /// The stores of this end's process, and of the other's.
    pub stores: [u8; 2],
    /// Of the other end's receiver, its number among that process's bells; 0: the memory comes alone, without a bell.
    pub bell: u64,
    /// When it was told, in nanoseconds since the machine has started.
    pub told: u64,
}

impl Meeting {
    /// As a message.
    pub fn message(self) -> [u8; MEETING] {
        let mut message = [0; MEETING];
        (message[0], message[1]) = (MET, self.side);
        message[2..4].copy_from_slice(&self.connection.to_le_bytes());
        message[4..12].copy_from_slice(&self.number.to_le_bytes());
        message[12..20].copy_from_slice(&self.bell.to_le_bytes());
        message[20..22].copy_from_slice(&self.stores);
        message[22..].copy_from_slice(&self.told.to_le_bytes());
        message
    }

    /// What a message says, if it is one.
    pub fn of(message: &[u8]) -> Option<Self> {
        let message: [u8; MEETING] = message.try_into().ok()?;
        let [MET, side, low, high, ..] = message else { return None };
        let word = |at: usize| message[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let (number, bell, told) = (word(4), word(12), word(22));
        let (connection, stores) = (u16::from_le_bytes([low, high]), [message[20], message[21]]);
        (number != 0 && side < 2).then_some(Self { number, side, connection, stores, bell, told })
    }
}

/// Bytes of a meeting's message.
const MEETING: usize = 30;

/// A connection that has memory, as one of its ends tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The number of its meeting.
    pub meeting: u64,
    pub number: u16,
    pub side: u8,
}

/// Bytes of one in a message.
const CONNECTION: usize = 11;
const _: () = assert!(2 + CONNECTIONS_MAX * CONNECTION <= MESSAGE_MAX && CONNECTIONS_MAX < seqpacket::DESCRIPTORS_MAX);

impl Connection {
    fn written(self) -> [u8; CONNECTION] {
        let mut written = [0; CONNECTION];
        written[..8].copy_from_slice(&self.meeting.to_le_bytes());
        written[8..10].copy_from_slice(&self.number.to_le_bytes());
        written[10] = self.side;
        written
    }

    /// Those that a message speaks of, behind its first two bytes. None: it is no such message.
    pub fn all_of(said: &[u8]) -> Option<Vec<Self>> {
        let (all, rest) = said.as_chunks::<CONNECTION>();
        let read = |bytes: &[u8; CONNECTION]| {
            let [meeting @ .., low, high, side] = bytes;
            let connection =
                Self { meeting: u64::from_le_bytes(*meeting), number: u16::from_le_bytes([*low, *high]), side: *side };
            (connection.meeting != 0 && *side < 2).then_some(connection)
        };
        rest.is_empty().then(|| all.iter().map(read).collect())?
    }
}

/// Waits until the broker has said something.
fn wait(socket: BorrowedFd<'_>) -> io::Result<()> {
    let limit = rustix::time::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&limit)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The broker's next answer.
fn receive(socket: BorrowedFd<'_>) -> io::Result<u8> {
    let (mut message, mut descriptors) = ([0; MESSAGE_MAX], Vec::new());
    loop {
        wait(socket)?;
        match seqpacket::receive(socket, &mut message, &mut descriptors) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(message[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
