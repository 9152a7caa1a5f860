//! The member's side: joining once, and connecting from then on.
//!
//! Both take their time, within bounds that the caller sets: they have no place on a path that must not block.

use super::Tcp;
use super::guest::answer;
use super::identity::Identity;
use super::inbox::Inbox;
use super::token::Token;
use super::verify::{self, HEAD};
use rcgen::KeyPair;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Why there is no link with the head.
#[derive(Debug, Error)]
pub enum DialError {
    #[error("{address} cannot be reached")]
    Unreachable { address: String, source: io::Error },
    #[error("{address} is not the head that this PU belongs to")]
    Stranger { address: String, source: rustls::Error },
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the head has hung up, or answers what no head answers: both machines must run the same version")]
    Broken,
    #[error("the head does not know this token: it was used, revoked or is another head's. Ask for a new one")]
    Unknown,
    #[error("the token's time is up. Ask for a new one")]
    Expired,
    #[error("the head refuses the key that was made here: both machines must run the same version")]
    Key,
    #[error("the head could not keep or make what it had to; its log says why")]
    Failed,
    #[error("this PU is no longer a member: it was revoked, or has joined from elsewhere. Join anew with a new token")]
    NoMember,
    #[error("the keys of this PU cannot be used")]
    Keys(#[from] rustls::Error),
    #[error("cannot make a key")]
    Make(#[from] rcgen::Error),
}

/// Joins as the PU that the token is for: what to keep.
pub fn join(token: &Token, patience: Duration) -> Result<Identity, DialError> {
    let config = verify::client(token.authority, None)?;
    let key = KeyPair::generate()?;
    let mut call = Call::begin(&token.addresses, config, patience)?;
    call.say(&[&token.secret, key.public_key_raw()])?;
    let [answer::WELCOME, pu, certificate @ ..] = &call.hear()?[..] else {
        return Err(DialError::Broken);
    };
    Ok(Identity::new(token, *pu, key.serialize_der(), certificate.to_vec()))
}

/// Connects as the PU that this identity is.
pub fn connect(identity: &Identity, patience: Duration) -> Result<Tcp, DialError> {
    let mut call = Call::begin(&identity.addresses, identity.config()?, patience)?;
    let [answer::WELCOME] = call.hear()?[..] else {
        return Err(DialError::Broken);
    };
    let Call { socket, tls, inbox, .. } = call;
    Tcp::new(socket, tls.into(), inbox).map_err(|_| DialError::Broken)
}

/// A conversation with a head, before it is a link.
struct Call {
    address: String,
    socket: TcpStream,
    tls: ClientConnection,
    inbox: Inbox,
    patience: Duration,
    deadline: Instant,
}

impl Call {
    /// A connection with the first of these addresses that answers as the head does.
    fn begin(addresses: &[String], config: ClientConfig, patience: Duration) -> Result<Self, DialError> {
        let (config, deadline) = (Arc::new(config), Instant::now() + patience);
        let mut failure = DialError::Late(patience);
        for address in addresses {
            let name = ServerName::try_from(HEAD).map_err(|_| DialError::Broken)?;
            let tls = ClientConnection::new(config.clone(), name)?;
            let unreachable = |source| DialError::Unreachable { address: address.clone(), source };
            let connected = dial(address, deadline).map_err(unreachable).and_then(|socket| {
                let inbox = Inbox::new();
                let mut call = Self { address: address.clone(), socket, tls, inbox, patience, deadline };
                call.shake_hands()?;
                Ok(call)
            });
            match connected {
                Ok(call) => return Ok(call),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn shake_hands(&mut self) -> Result<(), DialError> {
        while self.tls.is_handshaking() {
            self.write()?;
            if self.tls.is_handshaking() {
                self.read()?;
            }
        }
        self.write()
    }

    fn say(&mut self, parts: &[&[u8]]) -> Result<(), DialError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let message = [&(len as u32).to_le_bytes()[..], &parts.concat()].concat();
        self.tls.writer().write_all(&message).map_err(|_| DialError::Broken)?;
        self.write()
    }

    /// The head's answer: one that is a welcome.
    fn hear(&mut self) -> Result<Vec<u8>, DialError> {
        let mut message = Vec::new();
        while !self.inbox.take(&mut message).map_err(|_| DialError::Broken)? {
            self.read()?;
        }
        match message.first() {
            Some(&answer::WELCOME) => Ok(message),
            Some(&answer::UNKNOWN) => Err(DialError::Unknown),
            Some(&answer::EXPIRED) => Err(DialError::Expired),
            Some(&answer::KEY) => Err(DialError::Key),
            Some(&answer::FAILED) => Err(DialError::Failed),
            Some(&answer::NO_MEMBER) => Err(DialError::NoMember),
            _ => Err(DialError::Broken),
        }
    }

    /// Waits for bytes and takes them.
    fn read(&mut self) -> Result<(), DialError> {
        let left = self.left()?;
        self.socket.set_read_timeout(Some(left)).map_err(|_| DialError::Broken)?;
        match self.tls.read_tls(&mut self.socket) {
            Ok(0) => return Err(DialError::Broken),
            Ok(_) => {}
            Err(error) if is_timeout(&error) => return Err(DialError::Late(self.patience)),
            Err(_) => return Err(DialError::Broken),
        }
        let state = match self.tls.process_new_packets() {
            Ok(state) => state,
            Err(source) => {
                // Its alert tells the other side what is wrong with it.
                let _ = self.tls.write_tls(&mut self.socket);
                return Err(DialError::Stranger { address: self.address.clone(), source });
            }
        };
        let mut reader = self.tls.reader();
        let read = self.inbox.fill(state.plaintext_bytes_to_read(), |space| reader.read_exact(space));
        read.map_err(|_| DialError::Broken)
    }

    fn write(&mut self) -> Result<(), DialError> {
        while self.tls.wants_write() {
            let left = self.left()?;
            self.socket.set_write_timeout(Some(left)).map_err(|_| DialError::Broken)?;
            self.tls
                .write_tls(&mut self.socket)
                .map_err(|error| if is_timeout(&error) { DialError::Late(self.patience) } else { DialError::Broken })?;
        }
        Ok(())
    }

    fn left(&self) -> Result<Duration, DialError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(DialError::Late(self.patience)) } else { Ok(left) }
    }
}

fn dial(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for resolved in address.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match TcpStream::connect_timeout(&resolved, left) {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
