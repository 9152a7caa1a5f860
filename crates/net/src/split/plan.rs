//! Numbers: what a network's halves call their links, their peers and their packets.
//!
//! Links and their addresses are within the Pod's own namespaces, so every Pod has the same ones. Marks are four bits at
//! the top of a packet's and of a connection's mark: meshes and container networks use lower ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Of the marks, the bits that are ours.
pub const MARK_MASK: u32 = 0x0f00_0000;
/// All links' addresses, and how they begin.
pub const LINKS_V4: &str = "169.254.77.0/24";
pub const LINKS_V6: &str = "fd6c:6963:6865:6e::/64";
pub const LINK_V4: [u8; 3] = [169, 254, 77];
pub const LINK_V6: [u16; 4] = [0xfd6c, 0x6963, 0x6865, 0x6e];
/// Bits of a link's networks.
pub const LINK_V4_LEN: u8 = 30;
pub const LINK_V6_LEN: u8 = 126;
/// The port numbers from which kernels choose by themselves, divided among the halves: so a port so chosen is one half's
/// without anybody having to be told, and survives all translation.
const CHOSEN: RangeInclusive<u16> = 32768..=60999;
/// Routes to a peer by mark are in the table of this number and the peer's.
const TABLES: u32 = 17700;
/// Routes to a peer's mark are looked at before local addresses.
pub const MARK_PRIORITY: u32 = 100;
/// Where local addresses are looked at: the kernel's own place for that is before all others.
pub const LOCAL_PRIORITY: u32 = 32000;

/// By which device, and only then, packets may arrive for `::1`.
pub const ARRIVAL_PRIORITY: u32 = 90;
/// And the tables that say so.
const ARRIVAL_TABLES: u32 = TABLES + 50;

/// A half, as it sees the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    pub number: usize,
    /// Ports that this half's kernel chooses by itself.
    pub chosen: RangeInclusive<u16>,
    /// Only those that are there.
    pub peers: Vec<Peer>,
}

/// Another half, as one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub number: usize,
    /// The device that leads there.
    pub link: String,
    /// This side's addresses on the link, and the peer's.
    pub near: Ends,
    pub far: Ends,
    /// Ports that the peer's kernel chooses by itself.
    pub chosen: RangeInclusive<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Side {
    /// The half of this number among those that are there, of `count` in all.
    pub fn new(number: usize, count: usize, there: &[usize]) -> Self {
        let others = there.iter().filter(|other| **other != number);
        let peers = others.map(|other| Peer::new(number, *other, count)).collect();
        Self { number, chosen: chosen(number, count), peers }
    }
}

impl Peer {
    fn new(number: usize, other: usize, count: usize) -> Self {
        Self {
            number: other,
            link: link(other),
            near: Ends::of(number, other),
            far: Ends::of(other, number),
            chosen: chosen(other, count),
        }
    }

    pub fn mark(&self) -> u32 {
        mark(self.number)
    }

    pub fn table(&self) -> u32 {
        TABLES + self.number as u32
    }

    /// The table for what arrives from there.
    pub fn arrival_table(&self) -> u32 {
        ARRIVAL_TABLES + self.number as u32
    }

    /// The set of the ports that it has claimed.
    pub fn set(&self) -> String {
        set(self.number)
    }
}

impl Ends {
    /// The end at `number` of its link with `other`.
    fn of(number: usize, other: usize) -> Self {
        let (low, high) = (number.min(other) as u8, number.max(other) as u8);
        let link = (low * super::HALVES_MAX as u8 + high) * 4;
        let end = link + if number < other { 1 } else { 2 };
        let ([a, b, c], [d, e, f, g]) = (LINK_V4, LINK_V6);
        Self { v4: Ipv4Addr::new(a, b, c, end), v6: Ipv6Addr::new(d, e, f, g, 0, 0, 0, end.into()) }
    }
}

/// How a half calls the device that leads to this one.
pub fn link(other: usize) -> String {
    format!("link{other}")
}

pub fn mark(number: usize) -> u32 {
    (number as u32 + 1) << 24
}

pub fn set(number: usize) -> String {
    format!("ports_{number}")
}

/// Whether some half's kernel may choose it.
pub fn is_chosen(port: u16) -> bool {
    CHOSEN.contains(&port)
}

/// The ports from which a half's kernel chooses.
pub fn chosen(number: usize, count: usize) -> RangeInclusive<u16> {
    let each = (CHOSEN.end() - CHOSEN.start() + 1) / count as u16;
    let first = CHOSEN.start() + each * number as u16;
    let last = if number + 1 == count { *CHOSEN.end() } else { first + each - 1 };
    first..=last
}

/// Global and private ones, not those of links, of groups, or of nobody.
pub fn can_be_of_a_pod(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_loopback() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_link_local())
        }
        IpAddr::V6(v6) => {
            let ours = v6.segments()[..4] == LINK_V6;
            let odd = v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local();
            !(odd || ours || v6.to_ipv4_mapped().is_some())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_link_agree() {
        for (a, b) in [(0, 1), (0, 3), (2, 3), (1, 2)] {
            let (here, there) = (Peer::new(a, b, 4), Peer::new(b, a, 4));
            assert_eq!((here.near, here.far), (there.far, there.near));
            let network = |ends: Ends| ends.v4.to_bits() >> 2;
            assert_eq!(network(here.near), network(here.far));
        }
    }

    #[test]
    fn no_two_links_share_a_network() {
        let mut seen = std::collections::HashSet::new();
        for a in 0..super::super::HALVES_MAX {
            for b in a + 1..super::super::HALVES_MAX {
                assert!(seen.insert(Ends::of(a, b).v4.to_bits() >> 2));
            }
        }
    }

    #[test]
    fn ports_are_divided_without_a_gap() {
        for count in 2..=4 {
            assert_eq!((*chosen(0, count).start(), *chosen(count - 1, count).end()), (32768, 60999));
            for number in 1..count {
                assert_eq!(*chosen(number, count).start(), chosen(number - 1, count).end() + 1);
            }
        }
    }

    #[test]
    fn one_that_is_gone_is_nobodys_peer() {
        let side = Side::new(0, 3, &[0, 2]);
        assert_eq!(side.peers.iter().map(|peer| peer.number).collect::<Vec<_>>(), [2]);
    }
}
