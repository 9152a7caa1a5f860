//! The memories that connections lie in: of two processes, of one connection alone, or of all of a Pod.
//!
//! A Pod is a network: the processes of one user in one network namespace, or in the halves of one split network. A memory has room for
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
const _: () = assert!(socket::member::COME_WITHIN < PATIENCE.as_nanos() as u64);
/// The same, until a memory goes that an end was told of.
const LATE: Duration = Duration::from_secs(60);

/// Who has a memory together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// The two processes of a connection, and nobody else.
    #[default]
    Pair,
    /// The two ends of one connection: its memory is its own, and goes with it.
    Strict,
    /// All processes of a Pod that are of one user: they trust each other. Those of two users have a pair.
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
    /// It was taken over.
    over: bool,
}

struct Memory {
    file: Arc<OwnedFd>,
    /// By what the kernel says of it.
    identity: (u64, u64),
    watched: Watched,
    /// Of each connection that was ever given.
    given: BTreeMap<usize, Given>,
    stores: Vec<Store>,
}

/// Whose a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Had(Number),
    /// Its process is gone; others may still read what it has sent.
    Left(Number),
    Free,
}

/// All of them.
#[derive(Default)]
pub struct Memories {
    sharing: Sharing,
    pairs: HashMap<[Number; 2], Memory>,
    /// Of one connection each, by its meeting.
    strict: HashMap<u64, Memory>,
    /// By network and user.
    pods: HashMap<(u64, u32), Vec<Memory>>,
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
        let user = parties[0].user;
        let sharing = match self.sharing {
            Sharing::Pod if parties[1].user != user => Sharing::Pair,
            sharing => sharing,
        };
        match sharing {
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
            Sharing::Strict => {
                let mut memory = Memory::new(socket::region::publish_pair().ok()?)?;
                // Who talks to himself has the first of the two stores.
                let stores = memory.stores(owners, pairs, most)?;
                let place = give(&mut memory, stores);
                self.strict.insert(meeting, memory);
                place
            }
            Sharing::Pod => {
                let pods = self.pods.entry((network, user)).or_default();
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
        // What it has sent can still be received: of that, those know who watch it.
        self.strict.retain(|_, memory| !memory.stores.contains(&Store::Had(member)));
        for pods in self.pods.values_mut() {
            pods.iter_mut().for_each(|memory| memory.leave(member));
            pods.retain(Memory::is_of_use);
        }
        self.pods.retain(|_, pods| !pods.is_empty());
    }

    /// Gives back what connections had that are closed: whether there are any left.
    pub fn sweep(&mut self, pairs: &mut Pairs) -> bool {
        self.strict.retain(|_, memory| {
            let is_over = memory.is_over();
            if is_over {
                pairs.forget(memory.identity);
            }
            !is_over
        });
        let all = self.pairs.values_mut().chain(self.pods.values_mut().flatten());
        // All of them are to be looked at.
        all.map(|memory| memory.sweep(pairs)).fold(!self.strict.is_empty(), |left, some| left | some)
    }

    /// Whether this is one of them.
    pub fn has(&self, memory: &OwnedFd) -> bool {
        let identity = Watched::identity(memory).ok();
        let mut all = self.all();
        all.any(|memory| Some(memory.identity) == identity)
    }

    /// Those of the connections in them that one who is asked for has an end of.
    pub fn census(&self, is_shown: impl Fn(&Party) -> bool + Copy) -> Vec<Connection> {
        self.all().flat_map(|memory| memory.census(is_shown)).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Memory> {
        self.pairs.values().chain(self.strict.values()).chain(self.pods.values().flatten())
    }
}

impl Memory {
    fn new(file: OwnedFd) -> Option<Self> {
        let identity = Watched::identity(&file).ok()?;
        let file = Arc::new(file);
        let watched = Watched::new(file.clone()).ok()?;
        Some(Self { file, identity, watched, given: BTreeMap::new(), stores: Vec::new() })
    }

    /// The stores of two members, which are given what they do not have.
    fn stores(&mut self, owners: [Number; 2], pairs: &mut Pairs, most: usize) -> Option<[u8; 2]> {
        let missing = owners.iter().filter(|owner| !self.stores.contains(&Store::Had(**owner))).count();
        let missing = if owners[0] == owners[1] { missing.min(1) } else { missing };
        let had = self.stores.iter().filter(|store| **store != Store::Free).count();
        if had + missing > STORES_MAX {
            return None;
        }
        let mut store = |owner| {
            let known = self.stores.iter().position(|known| *known == Store::Had(owner));
            let known = known.and_then(|known| u8::try_from(known).ok());
            known.or_else(|| self.admit(owner, pairs, most))
        };
        Some([store(owners[0])?, store(owners[1])?])
    }

    /// Whether somebody is left who may have a connection.
    fn is_of_use(&self) -> bool {
        self.stores.iter().any(|store| matches!(store, Store::Had(_)))
    }

    /// Gives a member a store that nobody has.
    fn admit(&mut self, owner: Number, pairs: &mut Pairs, most: usize) -> Option<u8> {
        let free = self.stores.iter().position(|store| *store == Store::Free);
        let store = free.unwrap_or(self.stores.len());
        if pairs.of(owner) >= most || !pairs.add(owner, self.file.clone(), store, false) {
            return None;
        }
        match self.stores.get_mut(store) {
            Some(free) => *free = Store::Had(owner),
            None => self.stores.push(Store::Had(owner)),
        }
        u8::try_from(store).ok()
    }

    /// The lowest connection that nobody has, so that few of them have memory.
    fn give(&mut self, meeting: u64, parties: [Party; 2], stores: [u8; 2]) -> Option<Place> {
        let free = (0..CONNECTIONS).find(|connection| {
            self.given.get(connection).is_none_or(|given| !given.orphan && !self.is_had(*connection, given))
        })?;
        self.given
            .insert(free, Given { meeting, since: Instant::now(), parties, orphan: false, swept: false, over: false });
        Some(Place { memory: self.file.clone(), connection: u16::try_from(free).ok()?, stores })
    }

    /// Whether somebody has this connection, or may be on his way to it.
    fn is_had(&self, connection: usize, given: &Given) -> bool {
        !self.watched.is_free(connection, given.meeting, given.over || given.since.elapsed() > PATIENCE)
    }

    /// Whether the one connection of it has been there, and is not any more; or nobody has come to it, for long.
    fn is_over(&self) -> bool {
        let late = |given: &Given| given.since.elapsed() > LATE;
        self.given.iter().all(|(&number, given)| self.watched.is_free(number, given.meeting, late(given)))
    }

    /// Whether a process is there no more, nor any that it has forked: none of them comes back to anything.
    fn is_gone(&self, owner: Number) -> bool {
        !self.stores.contains(&Store::Had(owner))
    }

    /// Takes over what killed processes have left: connections whose other ends have left too, or will not come; then their stores.
    fn take_over(&mut self, pairs: &mut Pairs) {
        let orphans: Vec<usize> = self.given.iter().filter(|(_, given)| given.orphan).map(|(at, _)| *at).collect();
        for connection in orphans {
            let Some(given) = self.given.get(&connection) else { continue };
            let gone = given.parties.map(|party| self.is_gone(party.owner));
            let is_late = given.since.elapsed() > PATIENCE;
            let over = (0..2).all(|side| {
                let away = || is_late && !self.watched.is_open(connection, side, given.meeting);
                gone[side] || self.watched.has_left(connection, side, given.meeting) || away()
            });
            if over {
                (0..2).filter(|&side| gone[side]).for_each(|side| self.watched.leave(connection, side));
                let cleared = self.watched.clear_locals(connection).is_ok();
                if let Some(given) = self.given.get_mut(&connection).filter(|_| cleared) {
                    (given.orphan, given.swept, given.over) = (false, true, true);
                }
            }
        }
        for store in 0..self.stores.len() {
            let Store::Left(owner) = self.stores[store] else { continue };
            let is_of = |given: &Given| given.parties.iter().any(|party| party.owner == owner);
            let mut used = self.given.iter().filter(|(_, given)| is_of(given));
            if !used.any(|(at, given)| given.orphan || self.is_had(*at, given)) && pairs.release(self.identity, store) {
                self.stores[store] = Store::Free;
            }
        }
    }

    /// Whether a connection is left that may close, or a store that may be had again.
    fn sweep(&mut self, pairs: &mut Pairs) -> bool {
        self.take_over(pairs);
        let mut left = self.stores.iter().any(|store| matches!(store, Store::Left(_)));
        for (&connection, given) in self.given.iter_mut().filter(|(_, given)| !given.swept && !given.orphan) {
            // Both were there and have left: nobody comes back to it before it is given again, and that is done here.
            given.swept =
                self.watched.is_free(connection, given.meeting, false) && self.watched.clear_locals(connection).is_ok();
            left |= !given.swept;
        }
        left
    }

    fn leave(&mut self, member: Number) {
        let had = Store::Had(member);
        self.stores.iter_mut().filter(|store| **store == had).for_each(|store| *store = Store::Left(member));
        let had: Vec<usize> =
            self.given.iter().filter(|(at, given)| self.is_had(**at, given)).map(|(at, _)| *at).collect();
        for connection in had {
            if let Some(given) = self.given.get_mut(&connection) {
                given.orphan |= given.parties.iter().any(|party| party.owner == member);
            }
        }
    }

    fn census(&self, is_shown: impl Fn(&Party) -> bool) -> Vec<Connection> {
        let held = self.watched.held();
        let shown = self.given.iter().filter(|(_, given)| given.parties.iter().any(&is_shown));
        let had = shown.filter(|(connection, given)| !given.orphan && self.is_had(**connection, given));
        let shown = had.map(|(&connection, given)| {
            let through = [0, 1].map(|side| self.watched.sends_through(connection, side, given.meeting));
            let bytes = held.get(&connection).map_or(0, |records| (records * RECORD) as u64);
            census::met(given.parties, through, bytes)
        });
        shown.collect()
    }
}
