//! An engine process, as the worker sees it: what it was told, and what it has said.

use super::Process;
use super::message::{FromEngine, Missing, NotLoaded, Terms, ToEngine};
use crate::conversation::Conversation;
use crate::spec::End;
use ::engine::Kind;
use os::cgroup::{self, Group};
use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};

/// How long an engine may take to say what it runs, and to take a program in.
const PATIENCE: Duration = Duration::from_secs(10);
/// Memory that an engine has beside its runs': code, outputs on their way, itself.
const BASE: u64 = 512 << 20;
/// Engines that it may say it watches, until it is heard.
const WATCHES_MAX: usize = 1024;
/// Threads of an engine and blanks for its native programs.
const PIDS: u32 = 64;

/// Why an engine does not do what it was asked to.
#[derive(Clone, Debug, Error)]
pub enum EngineError {
    #[error("the engine has ended")]
    Gone,
    #[error("the engine does not answer")]
    Silent,
    #[error("{}", .0.reason)]
    NotLoaded(NotLoaded),
    #[error("no engine of kind {0} runs here: {1}")]
    Unsupported(Kind, String),
}

/// One engine process.
pub struct EngineProcess {
    talk: Conversation<ToEngine, FromEngine>,
    process: OwnedFd,
    group: Option<Group>,
    state: Mutex<State>,
    changed: Notify,
    ended: watch::Sender<Option<End>>,
}

#[derive(Default)]
struct State {
    /// What it runs, once it has said so.
    kinds: Option<(Vec<Kind>, Missing)>,
    programs: HashMap<u64, Loading>,
    instances: HashMap<u64, oneshot::Sender<End>>,
    /// By which other engines see what it holds: its arena and its table, until somebody takes them.
    window: Option<[OwnedFd; 2]>,
    /// Engines that it watches, and nobody has asked for yet.
    watches: Vec<u32>,
    /// Bytes that the group may use.
    memory: u64,
}

enum Loading {
    Asked,
    Loaded,
    Failed(NotLoaded),
}

impl EngineProcess {
    /// Of a process that was just made. Hears it from now on.
    pub(super) fn new(socket: OwnedFd, made: Process, group: Option<Group>) -> io::Result<Arc<Self>> {
        let engine = Arc::new(Self {
            talk: Conversation::new(socket)?,
            process: made.process,
            group,
            state: Mutex::default(),
            changed: Notify::new(),
            ended: watch::Sender::new(None),
        });
        tokio::spawn(engine.clone().listen(made.end));
        Ok(engine)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn is_alive(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Completes when it has ended, whether or not anybody has it still.
    pub fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ended = self.ended.subscribe();
        async move { drop(ended.wait_for(Option::is_some).await) }
    }

    /// Instances that it serves.
    pub fn instances(&self) -> usize {
        self.state().instances.len()
    }

    async fn listen(self: Arc<Self>, end: oneshot::Receiver<End>) {
        while let Ok((said, descriptors)) = self.talk.hear().await {
            let mut state = self.state();
            match said {
                FromEngine::Ready { kinds, missing } => {
                    state.kinds = Some((kinds, missing));
                    state.window = descriptors.try_into().ok();
                }
                FromEngine::Watches { number } if state.watches.len() < WATCHES_MAX => state.watches.push(number),
                FromEngine::Watches { .. } => {}
                FromEngine::Loaded { program, result } => {
                    let loading = result.map_or_else(Loading::Failed, |()| Loading::Loaded);
                    state.programs.entry(program).and_modify(|entry| *entry = loading);
                }
                FromEngine::Ended { instance, broken } => {
                    if let Some(tell) = state.instances.remove(&instance) {
                        let _ = tell.send(if broken { End::Exit(1) } else { End::Exit(0) });
                    }
                }
            }
            drop(state);
            self.changed.notify_waiters();
        }
        self.bury(end).await;
    }

    /// The process is gone, or is not to be understood: it ends, and all that it had.
    async fn bury(&self, end: oneshot::Receiver<End>) {
        let _ = os::pidfd::kill(&self.process);
        if let Ok(process) = self.process.try_clone().and_then(AsyncFd::new) {
            let _ = process.readable().await;
        }
        let out_of_memory = self.group.as_ref().is_some_and(|group| group.out_of_memory_kills() > 0);
        // Its maker reaps it and says how it has ended; where that is gone too, all of the worker's engines are.
        let told = end.await.unwrap_or(End::Signal(libc::SIGKILL));
        let end = if out_of_memory { End::OutOfMemory } else { told };
        self.ended.send_replace(Some(end));
        let instances = std::mem::take(&mut self.state().instances);
        for (_, tell) in instances {
            let _ = tell.send(end);
        }
        self.changed.notify_waiters();
        if let Some(group) = &self.group {
            super::remove(group).await;
        }
    }

    /// Waits until `look` finds something; an engine that is gone or silent never has anything to say.
    async fn wait_for<T>(&self, look: impl Fn(&mut State) -> Option<T>) -> Result<T, EngineError> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(found) = look(&mut self.state()) {
                    return Ok(found);
                }
                if !self.is_alive() {
                    return Err(EngineError::Gone);
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or(Err(EngineError::Silent))
    }

    /// Its arena and its table, once it has said that it is ready. Whoever asks first has them.
    pub async fn window(&self) -> Option<[OwnedFd; 2]> {
        self.wait_for(|state| state.kinds.is_some().then(|| state.window.take())).await.ok().flatten()
    }

    /// The next engine that it says it watches; none once it has ended.
    pub async fn watches(&self) -> Option<u32> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(number) = self.state().watches.pop() {
                return Some(number);
            }
            if !self.is_alive() {
                return None;
            }
            changed.await;
        }
    }

    /// Says something that is not answered. One that is gone does not mind.
    pub async fn tell(&self, order: &ToEngine, descriptors: &[BorrowedFd<'_>]) {
        let _ = self.talk.say(order, descriptors).await;
    }

    /// Whether it has an engine of this kind.
    pub async fn runs(&self, kind: Kind) -> Result<(), EngineError> {
        let (kinds, missing) = self.wait_for(|state| state.kinds.clone()).await?;
        if kinds.contains(&kind) {
            return Ok(());
        }
        let reason = missing.into_iter().find(|(missing, _)| *missing == kind).map(|(_, reason)| reason);
        Err(EngineError::Unsupported(kind, reason.unwrap_or_else(|| "this process is not made for it".to_owned())))
    }

    /// Has it load a program, unless it has.
    pub async fn load(&self, program: u64, kind: Kind, artefact: BorrowedFd<'_>) -> Result<(), EngineError> {
        let is_new = {
            let mut state = self.state();
            let failed_before = matches!(state.programs.get(&program), Some(Loading::Failed(_)));
            if failed_before {
                state.programs.remove(&program);
            }
            let is_new = !state.programs.contains_key(&program);
            state.programs.entry(program).or_insert(Loading::Asked);
            is_new
        };
        if is_new {
            let asked = self.talk.say(&ToEngine::Load { program, kind }, &[artefact]).await;
            asked.map_err(|_| EngineError::Gone)?;
        }
        let loaded = self.wait_for(|state| match state.programs.get(&program) {
            Some(Loading::Asked) => None,
            Some(Loading::Loaded) => Some(Ok(())),
            Some(Loading::Failed(why)) => Some(Err(EngineError::NotLoaded(why.clone()))),
            None => Some(Err(EngineError::Gone)),
        });
        loaded.await?
    }

    /// Whether it has loaded a program.
    pub fn has(&self, program: u64) -> bool {
        matches!(self.state().programs.get(&program), Some(Loading::Loaded))
    }

    /// Nobody wants this program any more.
    pub fn unload(self: &Arc<Self>, program: u64) {
        if self.state().programs.remove(&program).is_some() {
            self.tell_later(ToEngine::Unload { program });
        }
    }

    /// Has it serve an instance: what completes with its end.
    pub async fn attach(
        &self,
        (instance, program): (u64, u64),
        terms: Terms,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<oneshot::Receiver<End>, EngineError> {
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.state();
            if !self.is_alive() {
                return Err(EngineError::Gone);
            }
            state.instances.insert(instance, tell);
            self.make_room(&mut state, terms.memory);
        }
        let said = self.talk.say(&ToEngine::Attach { instance, program, terms }, descriptors).await;
        if said.is_err() {
            self.state().instances.remove(&instance);
            return Err(EngineError::Gone);
        }
        Ok(told)
    }

    /// The group holds the largest of its functions.
    fn make_room(&self, state: &mut State, memory: u64) {
        let wanted = BASE + 2 * memory;
        if let Some(group) = self.group.as_ref().filter(|_| state.memory < wanted)
            && group.limit(limits(wanted)).is_ok()
        {
            state.memory = wanted;
        }
    }

    /// Ends an instance, and the run that it has under way.
    pub fn detach(self: &Arc<Self>, instance: u64) {
        self.tell_later(ToEngine::Detach { instance });
    }

    /// Says something without waiting for room: when a thousand instances are ended at once there may be none.
    pub fn tell_later(self: &Arc<Self>, order: ToEngine) {
        if !matches!(self.talk.try_say(&order, &[]), Ok(false)) {
            return;
        }
        let engine = self.clone();
        tokio::spawn(async move {
            let _ = engine.talk.say(&order, &[]).await;
        });
    }

    /// From now on it weighs as much as one of so many that weigh what any other does together, where it has a group.
    pub fn weigh(&self, of: u32) {
        if let Some(Err(error)) = self.group.as_ref().map(|group| group.share(of)) {
            tracing::warn!(%error, "an engine weighs as much as before");
        }
    }

    /// Ends the process.
    pub fn kill(&self) {
        let _ = os::pidfd::kill(&self.process);
    }
}

/// What an engine's group may use.
pub fn limits(memory: u64) -> cgroup::Limits {
    cgroup::Limits { memory: memory.max(BASE), cpu_millis: 1000, pids: PIDS }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        self.kill();
    }
}
