//! Asking the kernel by netlink.
//!
//! ```text
//! message    length u32 │ kind u16 │ flags u16 │ number u32 │ sender u32 │ header of its family │ attribute …
//! attribute  length u16 │ kind u16 │ value, padded to four bytes; or attributes again
//! ```
//!
//! The kernel answers while it takes a request: when sending returns, every answer waits in the socket. So nothing here
//! waits, and a socket needs no event loop.

pub mod classify;
pub mod diag;
pub mod filter;
pub mod policy;
pub mod route;
pub mod set;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const HEADER_LEN: usize = 16;
/// More than the kernel puts into one datagram of a listing.
const BUFFER_LEN: usize = 64 * 1024;

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const LISTING: u16 = libc::NLM_F_DUMP as u16;
/// With an answer even where all went well.
const ANSWERED: u16 = libc::NLM_F_ACK as u16;
/// Make something, which must not be there yet.
const NEW: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const NESTED: u16 = 1 << 15;

/// A message under construction.
#[derive(Debug)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend_from_slice(header);
        Self(bytes)
    }

    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        put(&mut self.0, kind, value);
        self
    }

    fn with_nested(mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        nest(&mut self.0, kind, fill);
        self
    }

    fn number(&mut self, number: u32) -> &[u8] {
        let len = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&number.to_ne_bytes());
        &self.0
    }
}

/// Appends an attribute.
fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Appends an attribute that is made of attributes.
fn nest(bytes: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    put(bytes, kind | NESTED, &[]);
    fill(bytes);
    let len = (bytes.len() - start) as u16;
    bytes[start..start + 2].copy_from_slice(&len.to_ne_bytes());
}

/// A text as attributes have it.
fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// The other way round.
fn untext(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

/// The attributes in `bytes`, as far as they are well formed.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & !NESTED;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// A socket to the kernel, in the network namespace in which its maker stood.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// For links, addresses and routes.
    pub fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// For packet filters.
    pub fn filter() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        Ok(Self(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?))
    }

    /// Has the kernel do what the messages say, of which one at least asks for an answer.
    fn ask(&self, messages: impl IntoIterator<Item = Message>) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (number, mut message) in messages.into_iter().enumerate() {
            bytes.extend_from_slice(message.number(number as u32 + 1));
        }
        self.send(&bytes)?;
        let mut answered = false;
        self.hear(|kind, payload| {
            answered |= kind == libc::NLMSG_ERROR as u16;
            verdict(kind, payload)
        })?;
        if answered { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// What the kernel has to say, without the message's own header.
    fn ask_for(&self, mut message: Message, mut answer: impl FnMut(&[u8])) -> io::Result<()> {
        self.send(message.number(1))?;
        self.hear(|kind, payload| {
            verdict(kind, payload)?;
            answer(payload);
            Ok(())
        })
    }

    /// Everything of which the kernel has a list, without the messages' own headers.
    fn list(&self, mut message: Message, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.send(message.number(1))?;
        let mut done = false;
        while !done {
            self.hear_once(|kind, payload| {
                done |= kind == libc::NLMSG_DONE as u16;
                verdict(kind, payload)?;
                if !done {
                    each(payload);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.0, bytes, SendFlags::empty())?;
        Ok(())
    }

    /// Hears every answer that is there: the first that is an error is the result.
    fn hear(&self, mut each: impl FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut result = Ok(());
        loop {
            match self.hear_once(&mut each) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return result,
                heard => result = result.and(heard),
            }
        }
    }

    fn hear_once(&self, mut each: impl FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_LEN];
        let (_, len) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC)?;
        let mut rest = buffer.get(..len).ok_or(io::ErrorKind::InvalidData)?;
        let mut result = Ok(());
        while let Some((kind, payload, next)) = split(rest) {
            result = result.and(each(kind, payload));
            rest = next;
        }
        result
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The first message of a datagram: its kind, what is in it, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    Some((kind, bytes.get(HEADER_LEN..len)?, bytes.get(len.next_multiple_of(4)..).unwrap_or(&[])))
}

fn verdict(kind: u16, payload: &[u8]) -> io::Result<()> {
    if kind != libc::NLMSG_ERROR as u16 {
        return Ok(());
    }
    match payload.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::new(7, ANSWERED, &[9; 4])
            .with(1, &text("lo"))
            .with_nested(2, |inner| put(inner, 3, &[5]))
            .with(4, &[]);
        let bytes = message.number(6).to_vec();
        let (kind, payload, rest) = split(&bytes).unwrap();
        assert_eq!((kind, rest.len(), &payload[..4]), (7, 0, &[9; 4][..]));
        let found: Vec<_> = attributes(&payload[4..]).collect();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0], found[2]), ((1, &b"lo\0"[..]), (4, &[][..])));
        assert_eq!(attributes(found[1].1).collect::<Vec<_>>(), [(3, &[5][..])]);
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        assert!(split(&[0; 15]).is_none());
        assert!(split(&[200, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
        assert_eq!(attributes(&[8, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
        assert!(verdict(libc::NLMSG_ERROR as u16, &[1]).is_err());
    }
}
