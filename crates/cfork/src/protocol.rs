//! What the worker and a template say to each other, over a socket that keeps message boundaries.
//!
//! ```text
//! worker → template   Configure   JSON                   once, first
//! template → worker   Ready       threads, JSON report   once: at the fork point
//! worker → template   Enter       id                     + slot, socket [, entrances of its cgroups …]
//! forker → worker     Entered     id, 0 or -errno        a forker waits in the slot
//! worker → forker     Fork        instance's JSON        over that socket, once: + region, down, up, log [, code [, layers]]
//! forker → worker     Forked      id, pid or -errno      pid as the template's pid namespace counts it
//! ```
//!
//! What forkers say comes over the template's socket. A first `Fork` with the flag [`AHEAD`] has nothing else: the child
//! takes its own `Fork` from the same socket, and answers nothing. Where that socket ends, forker or child does.
//!
//! Every message is a 32-byte header and a payload. The worker treats all that a template says as hostile: a dedicated
//! template has run its function's code.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The descriptor at which a template finds its control socket.
pub const CONTROL: i32 = 3;
/// The longest payload.
pub const PAYLOAD_MAX: usize = 64 * 1024;
/// Where a function's code is, in every sandbox.
pub const TASK_ROOT: &std::ffi::CStr = c"/var/task";
/// Where its layers are, where it has some.
pub const LAYERS_ROOT: &std::ffi::CStr = c"/opt";

/// The flag of a fork whose child is told later what it is to be.
pub const AHEAD: u32 = 4;
/// The flag of a fork that comes with a mount of code, and with one of layers.
pub const CODE: u32 = 1;
pub const LAYERS: u32 = 2;

/// The flags of a fork that comes with these mounts.
pub fn mounts(code: bool, layers: bool) -> u32 {
    u32::from(code) * CODE + u32::from(layers) * LAYERS
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    Configure = 1,
    Ready = 2,
    Enter = 3,
    Entered = 4,
    Fork = 5,
    Forked = 6,
}

/// The fixed part of every message.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: u32,
    /// Fork: which mounts are among the descriptors ([`CODE`], [`LAYERS`]), or [`AHEAD`]. Ready: how many threads the template has.
    pub flags: u32,
    /// Enter, Entered, Forked: which slot.
    pub id: u64,
    /// Entered: 0, Forked: the child's pid, or the negated error number.
    pub value: i64,
    /// Bytes of payload.
    pub len: u64,
}

const HEADER: usize = 32;
const _: () = assert!(size_of::<Header>() == HEADER, "the header is part of the ABI");

/// A received message.
#[derive(Debug)]
pub struct Received {
    pub header: Header,
    pub payload: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

impl Header {
    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&self.kind.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.value.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.len.to_ne_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let long = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Self { kind: word(0)?, flags: word(4)?, id: long(8)?, value: long(16)? as i64, len: long(24)? })
    }
}

/// Sends one message.
pub fn send(
    socket: impl AsFd,
    kind: Kind,
    flags: u32,
    id: u64,
    value: i64,
    payload: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let header = Header { kind: kind as u32, flags, id, value, len: payload.len() as u64 }.bytes();
    os::seqpacket::send(socket, &[IoSlice::new(&header), IoSlice::new(payload)], descriptors)
}

/// Receives one message into `buffer`, which is grown the first time; nothing when the other side is gone.
pub fn receive(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<Option<Received>> {
    if buffer.len() < HEADER + PAYLOAD_MAX {
        buffer.resize(HEADER + PAYLOAD_MAX, 0);
    }
    let mut descriptors = Vec::new();
    let len = os::seqpacket::receive(socket, buffer, &mut descriptors)?;
    if len == 0 {
        return Ok(None);
    }
    let header = Header::parse(&buffer[..len]).filter(|header| header.len == (len - HEADER) as u64);
    let header = header.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a malformed message"))?;
    Ok(Some(Received { header, payload: buffer[HEADER..len].to_vec(), descriptors }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_survives_the_trip() {
        let (a, b) = os::seqpacket::pair().unwrap();
        send(&a, Kind::Forked, 1, 42, -3, b"text", &[a.as_fd()]).unwrap();
        let got = receive(&b, &mut Vec::new()).unwrap().unwrap();
        assert_eq!(got.header, Header { kind: 6, flags: 1, id: 42, value: -3, len: 4 });
        assert_eq!((got.payload.as_slice(), got.descriptors.len()), (&b"text"[..], 1));
    }

    #[test]
    fn a_short_message_is_an_error_and_a_closed_socket_is_none() {
        let (a, b) = os::seqpacket::pair().unwrap();
        os::seqpacket::send(&a, &[IoSlice::new(b"x")], &[]).unwrap();
        assert!(receive(&b, &mut Vec::new()).is_err());
        drop(a);
        assert!(receive(&b, &mut Vec::new()).unwrap().is_none());
    }
}
