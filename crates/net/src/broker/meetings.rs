//! Bringing together the two ends of a TCP connection that want memory between them.
//!
//! An end is offered with its socket, of which the kernel says what it is: whose namespace, which addresses. Whoever has an end
//! of a connection in his hands can have its bytes anyway, so that is all the right it takes; nobody can name a connection
//! that is not his. When both ends were offered, their processes get the memory that they share, and the connection's
//! number in it ([`super::memory`]). What goes through it is not seen here.

use super::adopted::Adopted;
use super::census;
use super::members::{Bell, Number};
use super::memory::{Memories, Place, Sharing};
use super::networks::Networks;
use super::pairs::Pairs;
use api::node::Sockets;
use socket::member::{Connection, Meeting};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// A connection, as one of its ends sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Of its namespace.
    network: u64,
    own: SocketAddr,
    peer: SocketAddr,
}

impl Key {
    /// Of a socket; nothing if it is no connection over TCP.
    pub fn of(socket: impl AsFd, networks: &mut Networks) -> Option<Self> {
        use rustix::net::{getpeername, getsockname, ipproto, sockopt};
        let socket = socket.as_fd();
        if sockopt::socket_protocol(socket).ok()? != Some(ipproto::TCP) {
            return None;
        }
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let peer = plain(SocketAddr::try_from(getpeername(socket).ok()??).ok()?);
        let own = plain(SocketAddr::try_from(getsockname(socket).ok()?).ok()?);
        let own = called(socket, own, peer).unwrap_or(own);
        Some(Self { network: networks.of(os::netlink::namespace_of(socket).ok()?), own, peer })
    }

    /// The addresses of this end and of the other.
    pub fn ends(self) -> [SocketAddr; 2] {
        [self.own, self.peer]
    }

    /// As the other end sees it.
    pub fn reversed(self) -> Self {
        Self { own: self.peer, peer: self.own, ..self }
    }
}

/// The address that was called, where a rule of the namespace hands connections to a proxy: the end that has called knows of no
/// other. Whoever can write such rules has all connections of the network in his hands.
fn called(socket: impl AsFd, own: SocketAddr, peer: SocketAddr) -> Option<SocketAddr> {
    use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
    // Within a machine, or the halves of one, both ends see the same addresses.
    if peer.ip().is_loopback() || peer.ip() == own.ip() {
        return None;
    }
    let called = match peer {
        SocketAddr::V4(_) => SocketAddr::V4(ip_original_dst(socket).ok()?),
        SocketAddr::V6(_) => SocketAddr::V6(ipv6_original_dst(socket).ok()?),
    };
    // Of the end that has called, it is the other one.
    (called != peer).then_some(called)
}

/// Who offers an end.
#[derive(Clone, Copy, Debug)]
pub struct By {
    /// The connection by which it is offered.
    pub offer: Number,
    /// The process's place.
    pub owner: Number,
    /// Its number with the kernel.
    pub process: i32,
    /// Whose it is.
    pub user: u32,
}

/// A side of a meeting.
#[derive(Clone, Copy, Debug)]
pub struct Party {
    pub owner: Number,
    pub process: i32,
    pub user: u32,
    pub address: SocketAddr,
}

/// An end that waits for the other, and how its receiver is woken.
struct End {
    by: By,
    address: SocketAddr,
    bell: Option<Bell>,
}

impl End {
    fn party(&self) -> Party {
        Party { owner: self.by.owner, process: self.by.process, user: self.by.user, address: self.address }
    }
}

/// What has come of an offer.
pub enum Offered {
    /// It waits. The same end was offered before: the later one is at work.
    Waits {
        instead_of: Option<Number>,
    },
    Met(Met),
}

/// Two ends that have met.
pub struct Met {
    pub memory: Arc<OwnedFd>,
    /// By whom each was offered, what it is told, and how the other is woken.
    pub ends: [(Number, Meeting, Option<Bell>); 2],
}

/// All of them.
pub struct Meetings {
    waiting: HashMap<Key, End>,
    memories: Memories,
    adopted: Adopted,
    met: u64,
    /// The number of the next one, above those of all brokers that there were since the machine has started.
    next: u64,
}

impl Meetings {
    pub fn new(sharing: Sharing) -> Self {
        let (waiting, memories, adopted) = (HashMap::new(), Memories::new(sharing), Adopted::default());
        Self { waiting, memories, adopted, met: 0, next: os::monotonic_ns().max(1) }
    }

    /// How many there were.
    pub fn met(&self) -> u64 {
        self.met
    }

    /// The end `key` of a connection is offered. None: it gets no memory. `most`: memories of one process.
    pub fn offer(
        &mut self,
        by: By,
        (key, bell): (Key, Option<Bell>),
        networks: &Networks,
        (pairs, most): (&mut Pairs, usize),
    ) -> Option<Offered> {
        let end = End { by, address: key.own, bell };
        let waits = self.waiting.get(&key.reversed());
        if waits.is_some_and(|other| !networks.allows(key.network, [by.user, other.by.user])) {
            return None;
        }
        let Some(other) = self.waiting.remove(&key.reversed()) else {
            let instead_of = self.waiting.insert(key, end).map(|before| before.by.offer);
            return Some(Offered::Waits { instead_of });
        };
        let waits = By { ..other.by };
        let (first, second) = if by.owner <= waits.owner { (&end, &other) } else { (&other, &end) };
        let sides = [first.by.owner, second.by.owner];
        let meeting = (self.next, sides, [first.party(), second.party()]);
        match self.memories.place(key.network, meeting, pairs, most) {
            Some(place) => {
                let number = self.next;
                (self.met, self.next) = (self.met + 1, self.next + 1);
                let sides = if by.owner <= waits.owner { [end, other] } else { [other, end] };
                Some(Offered::Met(meet(place, number, sides)))
            }
            None => {
                // It waits on, until it gives up.
                self.waiting.insert(key.reversed(), other);
                None
            }
        }
    }

    /// A process tells of a connection that another broker has brought together, in memory that it has, and that is watched.
    pub fn adopt(&mut self, memory: &Arc<OwnedFd>, connection: Connection, key: Key, by: By) {
        if !self.memories.has(memory) {
            let By { owner, process, user, .. } = by;
            self.adopted.add(memory, connection, key, Party { owner, process, user, address: key.own });
        }
    }

    /// Who has offered something is gone.
    pub fn withdraw(&mut self, offer: Number) {
        self.waiting.retain(|_, end| end.by.offer != offer);
    }

    /// A process is gone.
    pub fn leave(&mut self, owner: Number) {
        self.waiting.retain(|_, end| end.by.owner != owner);
        self.memories.leave(owner);
        self.adopted.leave(owner);
    }

    /// Gives back what connections had that are closed: whether there are any left.
    pub fn sweep(&mut self, pairs: &mut Pairs) -> bool {
        // Both are to be looked through.
        self.memories.sweep(pairs) | self.adopted.sweep(pairs)
    }

    /// What there is, of `processes`: the connections of a user, or of all.
    pub fn census(&self, processes: usize, user: Option<u32>) -> Sockets {
        let is_shown = |party: &Party| user.is_none_or(|user| party.user == user);
        let mut connections = self.memories.census(is_shown);
        connections.extend(self.adopted.census(is_shown));
        let waiting = self.waiting.iter().map(|(key, end)| (key, end.party())).filter(|(_, party)| is_shown(party));
        connections.extend(waiting.map(|(key, party)| census::half(party, key.peer)));
        // How many others had is not a user's to know.
        let is_met = |known: &&api::node::Connection| known.ends.iter().all(|end| end.process.is_some());
        let met = user.map_or(self.met, |_| connections.iter().filter(is_met).count() as u64);
        Sockets { broker: true, processes: processes as u64, met, connections }
    }
}

fn meet(place: Place, number: u64, [first, second]: [End; 2]) -> Met {
    let Place { memory, connection, stores: [one, two] } = place;
    let now = os::monotonic_ns();
    // Who has a bell can read it too, and so keep others' rings from its owner: no user's is given to another.
    let bells = |bell: Option<Bell>| bell.filter(|_| first.by.user == second.by.user);
    let told = |by: By, side, stores, bell: Option<Bell>| {
        let bell = bells(bell);
        let which = bell.as_ref().map_or(0, |bell| bell.number);
        (by.offer, Meeting { number, side, connection, stores, bell: which, told: now }, bell)
    };
    Met { memory, ends: [told(first.by, 0, [one, two], second.bell), told(second.by, 1, [two, one], first.bell)] }
}
