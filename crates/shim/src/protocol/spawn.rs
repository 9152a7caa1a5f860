//! Starting a program on another PU, with exactly the capabilities named.
//!
//! ```text
//!   caller's shim ──Reserve──▶ the PU   ──Reserved: a pid──▶ ──Endow──▶ head ─▶ all …  ──Start──▶ the PU ──Started──▶ caller
//! ```
//!
//! The child's rights are in force everywhere before it runs. They are given on the word of the caller's own shim, so no
//! shim gives away rights of another's processes. A pid whose start comes to nothing is used up.

use super::call::{Answer, CallId, Program, Quota, SpawnError, StartError};
use super::calls::{Kind, Process, Request, Stage};
use super::message::{Body, ENDOWMENT_MAX, Order, PROGRAM_MAX, Refusal};
use super::step::Action;
use super::{Node, Place};
use std::collections::BTreeSet;
use xpucall::id::{FifoId, PuId, Rights, XpuPid};

/// A call that waits for a child.
pub struct Spawn {
    pub id: CallId,
    pub by: XpuPid,
    target: Place,
    program: Option<Program>,
    capabilities: Vec<(FifoId, Rights)>,
    child: Option<XpuPid>,
}

impl Node {
    pub(super) fn spawn(
        &mut self,
        id: CallId,
        by: XpuPid,
        pu: PuId,
        program: Program,
        capabilities: Vec<(FifoId, Rights)>,
    ) {
        let member = self.state.members().get(&pu);
        let target = match member.map(|member| Place { pu, incarnation: member.incarnation }) {
            None => Err(SpawnError::NoSuchPu),
            Some(_) if program.length() > PROGRAM_MAX || capabilities.len() > ENDOWMENT_MAX => Err(SpawnError::TooLong),
            Some(_) if !self.may_request() || self.spawns.len() >= self.config.limits.children => {
                Err(SpawnError::Quota)
            }
            Some(target) => Ok(target),
        };
        match target {
            Err(error) => self.answer(id, by, Answer::Spawned(Err(error))),
            Ok(target) => {
                self.serials.request += 1;
                let number = self.serials.request;
                let spawn = Spawn { id, by, target, program: Some(program), capabilities, child: None };
                self.spawns.insert(number, spawn);
                self.tell(target, Body::Reserve { id: number, by });
            }
        }
    }

    /// For a process of that PU.
    pub(super) fn reserve(&mut self, from: Place, id: u64, by: XpuPid) {
        let Some(place) = self.place().filter(|_| Place::of(by) == from) else { return };
        let waits = |process: &&Process| match process.stage {
            Stage::Attached => false,
            Stage::Reserved { by } | Stage::Starting { by } => Place::of(by) == from,
        };
        let room = self.processes.values().filter(waits).count() < self.config.limits.children;
        let child = if room { self.next_pid(place) } else { None };
        if let Some(child) = child {
            let quota = Quota { fifos: 0, ends: 0 };
            let process = Process { quota, fifos: 0, ends: BTreeSet::new(), stage: Stage::Reserved { by } };
            self.processes.insert(child, process);
        }
        self.tell(from, Body::Reserved { id, child });
    }

    pub(super) fn reserved(&mut self, from: Place, id: u64, child: Option<XpuPid>) {
        let spawn = self.spawns.get_mut(&id).filter(|spawn| spawn.target == from && spawn.child.is_none());
        match (spawn, child) {
            (Some(_), None) => self.spawned(id, Err(SpawnError::Quota)),
            (None, Some(child)) => self.tell(from, Body::Abandon { child }),
            (None, None) => {}
            (Some(spawn), Some(child)) => {
                spawn.child = Some(child);
                let (call, by, capabilities) = (spawn.id, spawn.by, std::mem::take(&mut spawn.capabilities));
                if capabilities.is_empty() {
                    return self.launch(id);
                }
                let kind = Kind::Endow { spawn: id, child };
                self.request(Request { id: call, by, kind }, Order::Endow { by, child, capabilities });
            }
        }
    }

    pub(super) fn endowed(&mut self, id: u64, child: XpuPid, result: Result<(), Refusal>) {
        let error = match result {
            Ok(()) if self.spawns.contains_key(&id) => return self.launch(id),
            Ok(()) | Err(Refusal::NoSuchProcess) => SpawnError::NoSuchPu,
            Err(Refusal::NoSuchFifo) => SpawnError::NoSuchFifo,
            Err(Refusal::NotPermitted) => SpawnError::NotPermitted,
            Err(Refusal::Exists | Refusal::Quota) => SpawnError::Quota,
        };
        self.tell(Place::of(child), Body::Abandon { child });
        self.spawned(id, Err(error));
    }

    fn launch(&mut self, id: u64) {
        let Some(spawn) = self.spawns.get_mut(&id) else { return };
        if let (Some(child), Some(program)) = (spawn.child, spawn.program.take()) {
            let target = spawn.target;
            self.tell(target, Body::Start { child, program });
        }
    }

    fn spawned(&mut self, id: u64, result: Result<XpuPid, SpawnError>) {
        if let Some(spawn) = self.spawns.remove(&id) {
            self.answer(spawn.id, spawn.by, Answer::Spawned(result));
        }
    }

    pub(super) fn start(&mut self, from: Place, child: XpuPid, program: Program) {
        let Some(process) = self.processes.get_mut(&child) else {
            return self.tell(from, Body::Started { child, result: Err(StartError::Refused) });
        };
        let Stage::Reserved { by } = process.stage else { return };
        if Place::of(by) == from {
            process.stage = Stage::Starting { by };
            self.out.push(Action::Start { pid: child, by, program });
        }
    }

    pub(super) fn started(&mut self, pid: XpuPid, result: Result<Quota, StartError>) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let Stage::Starting { by } = process.stage else { return };
        process.stage = Stage::Attached;
        match result {
            Ok(quota) => process.quota = quota,
            Err(_) => self.gone(pid),
        }
        self.tell(Place::of(by), Body::Started { child: pid, result: result.map(|_| ()) });
    }

    pub(super) fn started_elsewhere(&mut self, from: Place, child: XpuPid, result: Result<(), StartError>) {
        let spawn = self.spawns.iter().find(|(_, spawn)| spawn.child == Some(child) && spawn.target == from);
        if let Some((id, _)) = spawn {
            self.spawned(*id, result.map(|()| child).map_err(SpawnError::NotStarted));
        }
    }

    pub(super) fn abandon(&mut self, from: Place, child: XpuPid) {
        let stage = self.processes.get(&child).map(|process| &process.stage);
        if matches!(stage, Some(Stage::Reserved { by }) if Place::of(*by) == from) {
            self.gone(child);
        }
    }

    /// The caller is gone. What is reserved for it is given up when that is heard of; what starts, runs.
    pub(super) fn forget_spawns(&mut self, by: XpuPid) {
        let gone: Vec<u64> = self.spawns.iter().filter(|(_, spawn)| spawn.by == by).map(|(id, _)| *id).collect();
        for id in gone {
            let Some(spawn) = self.spawns.remove(&id) else { continue };
            // Abandoned also while its endowment is on its way, which then finds nobody.
            if let (Some(child), Some(_)) = (spawn.child, spawn.program) {
                self.tell(spawn.target, Body::Abandon { child });
            }
        }
    }

    pub(super) fn lose_spawns(&mut self, lost: Place) {
        let waiting: Vec<u64> =
            self.spawns.iter().filter(|(_, spawn)| spawn.target == lost).map(|(id, _)| *id).collect();
        waiting.into_iter().for_each(|id| self.spawned(id, Err(SpawnError::NoSuchPu)));
        let orphans = self.processes.iter().filter(|(_, process)| match process.stage {
            Stage::Reserved { by } => Place::of(by) == lost,
            Stage::Attached | Stage::Starting { .. } => false,
        });
        let orphans: Vec<XpuPid> = orphans.map(|(pid, _)| *pid).collect();
        orphans.into_iter().for_each(|pid| self.gone(pid));
    }
}
