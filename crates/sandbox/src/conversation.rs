//! Typed messages between daemons: postcard over a socket that keeps message boundaries.

use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The longest message, in bytes.
pub const MESSAGE_MAX: usize = 128 * 1024;

/// Why the conversation cannot go on.
#[derive(Debug, Error)]
pub enum TalkError {
    #[error("the other side is gone")]
    Gone,
    #[error("the socket failed")]
    Socket(#[source] io::Error),
    #[error("a message could not be understood: the two sides are of different versions")]
    Malformed(#[source] postcard::Error),
}

/// One end: says `Out`, hears `In`.
pub struct Conversation<Out, In> {
    socket: AsyncFd<OwnedFd>,
    types: PhantomData<fn(Out) -> In>,
}

impl<Out: Serialize, In: DeserializeOwned> Conversation<Out, In> {
    /// Takes over a connected socket that keeps message boundaries.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self {
            socket: AsyncFd::with_interest(socket, Interest::READABLE | Interest::WRITABLE)?,
            types: PhantomData,
        })
    }

    /// Says one thing, if the other side has room for it: without waiting, from any thread.
    pub fn try_say(&self, message: &Out, descriptors: &[BorrowedFd<'_>]) -> Result<bool, TalkError> {
        let bytes = postcard::to_stdvec(message).map_err(TalkError::Malformed)?;
        match os::seqpacket::send(self.socket.get_ref(), &[IoSlice::new(&bytes)], descriptors) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                Err(TalkError::Gone)
            }
            Err(error) => Err(TalkError::Socket(error)),
        }
    }

    /// Says one thing, waiting for room.
    pub async fn say(&self, message: &Out, descriptors: &[BorrowedFd<'_>]) -> Result<(), TalkError> {
        loop {
            if self.try_say(message, descriptors)? {
                return Ok(());
            }
            let mut room = self.socket.writable().await.map_err(TalkError::Socket)?;
            if self.try_say(message, descriptors)? {
                return Ok(());
            }
            room.clear_ready();
        }
    }

    /// Hears one thing, with its descriptors.
    pub async fn hear(&self) -> Result<(In, Vec<OwnedFd>), TalkError> {
        let mut descriptors = Vec::new();
        loop {
            let mut ready = self.socket.readable().await.map_err(TalkError::Socket)?;
            // Not while it waits: a worker waits for many who seldom say anything.
            let mut buffer = vec![0; MESSAGE_MAX];
            match os::seqpacket::receive(self.socket.get_ref(), &mut buffer, &mut descriptors) {
                Ok(0) => return Err(TalkError::Gone),
                Ok(len) => {
                    let message = postcard::from_bytes(&buffer[..len]).map_err(TalkError::Malformed)?;
                    return Ok((message, descriptors));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(TalkError::Gone),
                Err(error) => return Err(TalkError::Socket(error)),
            }
        }
    }
}

/// Says one thing, from a process without an event loop.
pub fn say<Out: Serialize>(socket: impl AsFd, message: &Out, descriptors: &[BorrowedFd<'_>]) -> Result<(), TalkError> {
    let bytes = postcard::to_stdvec(message).map_err(TalkError::Malformed)?;
    os::seqpacket::send(socket, &[IoSlice::new(&bytes)], descriptors).map_err(TalkError::Socket)
}

/// Hears one thing of at most `buffer`'s length, in a process without an event loop.
pub fn hear<In: DeserializeOwned>(socket: impl AsFd, buffer: &mut [u8]) -> Result<(In, Vec<OwnedFd>), TalkError> {
    let mut descriptors = Vec::new();
    match os::seqpacket::receive(socket, buffer, &mut descriptors).map_err(TalkError::Socket)? {
        0 => Err(TalkError::Gone),
        len => Ok((postcard::from_bytes(&buffer[..len]).map_err(TalkError::Malformed)?, descriptors)),
    }
}
