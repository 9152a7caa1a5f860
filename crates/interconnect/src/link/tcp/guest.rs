//! A connection that has proved nothing yet, and costs little until it has.

use super::authority::{Authority, JoinRefused, PUBLIC_KEY};
use super::inbox::Inbox;
use super::{LENGTH, Tcp};
use rustix::event::PollFlags;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Bytes that a guest may send: a handshake with a certificate, and a request to join, are a tenth of it.
const BYTES_MAX: usize = 32 * 1024;
/// Bytes of a token's secret.
const SECRET: usize = 16;

/// The first byte of the head's answer.
pub(super) mod answer {
    pub const WELCOME: u8 = 0;
    pub const UNKNOWN: u8 = 1;
    pub const EXPIRED: u8 = 2;
    pub const KEY: u8 = 3;
    pub const FAILED: u8 = 4;
    pub const NO_MEMBER: u8 = 5;
}

/// What has become of a guest.
pub enum Step {
    /// It has not said enough.
    Wait,
    /// It is this PU.
    Member { pu: u8, certificate: Vec<u8> },
    /// It has got what it came for, or is not welcome.
    Over,
}

/// A connection during its handshake.
pub struct Guest {
    socket: TcpStream,
    from: SocketAddr,
    tls: ServerConnection,
    deadline: Instant,
    inbox: Inbox,
    received: usize,
    /// It was answered: what is left is to send the answer, and to wait until it was read.
    answered: bool,
}

impl Guest {
    pub fn new(socket: TcpStream, from: SocketAddr, config: Arc<ServerConfig>, deadline: Instant) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self { socket, from, tls, deadline, inbox: Inbox::new(), received: 0, answered: false })
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub fn wants(&self) -> PollFlags {
        if self.tls.wants_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }

    /// Goes on as far as it can.
    pub fn step(&mut self, authority: &Authority) -> Step {
        let open = self.read();
        let step = if self.answered || self.tls.is_handshaking() { Ok(Step::Wait) } else { self.judge(authority) };
        let sent = self.write();
        match step {
            Ok(Step::Wait) if !open || sent.is_err() => Step::Over,
            Ok(step) => step,
            Err(_) => Step::Over,
        }
    }

    /// Reads what is there. False: no more will come, or nothing that is worth reading.
    fn read(&mut self) -> bool {
        loop {
            let left = (BYTES_MAX - self.received) as u64;
            match self.tls.read_tls(&mut (&self.socket).take(left)) {
                Ok(0) => return false,
                Ok(len) => self.received += len,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
            let Ok(state) = self.tls.process_new_packets() else {
                return false;
            };
            if self.tls.is_handshaking() {
                continue;
            }
            // What a member sent early is for its link, and stays with TLS until then.
            if self.tls.peer_certificates().is_some() {
                return true;
            }
            let mut reader = self.tls.reader();
            let wanted = state.plaintext_bytes_to_read();
            if self.inbox.fill(wanted, |space| reader.read_exact(space)).is_err() || state.peer_has_closed() {
                return false;
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The handshake is over: who is it?
    fn judge(&mut self, authority: &Authority) -> io::Result<Step> {
        if let Some([certificate, ..]) = self.tls.peer_certificates() {
            let certificate = certificate.to_vec();
            return match authority.member(&certificate) {
                Ok(Some(pu)) => {
                    self.answer(answer::WELCOME, &[])?;
                    Ok(Step::Member { pu, certificate })
                }
                Ok(None) => self.turn_away(answer::NO_MEMBER),
                Err(_) => self.turn_away(answer::FAILED),
            };
        }
        let mut request = Vec::new();
        match self.inbox.take(&mut request) {
            Ok(true) if request.len() == SECRET + PUBLIC_KEY => {}
            Ok(false) => return Ok(Step::Wait),
            _ => return Ok(Step::Over),
        }
        let (secret, key) = request.split_at(SECRET);
        match authority.join(secret, key, SystemTime::now()) {
            Ok((pu, certificate)) => {
                self.answer(answer::WELCOME, &[&[pu], &certificate])?;
                self.turn_off()
            }
            Err(JoinRefused::Unknown) => self.turn_away(answer::UNKNOWN),
            Err(JoinRefused::Expired) => self.turn_away(answer::EXPIRED),
            Err(JoinRefused::Key) => self.turn_away(answer::KEY),
            Err(JoinRefused::Failed(_)) => self.turn_away(answer::FAILED),
        }
    }

    fn turn_away(&mut self, why: u8) -> io::Result<Step> {
        self.answer(why, &[])?;
        self.turn_off()
    }

    /// Nothing more will be said; it goes once it has read what was.
    fn turn_off(&mut self) -> io::Result<Step> {
        self.tls.send_close_notify();
        self.answered = true;
        Ok(Step::Wait)
    }

    fn answer(&mut self, code: u8, parts: &[&[u8]]) -> io::Result<()> {
        let len = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut message = Vec::with_capacity(LENGTH + len);
        message.extend((len as u32).to_le_bytes());
        message.push(code);
        parts.iter().for_each(|part| message.extend(*part));
        self.tls.writer().write_all(&message)
    }

    /// The link, and another descriptor of its socket, by which to end it.
    pub fn into_link(self) -> io::Result<(Tcp, TcpStream, SocketAddr)> {
        let other = self.socket.try_clone()?;
        Ok((Tcp::new(self.socket, self.tls.into(), self.inbox)?, other, self.from))
    }
}
