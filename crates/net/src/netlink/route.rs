//! Links, addresses and routes: what a sandbox's way out is made of.
//!
//! Only what is used: pairs of virtual Ethernet devices, single IPv4 addresses, and routes in the main table.

use super::{ANSWERED, LISTING, Message, NEW, Socket, attributes, nest, put, text};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
/// The gateway is a neighbour, whatever the addresses say.
const ONLINK: u32 = 4;

const IF_OPER_UP: u8 = 6;
const LINK_HEADER_LEN: usize = 16;
/// How long a device may take to be able to send.
const UP_LIMIT: Duration = Duration::from_secs(5);

/// One end of a pair of devices.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub name: &'a str,
    /// The number to be given to it; 0: the kernel's choice.
    pub index: u32,
    /// Its hardware address. Two ends that share one need not ask for each other's: `resolve` can be false.
    pub hardware: [u8; 6],
    /// Whether neighbours are asked for their hardware addresses (ARP).
    pub resolve: bool,
}

/// The header of requests about links. Only flags that are set are changed.
fn link(index: u32, flags: i32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), flags.to_ne_bytes()].concat()
}

impl End<'_> {
    fn flags(&self) -> i32 {
        if self.resolve { 0 } else { libc::IFF_NOARP }
    }

    /// With one queue: the kernel would make one for each processor.
    fn describe(&self, bytes: &mut Vec<u8>) {
        put(bytes, IFLA_IFNAME, &text(self.name));
        put(bytes, IFLA_ADDRESS, &self.hardware);
        put(bytes, IFLA_NUM_TX_QUEUES, &1u32.to_ne_bytes());
        put(bytes, IFLA_NUM_RX_QUEUES, &1u32.to_ne_bytes());
    }
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    pub address: Ipv4Addr,
    /// Bits of it that count.
    pub len: u8,
}

impl Prefix {
    /// Everything.
    pub const ALL: Self = Self::new([0, 0, 0, 0], 0);

    pub const fn new(address: [u8; 4], len: u8) -> Self {
        Self { address: Ipv4Addr::new(address[0], address[1], address[2], address[3]), len }
    }

    /// One address.
    pub const fn one(address: Ipv4Addr) -> Self {
        Self { address, len: 32 }
    }

    pub fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0)
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        (address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

/// Tells when something has become of a device, in the network namespace in which its maker stood.
#[derive(Debug)]
pub struct News(Socket);

impl News {
    pub fn listen() -> io::Result<Self> {
        let socket = Socket::route()?;
        rustix::net::bind(&socket.0, &SocketAddrNetlink::new(0, libc::RTMGRP_LINK as u32))?;
        Ok(Self(socket))
    }

    /// Waits until there is some, this long at most, and forgets it.
    pub fn wait(&self, limit: Duration) -> io::Result<()> {
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        poll(&mut [PollFd::new(&self.0.0, PollFlags::IN)], Some(&limit))?;
        // That there was too much of it is news as well.
        let _ = self.0.hear(|_, _| Ok(()));
        Ok(())
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    /// Makes a pair of devices: `here`, which is up, and `there` in the namespace `other`, which is not: the kernel lets no
    /// device go up before its pair is complete.
    pub fn add_pair(&self, here: End<'_>, there: End<'_>, other: BorrowedFd<'_>) -> io::Result<()> {
        let mut message =
            Message::new(libc::RTM_NEWLINK, NEW | ANSWERED, &link(here.index, here.flags() | libc::IFF_UP));
        here.describe(&mut message.0);
        let message = message.with_nested(IFLA_LINKINFO, |info| {
            put(info, IFLA_INFO_KIND, b"veth");
            nest(info, IFLA_INFO_DATA, |data| {
                nest(data, VETH_INFO_PEER, |peer| {
                    peer.extend_from_slice(&link(there.index, there.flags()));
                    there.describe(peer);
                    put(peer, IFLA_NET_NS_FD, &other.as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.ask([message])
    }

    /// Brings a device up.
    pub fn bring_up(&self, index: u32) -> io::Result<()> {
        self.ask([Message::new(libc::RTM_NEWLINK, ANSWERED, &link(index, libc::IFF_UP))])
    }

    /// Waits until a device can send: the kernel tells it so some time after its pair is complete, and loses meanwhile what
    /// it is to send. Asking hastens that (Linux 6.8).
    pub fn wait_until_up(&self, index: u32, news: &News) -> io::Result<()> {
        let until = Instant::now() + UP_LIMIT;
        while !self.is_up(index)? {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            news.wait(left)?;
        }
        Ok(())
    }

    fn is_up(&self, index: u32) -> io::Result<bool> {
        let mut up = false;
        self.ask_for(Message::new(libc::RTM_GETLINK, 0, &link(index, 0)), |device| {
            let mut found = attributes(device.get(LINK_HEADER_LEN..).unwrap_or(&[]));
            up = found.any(|(kind, value)| kind == IFLA_OPERSTATE && value == [IF_OPER_UP]);
        })?;
        Ok(up)
    }

    /// Removes a device, and the other end of its pair.
    pub fn remove_link(&self, index: u32) -> io::Result<()> {
        self.ask([Message::new(libc::RTM_DELLINK, ANSWERED, &link(index, 0))])
    }

    /// The number of the device called so.
    pub fn index_of(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.0, name)?)
    }

    /// Gives a device an address. No route comes of it, but where `len` says that there are neighbours.
    pub fn add_address(&self, link: u32, address: Ipv4Addr, len: u8) -> io::Result<()> {
        let header = [[libc::AF_INET as u8, len, 0, 0], link.to_ne_bytes()].concat();
        let message = Message::new(libc::RTM_NEWADDR, NEW | ANSWERED, &header);
        self.ask([message.with(IFA_LOCAL, &address.octets()).with(IFA_ADDRESS, &address.octets())])
    }

    /// Routes what goes to `to` through a device; by a gateway that is its neighbour, if one is given.
    pub fn add_route(&self, to: Prefix, link: u32, gateway: Option<Ipv4Addr>) -> io::Result<()> {
        let scope = if gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        let flags = if gateway.is_some() { ONLINK } else { 0 };
        let mut header =
            vec![libc::AF_INET as u8, to.len, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST];
        header.extend_from_slice(&flags.to_ne_bytes());
        let mut message = Message::new(libc::RTM_NEWROUTE, NEW | ANSWERED, &header).with(RTA_OIF, &link.to_ne_bytes());
        if to.len > 0 {
            message = message.with(RTA_DST, &to.address.octets());
        }
        if let Some(gateway) = gateway {
            message = message.with(RTA_GATEWAY, &gateway.octets());
        }
        self.ask([message])
    }

    /// Where the IPv4 routes of all tables lead.
    pub fn routes(&self) -> io::Result<Vec<Prefix>> {
        let header = [libc::AF_INET as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut routes = Vec::new();
        self.list(Message::new(libc::RTM_GETROUTE, LISTING, &header), |route| {
            let (Some(&len), Some(rest)) = (route.get(1), route.get(header.len()..)) else { return };
            let to = attributes(rest).find(|(kind, _)| *kind == RTA_DST);
            let address = to.and_then(|(_, value)| <[u8; 4]>::try_from(value).ok()).unwrap_or_default();
            routes.push(Prefix::new(address, len.min(32)));
        })?;
        Ok(routes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_overlap_where_one_contains_the_other() {
        let net = |a, b, len| Prefix::new([a, b, 0, 0], len);
        assert!(net(100, 64, 10).overlaps(net(100, 100, 16)));
        assert!(net(100, 100, 16).overlaps(net(100, 64, 10)));
        assert!(!net(100, 64, 16).overlaps(net(100, 65, 16)));
        assert!(Prefix::ALL.overlaps(net(9, 9, 32)));
        assert!(net(9, 9, 31).contains(Ipv4Addr::new(9, 9, 0, 1)));
        assert!(!net(9, 9, 31).contains(Ipv4Addr::new(9, 9, 0, 2)));
    }
}
