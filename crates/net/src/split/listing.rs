//! Sockets that were bound before anybody looked: the kernel's own list of them (sock_diag).

use super::ports::{Port, Protocol};
use crate::netlink::Socket;
use std::io;

/// States in which a socket can have a port and be nobody's answer to another: closed, listening, bound only (Linux 6.8).
const TCP_STATES: u32 = 1 << 7 | 1 << 10 | 1 << 13;
/// Of UDP: with a peer, and without.
const UDP_STATES: u32 = 1 << 1 | 1 << 7;

/// A socket that has a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub port: Port,
    pub cookie: u64,
}

/// All of the namespace in which the calling thread stands.
pub fn bound() -> io::Result<Vec<Bound>> {
    let socket = Socket::sockets()?;
    let mut found = Vec::new();
    for (protocol, states) in [(Protocol::Tcp, TCP_STATES), (Protocol::Udp, UDP_STATES)] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            socket.list_sockets(family as u8, protocol.number(), states, |number, cookie| {
                if number != 0 {
                    found.push(Bound { port: Port { protocol, number }, cookie });
                }
            })?;
        }
    }
    Ok(found)
}
