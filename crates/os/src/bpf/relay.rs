//! Connections over TCP whose messages the kernel moves from one socket to the other without the network between (a
//! `SOCKHASH` with a program for messages: "sockmap").
//!
//! What a kernel makes of the rest of TCP then is its own matter, and differs from one to the next: see `net::relay`.

use super::{Attached, Code, MAP_UPDATE, MapAttr, Program, Reg::*, Width, bpf, make_map};
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const SOCKHASH: u32 = 18;
const PROG_SK_MSG: u32 = 16;
const SK_MSG_VERDICT: u32 = 7;
const PROG_ATTACH: i32 = 8;
const PROG_SOCK_OPS: u32 = 13;
const CGROUP_SOCK_OPS: u32 = 3;
const SOCK_HASH_UPDATE: i32 = 70;
const MSG_REDIRECT_HASH: i32 = 71;
/// A connection is there: for who has called, and for who was called.
const ESTABLISHED: [i32; 2] = [4, 5];
/// To where the other socket receives, not to where it sends.
const INGRESS: i32 = 1;
const PASS: i32 = 1;

/// Of `struct sk_msg_md`.
const MSG_REMOTE_ADDRESS: i16 = 20;
const MSG_LOCAL_ADDRESS: i16 = 24;
const MSG_REMOTE_PORT: i16 = 60;
const MSG_LOCAL_PORT: i16 = 64;
/// Of `struct bpf_sock_ops`.
const OPS_WHAT: i16 = 0;
const OPS_FAMILY: i16 = 20;
const OPS_REMOTE_ADDRESS: i16 = 24;
const OPS_LOCAL_ADDRESS: i16 = 28;
const OPS_REMOTE_PORT: i16 = 64;
const OPS_LOCAL_PORT: i16 = 68;
/// Where a key is on the stack.
const KEY: i16 = -16;
/// An end: local and remote address, as they are on the wire, and ports, as people write them.
const KEY_LEN: usize = 16;

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct UpdateAttr {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Sockets, of which those that are each other's ends are joined. IPv4 only.
#[derive(Debug)]
pub struct Relay(OwnedFd);

impl Relay {
    /// Of up to so many ends. They fall out of it when they close.
    pub fn new(ends: u32) -> io::Result<Self> {
        let map = make_map(MapAttr { kind: SOCKHASH, key: KEY_LEN as u32, value: 4, entries: ends, flags: 0 })?;
        let program = Program::load_as(PROG_SK_MSG, SK_MSG_VERDICT, &redirect(&map))?;
        let mut attr = AttachAttr {
            target: map.as_raw_fd() as u32,
            program: program.0.as_raw_fd() as u32,
            kind: SK_MSG_VERDICT,
            flags: 0,
        };
        // SAFETY: there is no address in it. The map keeps the program.
        unsafe { bpf(PROG_ATTACH, &mut attr)? };
        Ok(Self(map))
    }

    /// One that another process has made, and handed over.
    pub fn of(map: OwnedFd) -> Self {
        Self(map)
    }

    /// From now on what this end sends goes straight to the other, once that is here too. Nothing must be on its way in
    /// either direction: it would be overtaken.
    pub fn add(&self, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd();
        let end = |address: SocketAddr| match address {
            SocketAddr::V4(address) => Ok(address),
            SocketAddr::V6(_) => Err(io::Error::from(io::ErrorKind::Unsupported)),
        };
        let peer = rustix::net::getpeername(socket)?.ok_or(io::ErrorKind::NotConnected)?;
        let own = end(SocketAddr::try_from(rustix::net::getsockname(socket)?)?)?;
        let (key, value) = (key(own, end(SocketAddr::try_from(peer)?)?), socket.as_raw_fd());
        let mut attr = UpdateAttr {
            map: self.0.as_raw_fd() as u32,
            key: key.as_ptr() as u64,
            value: std::ptr::from_ref(&value) as u64,
            ..UpdateAttr::default()
        };
        // SAFETY: key and value are as long as the map was made for, and live until the call returns.
        unsafe { bpf(MAP_UPDATE, &mut attr) }.map(drop)
    }

    /// From now on connections to `127.0.0.0/8` whose ends are both of programs in this control group (a folder of cgroup2)
    /// are joined as they begin, until what is answered is dropped; the programs are not asked. What an end sends before the
    /// other one is in goes by TCP, and may be overtaken.
    pub fn gather(&self, group: impl AsFd) -> io::Result<Attached> {
        Program::load_as(PROG_SOCK_OPS, CGROUP_SOCK_OPS, &gather(&self.0))?.attach_as(group, CGROUP_SOCK_OPS)
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn key(own: SocketAddrV4, peer: SocketAddrV4) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[..4].copy_from_slice(&own.ip().octets());
    key[4..8].copy_from_slice(&peer.ip().octets());
    key[8..12].copy_from_slice(&u32::from(own.port()).to_ne_bytes());
    key[12..].copy_from_slice(&u32::from(peer.port()).to_ne_bytes());
    key
}

/// Where a message goes: the end whose peer its sender is, or where TCP takes it if that is not known.
fn redirect(map: &OwnedFd) -> Code {
    let mut code = Code::default();
    code.copy(R6, R1);
    for (from, to) in [(MSG_REMOTE_ADDRESS, KEY), (MSG_LOCAL_ADDRESS, KEY + 4), (MSG_LOCAL_PORT, KEY + 12)] {
        code.load(Width::Word, R2, R6, from).store(Width::Word, R10, to, R2);
    }
    code.load(Width::Word, R2, R6, MSG_REMOTE_PORT).big_endian(R2).store(Width::Word, R10, KEY + 8, R2);
    code.copy(R1, R6).map(R2, map).copy(R3, R10).add(R3, KEY.into()).set(R4, INGRESS).call(MSG_REDIRECT_HASH);
    code.set(R0, PASS).exit();
    code
}

/// Takes in an end of a connection when that is there.
fn gather(map: &OwnedFd) -> Code {
    let mut code = Code::default();
    let (there, out) = (code.label(), code.label());
    code.copy(R6, R1).load(Width::Word, R2, R6, OPS_WHAT);
    code.if_equal(R2, ESTABLISHED[0], there).if_not_equal(R2, ESTABLISHED[1], out);
    code.here(there).load(Width::Word, R2, R6, OPS_FAMILY).if_not_equal(R2, libc::AF_INET, out);
    code.load(Width::Word, R2, R6, OPS_REMOTE_ADDRESS).store(Width::Word, R10, KEY + 4, R2);
    code.big_endian(R2).shift_right(R2, 24).if_not_equal(R2, 127, out);
    for (from, to) in [(OPS_LOCAL_ADDRESS, KEY), (OPS_LOCAL_PORT, KEY + 8)] {
        code.load(Width::Word, R2, R6, from).store(Width::Word, R10, to, R2);
    }
    code.load(Width::Word, R2, R6, OPS_REMOTE_PORT).big_endian(R2).store(Width::Word, R10, KEY + 12, R2);
    code.copy(R1, R6).map(R2, map).copy(R3, R10).add(R3, KEY.into()).set(R4, 0).call(SOCK_HASH_UPDATE);
    code.here(out).set(R0, 1).exit();
    code
}
