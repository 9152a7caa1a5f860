//! What is where on this node: the state behind the dispatcher's lock, and every decision that depends on more than one
//! instance. Nothing here waits, and nothing here makes a system call: what a decision entails is returned.

use super::config::DispatchConfig;
use super::counters::Counters;
use super::engines::Engines;
use super::habits::{Habits, Length};
use super::instance::Instance;
use super::link::Link;
use super::post::Post;
use super::posts::Posts;
use super::pu::{Pu, Source};
use super::shared::{Departure, Shared};
use super::ticket::Grant;
use super::{PlatformError, StartKind, spec};
use crate::function::{Function, FunctionKey};
use crate::placement::{self, Candidate, Choice, Terms};
use crate::pool::{Pool, Waiting};
use crate::scaling::Demand;
use crate::templates::Seat;
use daemon::pu::{Pus, Tier};
use sandbox::spec::{End, EngineClass, OWN_ENGINES, Version};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;

/// A request that waits for an instance, or for leave to start one.
pub(super) type Waiter = oneshot::Sender<Grant>;

impl<T> Waiting for oneshot::Sender<T> {
    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}

/// What all revisions of a version share.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Of all versions of the function together: they share what is reserved for it.
    pub in_flight: Arc<AtomicU32>,
    pub counters: Counters,
}

/// A version of a function, whatever its revision.
pub(super) struct Entry {
    pub meter: Arc<Meter>,
    /// By revision, the newest last.
    pub posts: Vec<(String, u64)>,
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
    /// Of a pure function: the processor whose engine it had better not be of.
    pub apart: Option<u32>,
}

/// What a request asks of an instance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub bytes: usize,
    /// Whether it passes by the engines of long runs, whatever the habit.
    pub passes: bool,
}

/// How a request gets its instance.
pub(super) enum Step {
    Take(Box<Instance>),
    Start(Permit),
    Wait(oneshot::Receiver<Grant>),
}

/// The state.
pub(super) struct State {
    pub functions: HashMap<FunctionKey, Entry>,
    /// Invocations in flight of functions in whatever version, by account, region and name.
    running: HashMap<[String; 3], Weak<AtomicU32>>,
    pub posts: Posts,
    /// Everything that a worker may have news of.
    pub instances: HashMap<u64, Arc<Shared>>,
    pub engines: Engines,
    /// By their numbers; there is one at least.
    pub pus: Vec<Pu>,
    pub draining: bool,
    /// When the upkeep comes of its own accord.
    pub upkeep_at: u64,
    /// Instances that workers may have at once, those included that they are still ending.
    present_max: usize,
    /// Posts with requests that wait for leave to start, each once.
    turn: VecDeque<u64>,
    next_post: u64,
    next_instance: u64,
    /// The post that was asked for last.
    recent: u64,
}

impl State {
    /// Ids count from `first`: neither templates' nor instances' are used twice, even by a gateway that was restarted.
    pub fn new(config: &DispatchConfig, pus: &Pus, first: u64) -> Self {
        Self {
            pus: pus.all().iter().map(|pu| Pu::new(pu.clone(), config, first)).collect(),
            functions: HashMap::new(),
            running: HashMap::new(),
            posts: Posts::default(),
            instances: HashMap::new(),
            engines: Engines::default(),
            draining: false,
            upkeep_at: u64::MAX,
            present_max: config.instances.saturating_mul(2).max(1) as usize,
            turn: VecDeque::new(),
            next_post: 1,
            next_instance: first,
            recent: 0,
        }
    }

    /// The PU of this number, which one of this node's own instances or workers has.
    pub fn pu(&mut self, number: u8) -> &mut Pu {
        &mut self.pus[usize::from(number)]
    }

    /// Starts in flight.
    pub fn starting(&self) -> u32 {
        self.pus.iter().map(|pu| pu.starting).sum()
    }

    /// The post of this revision, made where it is missing.
    pub fn post(&mut self, function: &Arc<Function>) -> u64 {
        // Its names need not be hashed for each of its requests.
        if self.posts.get(self.recent).is_some_and(|post| Arc::ptr_eq(&post.function, function)) {
            return self.recent;
        }
        self.recent = self.post_of(function);
        self.recent
    }

    fn post_of(&mut self, function: &Arc<Function>) -> u64 {
        let entry = match self.functions.get_mut(&function.key) {
            Some(entry) => entry,
            None => {
                let in_flight = share(&mut self.running, &function.key);
                let meter = Meter { in_flight, ..Meter::default() }.into();
                self.functions.entry((*function.key).clone()).or_insert(Entry { meter, posts: Vec::new() })
            }
        };
        if let Some((_, id)) = entry.posts.iter().find(|(revision, _)| *revision == function.revision) {
            return *id;
        }
        let id = self.next_post;
        self.next_post += 1;
        entry.posts.push((function.revision.clone(), id));
        let meter = entry.meter.clone();
        let places = self.places(function);
        let cores = places.iter().map(|place| self.pus[usize::from(place.terms.pu)].spec.cores()).sum();
        let post = Post {
            places,
            function: function.clone(),
            meter,
            stream: spec::log_stream(function).into(),
            pool: Pool::default(),
            starting: 0,
            stemming: 0,
            stems_after: 0,
            deployed: false,
            closed: false,
            demand: Demand::default(),
            habits: Habits::default(),
            length: Length::Short,
            longest: Length::Own,
            long_ones: 0,
            own_ones: 0,
            starting_long: 0,
            number: None,
            runs: 0,
            lately: None,
            prefers_others: false,
            cores,
            used: None,
            listed: false,
        };
        self.posts.insert(id, post);
        id
    }

    /// An instance for a request, or leave to start one, or a place in the queue. The post exists.
    pub fn acquire(&mut self, post_id: u64, asked: Asked, now: u64) -> Result<Step, PlatformError> {
        let Some(post) = self.posts.get_mut(post_id) else {
            debug_assert!(false, "a post is made and asked under one lock");
            return Err(PlatformError::WorkerLost);
        };
        post.used = Some(now);
        let habit = post.habit(asked.bytes, asked.passes);
        post.length = habit.length;
        let taken = match post.places.len() {
            1 if post.function.kind.is_pure() => post.take_nearest(habit),
            1 => post.pool.take(),
            _ => self.take_where_preferred(post_id),
        };
        if let Some((instance, StartKind::Warm)) = taken {
            return Ok(Step::Take(instance));
        }
        let is_first = self.posts.get_mut(post_id).is_some_and(|post| {
            post.demand.note(now);
            !post.pool.is_awaited()
        });
        if let Some((instance, _)) = taken {
            return Ok(Step::Take(instance));
        }
        self.want_templates(post_id, now);
        if let Some(reason) = self.why_never(post_id) {
            return Err(PlatformError::NoTemplate { reason });
        }
        if is_first && let Some(permit) = self.permit(post_id, Purpose::Request, now) {
            return Ok(Step::Start(permit));
        }
        if is_first && let Some((instance, _)) = self.posts.get_mut(post_id).and_then(|post| post.take_any(habit)) {
            return Ok(Step::Take(instance));
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

    /// Leave to start an instance now, if somewhere as few are being started as may be, there is a template, and room.
    pub fn permit(&mut self, post_id: u64, purpose: Purpose, now: u64) -> Option<Permit> {
        if self.instances.len() >= self.present_max {
            return None;
        }
        self.want_templates(post_id, now);
        // What is made ahead of need is of use at home only, and nothing ends for its sake.
        let home = (purpose == Purpose::Stem).then(|| self.home(post_id)).flatten();
        let suits = |candidate: &Candidate| {
            let terms = candidate.place.terms;
            home.is_none_or(|home| terms.pu == home && self.pus[usize::from(home)].lacks_mib(Some(terms)) == 0)
        };
        let chosen = placement::choose(self.candidates(post_id, false).filter(suits));
        let Some(Choice::Start(number)) = chosen else { return None };
        let class = self.class(post_id)?;
        let post = self.posts.get_mut(post_id).filter(|post| !post.has_enough_channels())?;
        let place = post.places.iter().find(|place| place.terms.pu == number)?;
        let terms = Terms { class, ..place.terms };
        let pu = &mut self.pus[usize::from(number)];
        if !pu.may_start_on(class) {
            return None;
        }
        let Source::Template { seat, id: template } = pu.source(post_id, &post.function) else { return None };
        let worker = pu.ready()?;
        let (link, version) = (worker.link.clone(), worker.language_for(&post.function));
        *post.starting_mut(purpose) += 1;
        post.gain(class);
        post.starting_long += u32::from(class == EngineClass::Long);
        pu.starting_mut(class).into_iter().flatten().for_each(|starting| *starting += 1);
        pu.hold(terms);
        pu.templates.started(seat, now);
        if purpose == Purpose::Request {
            pu.templates.want(Seat::Dedicated(post_id), post.function.kind, now, true);
        }
        let shared = Arc::new(Shared::new(self.next_instance, post_id, terms));
        self.next_instance += 1;
        self.instances.insert(shared.id, shared.clone());
        let stream = matches!(seat, Seat::Dedicated(_)).then(|| post.stream.clone());
        let function = post.function_on(terms);
        let apart = if purpose == Purpose::Stem { post.apart() } else { None };
        Some(Permit { shared, link, function, purpose, template, version, stream, apart })
    }

    /// How many other posts have the same engines of their own, or will have.
    pub fn sharers(&self, post_id: u64) -> u32 {
        let number = self.posts.get(post_id).filter(|post| post.own_ones > 0).and_then(|post| post.number);
        let having = |number| self.having(number, post_id);
        number.map_or_else(|| (0..OWN_ENGINES as u8).map(having).min().unwrap_or(0), having)
    }

    fn having(&self, number: u8, but: u64) -> u32 {
        let others = self.posts.awake().filter(|(id, post)| *id != but && post.number == Some(number));
        others.filter(|(_, post)| post.own_ones > 0 || post.pool.queued() > 0).count() as u32
    }

    /// The engines that a post's next instance is for. Its own have the number that the fewest others have.
    fn class(&mut self, post_id: u64) -> Option<EngineClass> {
        let post = self.posts.get(post_id)?;
        let number = match (post.length, post.number) {
            (Length::Short, _) => return Some(EngineClass::Short),
            (Length::Long, _) => return Some(EngineClass::Long),
            (Length::Own, Some(number)) if post.own_ones > 0 => number,
            (Length::Own, had) => {
                let others = |number: &u8| (self.having(*number, post_id), had != Some(*number));
                (0..OWN_ENGINES as u8).min_by_key(others)?
            }
        };
        self.posts.get_mut(post_id)?.number = Some(number);
        Some(EngineClass::Own(number))
    }

    /// A start is over, well or not.
    pub fn start_is_over(&mut self, shared: &Shared, purpose: Purpose) {
        let pu = self.pu(shared.terms.pu);
        let class = shared.terms.class;
        pu.starting_mut(class).into_iter().flatten().for_each(|starting| *starting -= 1);
        if let Some(post) = self.posts.get_mut(shared.post) {
            post.starting_long -= u32::from(class == EngineClass::Long);
            *post.starting_mut(purpose) -= 1;
        }
    }

    /// No worker has news of an instance any more.
    pub fn forget(&mut self, instance: u64) -> Option<Arc<Shared>> {
        let shared = self.instances.remove(&instance)?;
        self.pu(shared.terms.pu).let_go(shared.terms);
        self.posts.get_mut(shared.post).into_iter().for_each(|post| post.lose(&shared));
        Some(shared)
    }

    /// Whether requests wait for leave to start.
    pub fn is_behind(&self) -> bool {
        !self.turn.is_empty()
    }

    /// Whether requests of another post wait for leave to start on engines for long runs.
    pub fn wants_long_besides(&self, post_id: u64) -> bool {
        let mut others = self.turn.iter().filter(|id| **id != post_id).filter_map(|id| self.posts.get(*id));
        others.any(|post| post.length == Length::Long && post.pool.queued() > 0)
    }

    /// Gives leave to start to those who wait, in turn, as far as possible.
    pub fn pump(&mut self, now: u64) -> Vec<(Waiter, Permit)> {
        let mut granted = Vec::new();
        let mut in_vain = 0;
        while in_vain < self.turn.len() && self.pus.iter().any(Pu::may_start) {
            let Some(post_id) = self.turn.pop_front() else { break };
            let Some(post) = self.posts.get_mut(post_id) else { continue };
            post.listed = false;
            if !post.pool.is_awaited() {
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

    /// A run is over, which says how the processors of its PU should be shared, where the gateway is on the same machine.
    pub fn balance(&mut self, instance: &Instance, fixed: u32, now: u64) {
        let spec = &self.pus[usize::from(instance.shared.terms.pu)].spec;
        if instance.ran.took > 0 && spec.tier != Tier::Remote {
            let fixed = Some(fixed).filter(|fixed| *fixed > 0);
            self.engines.note(instance.shared.terms.pu, (spec.cores(), fixed), now, instance.ran);
        }
    }

    /// Takes everybody out of the queues who can never be served, with the reason.
    pub fn hopeless(&mut self) -> Vec<(Waiter, String)> {
        let queued: Vec<u64> =
            self.posts.awake().filter(|(_, post)| post.pool.queued() > 0).map(|(id, _)| id).collect();
        let mut hopeless = Vec::new();
        for post_id in queued {
            let Some(reason) = self.why_never(post_id) else { continue };
            let Some(post) = self.posts.get_mut(post_id) else { continue };
            hopeless.extend(std::iter::from_fn(|| post.pool.dequeue()).map(|waiter| (waiter, reason.clone())));
        }
        hopeless
    }

    /// An instance has departed: it is told, and taken out of its pool if it waits there.
    pub fn depart(&mut self, instance: u64, departure: Departure) -> Option<Box<Instance>> {
        let shared = self.forget(instance)?;
        let not_spawned = matches!(departure, Departure::NotSpawned { .. });
        shared.depart(departure);
        // One that is there and does not answer is busy.
        let is_there = self.engines.has(shared.terms.pu, shared.terms.class);
        let post = self.posts.get_mut(shared.post)?;
        if not_spawned && !is_there {
            post.longest = post.longest.min(Length::of(shared.terms.class).less());
            post.length = post.length.min(post.longest);
        }
        post.pool.remove(|waiting| waiting.shared.id == instance)
    }

    /// A PU's worker is gone, and everything with it. Answers what waited in the pools.
    pub fn lose_worker(&mut self, number: u8, now: u64) -> Vec<Instance> {
        let pu = self.pu(number);
        if pu.worker.take().is_none() {
            return Vec::new();
        }
        pu.losses += 1;
        pu.templates.reset(now);
        pu.clear();
        self.instances.retain(|_, shared| {
            let stays = shared.terms.pu != number;
            if !stays {
                self.posts.get_mut(shared.post).into_iter().for_each(|post| post.lose(shared));
                shared.depart(Departure::Ended { end: End::Lost, memory_peak: 0 });
            }
            stays
        });
        self.clear_pools_where(|instance| instance.shared.terms.pu == number)
    }

    /// Takes all waiting instances out of all pools.
    pub fn clear_pools(&mut self) -> Vec<Instance> {
        self.clear_pools_where(|_| true)
    }

    fn clear_pools_where(&mut self, is: impl Fn(&Instance) -> bool) -> Vec<Instance> {
        let mut cleared = Vec::new();
        for id in self.posts.awake_ids() {
            let post = self.posts.get_mut(id).into_iter();
            let these = post.flat_map(|post| post.pool.clear_where(|instance| is(instance)));
            cleared.extend(these.map(|instance| *instance));
        }
        cleared
    }

    /// A post is to end with its last instance.
    pub fn close(&mut self, post_id: u64) {
        if let Some(post) = self.posts.get_mut(post_id) {
            (post.closed, post.deployed) = (true, false);
        }
    }

    /// Takes a post away that has nothing any more. Answers its templates, each with its PU.
    pub fn remove_post(&mut self, post_id: u64) -> Vec<(u8, u64)> {
        let Some(post) = self.posts.remove(post_id) else { return Vec::new() };
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
        let seat = Seat::Dedicated(post_id);
        let templates = (0u8..).zip(&mut self.pus);
        templates.filter_map(|(number, pu)| Some((number, pu.templates.forget(seat)?))).collect()
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
