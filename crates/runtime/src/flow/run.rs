//! What is known of a run while it lasts, and for some time afterwards: how far it is, what it came to, and the times of
//! its applications.
//!
//! All of it is in memory: a node that is started again knows nothing of the runs before it but those that were accepted
//! and had not ended, which begin anew.

use super::config::FlowConfig;
use bytes::Bytes;
use flow::Program;
use flow::graph::{AppId, GraphId};
use flow::svg::{Times, Timing};
use sets::Sets;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How far a run is.
#[derive(Clone, Debug)]
pub enum State {
    /// Accepted, and waiting for its turn.
    Queued,
    Running,
    /// Its outputs, where they are kept for whoever asks.
    Done(Option<Arc<Sets<Bytes>>>),
    /// An error object.
    Failed(Bytes),
    Cancelled,
}

impl State {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done(_) => "done",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn is_over(&self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Done(Some(sets)) => {
                let items = sets.iter().flat_map(|set| &set.items);
                items.map(|item| (item.data.len() + item.name.len()) as u64).sum()
            }
            Self::Failed(error) => error.len() as u64,
            _ => 0,
        }
    }
}

/// What has been done of one application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub begun: u64,
    pub timing: Timing,
}

/// One run.
#[derive(Debug)]
pub struct Run {
    pub id: String,
    /// The flow's ARN.
    pub flow: String,
    /// Milliseconds since 1970.
    pub accepted_ms: u64,
    /// Whether its outputs are kept for later.
    pub keeps: bool,
    inner: Mutex<Inner>,
    cancel: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    program: Option<Arc<Program>>,
    /// `CLOCK_MONOTONIC`, nanoseconds: 0 before.
    begun: u64,
    ended: u64,
    counts: BTreeMap<(GraphId, AppId), Count>,
}

impl Run {
    fn new(id: String, flow: String, keeps: bool) -> Self {
        let inner = Inner { state: State::Queued, program: None, begun: 0, ended: 0, counts: BTreeMap::new() };
        Self {
            id,
            flow,
            accepted_ms: api::time::now_ms(),
            keeps,
            inner: Mutex::new(inner),
            cancel: watch::Sender::new(false),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn state(&self) -> State {
        self.inner().state.clone()
    }

    pub fn program(&self) -> Option<Arc<Program>> {
        self.inner().program.clone()
    }

    pub fn counts(&self) -> BTreeMap<(GraphId, AppId), Count> {
        self.inner().counts.clone()
    }

    /// Microseconds from its begin to its end, or to now.
    pub fn took_us(&self) -> u64 {
        let inner = self.inner();
        let end = if inner.ended > 0 { inner.ended } else { os::monotonic_ns() };
        if inner.begun == 0 { 0 } else { (end - inner.begun) / 1000 }
    }

    pub fn times(&self) -> Times {
        let apps = self.counts().into_iter().map(|(app, count)| (app, count.timing)).collect();
        Times { total_us: self.took_us(), apps }
    }

    /// Ends it, wherever it is. Whether there was something to end.
    pub fn cancel(&self) -> bool {
        let mut inner = self.inner();
        let was_over = inner.state.is_over();
        if matches!(inner.state, State::Queued) {
            inner.state = State::Cancelled;
        }
        drop(inner);
        self.cancel.send_replace(true);
        !was_over
    }

    pub fn is_cancelled(&self) -> bool {
        *self.cancel.borrow()
    }

    pub(super) async fn cancelled(&self) {
        // The sender is in `self`: it outlives the wait.
        let _ = self.cancel.subscribe().wait_for(|cancelled| *cancelled).await;
    }

    pub(super) fn begin(&self, program: &Arc<Program>) {
        let mut inner = self.inner();
        inner.state = State::Running;
        inner.program = Some(program.clone());
        inner.begun = os::monotonic_ns();
        // What runs again after the node was started again is counted anew.
        inner.counts.clear();
    }

    pub(super) fn end(&self, state: State) {
        let mut inner = self.inner();
        inner.state = state;
        inner.ended = os::monotonic_ns();
    }

    pub(super) fn shard_begins(&self, app: (GraphId, AppId)) {
        self.inner().counts.entry(app).or_default().begun += 1;
    }

    /// One that is not over yet: it is begun once more.
    pub(super) fn shard_is_interrupted(&self, app: (GraphId, AppId)) {
        self.inner().counts.entry(app).or_default().begun -= 1;
    }

    pub(super) fn shard_ends(&self, app: (GraphId, AppId), begun: u64, failed: bool) {
        let now = os::monotonic_ns();
        let mut inner = self.inner();
        let start = inner.begun;
        let timing = &mut inner.counts.entry(app).or_default().timing;
        let begun_us = begun.saturating_sub(start) / 1000;
        timing.begun_us = if timing.shards == 0 { begun_us } else { timing.begun_us.min(begun_us) };
        timing.ended_us = timing.ended_us.max(now.saturating_sub(start) / 1000);
        timing.busy_us += now.saturating_sub(begun) / 1000;
        timing.shards += 1;
        timing.failed += u64::from(failed);
    }
}

/// The runs that are known.
#[derive(Debug)]
pub struct Runs {
    keep_ms: u64,
    keep_runs: usize,
    keep_bytes: u64,
    all: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<String, Arc<Run>>,
    /// Those that are over, with when they ended and what is kept of them.
    over: VecDeque<(String, u64, u64)>,
    bytes: u64,
}

impl Runs {
    pub fn new(config: &FlowConfig) -> Self {
        let keep_bytes = config.keep_mib << 20;
        Self { keep_ms: config.keep_s * 1000, keep_runs: config.keep_runs, keep_bytes, all: Mutex::default() }
    }

    fn all(&self) -> MutexGuard<'_, Known> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run of this id, made where it is not known.
    pub fn enter(&self, id: &str, flow: &str, keeps: bool) -> Arc<Run> {
        let mut known = self.all();
        let run = known.by_id.entry(id.to_owned());
        run.or_insert_with(|| Arc::new(Run::new(id.to_owned(), flow.to_owned(), keeps))).clone()
    }

    pub fn find(&self, id: &str) -> Option<Arc<Run>> {
        self.forget();
        self.all().by_id.get(id).cloned()
    }

    /// A flow's runs, the latest first.
    pub fn of(&self, flow: &str) -> Vec<Arc<Run>> {
        self.forget();
        let mut runs: Vec<Arc<Run>> = self.all().by_id.values().filter(|run| run.flow == flow).cloned().collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.accepted_ms));
        runs
    }

    /// A run that was never taken on is not known.
    pub fn refuse(&self, id: &str) {
        self.all().by_id.remove(id);
    }

    pub fn end(&self, run: &Arc<Run>, state: State) {
        let bytes = state.bytes();
        run.end(state);
        let mut known = self.all();
        // One that was taken on again counts once.
        if let Some(before) = known.over.iter().position(|(id, ..)| *id == run.id)
            && let Some((_, _, bytes)) = known.over.remove(before)
        {
            known.bytes -= bytes;
        }
        known.bytes += bytes;
        known.over.push_back((run.id.clone(), api::time::now_ms(), bytes));
        drop(known);
        self.forget();
    }

    /// What has been kept for long enough, or is too much, goes; the oldest first.
    fn forget(&self) {
        let now = api::time::now_ms();
        let mut known = self.all();
        while let Some((_, ended, bytes)) = known.over.front() {
            let (fresh, bytes) = (now.saturating_sub(*ended) < self.keep_ms, *bytes);
            if fresh && known.over.len() <= self.keep_runs && known.bytes <= self.keep_bytes {
                return;
            }
            known.bytes -= bytes;
            let Some((id, ..)) = known.over.pop_front() else { return };
            if known.by_id.get(&id).is_some_and(|run| run.state().is_over()) {
                known.by_id.remove(&id);
            }
        }
    }
}
