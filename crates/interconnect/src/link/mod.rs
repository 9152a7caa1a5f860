//! Messages between two shims.
//!
//! | link | between | carries descriptors |
//! |---|---|---|
//! | [`shm`] | two PUs under one kernel: two rings in a region, a Unix socket beside them | yes |
//! | [`tcp`] | any two machines: framed messages under mutual TLS | no |
//! | [`fabric`] | two machines on one fabric (verbs, EFA), through libfabric where it is installed | no |
//! | [`sim`] | two ends in one process, under a seed and a clock of its own: for tests | yes |
//!
//! A link is reliable and in order, keeps the boundaries of messages, and ends when its peer does; what was sent before
//! the end is received before it is told. Nothing here blocks: whoever owns a link is one thread that waits for many
//! things, and does so like this:
//!
//! ```text
//!          ╭─▶ receive until there is nothing ─▶ send ─▶ flush ─▶ arm ──true──▶ wait for poll_fd, for what wants ─╮
//!          │                                                       │                                              │
//!          ╰───────────────────────────────────────────false───────┴──────────────────────────────────────────────╯
//! ```
//!
//! A [`SendError::Full`] ends when the descriptor becomes ready: then what waits is sent again. Whom a link leads to is
//! known when it is made; what the messages mean is not known here. The peer is another machine's shim, and checked as
//! if it were hostile: what it sends costs bounded memory, and what it may not send ends the link.

pub mod fabric;
pub mod shm;
pub mod sim;
pub mod tcp;

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use thiserror::Error;

/// The longest message, in bytes, on every link: longer things travel in parts.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// The most descriptors with one message, on links that carry them.
pub const DESCRIPTORS_MAX: usize = 16;

/// One end of a link. Used by one thread at a time.
pub trait Link: Send {
    /// What a report says of this link.
    fn tier(&self) -> Tier;

    /// Takes one message of 0 to [`MESSAGE_MAX`] bytes, whole or not at all.
    fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.send_with(message, &[])
    }

    /// The same, with up to [`DESCRIPTORS_MAX`] descriptors, of which the peer gets its own copies.
    fn send_with(&mut self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError>;

    /// Puts the next message in the place of what is in `message`, and appends its descriptors to `descriptors`. False:
    /// there is nothing now.
    fn receive(&mut self, message: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> Result<bool, End>;

    /// Passes on what was sent, as far as that is possible now. True: nothing is left.
    fn flush(&mut self) -> Result<bool, End>;

    /// Asks to be woken by [`Link::poll_fd`]. False: there is something to do already. Only after true may one wait.
    fn arm(&mut self) -> bool;

    /// What becomes ready when there is something to do. The same for the link's whole life.
    fn poll_fd(&self) -> BorrowedFd<'_>;

    /// For what to wait. Asked anew after every [`Link::arm`].
    fn wants(&self) -> Interest;
}

/// For what of a descriptor to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    pub read: bool,
    pub write: bool,
}

impl Interest {
    /// Readable only.
    pub const READ: Self = Self { read: true, write: false };
    /// Readable or writable.
    pub const BOTH: Self = Self { read: true, write: true };
}

/// How a link's bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Memory that both ends have mapped.
    Shared,
    /// TCP under mutual TLS.
    Tcp,
    /// libfabric, with the provider named.
    Fabric(&'static str),
    /// Nothing real.
    Simulated,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("shm"),
            Self::Tcp => f.write_str("tcp"),
            Self::Fabric(provider) => write!(f, "fabric ({provider})"),
            Self::Simulated => f.write_str("sim"),
        }
    }
}

/// Why a link is over. It stays so.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum End {
    #[error("the other end is gone, or can no longer be reached")]
    Gone,
    #[error("the other end has sent what no shim sends")]
    Broken,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SendError {
    #[error("the link is full until its other end reads")]
    Full,
    #[error("a message of {0} bytes is longer than the {MESSAGE_MAX} that a link carries: send it in parts")]
    TooLong(usize),
    #[error("{0} descriptors are more than the {DESCRIPTORS_MAX} that go with one message")]
    TooMany(usize),
    #[error("descriptors do not travel on this link: its ends have different kernels")]
    NotShared,
    #[error(transparent)]
    Ended(#[from] End),
}

/// Checks what every link checks before it takes a message.
fn fits(message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
    if message.len() > MESSAGE_MAX {
        return Err(SendError::TooLong(message.len()));
    }
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(SendError::TooMany(descriptors.len()));
    }
    Ok(())
}
