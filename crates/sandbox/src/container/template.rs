//! A template in its sandbox, as the worker sees it: its slots, and what becomes of its children.
//!
//! ```text
//!            MakeSlot           SlotMade, Entered               Fork                     InstanceEnded
//!  (wanted) ─────────▶ making ──────────────────▶ ready ─▶ taken ─────▶ forked: instance ──────────────▶ ended ─▶ group removed
//!                        ╰─ SlotNotMade, or not entered: the start fails  ╰─ Forked: -errno, or silence: the start fails
//! ```
//!
//! All that the template says is hostile; the init is ours.

use super::instance::ContainerInstance;
use super::message::{FromInit, ToInit};
use super::pool::{Making, Slot, remove};
use crate::conversation::Conversation;
use crate::spec::{End, Limits, TemplateSpec};
use crate::{Answer, Instance, PrepareError, SpawnError, Start, Template};
use cfork::protocol::{self, Kind as MessageKind};
use net::egress::Egress;
use os::cgroup::{self, Group, Tree};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};

/// How long a template may take to its fork point: AWS gives an initialisation 10 s, and bigger machines.
const PREPARE_LIMIT: Duration = Duration::from_secs(60);
/// How long a fork may take.
const FORK_LIMIT: Duration = Duration::from_secs(5);
/// How much of a template's output is kept, to explain its failure.
const LOG_KEPT: usize = 4096;

/// The sandbox that was made for a template.
pub(super) struct Place {
    pub id: u64,
    pub tree: Option<Arc<Tree>>,
    pub group: Option<Group>,
    pub process: OwnedFd,
    pub log: io::PipeReader,
    /// The way out of its slots, if they have one.
    pub egress: Option<Arc<Egress>>,
}

#[derive(Default)]
pub(super) struct State {
    pub ready: VecDeque<Slot>,
    pub making: HashMap<u64, Making>,
    /// What the last instance was limited to: the next one's slot is made so.
    pub usual: Option<cgroup::Limits>,
    /// Why a slot was not made: for one of those who wait for one.
    pub refusal: Option<SpawnError>,
    /// Who waits for a forker's answer, by slot, and what it will be.
    pub questions: HashMap<u64, (MessageKind, Option<oneshot::Sender<i64>>)>,
    /// Who waits for the end of an instance, by pid; and ends that nobody has waited for yet.
    watchers: HashMap<i32, oneshot::Sender<End>>,
    ends: HashMap<i32, End>,
    /// Groups of slots that still have processes.
    pub groups: HashMap<u64, Group>,
    /// Slots that have ended while an instance still holds their group.
    pub gone: std::collections::HashSet<u64>,
}

pub(super) struct Shared {
    pub(super) spec: TemplateSpec,
    pub(super) place: Place,
    report: String,
    pub(super) control: AsyncFd<OwnedFd>,
    pub(super) init: Conversation<ToInit, FromInit>,
    state: Mutex<State>,
    pub(super) changed: Notify,
    pub(super) target: AtomicUsize,
    pub(super) refilling: AtomicBool,
    /// Counts starts.
    pub(super) starts: AtomicUsize,
    /// How many there had been when there was none for a while.
    pub(super) quiet_since: AtomicUsize,
    /// Starts that wait for a slot.
    pub(super) waiting: AtomicUsize,
    pub(super) next: AtomicU64,
    pub(super) ended: watch::Sender<bool>,
}

/// The template.
pub(super) struct ContainerTemplate {
    shared: Arc<Shared>,
}

pub(super) fn limits(limits: Limits) -> cgroup::Limits {
    cgroup::Limits { memory: limits.memory, cpu_millis: limits.cpu_millis, pids: limits.pids }
}

impl ContainerTemplate {
    /// Brings a template to its fork point.
    pub(super) async fn open(
        spec: TemplateSpec,
        place: Place,
        init: OwnedFd,
        control: OwnedFd,
    ) -> Result<Arc<dyn Template>, PrepareError> {
        let failed = |error: io::Error| PrepareError::Sandbox(error.to_string());
        rustix::io::ioctl_fionbio(&control, true).map_err(|e| failed(e.into()))?;
        let init = Conversation::new(init).map_err(failed)?;
        let control = AsyncFd::new(control).map_err(failed)?;
        let configuration = configuration(&spec);
        protocol::send(control.get_ref(), MessageKind::Configure, 0, 0, 0, configuration.as_bytes(), &[])
            .map_err(failed)?;
        let reached = tokio::time::timeout(PREPARE_LIMIT, fork_point(&control, &init)).await;
        let report = match reached {
            Ok(Ok(report)) => report,
            Ok(Err(reason)) => {
                let said = said(&place.log);
                clean_up(place).await;
                return Err(match reason {
                    Unready::Ended(how) if said.is_empty() => PrepareError::Ended(how),
                    Unready::Ended(how) => PrepareError::Ended(format!("{how}: {said}")),
                    Unready::NotForkable(why) => PrepareError::NotForkable(why),
                });
            }
            Err(_) => {
                clean_up(place).await;
                return Err(PrepareError::Late(PREPARE_LIMIT.as_secs()));
            }
        };
        if let Some(group) = &place.group {
            group.limit(with_room_for_children(spec.limits)).map_err(failed)?;
        }
        let shared = Arc::new(Shared {
            spec,
            place,
            report,
            control,
            init,
            state: Mutex::default(),
            changed: Notify::new(),
            target: AtomicUsize::new(0),
            refilling: AtomicBool::new(false),
            starts: AtomicUsize::new(0),
            quiet_since: AtomicUsize::new(usize::MAX),
            waiting: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            ended: watch::Sender::new(false),
        });
        tokio::spawn(Shared::hear_init(shared.clone()));
        tokio::spawn(Shared::hear_template(shared.clone()));
        Ok(Arc::new(Self { shared }))
    }
}

/// A page that a template writes to after a fork is copied, and what it was before stays with the children, charged to the
/// template: some for each of them.
fn with_room_for_children(own: Limits) -> cgroup::Limits {
    const CHILDREN: u64 = 1024;
    const FOR_EACH: u64 = 128 << 10;
    cgroup::Limits { memory: own.memory + CHILDREN * FOR_EACH, ..limits(own) }
}

fn configuration(spec: &TemplateSpec) -> String {
    let function = spec.function.as_ref().map_or("null", |code| code.config.as_str());
    let preload = serde_json::to_string(&spec.preload).unwrap_or_else(|_| "[]".to_owned());
    format!("{{\"preload\":{preload},\"function\":{function}}}")
}

enum Unready {
    Ended(String),
    NotForkable(String),
}

/// Waits until the template is at its fork point: its report.
async fn fork_point(control: &AsyncFd<OwnedFd>, init: &Conversation<ToInit, FromInit>) -> Result<String, Unready> {
    let ready = async {
        loop {
            // A control socket that ends says less than the init does about why.
            let Ok(Some(received)) = receive(control).await else { std::future::pending().await };
            if received.header.kind == MessageKind::Ready as u32 {
                return String::from_utf8(received.payload).map_err(|e| Unready::Ended(e.to_string()));
            }
        }
    };
    let ended = async {
        loop {
            match init.hear().await {
                Ok((FromInit::Failed { step, error }, _)) => break format!("it could not {step}: {error}"),
                Ok((FromInit::TemplateEnded { end }, _)) => break format!("{end:?}"),
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
        }
    };
    let report = tokio::select! {
        report = ready => report?,
        how = ended => return Err(Unready::Ended(how)),
    };
    let parsed: serde_json::Value = serde_json::from_str(&report).unwrap_or_default();
    if parsed["forkable"].as_bool() == Some(true) {
        return Ok(report);
    }
    let why = parsed["error"]["errorMessage"].as_str().or(parsed["reason"].as_str());
    Err(Unready::NotForkable(why.unwrap_or("it gave no reason").to_owned()))
}

async fn receive(control: &AsyncFd<OwnedFd>) -> io::Result<Option<protocol::Received>> {
    let mut buffer = Vec::new();
    loop {
        let mut ready = control.readable().await?;
        match protocol::receive(control.get_ref(), &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            result => return result,
        }
    }
}

/// The end of what a template has printed.
fn said(mut log: &io::PipeReader) -> String {
    let mut text = vec![0; 64 * 1024];
    let _ = rustix::io::ioctl_fionbio(log, true);
    let len = log.read(&mut text).unwrap_or(0);
    String::from_utf8_lossy(&text[len.saturating_sub(LOG_KEPT)..len]).trim().to_owned()
}

/// Ends a sandbox that will be no template.
pub(super) async fn clean_up(place: Place) {
    let _ = os::pidfd::kill(&place.process);
    if let Ok(process) = AsyncFd::new(place.process) {
        let _ = process.readable().await;
    }
    if let Some(group) = &place.group {
        remove(group).await;
    }
}

impl State {
    /// An end that nobody waits for matters only while a fork may be under way, whose child it may be: a template's other
    /// children end here too, and process ids come round again.
    fn forget_ends(&mut self) {
        if self.questions.is_empty() {
            self.ends.clear();
        }
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn hear_init(self: Arc<Self>) {
        while let Ok((message, descriptors)) = self.init.hear().await {
            match message {
                FromInit::SlotMade { slot } => self.clone().slot_made(slot, descriptors),
                FromInit::SlotNotMade { slot, reason } => self.slot_not_made(slot, reason),
                FromInit::SlotEnded { slot } => self.clone().slot_ended(slot),
                FromInit::InstanceEnded { pid, end } => self.instance_ended(pid, end),
                FromInit::TemplateEnded { end } => {
                    tracing::warn!(id = self.place.id, ?end, said = said(&self.place.log), "a template has ended");
                    self.ended.send_replace(true);
                    // Nobody will answer any more.
                    self.state().questions.clear();
                }
                FromInit::Failed { .. } => {
                    self.ended.send_replace(true);
                }
            }
            self.changed.notify_waiters();
        }
        self.lose_all().await;
    }

    /// The sandbox is gone, and everything in it.
    async fn lose_all(&self) {
        self.ended.send_replace(true);
        let (watchers, groups) = {
            let mut state = self.state();
            state.questions.clear();
            let ready: Vec<Slot> = state.ready.drain(..).collect();
            let making: Vec<_> = state.making.drain().filter_map(|(_, making)| making.group).collect();
            let left: Vec<_> = state.groups.drain().map(|(_, group)| group).collect();
            let groups = ready.into_iter().filter_map(|slot| slot.group).chain(making).chain(left);
            (std::mem::take(&mut state.watchers), groups.collect::<Vec<_>>())
        };
        for (_, watcher) in watchers {
            let _ = watcher.send(End::Lost);
        }
        self.changed.notify_waiters();
        for group in groups.iter().chain(&self.place.group) {
            remove(group).await;
        }
    }

    async fn hear_template(self: Arc<Self>) {
        let mut ended = self.ended.subscribe();
        loop {
            let received = tokio::select! {
                received = receive(&self.control) => received,
                _ = ended.wait_for(|ended| *ended) => return,
            };
            // What it says wrongly concerns its own children only: they are not started.
            let Ok(Some(received)) = received else { return };
            let mut state = self.state();
            let question = state.questions.get_mut(&received.header.id);
            let question = question.filter(|(kind, _)| *kind as u32 == received.header.kind);
            if let Some(waiting) = question.and_then(|(_, waiting)| waiting.take()) {
                let _ = waiting.send(received.header.value);
            }
        }
    }

    fn instance_ended(&self, pid: i32, end: End) {
        let mut state = self.state();
        match state.watchers.remove(&pid) {
            Some(watcher) => drop(watcher.send(end)),
            None => drop(state.ends.insert(pid, end)),
        }
        state.forget_ends();
    }

    async fn spawn(self: &Arc<Self>, start: Start) -> Result<Box<dyn Instance>, SpawnError> {
        let (slot, told) = loop {
            let mut slot = self.take_slot().await?;
            match self.order(&start, &mut slot).await {
                Ok(told) => break (slot, told),
                Err(error) => {
                    self.give_up(slot);
                    // A slot in which nobody waits any more, because of a kill, is replaced by another one.
                    if !matches!(&error, SpawnError::Fork(error) if error.kind() == io::ErrorKind::BrokenPipe) {
                        return Err(error);
                    }
                }
            }
        };
        let Slot { id, process, group, .. } = slot;
        Ok(Box::new(ContainerInstance::new(self.clone(), id, process, group, told)))
    }

    /// Completes with the end of a child that a forker has just told of.
    pub(super) fn watch(&self, slot: u64, pid: i32) -> oneshot::Receiver<End> {
        let (tell, told) = oneshot::channel();
        let mut state = self.state();
        match state.ends.remove(&pid) {
            Some(end) => drop(tell.send(end)),
            None => drop(state.watchers.insert(pid, tell)),
        }
        state.questions.remove(&slot);
        state.forget_ends();
        told
    }

    pub(super) fn give_up(self: &Arc<Self>, slot: Slot) {
        self.state().questions.remove(&slot.id);
        let _ = os::pidfd::kill(&slot.process);
        self.bury(slot.id, slot.group);
    }

    /// Asks a forker, once `ask` has sent the question: what it answers, which is hostile.
    pub(super) async fn ask(
        &self,
        slot: u64,
        answer: MessageKind,
        ask: impl Future<Output = io::Result<()>>,
    ) -> Result<i64, SpawnError> {
        let (tell, told) = oneshot::channel();
        self.state().questions.insert(slot, (answer, Some(tell)));
        let asked = async {
            ask.await.map_err(SpawnError::Fork)?;
            told.await.map_err(|_| SpawnError::TemplateGone)
        };
        let silent = |_| SpawnError::Silent(FORK_LIMIT.as_millis() as u64);
        tokio::time::timeout(FORK_LIMIT, asked).await.map_err(silent)?
    }

    /// Tells a slot's child what it is to be, or its forker to fork one: what completes with that child's end.
    async fn order(&self, start: &Start, slot: &mut Slot) -> Result<oneshot::Receiver<End>, SpawnError> {
        let limits = limits(start.spec.limits);
        if let Some(group) = slot.group.as_ref().filter(|_| slot.limits != limits) {
            group.limit(limits).map_err(SpawnError::Limits)?;
        }
        let code = start.spec.code.as_ref();
        let shown = |folder: &std::path::PathBuf| {
            os::mount::detached(folder).map_err(|error| SpawnError::Code(folder.clone(), error))
        };
        let mount = code.map(|code| shown(&code.folder)).transpose()?;
        let layers = code.and_then(|code| code.layers.as_ref()).map(shown).transpose()?;
        let channel = &start.channel;
        let mut descriptors = vec![channel.region.as_fd(), channel.down.as_fd(), channel.up.as_fd(), start.log.as_fd()];
        descriptors.extend(mount.iter().chain(&layers).map(AsFd::as_fd));
        let config = code.map_or("", |code| code.config.as_str()).as_bytes();
        self.state().usual = Some(limits);
        let flags = protocol::mounts(mount.is_some(), layers.is_some());
        let order = || protocol::send(&slot.orders, MessageKind::Fork, flags, slot.id, 0, config, &descriptors);
        if let Some(told) = slot.child.take() {
            order().map_err(SpawnError::Fork)?;
            return Ok(told);
        }
        let answer = self.ask(slot.id, MessageKind::Forked, async { order() }).await?;
        Ok(self.watch(slot.id, child(answer)?))
    }
}

/// The pid that a forker tells of. It is hostile.
pub(super) fn child(answer: i64) -> Result<i32, SpawnError> {
    i32::try_from(answer).ok().filter(|pid| *pid > 0).ok_or_else(|| refusal(answer))
}

/// The error that a forker tells of. It is hostile.
pub(super) fn refusal(answer: i64) -> SpawnError {
    let errno = i32::try_from(answer).ok().filter(|negated| *negated < 0);
    SpawnError::Fork(errno.map_or(io::ErrorKind::InvalidData.into(), |negated| io::Error::from_raw_os_error(-negated)))
}

impl Template for ContainerTemplate {
    fn report(&self) -> &str {
        &self.shared.report
    }

    fn reserve(&self, slots: usize) {
        self.shared.target.store(slots, Ordering::Relaxed);
        self.shared.top_up_later();
    }

    fn spawn(&self, starts: Vec<Start>) -> Answer<'_, Vec<Result<Box<dyn Instance>, SpawnError>>> {
        Box::pin(async move {
            let mut tasks = Vec::with_capacity(starts.len());
            let mut starts = starts.into_iter();
            // A single start, the common case, needs no task of its own.
            if starts.len() == 1
                && let Some(start) = starts.next()
            {
                let result = self.shared.spawn(start).await;
                self.shared.top_up_later();
                return vec![result];
            }
            for start in starts {
                let shared = self.shared.clone();
                tasks.push(tokio::spawn(async move { shared.spawn(start).await }));
            }
            let mut results = Vec::with_capacity(tasks.len());
            for task in tasks {
                results.push(task.await.unwrap_or(Err(SpawnError::TemplateGone)));
            }
            self.shared.top_up_later();
            results
        })
    }

    fn ended(&self) -> Answer<'_, ()> {
        let mut ended = self.shared.ended.subscribe();
        Box::pin(async move {
            let _ = ended.wait_for(|ended| *ended).await;
        })
    }

    fn discard(&self) {
        self.shared.ended.send_replace(true);
        let _ = os::pidfd::kill(&self.shared.place.process);
    }
}

impl Drop for ContainerTemplate {
    fn drop(&mut self) {
        self.discard();
    }
}
