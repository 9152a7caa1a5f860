//! A worker on another machine: what its control plane and it say to each other, and what instances and their callers do,
//! carried over a link.
//!
//! ```text
//!   gateway ══ socket, channels, pipes ══ near ─────── link ─────── far ══ socket, channels, pipes ══ worker ── instances
//!             (as with any worker)          └ head's machine          └ the other machine      (as with any gateway)
//! ```
//!
//! *Near* plays the worker for the gateway, *far* the gateway for the worker. Both are one thread around one poll. What
//! shares memory with neither end crosses as [`words::Word`]s: commands and events, the messages of each instance's
//! channel, what it prints, and the folders of functions, each once, named by the path that it has at the head.
//!
//! | what differs on the way | why |
//! |---|---|
//! | stamps of an instance are moved by the difference of the two clocks | each kernel counts from its own start |
//! | deadlines cross as time that is left | clocks on walls differ too |
//! | room for parts of an answer is told by far, and what is on its way is bounded | the gateway is not next door |
//! | no gauge of memory comes with `Spawned` | it is a file of the other kernel |
//!
//! When the link ends, so do both; the worker and its instances go with far, and the gateway loses a worker as always.

mod far;
mod folders;
mod near;
mod passage;
mod stream;
mod words;

pub use far::Far;
pub use folders::{Store, StoreError};
pub use near::Near;

use interconnect::link::End;
use sandbox::conversation::TalkError;
use std::io;
use thiserror::Error;

/// Why a remote worker is no more.
#[derive(Debug, Error)]
pub enum RemoteError {
    #[error("the link with the other machine is over")]
    Link(#[from] End),
    #[error("the other machine says what makes no sense: both must run the same version")]
    Malformed,
    #[error("the conversation on this machine is over")]
    Talk(#[from] TalkError),
    #[error("the kernel refuses what the other machine's work needs")]
    System(#[from] io::Error),
    #[error("a channel cannot be made or attached to")]
    Channel(#[from] interconnect::channel::OpenError),
}

#[cfg(test)]
mod tests;
