//! Making a network of its halves, and removing it.
//!
//! Every step can be done again, and undone whether it was done or not: after a crash the same code goes on.

use super::behaviour::{self, FORWARD_V4, Was};
use super::capture::Capture;
use super::place::Place;
use super::plan::{
    ARRIVAL_PRIORITY, LINK_V4_LEN, LINK_V6_LEN, LOCAL_PRIORITY, MARK_MASK, MARK_PRIORITY, Peer, Side, link,
};
use super::ports::Port;
use super::rules::{self, View};
use super::ways::{self, Entry, Way};
use super::{Half, Network};
use crate::netlink::Socket;
use crate::netlink::classify::Device;
use crate::netlink::policy::{Choice, LOCAL, MAIN, Route};
use crate::netlink::route::{End, News};
use os::bpf::Program;
use os::{ns, pidfd};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use thiserror::Error;

/// Both ends of a link: what one sends is for the other, so that neither has to ask.
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// What a link carries at once: as much as it can, as the loopback device does. A kernel that has cut a packet for the
/// loopback cannot cut it again for a link, not in IPv6.
const MTU: u32 = 65535;

/// What is sent to the outside, so that nothing is lost on the way for being too long.
const OUTSIDE_MTU: u32 = 1500;

/// Why a network cannot be made.
#[derive(Debug, Error)]
pub enum MakeError {
    #[error("the namespace of the half on {pu} cannot be entered: {source}")]
    Namespace { pu: String, source: io::Error },
    #[error("the process of the half on {pu} is not there: {source}")]
    Process { pu: String, source: io::Error },
    #[error("the halves on {0} and {1} are one namespace")]
    Same(String, String),
    #[error("no link from {pu} to {peer}: {source}")]
    Link { pu: String, peer: String, source: io::Error },
    #[error("no addresses and routes on {pu}: {source}")]
    Route { pu: String, source: io::Error },
    #[error("the switch net/{switch} on {pu} cannot be set: {source}")]
    Switch { pu: String, switch: String, source: io::Error },
    #[error("no packet filter on {pu}: {source}")]
    Filter { pu: String, source: io::Error },
    #[error("the programs on {pu} that lead packets to their half cannot be put there: {source}")]
    Ways { pu: String, source: io::Error },
}

/// A half that is there.
#[derive(Debug)]
pub struct Standing {
    pub place: Place,
    pub links: Socket,
    pub filter: Socket,
    /// Tells of devices that come.
    pub news: News,
    /// The kernel's number of the namespace: it has never had another of this number.
    pub namespace: u64,
    pub process: Option<OwnedFd>,
    ipv6: bool,
}

impl Standing {
    pub fn of(half: &Half) -> Result<Self, MakeError> {
        let namespace = |source| MakeError::Namespace { pu: half.pu.clone(), source };
        let process = half.process.map(pidfd::open).transpose();
        let process = process.map_err(|source| MakeError::Process { pu: half.pu.clone(), source })?;
        let place = Place::open(&half.namespace).map_err(namespace)?;
        let visit = || Ok((Socket::route()?, Socket::filter()?, News::listen()?, behaviour::has_ipv6()));
        let (links, filter, news, ipv6) = place.visit(visit).map_err(namespace)?;
        let number = ns::cookie(&links).map_err(namespace)?;
        // Its number may have been another's when the path was opened.
        if process.as_ref().is_some_and(pidfd::has_ended) {
            return Err(MakeError::Process { pu: half.pu.clone(), source: io::ErrorKind::NotFound.into() });
        }
        Ok(Self { place, links, filter, news, namespace: number, process, ipv6 })
    }

    /// What its switches say now: those that will be changed.
    pub fn note(&self, pu: &str, side: &Side) -> Result<Vec<Was>, MakeError> {
        let mut notes = Vec::new();
        let switches = behaviour::of_half(side).into_iter().map(|(switch, _)| switch);
        for switch in switches.chain([behaviour::RESERVED.to_owned()]) {
            let value = self.place.visit(|| behaviour::get(&switch));
            match value {
                Ok(Some(value)) => notes.push(Was { switch, value }),
                Ok(None) => {}
                Err(source) => return Err(MakeError::Switch { pu: pu.to_owned(), switch, source }),
            }
        }
        Ok(notes)
    }
}

/// A network and those of its halves that are there.
#[derive(Clone, Copy)]
pub struct Whole<'a> {
    pub network: &'a Network,
    pub halves: &'a [Option<Standing>],
    pub claims: &'a [(Port, usize)],
    pub capture: Option<Capture<'a>>,
}

impl<'a> Whole<'a> {
    pub fn there(&self) -> Vec<usize> {
        (0..self.halves.len()).filter(|number| self.halves[*number].is_some()).collect()
    }

    pub fn side(&self, number: usize) -> Side {
        Side::new(number, self.halves.len(), &self.there())
    }

    fn pu(&self, number: usize) -> String {
        self.network.halves[number].pu.clone()
    }

    fn standing(&self) -> impl Iterator<Item = (usize, &'a Standing)> {
        self.halves.iter().enumerate().filter_map(|(number, half)| half.as_ref().map(|half| (number, half)))
    }

    /// Connects the halves: links, switches, addresses and routes, but no filter yet.
    pub fn furnish(&self) -> Result<(), MakeError> {
        for (number, half) in self.standing() {
            let twin = self.standing().find(|(other, twin)| *other < number && twin.namespace == half.namespace);
            if let Some((other, _)) = twin {
                return Err(MakeError::Same(self.pu(other), self.pu(number)));
            }
        }
        for (number, half) in self.standing() {
            for (other, peer) in self.standing().filter(|(other, _)| *other > number) {
                let error = |source| MakeError::Link { pu: self.pu(number), peer: self.pu(other), source };
                connect((number, half), (other, peer)).map_err(error)?;
            }
        }
        for (number, half) in self.standing() {
            let side = self.side(number);
            self.switch(number, half, &side)?;
            self.route(number, half, &side).map_err(|source| MakeError::Route { pu: self.pu(number), source })?;
        }
        Ok(())
    }

    fn switch(&self, number: usize, half: &Standing, side: &Side) -> Result<(), MakeError> {
        let of_links = side.peers.iter().flat_map(|peer| behaviour::of_link(&peer.link, half.ipv6));
        for (switch, value) in behaviour::of_half(side).into_iter().chain(of_links) {
            let set = half.place.visit(|| behaviour::set(&switch, &value));
            set.map_err(|source| MakeError::Switch { pu: self.pu(number), switch, source })?;
        }
        Ok(())
    }

    fn route(&self, number: usize, half: &Standing, side: &Side) -> io::Result<()> {
        half.place.visit(os::netlink::loopback_up)?;
        let is_uplink = self.network.uplink.as_ref() == Some(&self.network.halves[number].pu);
        if !is_uplink {
            let lo = half.links.index_of("lo")?;
            for address in self.addresses(half) {
                half.links.give_address(lo, address, whole(address))?;
            }
        }
        for peer in &side.peers {
            let towards = self.network.uplink.as_ref() == Some(&self.network.halves[peer.number].pu);
            reach(half, peer, towards)?;
            if towards {
                self.lead_out(half, peer)?;
            }
        }
        for v4 in families(half) {
            // Marks first, then what is local: the Pod's addresses are, in every half.
            half.links.choose(v4, &local(LOCAL_PRIORITY))?;
            half.links.choose_no_more(v4, &local(0))?;
        }
        Ok(())
    }

    /// The way to the outside goes by the half that has the uplink; what is for the Pod itself stays on the link.
    fn lead_out(&self, half: &Standing, uplink: &Peer) -> io::Result<()> {
        let link = half.links.index_of(&uplink.link)?;
        for v4 in families(half) {
            let source = self.addresses(half).find(|address| address.is_ipv4() == v4);
            let own = self.addresses(half).filter(|address| address.is_ipv4() == v4);
            for to in own.chain([far(uplink, v4)]).map(|address| (address, whole(address))) {
                let (to, table) = (Some(to), uplink.table());
                let gateway = Some(far(uplink, v4));
                half.links.route_by(&Route { to, link, gateway, source: None, table, mtu: None })?;
            }
            if source.is_some() {
                let route = Route {
                    to: None,
                    link,
                    gateway: Some(far(uplink, v4)),
                    source,
                    table: MAIN,
                    mtu: Some(OUTSIDE_MTU),
                };
                half.links.route_by(&route)?;
            }
        }
        Ok(())
    }

    /// The Pod's, as far as the half has such.
    fn addresses(&self, half: &Standing) -> impl Iterator<Item = IpAddr> {
        let ipv6 = half.ipv6;
        self.network.addresses.iter().copied().filter(move |address| address.is_ipv4() || ipv6)
    }

    /// Puts a half's packet filter in the place of the one there is.
    pub fn filter(&self, number: usize, was: &[Was]) -> Result<(), MakeError> {
        let Some(half) = self.halves.get(number).and_then(Option::as_ref) else { return Ok(()) };
        let transit = was.iter().any(|was| was.switch == FORWARD_V4 && was.value == "1");
        let (side, addresses) = (self.side(number), &self.network.addresses);
        let text = rules::table(&View { side: &side, addresses, claims: self.claims, capture: self.capture, transit });
        half.place.filter(&text).map_err(|source| MakeError::Filter { pu: self.pu(number), source })
    }

    /// Puts the programs where packets enter a half: those that it has, and devices that have come since. What a sidecar gets
    /// from outside is the packet filter's to judge, and so is all else from there.
    pub fn lead(&self, number: usize) -> Result<(), MakeError> {
        let Some(half) = self.halves.get(number).and_then(Option::as_ref) else { return Ok(()) };
        self.lead_by(number, half).map_err(|source| MakeError::Ways { pu: self.pu(number), source })
    }

    fn lead_by(&self, number: usize, half: &Standing) -> io::Result<()> {
        let (side, devices) = (self.side(number), half.links.devices()?);
        let ways = self.ways(half, &side)?;
        let is_link = |device: &Device| side.peers.iter().any(|peer| peer.link == device.name);
        for device in &devices {
            let from = match device.name.as_str() {
                "lo" => Some(Entry::Here),
                _ => self.capture.is_none().then_some(Entry::Outside { framed: device.framed }),
            };
            let code = match from {
                _ if ways.is_empty() => None,
                _ if is_link(device) => Some(ways::receive()),
                from => from.map(|from| ways::lead(from, &ways, &self.network.addresses)),
            };
            match code {
                Some(code) => still(half.links.classify(device.index, Program::classifier(&code)?))?,
                None => still(half.links.classify_no_more(device.index))?,
            }
        }
        Ok(())
    }

    /// To the halves that are there.
    fn ways(&self, half: &Standing, side: &Side) -> io::Result<Vec<Way>> {
        let there = side.peers.iter().filter_map(|peer| Some((peer, self.halves[peer.number].as_ref()?)));
        let way = |(peer, other): (&Peer, &Standing)| {
            let namespace = half.links.number_of(other.place.descriptor())?;
            Ok(Way { link: half.links.index_of(&peer.link)?, namespace, mark: peer.mark() })
        };
        there.map(way).collect()
    }

    /// Takes a half back to what it was, as far as it goes: the namespace may be about to end. One that is alone is as it was.
    pub fn strip(&self, number: usize, half: &Standing, was: &[Was]) {
        if !self.network.is_split() {
            return;
        }
        let pu = self.pu(number);
        let told = |what: &str, result: io::Result<()>| {
            if let Err(error) = result {
                tracing::warn!(network = self.network.name, pu, "{what} could not be taken back: {error}");
            }
        };
        for v4 in families(half) {
            told("a rule", half.links.choose(v4, &local(0)));
            told("a rule", half.links.choose_no_more(v4, &local(LOCAL_PRIORITY)));
        }
        for other in (0..self.halves.len()).filter(|other| *other != number) {
            told("a link", disconnect(half, number, other, self.halves.len()));
        }
        if self.network.uplink.as_ref() != Some(&pu)
            && let Ok(lo) = half.links.index_of("lo")
        {
            for address in self.addresses(half) {
                told("an address", half.links.take_address(lo, address, whole(address)));
            }
        }
        let devices = half.links.devices().unwrap_or_default();
        for device in devices {
            told("a program", still(half.links.classify_no_more(device.index)));
        }
        told("the packet filter", half.place.filter(&rules::removal()));
        for was in was {
            told("a switch", half.place.visit(|| behaviour::set(&was.switch, &was.value)));
        }
    }
}

/// Takes what leads from a half to another out of it.
pub fn disconnect(half: &Standing, number: usize, other: usize, count: usize) -> io::Result<()> {
    for peer in &Side::new(number, count, &[other]).peers {
        for v4 in families(half) {
            half.links.choose_no_more(v4, &by_mark(peer))?;
        }
        if half.ipv6 {
            half.links.choose_no_more(false, &on_arrival(peer))?;
        }
        if let Ok(index) = half.links.index_of(&peer.link) {
            half.links.remove_link(index)?;
        }
    }
    Ok(())
}

/// A pair of devices, unless it is there.
fn connect((number, half): (usize, &Standing), (other, peer): (usize, &Standing)) -> io::Result<()> {
    let (here, there) = (link(other), link(number));
    if half.links.index_of(&here).is_ok() && peer.links.index_of(&there).is_ok() {
        return Ok(());
    }
    let news = half.place.visit(News::listen)?;
    let end = |name| End { name, index: 0, hardware: HARDWARE, resolve: false };
    half.links.add_pair(end(&here), end(&there), peer.place.descriptor().as_fd())?;
    let (near, far) = (half.links.index_of(&here)?, peer.links.index_of(&there)?);
    half.links.carry(near, MTU)?;
    peer.links.carry(far, MTU)?;
    peer.links.bring_up(far)?;
    half.links.wait_until_up(near, &news)
}

/// Addresses of this end of a link, and the ways that a mark chooses: to the outside, or no farther than the peer.
fn reach(half: &Standing, peer: &Peer, outside: bool) -> io::Result<()> {
    let link = half.links.index_of(&peer.link)?;
    half.links.give_address(link, peer.near.v4.into(), LINK_V4_LEN)?;
    if half.ipv6 {
        half.links.give_address(link, peer.near.v6.into(), LINK_V6_LEN)?;
        // What is handed to a proxy's ::1: the kernel looks for that at the device by which a packet has come, and nowhere else.
        let (to, table) = (Some((Ipv6Addr::LOCALHOST.into(), 128)), peer.arrival_table());
        half.links.route_by(&Route { to, link, gateway: None, source: None, table, mtu: None })?;
        half.links.choose(false, &on_arrival(peer))?;
    }
    for v4 in families(half) {
        let gateway = Some(far(peer, v4));
        half.links.route_by(&Route {
            to: None,
            link,
            gateway,
            source: None,
            table: peer.table(),
            mtu: outside.then_some(OUTSIDE_MTU),
        })?;
        half.links.choose(v4, &by_mark(peer))?;
    }
    Ok(())
}

fn families(half: &Standing) -> impl Iterator<Item = bool> + use<> {
    [true, false].into_iter().take(if half.ipv6 { 2 } else { 1 })
}

fn far(peer: &Peer, v4: bool) -> IpAddr {
    if v4 { peer.far.v4.into() } else { peer.far.v6.into() }
}

/// The length of a prefix that is one address.
fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn local(priority: u32) -> Choice {
    Choice { priority, table: LOCAL, mark: None, entering_by: None }
}

fn by_mark(peer: &Peer) -> Choice {
    Choice { priority: MARK_PRIORITY, table: peer.table(), mark: Some((peer.mark(), MARK_MASK)), entering_by: None }
}

fn on_arrival(peer: &Peer) -> Choice {
    let entering_by = Some(peer.link.clone());
    Choice { priority: ARRIVAL_PRIORITY, table: peer.arrival_table(), mark: None, entering_by }
}

/// That a device has gone meanwhile is no error.
fn still(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}
