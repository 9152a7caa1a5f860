//! One end of a conversation between the control plane and a worker. Both sides use it, with the types swapped.

use crate::protocol::{Command, Event, MESSAGE_MAX};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, OwnedFd};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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

/// The control plane's end.
pub type Client = Conversation<Command, Event>;
/// The worker's end.
pub type Server = Conversation<Event, Command>;

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
        let mut buffer = vec![0; MESSAGE_MAX];
        let mut descriptors = Vec::new();
        loop {
            let mut ready = self.socket.readable().await.map_err(TalkError::Socket)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[tokio::test]
    async fn both_sides_understand_each_other() {
        let (a, b) = os::seqpacket::pair().unwrap();
        let (client, server) = (Client::new(a).unwrap(), Server::new(b).unwrap());
        let pipe = std::io::pipe().unwrap();
        client.say(&Command::Retire { instance: 5 }, &[pipe.0.as_fd()]).await.unwrap();
        let (command, descriptors) = server.hear().await.unwrap();
        assert_eq!((command, descriptors.len()), (Command::Retire { instance: 5 }, 1));
        server.say(&Event::Spawned { instance: 5 }, &[]).await.unwrap();
        assert_eq!(client.hear().await.unwrap().0, Event::Spawned { instance: 5 });
        drop(server);
        assert!(matches!(client.hear().await, Err(TalkError::Gone)));
    }
}
