//! Claiming ports in the kernel, at the moment of a bind, for programs that know nothing of it.
//!
//! ```text
//!  bind ─▶ kernel finds the port free here ─▶ claim: free elsewhere? ─no─▶ the port is given back, EADDRINUSE
//!                                               │ yes
//!  word of the port: half │ count ◀── + 1 ──────┘      0 ▶ 1: event ─▶ daemon ─▶ sets of all halves
//!  close ─▶ release: − 1 ──────────────────────────────1 ▶ 0: event
//! ```
//!
//! Two programs at the sockets of all control groups; what is not in a half of ours pays one look-up. They run after the
//! kernel's own check, so that a port that a socket asked for and did not get is never claimed, and one that the kernel chose
//! is known. Several sockets of one half may have a port together (`SO_REUSEPORT`): it is free when the last has gone.
//! Words stay where they are, and are changed by compare and exchange: no two halves can win.
//!
//! The programs go with this process. What was bound meanwhile is found by [`super::listing`].

use super::ports::{Port, Protocol};
use os::bpf::{Attached, Code, Hook, Label, Map, Program, Reg::*, Ring, Store, Width::*};
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use thiserror::Error;

/// Namespaces, ports, and bound sockets, of all networks together.
const SPACES_MAX: u32 = 4096;
const PORTS_MAX: u32 = 1 << 20;
const SOCKETS_MAX: u32 = 1 << 20;
const RING_LEN: u32 = 256 * 1024;
/// How often a claim is tried that meets others on the same port.
const TRIES: usize = 8;
/// Under this key is written that there was no room for an event.
const OVERFLOW: [u8; 8] = [0; 8];

const GET_SOCKET_COOKIE: i32 = 46;
const GET_NETNS_COOKIE: i32 = 122;
const RINGBUF_OUTPUT: i32 = 130;
const SET_RETVAL: i32 = 187;

/// Of `struct bpf_sock`.
const SOCK_PROTOCOL: i16 = 12;
const SOCK_PORT: i16 = 44;
/// Of a space: network, half, and the first and last port that its kernel chooses by itself.
const SPACE_NETWORK: i16 = 0;
const SPACE_HALF: i16 = 4;
const SPACE_FIRST: i16 = 8;
const SPACE_LAST: i16 = 12;
/// Places on the stack.
const NAMESPACE: i16 = -8;
const KEY: i16 = -16;
const WORD: i16 = -24;
const SOCKET: i16 = -32;
const COUNT: i16 = -40;

/// Why ports cannot be claimed.
#[derive(Debug, Error)]
pub enum HookError {
    #[error("there is no cgroup2 file system, at which programs see sockets: mount one")]
    NoGroups,
    #[error("the kernel's maps: it takes root (CAP_BPF, CAP_NET_ADMIN) and Linux 5.18")]
    Map(#[source] io::Error),
    #[error("the kernel refuses the program that {what} ports")]
    Program { what: &'static str, source: io::Error },
    #[error("the program that {what} ports cannot be attached to {}", .group.display())]
    Attach { what: &'static str, group: PathBuf, source: io::Error },
}

/// Where a half is, for the programs.
#[derive(Clone, Debug)]
pub struct Space {
    pub network: u32,
    pub half: usize,
    pub chosen: RangeInclusive<u16>,
}

/// The programs and their tables.
#[derive(Debug)]
pub struct Hooks {
    spaces: Map<8, 16>,
    ports: Map<8, 8>,
    sockets: Map<8, 8>,
    ring: Ring,
    _attached: Vec<Attached>,
}

impl Hooks {
    pub fn open() -> Result<Self, HookError> {
        let root = os::bpf::groups().ok_or(HookError::NoGroups)?;
        let (spaces, ports) = (Map::hash(SPACES_MAX), Map::hash(PORTS_MAX));
        let (spaces, ports) = (spaces.map_err(HookError::Map)?, ports.map_err(HookError::Map)?);
        let sockets = Map::hash(SOCKETS_MAX).map_err(HookError::Map)?;
        let ring = Ring::new(RING_LEN).map_err(HookError::Map)?;
        let mut hooks = Self { spaces, ports, sockets, ring, _attached: Vec::new() };
        let group = File::open(&root).map_err(|_| HookError::NoGroups)?;
        // A socket that is let in can be let out.
        let (release, claim) = (hooks.release(), hooks.claim());
        for (what, hook, code) in [
            ("frees", Hook::Release, &release),
            ("claims", Hook::PostBind4, &claim),
            ("claims", Hook::PostBind6, &claim),
        ] {
            let program = Program::load(hook, code).map_err(|source| HookError::Program { what, source })?;
            let attached = program.attach(&group, hook);
            let attached = attached.map_err(|source| HookError::Attach { what, group: root.clone(), source })?;
            hooks._attached.push(attached);
        }
        Ok(hooks)
    }

    /// From now on, binds in this namespace are claims.
    pub fn admit(&self, namespace: u64, space: &Space) -> io::Result<()> {
        let mut value = [0; 16];
        let (first, last) = (u32::from(*space.chosen.start()), u32::from(*space.chosen.end()));
        for (to, word) in value.chunks_exact_mut(4).zip([space.network, space.half as u32, first, last]) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        self.spaces.set(&namespace.to_ne_bytes(), &value, Store::Any).map(drop)
    }

    /// And from now on they are not.
    pub fn dismiss(&self, namespace: u64) -> io::Result<()> {
        self.spaces.remove(&namespace.to_ne_bytes()).map(drop)
    }

    /// Claims a port for a socket that was there before. Whose it is.
    pub fn seed(&self, network: u32, half: usize, port: Port, socket: u64) -> io::Result<usize> {
        let key = key(network, port);
        let (owner, count) = self.word(&key)?;
        if count > 0 && owner != half {
            return Ok(owner);
        }
        if self.sockets.set(&socket.to_ne_bytes(), &key, Store::New)? {
            let word = (half as u64) << 32 | u64::from(count + 1);
            self.ports.set(&key, &word.to_ne_bytes(), Store::Any)?;
        }
        Ok(half)
    }

    /// The half that has claimed a port.
    pub fn owner(&self, network: u32, port: Port) -> io::Result<Option<usize>> {
        let (owner, count) = self.word(&key(network, port))?;
        Ok((count > 0).then_some(owner))
    }

    fn word(&self, key: &[u8; 8]) -> io::Result<(usize, u32)> {
        let word = self.ports.get(key)?.map_or(0, u64::from_ne_bytes);
        Ok(((word >> 32) as usize, word as u32))
    }

    /// Forgets the claims of a network: of one half, or all.
    pub fn forget(&self, network: u32, half: Option<usize>) -> io::Result<()> {
        for found in self.ports.keys()? {
            let of_half = half.is_none_or(|half| self.word(&found).is_ok_and(|(owner, _)| owner == half));
            if found[..4] == network.to_ne_bytes() && of_half {
                self.ports.remove(&found)?;
            }
        }
        // Sockets that outlive their half must not give back what is another's by then.
        for socket in self.sockets.keys()? {
            let Some(claimed) = self.sockets.get(&socket)? else { continue };
            if claimed[..4] == network.to_ne_bytes() && self.ports.get(&claimed)?.is_none() {
                self.sockets.remove(&socket)?;
            }
        }
        Ok(())
    }

    /// Ports of networks of which something may have changed; true: of others too, of which nobody could be told.
    pub fn news(&self, mut each: impl FnMut(u32, Port)) -> io::Result<bool> {
        self.ring.drain(|record| {
            if let Some((network, port)) = record.try_into().ok().and_then(unkey) {
                each(network, port);
            }
        });
        self.ports.remove(&OVERFLOW)
    }

    /// All claims of a network.
    pub fn claims(&self, network: u32) -> io::Result<Vec<(Port, usize)>> {
        let mut claims = Vec::new();
        for found in self.ports.keys()? {
            let Some((of, port)) = unkey(found) else { continue };
            let (owner, count) = self.word(&found)?;
            if of == network && count > 0 {
                claims.push((port, owner));
            }
        }
        Ok(claims)
    }

    fn claim(&self) -> Code {
        let mut code = Code::default();
        let (pass, deny) = (code.label(), code.label());
        self.read_key(&mut code, pass);
        let (found, fresh) = (code.label(), code.label());
        code.look_up(&self.ports, KEY).if_not_equal(R0, 0, found);
        // Nobody has ever claimed it: if this half's kernel may choose it, nobody else's does.
        code.load(Word, R1, R7, SPACE_FIRST).if_less(R8, R1, fresh);
        code.load(Word, R1, R7, SPACE_LAST).if_at_most(R8, R1, pass);
        code.here(fresh).store_value(Double, R10, WORD, 0).update(&self.ports, KEY, WORD, Store::New);
        code.look_up(&self.ports, KEY).if_equal(R0, 0, deny);
        code.here(found).copy(R9, R0);
        let won = code.label();
        (0..TRIES).for_each(|_| attempt(&mut code, pass, deny, won));
        code.go(deny).here(won);
        self.remember(&mut code, deny);
        code.load(Double, R1, R10, COUNT).if_not_equal(R1, 0, pass);
        self.tell(&mut code);
        code.here(pass).set(R0, 1).exit();
        code.here(deny).set(R1, -libc::EADDRINUSE).call(SET_RETVAL).set(R0, 0).exit();
        code
    }

    /// R6: the socket; R7: its space; R8: its port; on the stack: the port's key. Sockets of no concern pass.
    fn read_key(&self, code: &mut Code, pass: Label) {
        let known = code.label();
        code.copy(R6, R1).call(GET_NETNS_COOKIE).store(Double, R10, NAMESPACE, R0);
        code.look_up(&self.spaces, NAMESPACE).if_equal(R0, 0, pass).copy(R7, R0);
        code.load(Word, R1, R6, SOCK_PROTOCOL).if_equal(R1, libc::IPPROTO_TCP, known);
        code.if_not_equal(R1, libc::IPPROTO_UDP, pass);
        code.here(known).load(Word, R8, R6, SOCK_PORT).if_equal(R8, 0, pass);
        code.load(Word, R2, R7, SPACE_NETWORK).store(Word, R10, KEY, R2);
        code.store(Half, R10, KEY + 4, R8).store(Byte, R10, KEY + 6, R1).store_value(Byte, R10, KEY + 7, 0);
    }

    /// Notes which port the socket has, so that its end can be told; without that, the claim is taken back.
    fn remember(&self, code: &mut Code, deny: Label) {
        let noted = code.label();
        code.copy(R1, R6).call(GET_SOCKET_COOKIE).store(Double, R10, SOCKET, R0);
        code.update(&self.sockets, SOCKET, KEY, Store::Any).if_equal(R0, 0, noted);
        code.set(R1, -1).fetch_add(R9, R1).go(deny);
        code.here(noted);
    }

    /// An event, or a note that there was no room for it.
    fn tell(&self, code: &mut Code) {
        let told = code.label();
        code.map(R1, &self.ring).copy(R2, R10).add(R2, KEY.into()).set(R3, 8).set(R4, 0).call(RINGBUF_OUTPUT);
        code.if_equal(R0, 0, told);
        code.store_value(Double, R10, NAMESPACE, 0).store_value(Double, R10, WORD, 1);
        code.update(&self.ports, NAMESPACE, WORD, Store::Any);
        code.here(told);
    }

    fn release(&self) -> Code {
        let mut code = Code::default();
        let pass = code.label();
        code.copy(R6, R1).call(GET_SOCKET_COOKIE).store(Double, R10, SOCKET, R0);
        code.look_up(&self.sockets, SOCKET).if_equal(R0, 0, pass);
        code.load(Double, R1, R0, 0).store(Double, R10, KEY, R1).remove(&self.sockets, SOCKET);
        code.look_up(&self.ports, KEY).if_equal(R0, 0, pass).copy(R9, R0);
        code.set(R1, -1).fetch_add(R9, R1).shift_left(R1, 32).shift_right(R1, 32).if_not_equal(R1, 1, pass);
        self.tell(&mut code);
        code.here(pass).set(R0, 1).exit();
        code
    }
}

impl AsFd for Hooks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// One try to make the word at R9 this half's, with one socket more.
fn attempt(code: &mut Code, pass: Label, deny: Label, won: Label) {
    let (free, take) = (code.label(), code.label());
    code.load(Double, R0, R9, 0).copy(R1, R0).shift_left(R1, 32).shift_right(R1, 32).store(Double, R10, COUNT, R1);
    code.load(Word, R3, R7, SPACE_HALF).if_equal(R1, 0, free);
    code.copy(R2, R0).shift_right(R2, 32).if_different(R2, R3, deny).go(take);
    // What the half's own kernel may choose needs no claim.
    code.here(free).load(Word, R2, R7, SPACE_LAST).if_less(R2, R8, take);
    code.load(Word, R2, R7, SPACE_FIRST).if_at_most(R2, R8, pass);
    code.here(take).copy(R4, R3).shift_left(R4, 32).or(R4, R1).add(R4, 1).copy(R5, R0);
    code.compare_exchange(R9, R4).if_same(R0, R5, won);
}

fn key(network: u32, port: Port) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&network.to_ne_bytes());
    key[4..6].copy_from_slice(&port.number.to_ne_bytes());
    key[6] = port.protocol.number();
    key
}

fn unkey(key: [u8; 8]) -> Option<(u32, Port)> {
    let network = u32::from_ne_bytes([key[0], key[1], key[2], key[3]]);
    let port = Port { protocol: Protocol::of(key[6])?, number: u16::from_ne_bytes([key[4], key[5]]) };
    Some((network, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let port = Port { protocol: Protocol::Udp, number: 65535 };
        assert_eq!(unkey(key(7, port)), Some((7, port)));
        assert_eq!(unkey(OVERFLOW), None);
    }
}
