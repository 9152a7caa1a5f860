//! From an invocation to an instance and back.
//!
//! ```text
//!             invoke ─► state: take, start or wait ─► channel ═══════════════════════╗
//!                          ▲            │                                            ║ memory
//!   attach_worker ─► events ─╮          ╰─► link ─► worker ┄► template ┄► instance ◄═╝
//!                    upkeep ─┴─► link
//! ```
//!
//! The worker is not on the data path: a request is in the instance's channel before the instance exists, and its answer
//! is read by the thread of the runtime that is woken by it.
//!
//! | module | what it is |
//! |---|---|
//! | [`call`] | what goes into an invocation and what comes out |
//! | [`chain`] | requests through chains of functions |
//! | `check` | looks at new code before its first use |
//! | [`config`] | limits and policies of a node |
//! | [`counters`] | what is counted |
//! | [`snapshot`] | what a node looks like at a moment |
//! | `invoke` | one invocation, from its admission to its bill |
//! | `node`, `post` | the state behind the lock, and all decisions on it; what of it is one function's |
//! | `placing` | where instances are and can be |
//! | [`pure`] | runs of pure functions |
//! | `holding` | what engines hold for a run of a flow |
//! | `reception` | answers that come in parts |
//! | `ticket` | what a request holds while it is served |
//! | `start`, `spec` | starting an instance, and what the worker has to know for it |
//! | `instance`, `shared`, `journal` | one instance: its channel, what others know of it, its log |
//! | `pu`, `link`, `events` | one PU and its worker: what it is told, what it says |
//! | `kits`, `orders` | what instances are given, made ahead; the way that starts are ordered |
//! | `upkeep` | what is done in the background |
//! | `engines`, `habits`, `aside` | which engine a run goes to; how long runs take; those that are in the way |
//! | `watched` | which event loop waits for an instance |
//! | `clock`, `keep_going`, `latency` | deadlines; invocations nobody waits for; fast wake-ups |
//! | `failure`, `lines`, `trace` | how errors, logs and traces are worded |
//!
//! The policies are elsewhere, and pure: [`crate::placement`], [`crate::pool`], [`crate::scaling`], [`crate::keepalive`], [`crate::templates`].

mod aside;
pub mod awake;
mod cached;
pub mod call;
pub mod chain;
mod check;
mod clock;
pub mod config;
pub mod counters;
mod engines;
mod events;
mod failure;
mod farewell;
mod habits;
mod holding;
mod instance;
mod invoke;
mod journal;
mod keep_going;
mod kits;
mod latency;
mod lines;
mod link;
mod node;
mod orders;
mod placing;
mod post;
mod posts;
mod pu;
pub mod pure;
mod reception;
mod shared;
pub mod snapshot;
mod spec;
mod start;
mod ticket;
mod trace;
mod upkeep;
mod watched;

pub use call::{Call, InvokeError, Outcome, PlatformError, Report, Spans, StartKind, ThrottleReason};
pub use config::{DispatchConfig, Latency};
pub use engines::Computing;
pub use holding::{Hold, Holding};
pub use orders::Ways;
pub use pure::{Computed, Payload};
pub use reception::{Parts, Streamed};
pub use snapshot::NodeState;

use crate::billing::BillSink;
use crate::function::{Function, FunctionKey};
use crate::logs::LogStore;
use crate::results::Results;
use crate::scaling;
use crate::templates::Seat;
use chain::sets::Sets;
use check::Checks;
use clock::Clock;
use daemon::pu::Pus;
use farewell::Farewells;
use instance::Instance;
use interconnect::layout::INLINE_MAX;
use keep_going::KeepGoing;
use latency::Wakefulness;
use link::Link;
use node::{Asked, Meter, Permit, State, Step, Waiter};
use orders::Attachment;
use post::RUNS_TO_CHOICE;
use reception::Reception;
use sandbox::spec::{Kind, Version};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use ticket::{Admission, Grant, Lease, Ticket};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

const MIB: usize = 1 << 20;
/// Bytes that accompany an event beside the caller's own texts.
const HEAD_OVERHEAD: usize = 64;

/// Runs functions on this node: owns every instance, and speaks to the workers.
pub struct Dispatcher {
    config: DispatchConfig,
    logs: Arc<LogStore>,
    bills: Box<dyn BillSink>,
    runtime: Handle,
    state: Mutex<State>,
    clock: Arc<Clock>,
    farewells: Arc<Farewells>,
    /// Of chains.
    sets: Sets,
    /// Of pure functions.
    results: Arc<Results>,
    wakefulness: Arc<Wakefulness>,
    /// Something is to be done in the background.
    upkeep: Arc<Notify>,
    /// Invocations that are running or wait for an instance.
    in_flight: AtomicU32,
    /// There are none any more.
    quiet: Notify,
    /// Looks at new code that workers have been asked for.
    checks: Mutex<Checks>,
    clock_task: AbortHandle,
    /// To the host's shim, where starts are ordered through FIFOs.
    attachment: OnceLock<Arc<Attachment>>,
}

impl Dispatcher {
    /// On one PU, the host itself. Must be called within a tokio runtime, on which all further work takes place.
    pub fn new(config: DispatchConfig, logs: Arc<LogStore>, bills: impl BillSink) -> Arc<Self> {
        Self::over(&Pus::default(), config, logs, bills)
    }

    /// The same, on these PUs.
    pub fn over(pus: &Pus, config: DispatchConfig, logs: Arc<LogStore>, bills: impl BillSink) -> Arc<Self> {
        let runtime = Handle::current();
        // Milliseconds with room for a million ids each: a gateway that is restarted never uses one again.
        let first_id = api::time::now_ms() << 20;
        let (clock, upkeep) = (Arc::new(Clock::default()), Arc::new(Notify::new()));
        let clock_task = runtime.spawn(clock.clone().run()).abort_handle();
        let node = Arc::new(Self {
            state: Mutex::new(State::new(&config, pus, first_id)),
            farewells: Farewells::new(runtime.clone()),
            sets: Sets::default(),
            results: Results::new(config.results_mib as usize * MIB),
            wakefulness: Wakefulness::new(config.latency),
            bills: Box::new(bills),
            in_flight: AtomicU32::new(0),
            quiet: Notify::new(),
            checks: Mutex::default(),
            upkeep: upkeep.clone(),
            runtime,
            config,
            logs,
            clock,
            clock_task,
            attachment: OnceLock::new(),
        });
        node.runtime.spawn(upkeep::run(Arc::downgrade(&node), upkeep));
        node
    }

    /// Orders starts through FIFOs of the shim that listens at this path, from workers on that are attached later.
    pub fn order_through(&self, shim: PathBuf) {
        self.attachment.get_or_init(|| Arc::new(Attachment::new(shim)));
    }

    /// Takes over the connection to a PU's worker, at the start and whenever the supervisor has restarted it. What an
    /// earlier worker of that PU ran is lost.
    pub fn attach_worker(self: &Arc<Self>, pu: u8, socket: OwnedFd) {
        let _context = self.runtime.enter();
        if usize::from(pu) >= self.state().pus.len() {
            return tracing::error!(pu, "there is a worker for a PU that this node does not have");
        }
        let body_max = self.config.payload_max.max(self.config.response_max);
        match Link::new(socket, body_max) {
            Ok(link) => self.attach(pu, link),
            Err(error) => tracing::error!(%error, "the worker's connection is of no use"),
        }
    }

    /// Whether the worker of the host itself has said that it is there.
    pub fn worker_ready(&self) -> bool {
        self.state().pu(0).ready().is_some()
    }

    /// Whether one of this function's PUs is up.
    fn is_up_for(&self, function: &Function) -> bool {
        self.state().is_up_for(function)
    }

    /// The versions of a language that the host itself runs, first the one for those who want no other. Empty as long as
    /// its worker has not said it.
    pub fn versions(&self, kind: Kind) -> Vec<Version> {
        self.state().pu(0).worker.as_ref().map(|worker| worker.versions(kind)).unwrap_or_default()
    }

    /// Announces a new or changed function: its template is prepared, its minimum of warm instances kept, and instances
    /// of its older revisions end when they are idle.
    pub fn deploy(self: &Arc<Self>, function: Arc<Function>) {
        let now = os::monotonic_ns();
        let mut state = self.state();
        let id = state.post(&function);
        let others: Vec<u64> = match state.functions.get(&function.key) {
            Some(entry) => entry.posts.iter().map(|(_, other)| *other).filter(|other| *other != id).collect(),
            None => Vec::new(),
        };
        for other in others {
            state.close(other);
        }
        let (kind, urgent) = (function.kind, function.min_warm > 0);
        let places = state.places(&function);
        state.want_generic(&function, &places, now, false);
        // Where there is no room for more, a template is made when its function is used.
        if let Some(home) = state.home(id) {
            let pu = state.pu(home);
            if urgent || pu.templates.has_room(kind, pu.budget_mib(&self.config)) {
                pu.templates.want(Seat::Dedicated(id), kind, now, urgent);
            }
        }
        let (key, revision) = (function.key.clone(), function.revision.clone());
        if let Some(post) = state.posts.get_mut(id) {
            (post.function, post.deployed, post.closed) = (function, true, false);
        }
        drop(state);
        self.forget_sets(&key, Some(&revision));
        self.upkeep_soon();
    }

    /// Ends what a function has: idle instances now, busy ones when they have answered.
    pub fn withdraw(&self, key: &FunctionKey) {
        let mut state = self.state();
        let posts = state.functions.get(key).map(|entry| entry.posts.clone()).unwrap_or_default();
        for (_, post) in posts {
            state.close(post);
        }
        drop(state);
        self.forget_sets(key, None);
        self.upkeep_soon();
    }

    /// Runs a function once. Dropping the future does not stop the invocation, as on Lambda, unless the function is pure.
    pub async fn invoke(self: &Arc<Self>, function: &Arc<Function>, call: Call) -> Result<Outcome, InvokeError> {
        if function.kind.is_pure() {
            return self.invoke_pure(function, call).await;
        }
        let reception = Reception::whole(self.config.response_max);
        KeepGoing::new(self.runtime.clone(), invoke::run(self.clone(), function.clone(), call, reception, None)).await
    }

    /// Runs a function once: its answer as it comes, where the function gives it in parts. Dropping it does not stop the
    /// invocation.
    pub async fn stream(self: &Arc<Self>, function: &Arc<Function>, call: Call) -> Result<Streamed, InvokeError> {
        if function.kind.is_pure() {
            return self.invoke_pure(function, call).await.map(Streamed::Whole);
        }
        let (reception, opening) = Reception::in_parts(self.config.stream_max);
        let run = invoke::run(self.clone(), function.clone(), call, reception, None);
        opening.streamed(KeepGoing::new(self.runtime.clone(), run)).await
    }

    /// The node at this moment.
    pub fn snapshot(&self) -> NodeState {
        snapshot::take(&self.state(), self.in_flight.load(Relaxed), self.config.concurrency)
    }

    /// Refuses new invocations and waits until the running ones have ended, for `limit` at most; then ends all instances.
    pub async fn drain(&self, limit: Duration) {
        self.state().draining = true;
        let over = async {
            loop {
                let quiet = self.quiet.notified();
                if self.in_flight.load(Relaxed) == 0 {
                    return;
                }
                quiet.await;
            }
        };
        if tokio::time::timeout(limit, over).await.is_err() {
            let left = self.in_flight.load(Relaxed);
            tracing::warn!(left, "invocations were still running at the end of the time for them");
        }
        drop(self.sets.retire(|_| true));
        let ended = self.state().clear_pools();
        drop(ended);
        self.farewells.over().await;
    }

    /// Which processors do nothing but compute, as the load has it.
    pub fn computing(&self) -> Arc<Computing> {
        self.state().engines.computing.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upkeep_soon(&self) {
        self.upkeep.notify_one();
    }

    /// Lets an invocation in, or refuses it; the first instance for it is found under the same lock.
    fn admit(
        self: &Arc<Self>,
        function: &Arc<Function>,
        call: &Call,
    ) -> Result<(Admission, Result<Step, PlatformError>), InvokeError> {
        let now = os::monotonic_ns();
        let mut state = self.open_for(function, call, now)?;
        let post = state.post(function);
        let meter = self.within_limits(&state, post, function)?;
        let admission = Admission::new(self.clone(), meter);
        Ok((admission, self.seek(state, post, Asked { bytes: call.len(), passes: false }, now)))
    }

    /// The state, where an invocation like this may be let in at all.
    fn open_for(&self, function: &Function, call: &Call, now: u64) -> Result<MutexGuard<'_, State>, InvokeError> {
        let (len, limit) = (call.len(), self.config.payload_max);
        if len > limit {
            return Err(InvokeError::PayloadTooLarge { len, limit });
        }
        let caller = [&call.invoked_arn, &call.client_context, &call.cognito_identity, &call.tenant_id];
        let texts = caller.into_iter().chain([&call.request_id, &call.trace_id]);
        let len = texts.map(String::len).sum::<usize>();
        let limit = INLINE_MAX.saturating_sub(HEAD_OVERHEAD + function.arn.len());
        if len > limit {
            return Err(InvokeError::ContextTooLarge { len, limit });
        }
        // By the loop that the request is on, if it is on one: another one would have to be woken.
        let here = Handle::try_current();
        self.wakefulness.touch(here.as_ref().unwrap_or(&self.runtime), now);
        let state = self.state();
        if state.draining { Err(InvokeError::Draining) } else { Ok(state) }
    }

    /// What is counted of a function, where another invocation of it is within all limits.
    fn within_limits(&self, state: &State, post: u64, function: &Function) -> Result<Arc<Meter>, InvokeError> {
        let Some(meter) = state.posts.get(post).map(|post| post.meter.clone()) else {
            return Err(InvokeError::NoWorker);
        };
        let (running, all) = (meter.in_flight.load(Relaxed), self.in_flight.load(Relaxed));
        if let Err(reason) = scaling::admit(running, function.max_concurrency, all, self.config.concurrency) {
            meter.counters.throttle();
            return Err(InvokeError::Throttled { reason });
        }
        Ok(meter)
    }

    /// Lets a request for a chain in, or refuses it: its place on the node, and what is counted of each function.
    fn admit_chain<'a>(
        self: &Arc<Self>,
        first: &Function,
        call: &Call,
        functions: impl Iterator<Item = &'a Arc<Function>>,
    ) -> Result<(Admission, Vec<Arc<Meter>>), InvokeError> {
        let mut state = self.open_for(first, call, os::monotonic_ns())?;
        let mut meters: Vec<Arc<Meter>> = Vec::new();
        for function in functions {
            let post = state.post(function);
            meters.push(self.within_limits(&state, post, function)?);
        }
        let Some(meter) = meters.first().cloned() else { return Err(InvokeError::NoWorker) };
        Ok((Admission::new(self.clone(), meter), meters))
    }

    /// Another instance for an invocation that was let in.
    fn acquire(self: &Arc<Self>, function: &Arc<Function>, asked: Asked) -> Result<Step, PlatformError> {
        let mut state = self.state();
        let post = state.post(function);
        self.seek(state, post, asked, os::monotonic_ns())
    }

    fn seek(&self, mut state: MutexGuard<'_, State>, post: u64, asked: Asked, now: u64) -> Result<Step, PlatformError> {
        let warm = state.posts.get(post).is_some_and(|post| post.pool.idle() > 0);
        let step = state.acquire(post, asked, now);
        if warm {
            return step;
        }
        let surplus = state.surplus(self.config.instances as usize);
        drop(state);
        drop(surplus);
        self.upkeep_soon();
        step
    }

    /// An instance is free.
    fn put(self: &Arc<Self>, mut instance: Box<Instance>) {
        let now = os::monotonic_ns();
        let mut state = self.state();
        let keep = now + self.config.keep_alive().as_nanos() as u64;
        let is_first_due = keep < state.upkeep_at;
        let draining = state.draining;
        instance.claim = None;
        if let (None, Some(processor)) = (&instance.engine, instance.processor) {
            instance.engine = state.engines.of(&instance.shared.terms, processor);
        }
        state.balance(&instance, self.config.computing, now);
        let Some(post) = state.posts.get_mut(instance.shared.post) else { return };
        if instance.shared.is_departed() || ((post.closed || draining) && !post.pool.is_awaited()) {
            let post = instance.shared.post;
            self.gone(state, post);
            return drop(instance);
        }
        let typical = post.learn(&mut instance);
        let spot = instance.spot();
        let wants_choice = post.runs % RUNS_TO_CHOICE == 0 && post.wants_choice(now);
        let mut handed = post.pool.put(instance, now, spot);
        if let Some((_, instance)) = &mut handed {
            instance.claim(typical);
        }
        drop(state);
        if let Some((waiter, instance)) = handed {
            self.hand_over(waiter, Lease::new(self.clone(), instance));
        }
        if is_first_due || wants_choice {
            self.upkeep_soon();
        }
    }

    fn hand_over(&self, waiter: Waiter, lease: Lease) {
        // Whoever waited may have given up meanwhile: then the instance is free again.
        if let Err(Grant::Instance(lease)) = waiter.send(Grant::Instance(lease)) {
            lease.give_back();
        }
    }

    /// A busy instance of this post has ended: others may be started in its place, also where the worker has told of its end
    /// before.
    fn gone(self: &Arc<Self>, mut state: MutexGuard<'_, State>, post: u64) {
        state.posts.get_mut(post).into_iter().for_each(|post| post.pool.gone());
        let granted = state.pump(os::monotonic_ns());
        drop(state);
        self.deliver(granted);
        self.upkeep_soon();
    }

    fn deliver(self: &Arc<Self>, granted: Vec<(Waiter, Permit)>) {
        for (waiter, permit) in granted {
            // Whoever waited may have given up meanwhile: the ticket falls, and others get leave to start.
            let _ = waiter.send(Grant::Start(Ticket::new(self.clone(), permit)));
        }
    }

    /// An invocation is over.
    fn left(&self) {
        if self.in_flight.fetch_sub(1, Relaxed) == 1 {
            self.quiet.notify_waiters();
        }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.clock_task.abort();
        // The background task finds that the node is gone.
        self.upkeep.notify_one();
    }
}
