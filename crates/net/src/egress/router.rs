//! The router: a network namespace of the worker's, its uplink to the host, and what attaches a slot to it.
//!
//! The namespace has no name and no process: it is there as long as the thread that stands in it, and the devices with it,
//! however the thread ends. The filters go with their sockets. What a killed worker leaves is the host's permission to
//! forward (`forwarding`) and the guard, which the next one takes back.

use super::addresses::{GATEWAY, Slot, Uplink};
use super::forwarding::{self, Forwarding};
use super::{AttachError, OpenError, Settings, rules};
use crate::netlink::Socket;
use crate::netlink::route::{End, News, Prefix};
use os::ns::{self, Kinds};
use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";
const NO_IPV6: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
/// How the router behaves: it passes packets on, only those whose source it can answer at the device by which they came,
/// and tells every sender at once what it refuses.
const BEHAVIOUR: [(&str, &str); 5] = [
    ("ip_forward", "1"),
    ("conf/all/rp_filter", "1"),
    ("conf/all/send_redirects", "0"),
    ("conf/default/send_redirects", "0"),
    ("icmp_ratelimit", "0"),
];
/// Both ends of a slot's pair: what one sends is for the other, so that neither has to ask.
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const HOST_HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The slot's device, as the slot sees it.
const INSIDE: &str = "eth0";
const INSIDE_INDEX: u32 = 1000;

/// A network namespace, and how it is asked for things.
#[derive(Debug)]
struct Place {
    namespace: File,
    links: Socket,
    /// While this is there the filter is that was installed by it.
    filter: Socket,
}

impl Place {
    /// Where the calling thread stands.
    fn here() -> Result<Self, OpenError> {
        Ok(Self {
            namespace: File::open(OWN_NAMESPACE).map_err(OpenError::Namespace)?,
            links: Socket::route().map_err(OpenError::Socket)?,
            filter: Socket::filter().map_err(OpenError::Filter)?,
        })
    }

    fn enter(&self) -> io::Result<()> {
        ns::enter(&self.namespace, Kinds::NET)
    }
}

#[derive(Debug)]
pub struct Router {
    own: Place,
    news: News,
    host: Place,
    uplink: String,
    uplink_index: u32,
    run: PathBuf,
    forwarding: Forwarding,
    made: u32,
}

impl Router {
    /// Makes the router. The calling thread stands in it from then on.
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        let _turn = turn(&settings.run);
        let host = Place::here()?;
        let host_news = News::listen().map_err(OpenError::Socket)?;
        sweep(&host.filter);
        ns::unshare(Kinds::NET).map_err(OpenError::Namespace)?;
        let own = Place::here()?;
        let news = News::listen().map_err(OpenError::Socket)?;
        behave().map_err(OpenError::Behaviour)?;
        let (uplink, uplink_index) = make_uplink(&host, &own)?;
        host.links.wait_until_up(uplink_index, &host_news).map_err(OpenError::Uplink)?;
        let servers = &settings.resolver.servers;
        rules::of_router(&uplink, servers).install(&own.filter).map_err(OpenError::Filter)?;
        rules::of_guard(&uplink, servers).install(&host.filter).map_err(OpenError::Filter)?;
        rules::of_host(&uplink, servers).install(&host.filter).map_err(OpenError::Filter)?;
        host.enter().map_err(OpenError::Namespace)?;
        let forwarding = Forwarding::open(&settings.run, &uplink, &host.filter).map_err(OpenError::Forwarding)?;
        own.enter().map_err(OpenError::Namespace)?;
        tracing::info!(uplink = uplink.name, address = %uplink.router, "egress is open");
        Ok(Self { own, news, host, uplink: uplink.name, uplink_index, forwarding, run: settings.run.clone(), made: 0 })
    }

    /// Gives the network of a process a way out: its address there.
    pub fn attach(&mut self, process: &OwnedFd) -> Result<Ipv4Addr, AttachError> {
        ns::enter(process, Kinds::NET).map_err(AttachError::Enter)?;
        let visited = visit();
        self.own.enter().map_err(AttachError::Astray)?;
        let (namespace, inside) = visited.map_err(AttachError::Enter)?;
        let slot = Slot::number(self.made);
        self.made = self.made.wrapping_add(1);
        let end = |name, index| End { name, index, hardware: HARDWARE, resolve: false };
        let (here, there) = (end(&slot.link, slot.index), end(INSIDE, INSIDE_INDEX));
        self.own.links.add_pair(here, there, namespace.as_fd()).map_err(AttachError::Link)?;
        inside.bring_up(INSIDE_INDEX).map_err(AttachError::Link)?;
        inside.add_address(INSIDE_INDEX, slot.address, 32).map_err(AttachError::Address)?;
        inside.add_route(Prefix::ALL, INSIDE_INDEX, Some(GATEWAY)).map_err(AttachError::Route)?;
        self.own.links.add_route(Prefix::one(slot.address), slot.index, None).map_err(AttachError::Route)?;
        // The end that has come up last can send at once; the other cannot.
        self.own.links.wait_until_up(slot.index, &self.news).map_err(AttachError::Link)?;
        Ok(slot.address)
    }

    /// Takes back everything. The uplink goes last: who takes its name again finds nothing else of that name.
    pub fn close(self) {
        let Self { own, host, uplink, uplink_index, forwarding, run, .. } = self;
        let _turn = turn(&run);
        // Before the filters go, so that nothing comes past them.
        let _ = own.enter().and_then(|()| set("ip_forward", "0"));
        if host.enter().is_ok() {
            forwarding.close(&host.filter);
            drop(host.filter);
            let _ = Socket::filter().and_then(|filter| filter.remove_table(&rules::guard(&uplink)));
        }
        let _ = host.links.remove_link(uplink_index);
    }
}

/// One worker at a time comes or goes. Where there can be no such folder, nobody is waited for.
fn turn(run: &Path) -> io::Result<File> {
    fs::create_dir_all(run)?;
    let lock = File::create(run.join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// Removes, from where the calling thread stands, the guards of uplinks that have gone with killed workers.
fn sweep(filter: &Socket) {
    let devices = forwarding::devices();
    for table in filter.tables().unwrap_or_default() {
        if rules::guarded(&table).is_some_and(|uplink| !devices.iter().any(|device| device == uplink)) {
            let _ = filter.remove_table(&table);
        }
    }
}

/// What is needed from a slot, in which the calling thread stands. It gets no IPv6: the kernel would begin to look for
/// neighbours.
fn visit() -> io::Result<(File, Socket)> {
    without_ipv6()?;
    Ok((File::open(OWN_NAMESPACE)?, Socket::route()?))
}

fn without_ipv6() -> io::Result<()> {
    match fs::write(NO_IPV6, "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn behave() -> io::Result<()> {
    without_ipv6()?;
    os::netlink::loopback_up()?;
    BEHAVIOUR.iter().try_for_each(|(name, value)| set(name, value))
}

/// Sets a switch of IPv4 where the calling thread stands.
pub fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/{name}"), value)
}

/// Connects the router with the host: the uplink, and the number of its host end.
fn make_uplink(host: &Place, router: &Place) -> Result<(Uplink, u32), OpenError> {
    let routes = host.links.routes().map_err(OpenError::Uplink)?;
    for uplink in Uplink::free(&routes) {
        let here = End { name: &uplink.name, index: 0, hardware: HOST_HARDWARE, resolve: true };
        let there = End { name: rules::UPLINK, index: 0, hardware: HARDWARE, resolve: true };
        match host.links.add_pair(here, there, router.namespace.as_fd()) {
            // Another worker has just taken it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made.map_err(OpenError::Uplink)?,
        }
        let outside = connect(host, router, &uplink).map_err(OpenError::Uplink)?;
        return Ok((uplink, outside));
    }
    Err(OpenError::NoAddress)
}

fn connect(host: &Place, router: &Place, uplink: &Uplink) -> io::Result<u32> {
    let (outside, inside) = (host.links.index_of(&uplink.name)?, router.links.index_of(rules::UPLINK)?);
    router.links.bring_up(inside)?;
    host.links.add_address(outside, uplink.host, 31)?;
    router.links.add_address(inside, uplink.router, 31)?;
    router.links.add_route(Prefix::ALL, inside, Some(uplink.host))?;
    Ok(outside)
}
