//! The gateway's end of the supervisor's socket: workers arrive on it, and its end means that the supervisor is gone.

use runtime::dispatch::Dispatcher;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;

/// A message that brings a worker's connection; its second byte is the number of the worker's PU.
const WORKER: u8 = b'w';

/// A supervisor's socket: messages, with descriptors.
pub struct Supervisor {
    socket: AsyncFd<OwnedFd>,
}

impl Supervisor {
    /// Takes over the socket. Within a tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self { socket: AsyncFd::new(socket)? })
    }

    /// Passes workers on until the supervisor is gone.
    pub async fn listen(&self, dispatcher: &Arc<Dispatcher>) {
        let mut buffer = [0; 64];
        let mut descriptors = Vec::new();
        loop {
            let Ok(mut ready) = self.socket.readable().await else { return };
            match os::seqpacket::receive(self.socket.get_ref(), &mut buffer, &mut descriptors) {
                Ok(length) => match (&buffer[..length], descriptors.pop()) {
                    ([WORKER, pu], Some(worker)) => dispatcher.attach_worker(*pu, worker),
                    ([kind, ..], _) => {
                        tracing::warn!(kind, "the supervisor said something that this gateway does not know")
                    }
                    ([], _) => return,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "the supervisor's socket broke");
                    return;
                }
            }
        }
    }
}
