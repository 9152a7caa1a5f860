//! The kernel's list of sockets: sock_diag.
//!
//! Only what is used: the port and the number (cookie) of each.

use super::{LISTING, Message, Socket};
use std::io;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_LEN: usize = 56;
const PORT_AT: usize = 4;
const COOKIE_AT: usize = 44;

impl Socket {
    /// For lists of sockets.
    pub fn sockets() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::SOCK_DIAG))
    }

    /// The sockets of a family and protocol that are in one of the states (a bit each): port and cookie.
    pub fn list_sockets(
        &self,
        family: u8,
        protocol: u8,
        states: u32,
        mut each: impl FnMut(u16, u64),
    ) -> io::Result<()> {
        let mut request = [0; REQUEST_LEN];
        request[0] = family;
        request[1] = protocol;
        request[4..8].copy_from_slice(&states.to_ne_bytes());
        self.list(Message::new(SOCK_DIAG_BY_FAMILY, LISTING, &request), |socket| {
            let port = socket.get(PORT_AT..).and_then(|bytes| bytes.first_chunk());
            let cookie = socket.get(COOKIE_AT..).and_then(|bytes| bytes.first_chunk());
            if let (Some(port), Some(cookie)) = (port, cookie) {
                each(u16::from_be_bytes(*port), u64::from_ne_bytes(*cookie));
            }
        })
    }
}
