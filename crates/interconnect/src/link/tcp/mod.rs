//! A link over TCP, under mutual TLS 1.3. There is no other TCP between shims, on one machine neither.
//!
//! ```text
//!  member                                                          head
//!  ──────────────────────────────────────────────────────────────────────────────────────────────────────
//!  `lichen join TOKEN`                                             has an authority of its own, and has made the token
//!    TLS: the authority's fingerprint is in the token
//!    the token's secret, a public key  ──────────────────────────▶ secret known, in time, not yet used?
//!    ◀──────────────────────────────────────────────────────────── a certificate for that key, as that PU's
//!  every time after that
//!    TLS: both sides show certificates of that authority ────────▶ is it the one that this PU has now? Then: a link
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`authority`] | the head's certificates, who may join, and who has |
//! | [`token`] | what is handed to whoever may join |
//! | [`identity`] | what a member has once it has joined |
//! | [`listen`] | the head's side: a thread that makes links of connections |
//! | [`dial`] | the member's side: joining, and connecting |
//! | [`dialer`] | a thread that keeps a member connected |
//!
//! A message is its length in four bytes, little end first, and its bytes. A peer that vanishes without a word is noticed
//! by the kernel: it asks after an idle peer, and gives up on one that does not acknowledge ([`SILENCE`]).

pub mod authority;
pub mod dial;
pub mod dialer;
mod guest;
pub mod identity;
mod inbox;
pub mod listen;
mod store;
pub mod token;
mod verify;

use self::inbox::Inbox;
use super::{End, Interest, Link, MESSAGE_MAX, SendError, Tier, fits};
use rustix::net::sockopt;
use rustls::Connection;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// After so long without a sign of life the other end is gone.
pub const SILENCE: Duration = Duration::from_secs(5);
/// Seconds without traffic after which the kernel asks, and from one question to the next.
const ASK_AFTER: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_secs(1);
const ASK_TIMES: u32 = 3;
/// Bytes of messages that wait for the socket, before a message is refused.
const OUTGOING_MAX: usize = 256 * 1024;
/// Bytes of a record's contents.
const RECORD: usize = 16 * 1024;
/// Bytes of a message's length.
const LENGTH: usize = 4;

/// One end of a link over TCP.
pub struct Tcp {
    socket: TcpStream,
    tls: Connection,
    /// Framed messages that TLS has not yet taken, from `taken` on.
    outgoing: Vec<u8>,
    taken: usize,
    /// Bytes that the message which was refused needs.
    refused: Option<usize>,
    inbox: Inbox,
    ended: Option<End>,
}

impl Tcp {
    /// A link over a connection whose handshake is over, with what came since.
    fn new(socket: TcpStream, tls: Connection, inbox: Inbox) -> io::Result<Self> {
        keep_alive(&socket)?;
        socket.set_nonblocking(true)?;
        let mut link = Self { socket, tls, outgoing: Vec::new(), taken: 0, refused: None, inbox, ended: None };
        link.ended = link.open_records().err();
        Ok(link)
    }

    /// This end's address.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn end(&mut self, end: End) -> End {
        *self.ended.get_or_insert(end)
    }

    fn has_room(&self, len: usize) -> bool {
        let waiting = self.outgoing.len() - self.taken;
        waiting == 0 || waiting + len <= OUTGOING_MAX
    }

    fn queue(&mut self, message: &[u8]) {
        if self.taken > 0 {
            self.outgoing.drain(..self.taken);
            self.taken = 0;
        }
        self.outgoing.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.outgoing.extend_from_slice(message);
    }

    /// Moves what waits into records, and records into the socket. True: nothing is left.
    fn pump(&mut self) -> io::Result<bool> {
        loop {
            if self.tls.wants_write() {
                match self.tls.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
            } else if self.taken < self.outgoing.len() {
                let end = self.outgoing.len().min(self.taken + RECORD);
                self.taken += self.tls.writer().write(&self.outgoing[self.taken..end])?;
            } else {
                self.outgoing.clear();
                self.taken = 0;
                return Ok(true);
            }
        }
    }

    /// Takes from the socket what is there. False: nothing.
    fn fetch(&mut self) -> Result<bool, End> {
        match self.tls.read_tls(&mut self.socket) {
            Ok(0) => return Err(End::Gone),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(_) => return Err(End::Gone),
        }
        self.open_records()?;
        Ok(true)
    }

    /// Takes the contents of the records that have come.
    fn open_records(&mut self) -> Result<(), End> {
        let Ok(state) = self.tls.process_new_packets() else {
            // Its alert says why, if the other end cares to read it.
            let _ = self.tls.write_tls(&mut self.socket);
            return Err(End::Broken);
        };
        let (mut reader, wanted) = (self.tls.reader(), state.plaintext_bytes_to_read());
        self.inbox.fill(wanted, |space| reader.read_exact(space)).map_err(|_| End::Broken)?;
        if state.peer_has_closed() { Err(End::Gone) } else { Ok(()) }
    }
}

impl Link for Tcp {
    fn tier(&self) -> Tier {
        Tier::Tcp
    }

    fn send_with(&mut self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        fits(message, descriptors)?;
        if !descriptors.is_empty() {
            return Err(SendError::NotShared);
        }
        if let Some(end) = self.ended {
            return Err(end.into());
        }
        if !self.has_room(LENGTH + message.len()) {
            self.refused = Some(LENGTH + message.len());
            return Err(SendError::Full);
        }
        self.refused = None;
        self.queue(message);
        // Not yet this end's end: what the other one had sent before it went is still to be read.
        self.pump().map_err(|_| SendError::Ended(End::Gone))?;
        Ok(())
    }

    fn receive(&mut self, message: &mut Vec<u8>, _descriptors: &mut Vec<OwnedFd>) -> Result<bool, End> {
        loop {
            match self.inbox.take(message) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(inbox::TooLong) => return Err(self.end(End::Broken)),
            }
            if let Some(end) = self.ended {
                return Err(end);
            }
            match self.fetch() {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(end) => self.ended = Some(end),
            }
        }
    }

    fn flush(&mut self) -> Result<bool, End> {
        self.pump().map_err(|_| End::Gone)
    }

    fn arm(&mut self) -> bool {
        // A failure here is told by the next receive.
        let _ = self.pump();
        let room = self.refused.is_some_and(|len| self.has_room(len));
        if room {
            // Told once: whether it is sent again is its sender's business.
            self.refused = None;
        }
        !room && self.ended.is_none() && !self.inbox.has_message()
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn wants(&self) -> Interest {
        let waiting = self.tls.wants_write() || self.taken < self.outgoing.len();
        if waiting { Interest::BOTH } else { Interest::READ }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.tls.send_close_notify();
        // What the socket does not take now is lost, as it would be if this end died. A listener has the same socket:
        // closing this descriptor would not end the connection.
        let _ = self.pump();
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Has the kernel notice within [`SILENCE`] that the other end has vanished, and send small messages at once.
fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, ASK_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, ASK_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, ASK_TIMES)?;
    sockopt::set_tcp_user_timeout(socket, SILENCE.as_millis() as u32)?;
    Ok(())
}

const _: () = assert!(LENGTH + MESSAGE_MAX <= OUTGOING_MAX);

#[cfg(test)]
mod tests;
