//! What all shims agree on: members, FIFOs, capabilities; the fold of all numbered changes.
//!
//! Any prefix of the changes gives one state, and a snapshot of it with the changes after it gives the same as the whole
//! log. Changes were checked by the head, so folding one cannot fail but for a number left out. Processes are not here:
//! their ids are partitioned, and only their own PU knows whether one lives.

use super::call::FifoLimits;
use super::message::{Entry, Lazy, Place, Record, Seq};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;
use xpucall::id::{FifoId, PuId, Rights, XpuPid};

/// A snapshot's records in one message.
const PART_RECORDS: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub incarnation: u32,
    /// Whether it has one kernel with the head, so that lanes between it and others like it are memory.
    pub shares: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fifo {
    /// Has all rights, which nobody can take. Its PU is the FIFO's home.
    pub creator: XpuPid,
    pub limits: FifoLimits,
    /// The change that created it: tells it from an earlier one of the same id.
    pub born: Seq,
    capabilities: BTreeMap<XpuPid, Rights>,
}

impl Fifo {
    pub fn home(&self) -> Place {
        Place::of(self.creator)
    }

    pub fn rights(&self, pid: XpuPid) -> Rights {
        if pid == self.creator { Rights::ALL } else { self.capabilities.get(&pid).copied().unwrap_or_default() }
    }

    /// Processes with rights on it, besides its creator.
    pub fn holders(&self) -> usize {
        self.capabilities.len()
    }
}

/// What the processes of one PU have created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub fifos: usize,
    pub capabilities: usize,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("change {found} came where {expected} was due")]
pub struct Gap {
    pub expected: Seq,
    pub found: Seq,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    seq: Seq,
    members: BTreeMap<PuId, Member>,
    fifos: BTreeMap<FifoId, Fifo>,
    // Indices of the above.
    created: BTreeMap<XpuPid, BTreeSet<FifoId>>,
    held: BTreeMap<XpuPid, BTreeSet<FifoId>>,
    loads: BTreeMap<PuId, Load>,
}

impl State {
    /// An empty state that the records of a snapshot will fill.
    pub fn at(seq: Seq) -> Self {
        Self { seq, ..Self::default() }
    }

    /// The number of the last change that is in it.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    pub fn members(&self) -> &BTreeMap<PuId, Member> {
        &self.members
    }

    /// Whether that life of that PU is the current one.
    pub fn current(&self, place: Place) -> bool {
        self.members.get(&place.pu).is_some_and(|member| member.incarnation == place.incarnation)
    }

    pub fn fifos(&self) -> &BTreeMap<FifoId, Fifo> {
        &self.fifos
    }

    pub fn rights(&self, pid: XpuPid, fifo: FifoId) -> Rights {
        self.fifos.get(&fifo).map_or(Rights::NONE, |fifo| fifo.rights(pid))
    }

    /// The FIFOs that a process has created.
    pub fn created(&self, pid: XpuPid) -> impl Iterator<Item = FifoId> + '_ {
        self.created.get(&pid).into_iter().flatten().copied()
    }

    /// Whether anything in here is of that process.
    pub fn concerns(&self, pid: XpuPid) -> bool {
        self.created.contains_key(&pid) || self.held.contains_key(&pid)
    }

    pub fn load(&self, pu: PuId) -> Load {
        self.loads.get(&pu).copied().unwrap_or_default()
    }

    /// All capabilities but those of creators.
    pub fn capabilities(&self) -> usize {
        self.loads.values().map(|load| load.capabilities).sum()
    }

    /// Takes the next change.
    pub fn fold(&mut self, seq: Seq, entry: &Entry) -> Result<(), Gap> {
        let expected = self.seq + 1;
        if seq != expected {
            return Err(Gap { expected, found: seq });
        }
        self.seq = seq;
        match entry {
            Entry::Create { fifo, creator, limits } => self.create(*fifo, *creator, *limits, seq),
            Entry::Grant { to, fifo, rights } => self.grant(*to, *fifo, *rights),
            Entry::Revoke { from, fifo, rights } => self.revoke(*from, *fifo, *rights),
            Entry::Endow { child, capabilities } => {
                capabilities.iter().for_each(|(fifo, rights)| self.grant(*child, *fifo, *rights));
            }
            Entry::Join { place, shares } => self.join(*place, *shares),
            Entry::Fence { place } => self.fence(*place),
            Entry::Lazy(items) => items.iter().for_each(|item| self.lazy(*item)),
        }
        Ok(())
    }

    fn create(&mut self, id: FifoId, creator: XpuPid, limits: FifoLimits, born: Seq) {
        self.fifos.insert(id, Fifo { creator, limits, born, capabilities: BTreeMap::new() });
        self.created.entry(creator).or_default().insert(id);
        self.loads.entry(creator.pu()).or_default().fifos += 1;
    }

    fn grant(&mut self, to: XpuPid, id: FifoId, rights: Rights) {
        let Some(fifo) = self.fifos.get_mut(&id) else { return };
        if to == fifo.creator || rights.is_empty() {
            return;
        }
        let held = fifo.capabilities.entry(to).or_default();
        if held.is_empty() {
            self.held.entry(to).or_default().insert(id);
            self.loads.entry(fifo.creator.pu()).or_default().capabilities += 1;
        }
        *held = held.with(rights);
    }

    fn revoke(&mut self, from: XpuPid, id: FifoId, rights: Rights) {
        let Some(fifo) = self.fifos.get_mut(&id) else { return };
        let Some(held) = fifo.capabilities.get_mut(&from) else { return };
        *held = held.without(rights);
        if held.is_empty() {
            fifo.capabilities.remove(&from);
            let pu = fifo.creator.pu();
            self.unhold(from, id, pu);
        }
    }

    fn unhold(&mut self, pid: XpuPid, id: FifoId, home: PuId) {
        forget(&mut self.held, pid, id);
        self.unload(home, |load| load.capabilities -= 1);
    }

    fn unload(&mut self, pu: PuId, less: impl FnOnce(&mut Load)) {
        let load = self.loads.entry(pu).or_default();
        less(load);
        if *load == Load::default() {
            self.loads.remove(&pu);
        }
    }

    fn release(&mut self, id: FifoId) {
        let Some(fifo) = self.fifos.remove(&id) else { return };
        let home = fifo.creator.pu();
        forget(&mut self.created, fifo.creator, id);
        fifo.capabilities.keys().for_each(|pid| self.unhold(*pid, id, home));
        self.unload(home, |load| load.fifos -= 1);
    }

    fn gone(&mut self, pid: XpuPid) {
        for id in self.created.get(&pid).cloned().unwrap_or_default() {
            self.release(id);
        }
        for id in self.held.get(&pid).cloned().unwrap_or_default() {
            self.revoke(pid, id, Rights::ALL);
        }
    }

    fn lazy(&mut self, item: Lazy) {
        match item {
            Lazy::Gone(pid) => self.gone(pid),
            Lazy::Released { fifo, born } if self.fifos.get(&fifo).is_some_and(|held| held.born == born) => {
                self.release(fifo);
            }
            Lazy::Released { .. } => {}
        }
    }

    fn join(&mut self, place: Place, shares: bool) {
        self.members.insert(place.pu, Member { incarnation: place.incarnation, shares });
    }

    fn fence(&mut self, place: Place) {
        self.members.remove(&place.pu);
        let of_place = |pids: &BTreeMap<XpuPid, BTreeSet<FifoId>>| -> Vec<XpuPid> {
            pids.keys().copied().filter(|pid| Place::of(*pid) == place).collect()
        };
        let gone: Vec<XpuPid> = of_place(&self.created).into_iter().chain(of_place(&self.held)).collect();
        gone.into_iter().for_each(|pid| self.gone(pid));
    }

    /// The whole state, in parts that each fit a message; never none.
    pub fn snapshot(&self) -> Vec<Vec<Record>> {
        let members = self.members.iter().map(|(pu, member)| Record::Member {
            place: Place { pu: *pu, incarnation: member.incarnation },
            shares: member.shares,
        });
        let fifos = self.fifos.iter().flat_map(|(id, fifo)| {
            let head = Record::Fifo { fifo: *id, creator: fifo.creator, limits: fifo.limits, born: fifo.born };
            let held = fifo.capabilities.iter();
            let held = held.map(|(pid, rights)| Record::Capability { fifo: *id, pid: *pid, rights: *rights });
            std::iter::once(head).chain(held)
        });
        let records: Vec<Record> = members.chain(fifos).collect();
        records.chunks(PART_RECORDS).map(<[Record]>::to_vec).collect()
    }

    /// Takes a piece of a snapshot.
    pub fn load_record(&mut self, record: &Record) {
        match *record {
            Record::Member { place, shares } => self.join(place, shares),
            Record::Fifo { fifo, creator, limits, born } => self.create(fifo, creator, limits, born),
            Record::Capability { fifo, pid, rights } => self.grant(pid, fifo, rights),
        }
    }
}

fn forget(index: &mut BTreeMap<XpuPid, BTreeSet<FifoId>>, pid: XpuPid, id: FifoId) {
    if let Some(ids) = index.get_mut(&pid) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(&pid);
        }
    }
}
