//! The memories that a broker watches, of pairs and of pods, and what it does about their records.

use super::members::{Members, Number};
use socket::layout::RECORD;
use socket::watch::Watched;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Records that are taken back in one turn: senders are kept out meanwhile.
const TURN: usize = 64;
/// Records that are had there ahead of a process that grows.
const AHEAD: usize = 8;
/// What a process's memory may be beyond its limit, in records: what is had there ahead, and what threads take at once.
const SLACK: usize = 64;
/// How long what a process has sent can be received after it is gone.
const FAREWELL: u64 = 60_000_000_000;

/// Whose a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Nobody has said yet.
    Unknown,
    Member(Number),
    /// Gone since then.
    Gone(u64),
}

struct Watch {
    watched: Watched,
    /// Another broker has made it: others may have it who have not told of it yet, or are children of some who have. So it is only
    /// taken from who is there, who hears of it.
    adopted: bool,
    /// Of each store: whose it is, records that were ever taken, and those that had memory when it was last looked at.
    owners: Vec<Owner>,
    top: Vec<usize>,
    had: Vec<usize>,
}

/// What there is to do, by how soon it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    Nothing,
    /// Something is taken, and nothing has moved.
    Still,
    Moves,
    Grows,
}

/// All of them, by their memory.
#[derive(Default)]
pub struct Pairs {
    all: HashMap<(u64, u64), Watch>,
}

impl Pairs {
    /// How many a process is in.
    pub fn of(&self, member: Number) -> usize {
        self.all.values().filter(|watch| watch.owners.contains(&Owner::Member(member))).count()
    }

    /// How many those are in who are so.
    pub fn held_by(&self, so: impl Fn(Number) -> bool) -> usize {
        let is_had = |owner: &Owner| matches!(owner, Owner::Member(member) if so(*member));
        self.all.values().filter(|watch| watch.owners.iter().any(is_had)).count()
    }

    /// Watches memory of which `member` has the store of this number, or goes on to. False: it is none, or another's.
    /// `adopted`: another broker has made it.
    pub fn add(&mut self, member: Number, memory: Arc<OwnedFd>, store: usize, adopted: bool) -> bool {
        let Ok(identity) = Watched::identity(&memory) else { return false };
        let watch = match self.all.entry(identity) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match Watch::new(memory, adopted).filter(|watch| store < watch.owners.len()) {
                Some(watch) => place.insert(watch),
                None => return false,
            },
        };
        let Some(owner) = watch.owners.get_mut(store) else { return false };
        if *owner == Owner::Unknown {
            *owner = Owner::Member(member);
        }
        *owner == Owner::Member(member)
    }

    /// Watches a memory no more.
    pub fn forget(&mut self, identity: (u64, u64)) {
        self.all.remove(&identity);
    }

    /// Makes a store ready for another member, whose owner is gone: whether it is.
    pub fn release(&mut self, identity: (u64, u64), store: usize) -> bool {
        let Some(watch) = self.all.get_mut(&identity) else { return false };
        let gone = matches!(watch.owners.get(store), Some(Owner::Gone(_)));
        let ready = gone && watch.watched.reset(store).is_ok();
        if ready {
            (watch.owners[store], watch.top[store], watch.had[store]) = (Owner::Unknown, 0, 0);
        }
        ready
    }

    /// Whether a member has this store already.
    pub fn has(&self, member: Number, memory: &OwnedFd, store: usize) -> bool {
        let watch = Watched::identity(memory).ok().and_then(|identity| self.all.get(&identity));
        watch.is_some_and(|watch| watch.owners.get(store) == Some(&Owner::Member(member)))
    }

    /// A process is gone.
    pub fn leave(&mut self, member: Number, now: u64) {
        for watch in self.all.values_mut() {
            for owner in &mut watch.owners {
                if *owner == Owner::Member(member) {
                    *owner = Owner::Gone(now);
                }
            }
        }
    }

    /// Records that have memory, as of the last look.
    pub fn had(&self) -> usize {
        self.all.values().flat_map(|watch| &watch.had).sum()
    }

    /// Looks at all of them. `limit`: records of a process, now.
    pub fn look(&mut self, members: &Members, now: u64, idle: u64, limit: impl Fn(Number) -> usize) -> Work {
        let mut work = Work::Nothing;
        self.all.retain(|_, watch| {
            // Where the kernel does not answer, there is nothing to be watched.
            let found = watch.look(members, now, idle, &limit).unwrap_or(None);
            work = work.max(found.unwrap_or(Work::Nothing));
            found.is_some()
        });
        work
    }

    /// Takes what a process has beyond what it was ever allowed, whatever is in it: it has not kept to what it was told.
    pub fn bound(&self, each: usize) {
        let most = (each + SLACK) as u64 * RECORD as u64;
        // The whole of a memory is known at once; what of it is whose is asked for page by page.
        let mut whole = HashMap::<Number, u64>::new();
        for (watch, _, member) in self.stores() {
            *whole.entry(member).or_default() += watch.watched.whole().unwrap_or(u64::MAX / 4096);
        }
        let mut resident = HashMap::<Number, u64>::new();
        for (watch, store, member) in
            self.stores().filter(|(.., member)| whole.get(member).is_some_and(|bytes| *bytes > most))
        {
            *resident.entry(member).or_default() += watch.watched.resident(store).unwrap_or(0);
        }
        resident.retain(|_, bytes| *bytes > most);
        for (watch, store, member) in self.stores() {
            if let Some(bytes) = resident.get(&member) {
                tracing::warn!(bytes, most, "a process's records are more than it may have: they are taken from it");
                let _ = watch.watched.clear(store);
            }
        }
    }

    /// Whose they are.
    fn stores(&self) -> impl Iterator<Item = (&Watch, usize, Number)> {
        self.all.values().flat_map(|watch| {
            let members = watch.owners.iter().enumerate();
            members.filter_map(move |(store, owner)| match owner {
                Owner::Member(member) => Some((watch, store, *member)),
                _ => None,
            })
        })
    }
}

impl Watch {
    fn new(memory: Arc<OwnedFd>, adopted: bool) -> Option<Self> {
        let watched = Watched::new(memory).ok()?;
        let stores = watched.stores();
        Some(Self {
            watched,
            adopted,
            owners: vec![Owner::Unknown; stores],
            top: vec![0; stores],
            had: vec![0; stores],
        })
    }

    /// None: there is nothing left to be watched.
    fn look(
        &mut self,
        members: &Members,
        now: u64,
        idle: u64,
        limit: impl Fn(Number) -> usize,
    ) -> io::Result<Option<Work>> {
        let left = self.owners.iter().filter(|owner| matches!(owner, Owner::Member(_))).count();
        let ends = self.owners.iter().filter_map(|owner| if let Owner::Gone(at) = owner { Some(*at) } else { None });
        let since = ends.max();
        // Of a pair, one is left: what it sends, nobody receives.
        let alone = !self.adopted && self.owners.len() == 2 && left == 1 && since.is_some();
        let mut work = Work::Nothing;
        for store in 0..self.owners.len() {
            work = work.max(match self.owners[store] {
                Owner::Gone(_) if left > 0 && !self.adopted => self.trim(None, store, now, 0)?,
                Owner::Member(_) if alone => self.watched.clear(store).map(|()| Work::Nothing)?,
                Owner::Member(number) => {
                    let grown = self.grow(store, limit(number))?;
                    grown.max(self.trim(members.notice(number), store, now, idle)?)
                }
                _ => Work::Nothing,
            });
        }
        let farewell = since.is_some_and(|since| work == Work::Nothing || now.saturating_sub(since) > FAREWELL);
        let over = since.is_some() && left == 0 || alone && farewell;
        if over && !self.adopted {
            (0..self.owners.len()).try_for_each(|store| self.watched.clear(store))?;
        }
        Ok((!over).then_some(work))
    }

    /// Has the next records of a store there that has taken new ones.
    fn grow(&mut self, store: usize, limit: usize) -> io::Result<Work> {
        let top = self.watched.top(store);
        if top <= self.top[store] {
            return Ok(Work::Nothing);
        }
        self.top[store] = top;
        self.watched.commit(store, AHEAD, limit)?;
        Ok(Work::Grows)
    }

    /// Takes back what is idle. `notice`: of who might be using it.
    fn trim(&mut self, notice: Option<&socket::notice::Notice>, store: usize, now: u64, idle: u64) -> io::Result<Work> {
        let found = self.watched.look(store, now, idle, TURN);
        self.had[store] = found.records.len() + found.others;
        if found.records.is_empty() {
            if found.others == 0 {
                self.watched.uncommit(store)?;
                return Ok(Work::Nothing);
            }
            return Ok(Work::Still);
        }
        let Some(notice) = notice else {
            self.watched.punch(store, &found.records);
            return Ok(Work::Moves);
        };
        notice.freeze();
        let out = self.watched.is_out(store);
        if let Ok(true) = out {
            self.watched.punch(store, &found.records);
        }
        notice.thaw();
        out.map(|_| Work::Moves)
    }
}
