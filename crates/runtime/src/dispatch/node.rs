//! What is where on this node: the state behind the dispatcher's lock, and every decision that depends on more than one
//! instance. Nothing here waits, and nothing here makes a system call: what a decision entails is returned.

use super::config::DispatchConfig;
use super::counters::Counters;
use super::instance::Instance;
use super::link::Link;
use super::posts::Posts;
use super::shared::{Departure, Shared};
use super::ticket::Grant;
use super::{PlatformError, StartKind, spec};
use crate::function::{Function, FunctionKey};
use crate::pool::Pool;
use crate::registry::kind_of;
use crate::scaling::Demand;
use crate::templates::{Seat, Templates};
use sandbox::spec::{End, Kind, Version};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;

/// A request that waits for an instance, or for leave to start one.
pub(super) type Waiter = oneshot::Sender<Grant>;

/// What all revisions of a version share.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Of all versions of the function together: they share what is reserved for it.
    pub in_flight: Arc<AtomicU32>,
    pub counters: Counters,
}

/// One revision of a function on this node.
pub(super) struct Post {
    pub function: Arc<Function>,
    pub meter: Arc<Meter>,
    /// The log stream of all instances that come from its dedicated template.
    pub stream: Arc<str>,
    pub pool: Pool<Box<Instance>, Waiter>,
    /// Instances being started for requests.
    pub starting: u32,
    /// Instances being started ahead of time.
    pub stemming: u32,
    /// No stems before this: the last could not be loaded.
    pub stems_after: u64,
    /// Whether it stays when it has no instances.
    pub deployed: bool,
    /// Ends with its last instance.
    pub closed: bool,
    pub demand: Demand,
    pub used: Option<u64>,
    /// Whether it is in the queue for starts.
    pub listed: bool,
}

impl Post {
    /// Instances that there are or will be.
    pub fn live(&self) -> usize {
        let waiting = self.pool.idle() + self.pool.stems();
        waiting + (self.pool.busy() + self.starting + self.stemming) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.live() == 0 && self.pool.queued() == 0
    }
}

/// A version of a function, whatever its revision.
pub(super) struct Entry {
    pub meter: Arc<Meter>,
    /// By revision, the newest last.
    pub posts: Vec<(String, u64)>,
}

/// The worker that is attached.
pub(super) struct Worker {
    pub link: Arc<Link>,
    /// Whether it has said what it runs.
    pub ready: bool,
    /// Of each kind the versions, first the one for those who want no other.
    pub languages: Vec<(Kind, Version)>,
    pub missing: Vec<String>,
}

impl Worker {
    /// What it runs.
    pub fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.languages.iter().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        kinds
    }

    /// The versions of a kind.
    pub fn versions(&self, kind: Kind) -> Vec<Version> {
        self.languages.iter().filter(|(known, _)| *known == kind).map(|(_, version)| *version).collect()
    }

    /// The version on which a function runs here; nothing where no version of its kind is here.
    pub fn version_for(&self, function: &Function) -> Option<Version> {
        Version::of(function.kind, &function.runtime).nearest(&self.versions(function.kind))
    }

    /// The version of its language on which a function runs here, whatever runs it: one whose start is wrapped has a
    /// language too.
    pub fn language_for(&self, function: &Function) -> Version {
        let kind = kind_of(&function.runtime).unwrap_or(function.kind);
        Version::of(kind, &function.runtime).nearest(&self.versions(kind)).unwrap_or_default()
    }
}

/// What a start is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Request,
    Stem,
}

/// Leave to start one instance, already counted.
#[derive(Clone)]
pub(super) struct Permit {
    pub shared: Arc<Shared>,
    pub link: Arc<Link>,
    pub function: Arc<Function>,
    pub purpose: Purpose,
    pub template: u64,
    /// The version of its language that it runs on.
    pub version: Version,
    /// Nothing from a generic template, else the log stream of the dedicated one.
    pub stream: Option<Arc<str>>,
}

/// How a request gets its instance.
pub(super) enum Step {
    Take(Box<Instance>),
    Start(Permit),
    Wait(oneshot::Receiver<Grant>),
}

/// What instances can be started from.
enum Source {
    Template {
        seat: Seat,
        id: u64,
    },
    /// It is being made.
    Later,
    Never {
        reason: String,
    },
}

/// The state.
pub(super) struct State {
    pub functions: HashMap<FunctionKey, Entry>,
    /// Invocations in flight of functions in whatever version, by account, region and name.
    running: HashMap<[String; 3], Weak<AtomicU32>>,
    pub posts: Posts,
    /// Everything that the worker may have news of.
    pub instances: HashMap<u64, Arc<Shared>>,
    pub templates: Templates,
    pub worker: Option<Worker>,
    pub losses: u64,
    pub draining: bool,
    /// When the upkeep comes of its own accord.
    pub upkeep_at: u64,
    /// Starts in flight.
    pub starting: u32,
    starts_max: u32,
    /// Instances that the worker may have at once, those included that it is still ending.
    present_max: usize,
    /// Posts with requests that wait for leave to start, each once.
    turn: VecDeque<u64>,
    next_post: u64,
    next_instance: u64,
}

impl State {
    /// Ids count from `first`: neither templates' nor instances' are used twice, even by a gateway that was restarted.
    pub fn new(config: &DispatchConfig, cores: u32, first: u64) -> Self {
        Self {
            functions: HashMap::new(),
            running: HashMap::new(),
            posts: Posts::default(),
            instances: HashMap::new(),
            templates: Templates::new(first),
            worker: None,
            losses: 0,
            draining: false,
            upkeep_at: u64::MAX,
            starting: 0,
            starts_max: (config.starts_per_core * cores).max(1),
            present_max: config.instances.saturating_mul(2).max(1) as usize,
            turn: VecDeque::new(),
            next_post: 1,
            next_instance: first,
        }
    }

    /// The worker's connection, once the worker has spoken.
    pub fn link(&self) -> Option<&Arc<Link>> {
        self.worker.as_ref().filter(|worker| worker.ready).map(|worker| &worker.link)
    }

    /// Asks for the generic template of this function, where it is known which that is.
    pub fn want_generic(&mut self, function: &Function, now: u64) {
        let worker = self.worker.as_ref().filter(|worker| worker.ready);
        if let Some(version) = worker.and_then(|worker| worker.version_for(function)) {
            self.templates.want(Seat::Generic(function.kind, version, function.network), function.kind, now, false);
        }
    }

    /// The post of this revision, made where it is missing.
    pub fn post(&mut self, function: &Arc<Function>) -> u64 {
        let entry = match self.functions.get_mut(&function.key) {
            Some(entry) => entry,
            None => {
                let in_flight = share(&mut self.running, &function.key);
                let meter = Meter { in_flight, ..Meter::default() }.into();
                self.functions.entry(function.key.clone()).or_insert(Entry { meter, posts: Vec::new() })
            }
        };
        if let Some((_, id)) = entry.posts.iter().find(|(revision, _)| *revision == function.revision) {
            return *id;
        }
        let id = self.next_post;
        self.next_post += 1;
        entry.posts.push((function.revision.clone(), id));
        let post = Post {
            function: function.clone(),
            meter: entry.meter.clone(),
            stream: spec::log_stream(function).into(),
            pool: Pool::default(),
            starting: 0,
            stemming: 0,
            stems_after: 0,
            deployed: false,
            closed: false,
            demand: Demand::default(),
            used: None,
            listed: false,
        };
        self.posts.insert(id, post);
        id
    }

    /// An instance for a request, or leave to start one, or a place in the queue. The post exists.
    pub fn acquire(&mut self, post_id: u64, now: u64) -> Result<Step, PlatformError> {
        let Some(post) = self.posts.get_mut(post_id) else {
            debug_assert!(false, "a post is made and asked under one lock");
            return Err(PlatformError::WorkerLost);
        };
        post.used = Some(now);
        let taken = post.pool.take();
        if !matches!(taken, Some((_, StartKind::Warm))) {
            post.demand.note(now);
        }
        if let Some((instance, _)) = taken {
            return Ok(Step::Take(instance));
        }
        let (kind, is_first) = (post.function.kind, post.pool.queued() == 0);
        self.templates.want(Seat::Dedicated(post_id), kind, now, true);
        if let Source::Never { reason } = self.source(post_id, now) {
            return Err(PlatformError::NoTemplate { reason });
        }
        if is_first && let Some(permit) = self.permit(post_id, Purpose::Request, now) {
            return Ok(Step::Start(permit));
        }
        let (waiter, granted) = oneshot::channel();
        if let Some(post) = self.posts.get_mut(post_id) {
            post.pool.enqueue(waiter);
        }
        self.list(post_id);
        Ok(Step::Wait(granted))
    }

    fn list(&mut self, post_id: u64) {
        if let Some(post) = self.posts.get_mut(post_id)
            && !std::mem::replace(&mut post.listed, true)
        {
            self.turn.push_back(post_id);
        }
    }

    /// What this post's next instance is started from.
    fn source(&mut self, post_id: u64, now: u64) -> Source {
        let Some(post) = self.posts.get(post_id) else { return Source::Later };
        let (dedicated, function) = (Seat::Dedicated(post_id), &post.function);
        if let Some(id) = self.templates.ready(dedicated) {
            return Source::Template { seat: dedicated, id };
        }
        let Some(worker) = self.worker.as_ref().filter(|worker| worker.ready) else { return Source::Later };
        let Some(version) = worker.version_for(function) else {
            let kind = format!("{:?}", function.kind).to_lowercase();
            return Source::Never { reason: format!("this machine's worker does not run {kind} functions") };
        };
        let generic = Seat::Generic(function.kind, version, function.network);
        self.templates.want(generic, function.kind, now, true);
        if let Some(id) = self.templates.ready(generic) {
            return Source::Template { seat: generic, id };
        }
        match self.templates.hopeless(generic) {
            Some(reason) => Source::Never { reason: reason.to_owned() },
            None => Source::Later,
        }
    }

    /// Leave to start an instance now, if as few are being started as may be and there is a template.
    pub fn permit(&mut self, post_id: u64, purpose: Purpose, now: u64) -> Option<Permit> {
        if self.starting >= self.starts_max || self.instances.len() >= self.present_max {
            return None;
        }
        let Source::Template { seat, id: template } = self.source(post_id, now) else { return None };
        let link = self.link()?.clone();
        let post = self.posts.get_mut(post_id)?;
        let version = self.worker.as_ref().map(|worker| worker.language_for(&post.function)).unwrap_or_default();
        *post.starting_mut(purpose) += 1;
        self.starting += 1;
        self.templates.started(seat, now);
        let shared = Arc::new(Shared::new(self.next_instance, post_id));
        self.next_instance += 1;
        self.instances.insert(shared.id, shared.clone());
        let stream = matches!(seat, Seat::Dedicated(_)).then(|| post.stream.clone());
        Some(Permit { shared, link, function: post.function.clone(), purpose, template, version, stream })
    }

    /// A start is over, well or not.
    pub fn start_is_over(&mut self, post_id: u64, purpose: Purpose) {
        self.starting -= 1;
        if let Some(post) = self.posts.get_mut(post_id) {
            *post.starting_mut(purpose) -= 1;
        }
    }

    /// Whether requests wait for leave to start.
    pub fn is_behind(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Gives leave to start to those who wait, in turn, as far as possible.
    pub fn pump(&mut self, now: u64) -> Vec<(Waiter, Permit)> {
        let mut granted = Vec::new();
        let mut in_vain = 0;
        while in_vain < self.turn.len() && self.starting < self.starts_max {
            let Some(post_id) = self.turn.pop_front() else { break };
            let Some(post) = self.posts.get_mut(post_id) else { continue };
            post.listed = false;
            if post.pool.queued() == 0 {
                continue;
            }
            match self.permit(post_id, Purpose::Request, now) {
                Some(permit) => {
                    let waiter = self.posts.get_mut(post_id).and_then(|post| post.pool.dequeue());
                    granted.extend(waiter.map(|waiter| (waiter, permit)));
                    in_vain = 0;
                }
                None => in_vain += 1,
            }
            if self.posts.get(post_id).is_some_and(|post| post.pool.queued() > 0) {
                self.list(post_id);
            }
        }
        granted
    }

    /// Takes everybody out of the queues who can never be served, with the reason.
    pub fn hopeless(&mut self, now: u64) -> Vec<(Waiter, String)> {
        let queued: Vec<u64> =
            self.posts.awake().filter(|(_, post)| post.pool.queued() > 0).map(|(id, _)| id).collect();
        let mut hopeless = Vec::new();
        for post_id in queued {
            let Source::Never { reason } = self.source(post_id, now) else { continue };
            let Some(post) = self.posts.get_mut(post_id) else { continue };
            hopeless.extend(std::iter::from_fn(|| post.pool.dequeue()).map(|waiter| (waiter, reason.clone())));
        }
        hopeless
    }

    /// An instance has departed: it is told, and taken out of its pool if it waits there.
    pub fn depart(&mut self, instance: u64, departure: Departure) -> Option<Box<Instance>> {
        let shared = self.instances.remove(&instance)?;
        shared.depart(departure);
        let post = self.posts.get_mut(shared.post)?;
        post.pool.remove(|waiting| waiting.shared.id == instance)
    }

    /// The worker is gone, and everything with it. Answers what waited in the pools.
    pub fn lose_worker(&mut self, now: u64) -> Vec<Instance> {
        if self.worker.take().is_none() {
            return Vec::new();
        }
        self.losses += 1;
        self.templates.reset(now);
        for (_, shared) in self.instances.drain() {
            shared.depart(Departure::Ended { end: End::Lost, memory_peak: 0 });
        }
        self.clear_pools()
    }

    /// Takes all waiting instances out of all pools.
    pub fn clear_pools(&mut self) -> Vec<Instance> {
        let mut cleared = Vec::new();
        for id in self.posts.awake_ids() {
            let post = self.posts.get_mut(id).into_iter();
            cleared.extend(post.flat_map(|post| post.pool.clear()).map(|instance| *instance));
        }
        cleared
    }

    /// What has to go where there are more than `limit` instances: the one that has been idle for longest.
    pub fn surplus(&mut self, limit: usize) -> Option<Box<Instance>> {
        // What has been retired and has not ended yet does not count: its place is as good as free.
        if self.posts.awake().map(|(_, post)| post.live()).sum::<usize>() <= limit {
            return None;
        }
        let idle = self.posts.awake().filter(|(_, post)| post.pool.idle() > 0);
        let (oldest, _) = idle.min_by_key(|(_, post)| post.pool.oldest_idle())?;
        self.posts.get_mut(oldest)?.pool.retire_idle()
    }

    /// A post is to end with its last instance.
    pub fn close(&mut self, post_id: u64) {
        if let Some(post) = self.posts.get_mut(post_id) {
            (post.closed, post.deployed) = (true, false);
        }
    }

    /// Takes a post away that has nothing any more. Answers its template.
    pub fn remove_post(&mut self, post_id: u64) -> Option<u64> {
        let post = self.posts.remove(post_id)?;
        if let Some(entry) = self.functions.get_mut(&post.function.key) {
            entry.posts.retain(|(_, id)| *id != post_id);
            if entry.posts.is_empty() {
                self.functions.remove(&post.function.key);
                let all = name_of(&post.function.key);
                drop(post);
                if self.running.get(&all).is_some_and(|count| count.strong_count() == 0) {
                    self.running.remove(&all);
                }
            }
        }
        self.templates.forget(Seat::Dedicated(post_id))
    }
}

fn name_of(key: &FunctionKey) -> [String; 3] {
    [&key.account, &key.region, &key.name].map(String::clone)
}

/// The count that all versions of a function share.
fn share(running: &mut HashMap<[String; 3], Weak<AtomicU32>>, key: &FunctionKey) -> Arc<AtomicU32> {
    let shared = running.entry(name_of(key)).or_default();
    shared.upgrade().unwrap_or_else(|| {
        let count = Arc::default();
        *shared = Arc::downgrade(&count);
        count
    })
}

impl Post {
    fn starting_mut(&mut self, purpose: Purpose) -> &mut u32 {
        match purpose {
            Purpose::Request => &mut self.starting,
            Purpose::Stem => &mut self.stemming,
        }
    }
}
