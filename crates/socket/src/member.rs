//! A process and its broker: who is told of pairs, and says how much may be taken.
//!
//! ```text
//!   process                                        broker
//!      │ HELLO ───────────────────────────────────▶ │  who it is, the kernel says
//!      │ ◀─────────────────────── ADMITTED, a notice │
//!      │ a memory, and the process's number in it ─▶ │  checked; watched until its processes are gone
//!      │ ◀────────────────────── ADMITTED or REFUSED │
//!      │ KNOCK, once for each of its naps ─────────▶ │  (`records`)
//! ```
//!
//! A process whose broker is not there, or refuses, does without records of other size than a connection's own.

use crate::notice::Told;
use crate::records::Quota;
use os::seqpacket;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The first message of a process.
pub const HELLO: &[u8] = b"lichen socket 1";
/// The broker's answers.
pub const ADMITTED: u8 = 1;
pub const REFUSED: u8 = 2;
/// The first byte of a message with a pair's or pod's memory; the second is the process's number in it.
pub const PAIR: u8 = b'p';
/// The longest message either way.
pub const MESSAGE_MAX: usize = 64;

/// How long a broker's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process's place with its broker, which ends with it.
pub struct Member {
    socket: OwnedFd,
    quota: Arc<Quota>,
}

impl Member {
    /// Joins the broker that listens at `path`.
    pub fn join(path: &Path) -> io::Result<Self> {
        let socket = seqpacket::connect(path)?;
        seqpacket::send(&socket, &[IoSlice::new(HELLO)], &[])?;
        let (answer, mut descriptors) = receive(socket.as_fd())?;
        let notice = descriptors.pop().filter(|_| answer == ADMITTED);
        let told = Told::attach(notice.ok_or(io::ErrorKind::PermissionDenied)?)?;
        let quota = Quota::new(told, Some(socket.try_clone()?));
        Ok(Self { socket, quota })
    }

    /// What this process may take.
    pub fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// Tells of the memory of a pair, or a pod, in which this process has that number. An error: the broker does not watch it,
    /// so no record of it is to be used.
    pub fn tell(&self, memory: impl AsFd, number: u8) -> io::Result<()> {
        seqpacket::send(&self.socket, &[IoSlice::new(&[PAIR, number])], &[memory.as_fd()])?;
        match receive(self.socket.as_fd())?.0 {
            ADMITTED => Ok(()),
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

/// The broker's next answer.
fn receive(socket: BorrowedFd<'_>) -> io::Result<(u8, Vec<OwnedFd>)> {
    let limit = rustix::time::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let (mut message, mut descriptors) = ([0; MESSAGE_MAX], Vec::new());
    loop {
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&limit)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match seqpacket::receive(socket, &mut message, &mut descriptors) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok((message[0], descriptors)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
