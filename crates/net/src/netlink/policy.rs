//! Routes of both families in tables of their own, and the rules that choose a table.
//!
//! What is there already is no error, nor is what is gone: a network that is half made is made again, or removed, the
//! same way.

use super::{ANSWERED, Message, NEW, Socket, put, text};
use std::io;
use std::net::IpAddr;

const IFLA_MTU: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;
const RTA_TABLE: u16 = 15;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Nobody else can have it: it is used at once.
const IFA_F_NODAD: u8 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
const TO_TABLE: u8 = 1;

pub const MAIN: u32 = libc::RT_TABLE_MAIN as u32;
pub const LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// An address and the length of its prefix. None: everything, of the gateway's family.
    pub to: Option<(IpAddr, u8)>,
    pub link: u32,
    /// None: to this host itself.
    pub gateway: Option<IpAddr>,
    /// The address from which this host sends there.
    pub source: Option<IpAddr>,
    pub table: u32,
    /// The longest packet that gets there; None: what the device carries.
    pub mtu: Option<u32>,
}

/// Which table is looked at, and for which packets. The lowest priority is asked first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub priority: u32,
    pub table: u32,
    /// Value and mask.
    pub mark: Option<(u32, u32)>,
    pub entering_by: Option<String>,
}

fn family(v4: bool) -> u8 {
    if v4 { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The result, where `error` is none.
fn but(result: io::Result<()>, error: i32) -> io::Result<()> {
    match result {
        Err(found) if found.raw_os_error() == Some(error) => Ok(()),
        result => result,
    }
}

impl Socket {
    /// Gives a device an address, at once.
    pub fn give_address(&self, link: u32, address: IpAddr, len: u8) -> io::Result<()> {
        but(self.ask([address_message(libc::RTM_NEWADDR, NEW, link, address, len)]), libc::EEXIST)
    }

    /// Says how long a packet may be that a device carries.
    pub fn carry(&self, link: u32, mtu: u32) -> io::Result<()> {
        let header = [[0; 4], link.to_ne_bytes(), [0; 4], [0; 4]].concat();
        self.ask([Message::new(libc::RTM_NEWLINK, ANSWERED, &header).with(IFLA_MTU, &mtu.to_ne_bytes())])
    }

    /// Takes an address away from a device.
    pub fn take_address(&self, link: u32, address: IpAddr, len: u8) -> io::Result<()> {
        but(self.ask([address_message(libc::RTM_DELADDR, 0, link, address, len)]), libc::EADDRNOTAVAIL)
    }

    pub fn route_by(&self, route: &Route) -> io::Result<()> {
        let (to, len) = (route.to.map(|(to, _)| to), route.to.map_or(0, |(_, len)| len));
        let some = route.gateway.or(to).ok_or(io::ErrorKind::InvalidInput)?;
        let kind = if route.gateway.is_some() { libc::RTN_UNICAST } else { libc::RTN_LOCAL };
        let scope = if route.gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_HOST };
        let header = [family(some.is_ipv4()), len, 0, 0, 0, libc::RTPROT_STATIC, scope, kind, 0, 0, 0, 0];
        let mut message = Message::new(libc::RTM_NEWROUTE, NEW | ANSWERED, &header)
            .with(RTA_TABLE, &route.table.to_ne_bytes())
            .with(RTA_OIF, &route.link.to_ne_bytes());
        for (kind, address) in [(RTA_DST, to), (RTA_GATEWAY, route.gateway), (RTA_PREFSRC, route.source)] {
            if let Some(address) = address {
                message = message.with(kind, &octets(address));
            }
        }
        if let Some(mtu) = route.mtu {
            message = message.with_nested(RTA_METRICS, |metrics| put(metrics, RTAX_MTU, &mtu.to_ne_bytes()));
        }
        but(self.ask([message]), libc::EEXIST)
    }

    pub fn choose(&self, v4: bool, choice: &Choice) -> io::Result<()> {
        but(self.ask([choice_message(libc::RTM_NEWRULE, NEW, v4, choice)]), libc::EEXIST)
    }

    pub fn choose_no_more(&self, v4: bool, choice: &Choice) -> io::Result<()> {
        but(self.ask([choice_message(libc::RTM_DELRULE, 0, v4, choice)]), libc::ENOENT)
    }
}

fn address_message(kind: u16, flags: u16, link: u32, address: IpAddr, len: u8) -> Message {
    let header = [[family(address.is_ipv4()), len, IFA_F_NODAD, 0], link.to_ne_bytes()].concat();
    let octets = octets(address);
    Message::new(kind, flags | ANSWERED, &header).with(IFA_LOCAL, &octets).with(IFA_ADDRESS, &octets)
}

fn choice_message(kind: u16, flags: u16, v4: bool, choice: &Choice) -> Message {
    let header = [family(v4), 0, 0, 0, 0, 0, 0, TO_TABLE, 0, 0, 0, 0];
    // The kernel's own first rule, and no second one like it.
    let by = if choice.priority == 0 { libc::RTPROT_KERNEL } else { libc::RTPROT_STATIC };
    let mut message = Message::new(kind, flags | ANSWERED, &header)
        .with(FRA_PROTOCOL, &[by])
        .with(FRA_PRIORITY, &choice.priority.to_ne_bytes())
        .with(FRA_TABLE, &choice.table.to_ne_bytes());
    if let Some((value, mask)) = choice.mark {
        message = message.with(FRA_FWMARK, &value.to_ne_bytes()).with(FRA_FWMASK, &mask.to_ne_bytes());
    }
    if let Some(device) = &choice.entering_by {
        message = message.with(FRA_IIFNAME, &text(device));
    }
    message
}
