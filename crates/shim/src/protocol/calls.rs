//! Processes of this PU, and their calls.
//!
//! What this PU's own state refuses is refused here and costs nobody else anything: the state is never behind a call that
//! has returned. What it allows is asked of the head, whose state is the newest.

use super::call::{
    Answer, AttachError, Call, CallId, Cause, CloseError, ConnectError, CreateError, FifoLimits, GrantError, Quota,
    ReleaseError, RevokeError, Side, SpawnError,
};
use super::message::{Body, Lazy, Message, Order, Refusal};
use super::state::Fifo;
use super::step::Action;
use super::{EndId, Node, Place};
use std::collections::BTreeSet;
use xpucall::id::{FifoId, Rights, XpuPid};

/// One past the greatest serial of a process.
const PIDS_END: u32 = 1 << 27;

pub struct Process {
    pub quota: Quota,
    /// Its FIFOs, and those that it has asked for.
    pub fifos: u32,
    pub ends: BTreeSet<EndId>,
    pub stage: Stage,
}

pub enum Stage {
    Attached,
    /// To be started for a process of another PU, or of this one.
    Reserved {
        by: XpuPid,
    },
    Starting {
        by: XpuPid,
    },
}

/// A call that waits for the head.
pub struct Request {
    pub id: CallId,
    pub by: XpuPid,
    pub kind: Kind,
}

pub enum Kind {
    Create {
        fifo: FifoId,
        limits: FifoLimits,
        /// The id is this shim's choice: another one will do.
        given: bool,
    },
    Grant,
    Revoke,
    /// Of a child that a call of [`super::spawn`] wants started.
    Endow {
        spawn: u64,
        child: XpuPid,
    },
}

impl Call {
    fn fenced(&self) -> Answer {
        match self {
            Self::Create { .. } => Answer::Created(Err(CreateError::Fenced)),
            Self::Grant { .. } => Answer::Granted(Err(GrantError::Fenced)),
            Self::Revoke { .. } => Answer::Revoked(Err(RevokeError::Fenced)),
            Self::Connect { .. } => Answer::Connected(Err(ConnectError::Fenced)),
            Self::Close { .. } => Answer::Closed(Err(CloseError::Fenced)),
            Self::Release { .. } => Answer::Released(Err(ReleaseError::Fenced)),
            Self::Spawn { .. } => Answer::Spawned(Err(SpawnError::Fenced)),
        }
    }
}

impl Node {
    pub(super) fn attach(&mut self, token: u64, quota: Quota) {
        let result = match self.place() {
            None => Err(AttachError::Fenced),
            Some(place) => self.next_pid(place).ok_or(AttachError::Exhausted),
        };
        if let Ok(pid) = result {
            self.processes.insert(pid, Process { quota, fifos: 0, ends: BTreeSet::new(), stage: Stage::Attached });
        }
        self.out.push(Action::Attached { token, result });
    }

    pub(super) fn next_pid(&mut self, place: Place) -> Option<XpuPid> {
        let serial = self.serials.pid + 1;
        (serial < PIDS_END).then(|| {
            self.serials.pid = serial;
            XpuPid::new(place.pu, place.incarnation, serial)
        })
    }

    pub(super) fn next_end(&mut self, place: Place) -> EndId {
        self.serials.end += 1;
        EndId { pu: place.pu, incarnation: place.incarnation, serial: self.serials.end }
    }

    pub(super) fn answer(&mut self, id: CallId, by: XpuPid, answer: Answer) {
        // Who is gone is told nothing.
        if self.processes.contains_key(&by) {
            self.out.push(Action::Answer { id, by, answer });
        }
    }

    pub(super) fn call(&mut self, id: CallId, by: XpuPid, call: Call) {
        if self.place().is_none() || !self.processes.contains_key(&by) {
            return self.out.push(Action::Answer { id, by, answer: call.fenced() });
        }
        match call {
            Call::Create { fifo, limits } => self.create(id, by, fifo, limits),
            Call::Grant { to, fifo, rights } => self.grant(id, by, to, fifo, rights),
            Call::Revoke { from, fifo, rights } => self.revoke(id, by, from, fifo, rights),
            Call::Connect { fifo, side } => self.connect(id, by, fifo, side),
            Call::Close { end } => {
                let held = self.processes.get_mut(&by).is_some_and(|process| process.ends.remove(&end));
                if held {
                    self.close_end(end, Cause::Closed);
                }
                self.answer(id, by, Answer::Closed(if held { Ok(()) } else { Err(CloseError::NoSuchEnd) }));
            }
            Call::Release { fifo } => {
                let result = self.release(by, fifo);
                self.answer(id, by, Answer::Released(result));
            }
            Call::Spawn { pu, program, capabilities } => self.spawn(id, by, pu, program, capabilities),
        }
    }

    fn create(&mut self, id: CallId, by: XpuPid, fifo: Option<FifoId>, limits: FifoLimits) {
        if let Err(error) = self.may_create(by, fifo) {
            return self.answer(id, by, Answer::Created(Err(error)));
        }
        if let Some(process) = self.processes.get_mut(&by) {
            process.fifos += 1;
        }
        self.request_fifo(id, by, fifo, limits);
    }

    fn may_create(&self, by: XpuPid, fifo: Option<FifoId>) -> Result<(), CreateError> {
        match fifo {
            Some(FifoId(0)) => return Err(CreateError::NoId),
            Some(fifo) if self.open_fifo(fifo).is_some() => {
                return Err(CreateError::Exists);
            }
            _ => {}
        }
        let room = self.processes.get(&by).is_some_and(|process| process.fifos < process.quota.fifos);
        if room && self.may_request() { Ok(()) } else { Err(CreateError::Quota) }
    }

    fn request_fifo(&mut self, id: CallId, by: XpuPid, fifo: Option<FifoId>, limits: FifoLimits) {
        let given = fifo.is_none();
        let fifo = fifo.unwrap_or_else(|| {
            self.serials.fifo = (self.serials.fifo + 1) % PIDS_END;
            FifoId::given(by.pu(), by.incarnation(), self.serials.fifo)
        });
        let request = Request { id, by, kind: Kind::Create { fifo, limits, given } };
        self.request(request, Order::Create { fifo, by, limits });
    }

    fn grant(&mut self, id: CallId, by: XpuPid, to: XpuPid, fifo: FifoId, rights: Rights) {
        let error = match self.open_fifo(fifo) {
            None => Some(GrantError::NoSuchFifo),
            Some(held) if !held.rights(by).contain(rights | Rights::OWNER) => Some(GrantError::NotPermitted),
            Some(_) if !self.state.current(Place::of(to)) => Some(GrantError::NoSuchProcess),
            Some(_) if !self.may_request() => Some(GrantError::Quota),
            Some(_) => None,
        };
        match error {
            Some(error) => self.answer(id, by, Answer::Granted(Err(error))),
            None => self.request(Request { id, by, kind: Kind::Grant }, Order::Grant { by, to, fifo, rights }),
        }
    }

    fn revoke(&mut self, id: CallId, by: XpuPid, from: XpuPid, fifo: FifoId, rights: Rights) {
        let error = match self.open_fifo(fifo) {
            None => Some(RevokeError::NoSuchFifo),
            Some(held) if !held.rights(by).contain(Rights::OWNER) || held.creator == from => {
                Some(RevokeError::NotPermitted)
            }
            Some(_) if !self.may_request() => Some(RevokeError::Quota),
            Some(_) => None,
        };
        match error {
            Some(error) => self.answer(id, by, Answer::Revoked(Err(error))),
            None => self.request(Request { id, by, kind: Kind::Revoke }, Order::Revoke { by, from, fifo, rights }),
        }
    }

    pub(super) fn connect(&mut self, id: CallId, by: XpuPid, fifo: FifoId, side: Side) {
        let room = self.processes.get(&by).is_some_and(|process| process.ends.len() < process.quota.ends as usize);
        let home = match self.open_fifo(fifo) {
            None => Err(ConnectError::NoSuchFifo),
            Some(held) if !held.rights(by).contain(side.right()) => Err(ConnectError::NotPermitted),
            Some(_) if !room => Err(ConnectError::Quota),
            Some(held) => Ok(held.home()),
        };
        match home {
            Ok(home) => self.ask_for_end(id, by, fifo, side, home),
            Err(error) => self.answer(id, by, Answer::Connected(Err(error))),
        }
    }

    /// A FIFO that exists, and has not been released here.
    fn open_fifo(&self, fifo: FifoId) -> Option<&Fifo> {
        self.state.fifos().get(&fifo).filter(|_| !self.home.is_released(fifo))
    }

    fn release(&mut self, by: XpuPid, fifo: FifoId) -> Result<(), ReleaseError> {
        let held = self.open_fifo(fifo).ok_or(ReleaseError::NoSuchFifo)?;
        if held.creator != by {
            return Err(ReleaseError::NotPermitted);
        }
        let born = held.born;
        self.close_fifo(fifo, Cause::Closed);
        if let Some(process) = self.processes.get_mut(&by) {
            process.fifos -= 1;
        }
        self.put_off(Lazy::Released { fifo, born });
        Ok(())
    }

    pub(super) fn gone(&mut self, pid: XpuPid) {
        let Some(process) = self.processes.remove(&pid) else { return };
        for end in process.ends {
            self.close_end(end, Cause::Died);
        }
        let created: Vec<FifoId> = self.state.created(pid).collect();
        for fifo in created {
            self.close_fifo(fifo, Cause::Died);
        }
        self.forget_spawns(pid);
        if let Stage::Starting { by } = process.stage {
            // It ran, and has ended before its start was reported.
            self.tell(Place::of(by), Body::Started { child: pid, result: Ok(()) });
        }
        // What is on its way is found out when it is applied.
        if self.state.concerns(pid) {
            self.put_off(Lazy::Gone(pid));
        }
    }

    pub(super) fn may_request(&self) -> bool {
        self.requests.len() < self.config.limits.orders
    }

    pub(super) fn request(&mut self, request: Request, order: Order) {
        // So that what this PU has released can be had again.
        self.flush_lazy();
        self.serials.request += 1;
        let id = self.serials.request;
        self.requests.insert(id, request);
        self.report(Message::Request { id, order });
    }

    /// The head has refused an order, or it is in force everywhere.
    pub(super) fn answered(&mut self, id: u64, result: Result<(), Refusal>) {
        let Some(Request { id, by, kind }) = self.requests.remove(&id) else { return };
        match kind {
            Kind::Create { limits, given: true, .. } if result == Err(Refusal::Exists) => {
                if self.processes.contains_key(&by) {
                    self.request_fifo(id, by, None, limits);
                }
            }
            Kind::Create { fifo, .. } => self.created(id, by, fifo, result),
            Kind::Grant => self.answer(id, by, Answer::Granted(result.map_err(grant_error))),
            Kind::Revoke => self.answer(id, by, Answer::Revoked(result.map_err(revoke_error))),
            Kind::Endow { spawn, child } => self.endowed(spawn, child, result),
        }
    }

    fn created(&mut self, id: CallId, by: XpuPid, fifo: FifoId, result: Result<(), Refusal>) {
        if let Some(process) = self.processes.get_mut(&by).filter(|_| result.is_err()) {
            process.fifos -= 1;
        }
        let result = match result {
            Ok(()) => Ok(fifo),
            Err(Refusal::Exists) => Err(CreateError::Exists),
            Err(_) => Err(CreateError::Quota),
        };
        self.answer(id, by, Answer::Created(result));
    }

    /// Answers every call that waits: this PU is fenced.
    pub(super) fn fail_calls(&mut self) {
        for (_, Request { id, by, kind }) in std::mem::take(&mut self.requests) {
            let answer = match kind {
                Kind::Create { .. } => Answer::Created(Err(CreateError::Fenced)),
                Kind::Grant => Answer::Granted(Err(GrantError::Fenced)),
                Kind::Revoke => Answer::Revoked(Err(RevokeError::Fenced)),
                // Answered as the start that it is of.
                Kind::Endow { .. } => continue,
            };
            self.answer(id, by, answer);
        }
        for (_, spawn) in std::mem::take(&mut self.spawns) {
            self.answer(spawn.id, spawn.by, Answer::Spawned(Err(SpawnError::Fenced)));
        }
        for (id, by) in self.ends.take_asking() {
            self.answer(id, by, Answer::Connected(Err(ConnectError::Fenced)));
        }
    }
}

fn grant_error(refusal: Refusal) -> GrantError {
    match refusal {
        Refusal::NoSuchFifo => GrantError::NoSuchFifo,
        Refusal::NoSuchProcess => GrantError::NoSuchProcess,
        Refusal::NotPermitted => GrantError::NotPermitted,
        Refusal::Exists | Refusal::Quota => GrantError::Quota,
    }
}

fn revoke_error(refusal: Refusal) -> RevokeError {
    match refusal {
        Refusal::NoSuchFifo => RevokeError::NoSuchFifo,
        Refusal::NotPermitted => RevokeError::NotPermitted,
        Refusal::Exists | Refusal::NoSuchProcess | Refusal::Quota => RevokeError::Quota,
    }
}
