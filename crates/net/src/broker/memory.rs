//! The memories that connections lie in: of two processes, or of all of a Pod.
//!
//! A Pod is a network: the processes in one network namespace, or in the halves of one split network. A memory has room for
//! sixteen of them; who comes later gets another one, as does a pair of whom one is in this memory and the other in that.

use super::census;
use super::meetings::Party;
use super::members::Number;
use super::pairs::Pairs;
use api::node::Connection;
use socket::layout::{CONNECTIONS, RECORD, STORES_MAX};
use socket::watch::Watched;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an end may take to go where it was told, before another may be told the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who has a memory together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// The two processes of a connection, and nobody else.
    #[default]
    Pair,
    /// All processes of a Pod: they trust each other.
    Pod,
}

/// Where a connection lies.
pub struct Place {
    pub memory: Arc<OwnedFd>,
    pub connection: u16,
    /// Of the processes that are its sides.
    pub stores: [u8; 2],
}

/// A meeting that a connection's number was given to.
struct Given {
    meeting: u64,
    since: Instant,
    parties: [Party; 2],
    /// A process of it is gone without having left: it cannot be known whether the other has.
    orphan: bool,
    /// Both have left, and what it had of its own is given back.
    swept: bool,
}

struct Memory {
    file: Arc<OwnedFd>,
    /// By what the kernel says of it.
    identity: (u64, u64),
    watched: Watched,
    /// Of each connection that was ever given.
    given: BTreeMap<usize, Given>,
    /// Whose each store is, or was.
    owners: Vec<Number>,
}

/// All of them.
#[derive(Default)]
pub struct Memories {
    sharing: Sharing,
    pairs: HashMap<[Number; 2], Memory>,
    /// By network.
    pods: HashMap<u64, Vec<Memory>>,
}

impl Memories {
    pub fn new(sharing: Sharing) -> Self {
        Self { sharing, ..Self::default() }
    }

    /// A place for the connection of a meeting, whose sides are these owners. `most`: memories of one process.
    pub fn place(
        &mut self,
        network: u64,
        (meeting, owners, parties): (u64, [Number; 2], [Party; 2]),
        pairs: &mut Pairs,
        most: usize,
    ) -> Option<Place> {
        let give = |memory: &mut Memory, stores| memory.give(meeting, parties, stores);
        match self.sharing {
            Sharing::Pair => {
                let memory = match self.pairs.entry(owners) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => {
                        let mut memory = Memory::new(socket::region::publish_pair().ok()?)?;
                        owners.iter().try_for_each(|&owner| memory.admit(owner, pairs, most).map(drop))?;
                        place.insert(memory)
                    }
                };
                give(memory, [0, 1])
            }
            Sharing::Pod => {
                let pods = self.pods.entry(network).or_default();
                let found = pods.iter_mut().find_map(|memory| {
                    let stores = memory.stores(owners, pairs, most)?;
                    give(memory, stores)
                });
                found.or_else(|| {
                    let mut memory = Memory::new(socket::region::publish_pod().ok()?)?;
                    let stores = memory.stores(owners, pairs, most)?;
                    let place = give(&mut memory, stores);
                    pods.push(memory);
                    place
                })
            }
        }
    }

    /// A process is gone.
    pub fn leave(&mut self, member: Number) {
        self.pairs.retain(|owners, _| !owners.contains(&member));
        for pods in self.pods.values_mut() {
            pods.iter_mut().for_each(|memory| memory.leave(member));
            pods.retain(Memory::is_of_use);
        }
        self.pods.retain(|_, pods| !pods.is_empty());
    }

    /// Gives back what connections had that are closed: whether there are any left.
    pub fn sweep(&mut self) -> bool {
        let all = self.pairs.values_mut().chain(self.pods.values_mut().flatten());
        // All of them are to be looked at.
        all.map(Memory::sweep).fold(false, |left, some| left | some)
    }

    /// Whether this is one of them.
    pub fn has(&self, memory: &OwnedFd) -> bool {
        let identity = Watched::identity(memory).ok();
        let mut all = self.pairs.values().chain(self.pods.values().flatten());
        all.any(|memory| Some(memory.identity) == identity)
    }

    /// All connections in them.
    pub fn census(&self) -> Vec<Connection> {
        let all = self.pairs.values().chain(self.pods.values().flatten());
        all.flat_map(Memory::census).collect()
    }
}

/// Instead of a member that is gone: its store is nobody else's.
const GONE: Number = Number::MAX;

impl Memory {
    fn new(file: OwnedFd) -> Option<Self> {
        let identity = Watched::identity(&file).ok()?;
        let watched = Watched::new(file.try_clone().ok()?).ok()?;
        Some(Self { file: Arc::new(file), identity, watched, given: BTreeMap::new(), owners: Vec::new() })
    }

    /// The stores of two members, which are given what they do not have.
    fn stores(&mut self, owners: [Number; 2], pairs: &mut Pairs, most: usize) -> Option<[u8; 2]> {
        let missing = owners.iter().filter(|owner| !self.owners.contains(owner)).count();
        let missing = if owners[0] == owners[1] { missing.min(1) } else { missing };
        if self.owners.len() + missing > STORES_MAX {
            return None;
        }
        let mut store = |owner| {
            let known = self.owners.iter().position(|known| *known == owner).and_then(|known| u8::try_from(known).ok());
            known.or_else(|| self.admit(owner, pairs, most))
        };
        Some([store(owners[0])?, store(owners[1])?])
    }

    /// Whether two of its processes may still have a connection.
    fn is_of_use(&self) -> bool {
        let left = self.owners.iter().filter(|owner| **owner != GONE).count();
        left > 1 || left == 1 && self.owners.len() < STORES_MAX
    }

    /// Gives a member the next store.
    fn admit(&mut self, owner: Number, pairs: &mut Pairs, most: usize) -> Option<u8> {
        let store = self.owners.len();
        if pairs.of(owner) >= most || !pairs.add(owner, self.file.try_clone().ok()?, store, false) {
            return None;
        }
        self.owners.push(owner);
        u8::try_from(store).ok()
    }

    /// The lowest connection that nobody has, so that few of them have memory.
    fn give(&mut self, meeting: u64, parties: [Party; 2], stores: [u8; 2]) -> Option<Place> {
        let free = (0..CONNECTIONS).find(|connection| {
            self.given.get(connection).is_none_or(|given| !given.orphan && !self.is_had(*connection, given))
        })?;
        self.given.insert(free, Given { meeting, since: Instant::now(), parties, orphan: false, swept: false });
        Some(Place { memory: self.file.clone(), connection: u16::try_from(free).ok()?, stores })
    }

    /// Whether somebody has this connection, or may be on his way to it.
    fn is_had(&self, connection: usize, given: &Given) -> bool {
        !self.watched.is_free(connection, given.meeting, given.since.elapsed() > PATIENCE)
    }

    /// Whether a connection is left that may close.
    fn sweep(&mut self) -> bool {
        let mut left = false;
        for (&connection, given) in self.given.iter_mut().filter(|(_, given)| !given.swept && !given.orphan) {
            // Both were there and have left: nobody comes back to it before it is given again, and that is done here.
            given.swept =
                self.watched.is_free(connection, given.meeting, false) && self.watched.clear_locals(connection).is_ok();
            left |= !given.swept;
        }
        left
    }

    fn leave(&mut self, member: Number) {
        self.owners.iter_mut().filter(|owner| **owner == member).for_each(|owner| *owner = GONE);
        let had: Vec<usize> =
            self.given.iter().filter(|(at, given)| self.is_had(**at, given)).map(|(at, _)| *at).collect();
        for connection in had {
            if let Some(given) = self.given.get_mut(&connection) {
                given.orphan |= given.parties.iter().any(|party| party.owner == member);
            }
        }
    }

    fn census(&self) -> Vec<Connection> {
        let held = self.watched.held();
        let had = self.given.iter().filter(|(connection, given)| !given.orphan && self.is_had(**connection, given));
        let shown = had.map(|(&connection, given)| {
            let through = [0, 1].map(|side| self.watched.sends_through(connection, side, given.meeting));
            let bytes = held.get(&connection).map_or(0, |records| (records * RECORD) as u64);
            census::met(given.parties, through, bytes)
        });
        shown.collect()
    }
}
