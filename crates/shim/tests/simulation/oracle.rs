//! What must hold, judged from outside: by the order in which calls were made and returned, and nothing that shims know.
//!
//! Moments are counted, not timed. A right may be used after a revoke has returned only if it was given again since; a FIFO
//! lives from the return of its creation until its creator gives it up, or is ended. Where two calls overlap, either order
//! will do.

use shim::protocol::call::{ConnectError, CreateError};
use shim::protocol::{Answer, Call, CallId, Side};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use xpucall::id::{FifoId, Rights, XpuPid};

pub type Moment = u64;

/// A FIFO, told from others of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance(usize);

struct Life {
    fifo: FifoId,
    creator: XpuPid,
    ended: Option<Moment>,
    /// The head under which it was created is no more: those who know it may not be those who are asked.
    doubtful: bool,
}

/// A grant or a revoke.
struct Change {
    pid: XpuPid,
    instance: Instance,
    rights: Rights,
    made: Moment,
    /// When it returned, and whether it was done.
    returned: Option<(Moment, bool)>,
}

pub struct Waiting {
    pub by: XpuPid,
    pub call: Call,
    made: Moment,
    at: Duration,
    instance: Option<Instance>,
}

/// What a child shall get, on which FIFOs, and since when that is wanted.
struct Endowment {
    capabilities: Vec<(Option<Instance>, FifoId, Rights)>,
    made: Moment,
}

/// An end that was connected: for what, and when that was asked and granted.
#[derive(Clone, Copy, Debug)]
pub struct Tie {
    pub instance: Instance,
    pub returned: Moment,
}

#[derive(Default)]
pub struct Oracle {
    now: Moment,
    lives: Vec<Life>,
    latest: BTreeMap<FifoId, Instance>,
    grants: Vec<Change>,
    revokes: Vec<Change>,
    calls: BTreeMap<CallId, (Waiting, Option<usize>)>,
    /// By the path of the program, which is another one each time; also of those whose maker is gone.
    endowments: BTreeMap<Vec<u8>, Endowment>,
    pids: BTreeSet<XpuPid>,
    gone: BTreeSet<XpuPid>,
    next_call: u64,
    /// The longest that any call took.
    pub longest: Duration,
    pub answered: usize,
}

impl Oracle {
    pub fn tick(&mut self) -> Moment {
        self.now += 1;
        self.now
    }

    pub fn attached(&mut self, pid: XpuPid) {
        assert!(self.pids.insert(pid), "process id {pid} was given twice");
    }

    pub fn is_gone(&self, pid: XpuPid) -> bool {
        self.gone.contains(&pid)
    }

    /// The process is no more, its FIFOs and its calls with it.
    pub fn gone(&mut self, pid: XpuPid) {
        self.gone.insert(pid);
        let now = self.tick();
        for life in self.lives.iter_mut().filter(|life| life.creator == pid) {
            life.ended.get_or_insert(now);
        }
        self.calls.retain(|_, (waiting, _)| waiting.by != pid);
    }

    /// The head has crashed.
    pub fn term_over(&mut self) {
        self.lives.iter_mut().for_each(|life| life.doubtful = true);
    }

    pub fn waiting(&self) -> usize {
        self.calls.len()
    }

    pub fn oldest(&self) -> Option<(&Waiting, Duration)> {
        self.calls.values().map(|(waiting, _)| (waiting, waiting.at)).min_by_key(|(_, at)| *at)
    }

    /// Whether the creation of a FIFO of that id has ever returned.
    pub fn knows(&self, fifo: FifoId) -> bool {
        self.latest.contains_key(&fifo)
    }

    /// Whether the process waits for a FIFO of that id: what it asked of it now could be of an earlier one, or of that.
    pub fn is_creating(&self, by: XpuPid, fifo: FifoId) -> bool {
        let creates = |call: &Call| matches!(call, Call::Create { fifo: Some(id), .. } if *id == fifo);
        self.calls.values().any(|(waiting, _)| waiting.by == by && creates(&waiting.call))
    }

    pub fn call(&mut self, by: XpuPid, call: &Call, at: Duration) -> CallId {
        let made = self.tick();
        let instance = match call {
            Call::Grant { fifo, .. } | Call::Revoke { fifo, .. } | Call::Connect { fifo, .. } => {
                self.latest.get(fifo).copied()
            }
            Call::Release { fifo } => self.latest.get(fifo).copied(),
            _ => None,
        };
        let change = instance.and_then(|instance| self.note(call, instance, made));
        if let (Call::Release { .. }, Some(Instance(index))) = (call, instance) {
            // A release returns at once: what it says is done may be done from here on.
            if self.lives[index].creator == by {
                self.lives[index].ended.get_or_insert(made);
            }
        }
        if let Call::Spawn { capabilities, program, .. } = call {
            let latest = |(fifo, rights): &(FifoId, Rights)| (self.latest.get(fifo).copied(), *fifo, *rights);
            let capabilities = capabilities.iter().map(latest).collect();
            self.endowments.insert(program.path.clone(), Endowment { capabilities, made });
        }
        self.next_call += 1;
        let id = CallId(self.next_call);
        self.calls.insert(id, (Waiting { by, call: call.clone(), made, at, instance }, change));
        id
    }

    fn note(&mut self, call: &Call, instance: Instance, made: Moment) -> Option<usize> {
        let (changes, pid, rights) = match call {
            Call::Grant { to, rights, .. } => (&mut self.grants, *to, *rights),
            Call::Revoke { from, rights, .. } => (&mut self.revokes, *from, *rights),
            _ => return None,
        };
        changes.push(Change { pid, instance, rights, made, returned: None });
        Some(changes.len() - 1)
    }

    /// What a child is started with, from the call that wanted it: in force before it runs.
    pub fn endowed(&mut self, child: XpuPid, path: &[u8]) {
        let Endowment { capabilities, made } = self.endowments.remove(path).expect("nobody wanted that child");
        let now = self.tick();
        for (then, fifo, rights) in capabilities {
            if let Some(instance) = self.latest.get(&fifo).copied() {
                // Of a FIFO that was created anew meanwhile, nobody outside knows.
                let returned = (then == Some(instance)).then_some((now, true));
                self.grants.push(Change { pid: child, instance, rights, made, returned });
            }
        }
    }

    pub fn answered(&mut self, id: CallId, answer: &Answer, at: Duration) -> Waiting {
        let now = self.tick();
        let (waiting, change) = self.calls.remove(&id).expect("an answer to no call");
        self.answered += 1;
        self.longest = self.longest.max(at - waiting.at);
        match answer {
            Answer::Created(Ok(fifo)) => self.created(*fifo, waiting.by, now),
            Answer::Created(Err(CreateError::NoId)) => panic!("nobody asks for FIFO 0"),
            Answer::Granted(result) => self.returned(change, now, result.is_ok(), false),
            Answer::Revoked(result) => self.returned(change, now, result.is_ok(), true),
            Answer::Connected(result) => self.check_connect(&waiting, *result, now),
            _ => {}
        }
        waiting
    }

    fn returned(&mut self, change: Option<usize>, now: Moment, done: bool, revoke: bool) {
        let changes = if revoke { &mut self.revokes } else { &mut self.grants };
        if let Some(index) = change {
            changes[index].returned = Some((now, done));
        }
    }

    fn created(&mut self, fifo: FifoId, creator: XpuPid, now: Moment) {
        if let Some(Instance(old)) = self.latest.get(&fifo) {
            let old = &self.lives[*old];
            assert!(old.ended.is_some(), "FIFO {fifo} of {creator} lives while that of {} does", old.creator);
        }
        let ended = self.is_gone(creator).then_some(now);
        self.lives.push(Life { fifo, creator, ended, doubtful: false });
        self.latest.insert(fifo, Instance(self.lives.len() - 1));
    }

    pub fn tie(&self, waiting: &Waiting) -> Option<Tie> {
        let instance = waiting.instance?;
        let same = self.latest.get(&self.lives[instance.0].fifo) == Some(&instance);
        same.then_some(Tie { instance, returned: self.now })
    }

    /// Whether the right is in force for all that is known from outside: given, and nobody has tried to take it.
    fn surely(&self, pid: XpuPid, Instance(index): Instance, right: Rights, by: Moment) -> bool {
        let life = &self.lives[index];
        if life.ended.is_some() || life.doubtful || self.is_gone(pid) {
            return false;
        }
        let of =
            |change: &&Change| change.pid == pid && change.instance == Instance(index) && change.rights.contain(right);
        life.creator == pid
            || self.grants.iter().filter(of).any(|grant| {
                let held = grant.returned.is_some_and(|(at, done)| done && at < by);
                let taken = |revoke: &Change| revoke.returned.is_none_or(|(at, _)| at > grant.made);
                held && !self.revokes.iter().filter(of).any(taken)
            })
    }

    /// Whether the right may be in force: given, or being given, and not taken since.
    fn possibly(&self, pid: XpuPid, Instance(index): Instance, right: Rights, now: Moment) -> bool {
        let of =
            |change: &&Change| change.pid == pid && change.instance == Instance(index) && change.rights.contain(right);
        self.lives[index].creator == pid
            || self.grants.iter().filter(of).any(|grant| {
                let given = grant.returned.map_or(now, |(at, _)| at);
                let taken = |revoke: &Change| {
                    revoke.made >= given && revoke.returned.is_some_and(|(at, done)| done && at <= now)
                };
                !self.revokes.iter().filter(of).any(taken)
            })
    }

    fn check_connect(&mut self, waiting: &Waiting, result: Result<shim::protocol::EndId, ConnectError>, now: Moment) {
        let (Call::Connect { side, fifo }, Some(instance)) = (&waiting.call, waiting.instance) else { return };
        if self.latest.get(fifo) != Some(&instance) {
            return;
        }
        let right = side.right();
        match result {
            Ok(end) => {
                let may = self.possibly(waiting.by, instance, right, waiting.made);
                assert!(may, "{} was connected to {fifo} as {end} without the right", waiting.by);
                let over = self.lives[instance.0].ended.is_some_and(|at| at < waiting.made);
                assert!(!over, "{} was connected to {fifo} as {end}, which is released", waiting.by);
            }
            Err(ConnectError::NotPermitted) => {
                let must = self.surely(waiting.by, instance, right, waiting.made);
                assert!(!must, "{} may connect to {fifo} and was refused at {now}", waiting.by);
            }
            Err(ConnectError::NoSuchFifo | ConnectError::Lost) => {
                let life = &self.lives[instance.0];
                assert!(
                    life.doubtful || life.ended.is_some(),
                    "{} heard that {fifo} is no more, which lives",
                    waiting.by
                );
            }
            Err(_) => {}
        }
    }

    /// Whether the right by which that end was connected was taken before `at`: by a revoke after which no right was given
    /// by which it could have been connected. Where they overlapped, the end was connected before, and cut, or not at all.
    pub fn was_revoked(&self, pid: XpuPid, tie: Tie, side: Side, at: Moment) -> bool {
        let of = |change: &&Change| {
            change.pid == pid && change.instance == tie.instance && change.rights.contain(side.right())
        };
        self.revokes.iter().filter(of).any(|revoke| {
            let over = revoke.returned.is_some_and(|(back, done)| done && back <= at);
            let again =
                |grant: &Change| grant.made < tie.returned && grant.returned.is_none_or(|(back, _)| back > revoke.made);
            over && (revoke.made >= tie.returned || !self.grants.iter().filter(of).any(again))
        })
    }
}
