//! Bringing together the two ends of a TCP connection that want memory between them.
//!
//! An end is offered with its socket, of which the kernel says what it is: whose namespace, which addresses. Whoever has an end
//! of a connection in his hands can have its bytes anyway, so that is all the right it takes; nobody can name a connection
//! that is not his. When both ends were offered, their processes get the memory that they share, and the connection's
//! number in it. What goes through it is not seen here.

use super::members::{Bell, Number};
use super::pairs::Pairs;
use socket::layout::CONNECTIONS;
use socket::member::Meeting;
use socket::watch::Watched;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an end may take to go where it was told, before another may be told the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection, as one of its ends sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// Network namespace.
    net: u64,
    own: SocketAddr,
    peer: SocketAddr,
}

impl Key {
    /// Of a socket; nothing if it is no connection over TCP.
    fn of(socket: impl AsFd) -> Option<Self> {
        use rustix::net::{getpeername, getsockname, ipproto, sockopt};
        let socket = socket.as_fd();
        if sockopt::socket_protocol(socket).ok()? != Some(ipproto::TCP) {
            return None;
        }
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Some(Self {
            net: os::netlink::namespace_of(socket).ok()?,
            own: plain(SocketAddr::try_from(getsockname(socket).ok()?).ok()?),
            peer: plain(SocketAddr::try_from(getpeername(socket).ok()??).ok()?),
        })
    }

    fn reversed(self) -> Self {
        Self { net: self.net, own: self.peer, peer: self.own }
    }
}

/// An end that waits for the other: the connection that has offered it, whose it is, and how its receiver is woken.
struct End {
    by: Number,
    owner: Number,
    bell: Option<Bell>,
}

/// The memory of two processes, or of one that talks to itself.
struct Memory {
    file: Arc<OwnedFd>,
    watched: Watched,
    /// Of each connection that was ever given: to which meeting, and when.
    given: BTreeMap<usize, (u64, Instant)>,
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
#[derive(Default)]
pub struct Meetings {
    waiting: HashMap<Key, End>,
    memories: HashMap<[Number; 2], Memory>,
    met: u64,
}

impl Meetings {
    /// How many there were.
    pub fn met(&self) -> u64 {
        self.met
    }

    /// An end of a connection is offered by `by`, for the process `owner`. None: it is no such end, or gets no memory.
    pub fn offer(
        &mut self,
        (by, owner): (Number, Number),
        (socket, bell): (&OwnedFd, Option<Bell>),
        pairs: &mut Pairs,
        most: usize,
    ) -> Option<Offered> {
        let key = Key::of(socket)?;
        let end = End { by, owner, bell };
        match self.waiting.remove(&key.reversed()) {
            None => {
                let instead_of = self.waiting.insert(key, end).map(|before| before.by);
                Some(Offered::Waits { instead_of })
            }
            Some(other) => match self.place([owner, other.owner], pairs, most) {
                Some(place) => Some(Offered::Met(meet(place, end, other))),
                None => {
                    // It waits on, until it gives up.
                    self.waiting.insert(key.reversed(), other);
                    None
                }
            },
        }
    }

    /// A memory, a connection in it, and a meeting's number.
    fn place(&mut self, owners: [Number; 2], pairs: &mut Pairs, most: usize) -> Option<(Arc<OwnedFd>, u16, u64)> {
        let owners = [owners[0].min(owners[1]), owners[0].max(owners[1])];
        let memory = match self.memories.entry(owners) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Memory::between(owners, pairs, most)?),
        };
        let number = self.met + 1;
        let connection = memory.give(number)?;
        self.met = number;
        Some((memory.file.clone(), connection, number))
    }

    /// Somebody is gone: one that has offered something, or a process.
    pub fn leave(&mut self, number: Number) {
        self.waiting.retain(|_, end| end.by != number && end.owner != number);
        self.memories.retain(|owners, _| !owners.contains(&number));
    }
}

fn meet((memory, connection, number): (Arc<OwnedFd>, u16, u64), one: End, other: End) -> Met {
    let (first, second) = if one.owner <= other.owner { (one, other) } else { (other, one) };
    let told = |by, side, bell: Option<Bell>| {
        let which = bell.as_ref().map_or(0, |bell| bell.number);
        (by, Meeting { number, side, connection, bell: which }, bell)
    };
    Met { memory, ends: [told(first.by, 0, second.bell), told(second.by, 1, first.bell)] }
}

impl Memory {
    fn between(owners: [Number; 2], pairs: &mut Pairs, most: usize) -> Option<Self> {
        if owners.iter().any(|&owner| pairs.of(owner) >= most) {
            return None;
        }
        let file = socket::region::publish_pair().ok()?;
        for (store, owner) in owners.into_iter().enumerate() {
            pairs.add(owner, file.try_clone().ok()?, store);
        }
        let watched = Watched::new(file.try_clone().ok()?).ok()?;
        Some(Self { file: Arc::new(file), watched, given: BTreeMap::new() })
    }

    /// The lowest connection that nobody has, so that few of them have memory.
    fn give(&mut self, meeting: u64) -> Option<u16> {
        let now = Instant::now();
        let free = (0..CONNECTIONS).find(|&connection| match self.given.get(&connection) {
            None => true,
            Some((before, since)) => self.watched.is_free(connection, *before, now.duration_since(*since) > PATIENCE),
        })?;
        self.given.insert(free, (meeting, now));
        u16::try_from(free).ok()
    }
}
