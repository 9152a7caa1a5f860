//! Which sets there are, who waits for one, and how many are being built.
//!
//! One line of sets for each chain in each state of its functions. A request takes the set that was used last, or waits,
//! first come first served, for one that becomes free or is built; as many are built as requests wait, a few at a time.
//! Sets count against the node's limit of instances: beyond it one that is idle ends, or nothing is built until one does.

use super::super::call::InvokeError;
use super::super::{Dispatcher, PlatformError};
use super::set::Set;
use super::{Flow, Refusal, build};
use crate::pool::Pool;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// Sets that are being built at once.
const BUILDS_MAX: u32 = 4;

/// What a request that waits is given.
type Waiter = oneshot::Sender<Result<Held, Refusal>>;

/// All sets of a node.
#[derive(Default)]
pub(in super::super) struct Sets {
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    /// By the chain's id; a chain has one line for each state of its functions that requests find.
    lines: HashMap<String, Vec<Line>>,
    building: u32,
    /// Somebody looks after idle sets.
    swept: bool,
}

struct Line {
    flow: Arc<Flow>,
    pool: Pool<Set, Waiter>,
    building: u32,
    /// Its functions are not what they were: nothing stays idle.
    closed: bool,
}

/// How a request gets its set.
pub(super) enum Step {
    Take(Held),
    Wait(oneshot::Receiver<Result<Held, Refusal>>),
}

/// A busy set. Dropped, it ends.
pub(super) struct Held {
    node: Arc<Dispatcher>,
    flow: Arc<Flow>,
    set: Option<Set>,
}

impl Line {
    fn sets(&self) -> usize {
        self.pool.idle() + (self.pool.busy() + self.building) as usize
    }

    fn instances(&self) -> usize {
        self.sets() * self.flow.stages.len()
    }
}

impl Lines {
    fn line(&mut self, flow: &Arc<Flow>) -> &mut Line {
        let lines = self.lines.entry(flow.id.clone()).or_default();
        let at = lines.iter().position(|line| line.flow.is(flow)).unwrap_or_else(|| {
            let line = Line { flow: flow.clone(), pool: Pool::default(), building: 0, closed: false };
            lines.push(line);
            lines.len() - 1
        });
        &mut lines[at]
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Line> {
        self.lines.values_mut().flatten()
    }

    /// Which sets are to be built now, for requests that wait; and what has to end for them.
    fn pump(&mut self, limit: usize) -> (Vec<Arc<Flow>>, Vec<Set>) {
        let (mut wanted, mut ended) = (Vec::new(), Vec::new());
        while self.building < BUILDS_MAX {
            let behind = self.all().find(|line| line.pool.queued() > line.building as usize);
            let Some((flow, id)) = behind.map(|line| (line.flow.clone(), line.flow.id.clone())) else { break };
            while self.instances() + flow.stages.len() > limit {
                let oldest = self.all().filter(|line| line.pool.idle() > 0).min_by_key(|line| line.pool.oldest_idle());
                let Some(set) = oldest.and_then(|line| line.pool.retire_idle()) else { return (wanted, ended) };
                ended.push(set);
            }
            let lines = self.lines.get_mut(&id).into_iter().flatten();
            lines.filter(|line| line.flow.is(&flow)).for_each(|line| line.building += 1);
            self.building += 1;
            wanted.push(flow);
        }
        (wanted, ended)
    }

    fn instances(&mut self) -> usize {
        self.all().map(|line| line.instances()).sum()
    }

    /// Takes lines away that have nothing.
    fn tidy(&mut self) {
        self.lines.retain(|_, lines| {
            lines.retain_mut(|line| line.sets() > 0 || line.pool.is_awaited());
            !lines.is_empty()
        });
    }
}

impl Sets {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out the idle sets of all chains of which `stale` holds; busy ones end when they have answered.
    pub fn retire(&self, stale: impl Fn(&Flow) -> bool) -> Vec<Set> {
        let mut lines = self.lines();
        let mut retired = Vec::new();
        for line in lines.all().filter(|line| stale(&line.flow)) {
            line.closed = true;
            retired.extend(line.pool.clear());
        }
        lines.tidy();
        retired
    }

    /// Takes out the idle set that has this instance.
    pub fn remove_with(&self, instance: u64) -> Option<Set> {
        let mut lines = self.lines();
        let set = lines.all().find_map(|line| line.pool.remove(|set| set.has(instance)))?;
        lines.tidy();
        Some(set)
    }

    /// Takes out the idle sets of which an instance is gone.
    pub fn remove_departed(&self) -> Vec<Set> {
        let mut lines = self.lines();
        let mut removed = Vec::new();
        for line in lines.all() {
            while let Some(set) = line.pool.remove(Set::has_departed) {
                removed.push(set);
            }
        }
        lines.tidy();
        removed
    }

    /// Takes out what has been idle for as long as `keep`. Answers when to come again.
    fn sweep(&self, now: u64, keep: u64) -> (Vec<Set>, Option<u64>) {
        let mut lines = self.lines();
        let mut ended = Vec::new();
        let mut next = None::<u64>;
        for line in lines.all() {
            while let Some(since) = line.pool.oldest_idle() {
                if since + keep > now {
                    next = Some(next.map_or(since + keep, |next| next.min(since + keep)));
                    break;
                }
                ended.extend(line.pool.retire_idle());
            }
        }
        lines.swept = next.is_some();
        lines.tidy();
        (ended, next)
    }
}

/// A set for a request, or a place in the queue.
pub(super) fn acquire(node: &Arc<Dispatcher>, flow: &Arc<Flow>) -> Result<Step, InvokeError> {
    let limit = node.config.instances as usize;
    if flow.stages.len() > limit {
        let reason = format!("the chain has {} stages, and this node {limit} instances", flow.stages.len());
        return Err(PlatformError::NotStarted { reason }.into());
    }
    let mut lines = node.sets.lines();
    let line = lines.line(flow);
    line.closed = false;
    if let Some((set, _)) = line.pool.take() {
        drop(lines);
        return Ok(Step::Take(Held::new(node, flow, set)));
    }
    let (waiter, granted) = oneshot::channel();
    line.pool.enqueue(waiter);
    let (wanted, ended) = lines.pump(limit);
    drop(lines);
    drop(ended);
    start(node, wanted);
    Ok(Step::Wait(granted))
}

/// Builds what requests wait for, as far as may be.
fn pump(node: &Arc<Dispatcher>) {
    let (wanted, ended) = node.sets.lines().pump(node.config.instances as usize);
    drop(ended);
    start(node, wanted);
}

fn start(node: &Arc<Dispatcher>, wanted: Vec<Arc<Flow>>) {
    for flow in wanted {
        let node = node.clone();
        node.runtime.clone().spawn(async move {
            let built = build::build(&node, &flow).await;
            finish(&node, &flow, built);
        });
    }
}

/// A set is built, or cannot be.
fn finish(node: &Arc<Dispatcher>, flow: &Arc<Flow>, built: Result<Set, Refusal>) {
    let mut lines = node.sets.lines();
    lines.building -= 1;
    let line = lines.line(flow);
    line.building -= 1;
    match built {
        Ok(set) => {
            line.pool.adopt();
            drop(lines);
            Held::new(node, flow, set).give_back();
        }
        Err(refusal) => {
            // One request has that answer; the others may fare better.
            let waiter = line.pool.dequeue();
            drop(lines);
            let _ = waiter.map(|waiter| waiter.send(Err(refusal)));
        }
    }
    pump(node);
}

impl Held {
    /// Of a set that its line counts as busy already.
    fn new(node: &Arc<Dispatcher>, flow: &Arc<Flow>, set: Set) -> Self {
        Self { node: node.clone(), flow: flow.clone(), set: Some(set) }
    }

    pub fn set(&mut self) -> Option<&mut Set> {
        self.set.as_mut()
    }

    /// The set serves the request that has waited for longest, or waits for one.
    pub fn give_back(mut self) {
        let Some(mut set) = self.set.take() else { return };
        let now = os::monotonic_ns();
        loop {
            let mut lines = self.node.sets.lines();
            let line = lines.line(&self.flow);
            if line.closed && !line.pool.is_awaited() {
                drop(lines);
                // Counted as busy until it has ended.
                self.set = Some(set);
                return;
            }
            let Some((waiter, again)) = line.pool.put(set, now, ()) else {
                let is_first = !std::mem::replace(&mut lines.swept, true);
                drop(lines);
                if is_first {
                    self.node.runtime.spawn(sweep(Arc::downgrade(&self.node)));
                }
                return;
            };
            drop(lines);
            match waiter.send(Ok(Self::new(&self.node, &self.flow, again))) {
                Ok(()) => return,
                // Whoever waited has given up: the set is for the next.
                Err(Ok(mut held)) => match held.set.take() {
                    Some(free) => set = free,
                    None => return,
                },
                Err(Err(_)) => return,
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(set) = self.set.take() else { return };
        drop(set);
        let mut lines = self.node.sets.lines();
        lines.line(&self.flow).pool.gone();
        lines.tidy();
        drop(lines);
        pump(&self.node);
    }
}

/// Ends idle sets in time; as long as there are some.
async fn sweep(node: Weak<Dispatcher>) {
    loop {
        let now = os::monotonic_ns();
        let (ended, next) = match node.upgrade() {
            Some(node) => node.sets.sweep(now, node.config.keep_alive().as_nanos() as u64),
            None => return,
        };
        drop(ended);
        let Some(next) = next else { return };
        tokio::time::sleep(Duration::from_nanos(next.saturating_sub(now))).await;
    }
}
