//! One revision of a function on this node: its instances, and what is known of its runs.

use super::StartKind;
use super::engines::Here;
use super::habits::{Habit, Habits, Length};
use super::instance::{Instance, Spot};
use super::node::{Meter, Waiter};
use super::shared::Shared;
use crate::function::Function;
use crate::placement::{Place, Terms};
use crate::pool::Pool;
use crate::scaling::Demand;
use sandbox::spec::{EngineClass, NativeEngine};
use std::sync::Arc;

/// Instances of a pure function for each engine: its own ones run nothing else, and what waits is better off elsewhere.
const CHANNELS: usize = 16;
const CHANNELS_OF_OWN: usize = 1;
/// Runs of a pure function after which it is looked at whether it has a choice between engines, and for how long one that is not asked any more
/// wants it, in nanoseconds.
pub(super) const RUNS_TO_CHOICE: u32 = 8;
const LATELY: u64 = 1_000_000_000;

/// One revision of a function on this node.
pub(super) struct Post {
    pub function: Arc<Function>,
    pub meter: Arc<Meter>,
    /// The log stream of all instances that come from its dedicated template.
    pub stream: Arc<str>,
    pub pool: Pool<Box<Instance>, Waiter, Spot>,
    /// Where it may run, by its profiles, the place that it likes best first.
    pub places: Vec<Place>,
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
    /// How long runs take.
    pub habits: Habits,
    /// Which engines the last request was for, and which it does with, as others could not be had.
    pub length: Length,
    pub longest: Length,
    /// Instances that there are or will be of engines for long runs, and of its own ones; and those of the former that are being started.
    pub long_ones: u32,
    pub own_ones: u32,
    pub starting_long: u32,
    /// The number of its own engines, once it has some.
    pub number: Option<u8>,
    /// Of a pure function: runs, the processor of the last one's engine, and whether that had better not be the request's.
    pub runs: u32,
    pub lately: Option<u32>,
    pub prefers_others: bool,
    /// Processors where it may run.
    pub cores: u32,
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

    /// Those of these engines.
    pub fn live_for(&self, length: Length) -> usize {
        let (long_ones, own_ones) = (self.long_ones as usize, self.own_ones as usize);
        match length {
            Length::Short => self.live().saturating_sub(long_ones + own_ones),
            Length::Long => long_ones,
            Length::Own => own_ones,
        }
    }

    /// Whether more channels to engines would be of no use: engines run one request after the other, and those that wait
    /// are better off in the queue, from which they go to whichever is free.
    pub fn has_enough_channels(&self) -> bool {
        let per_core = if self.length == Length::Own { CHANNELS_OF_OWN } else { CHANNELS };
        self.function.kind.is_pure() && self.live_for(self.length) >= per_core * self.cores.max(1) as usize
    }

    /// What is expected of a request of so many bytes, as far as it has a choice.
    pub fn habit(&self, bytes: usize, passes: bool) -> Habit {
        let mut habit = self.habits.of(bytes);
        let longest = if self.has_choice() && !passes { self.longest } else { Length::Short };
        habit.length = habit.length.min(longest);
        habit
    }

    pub fn is_empty(&self) -> bool {
        self.live() == 0 && self.pool.queued() == 0
    }

    /// An instance of a pure function for a request: of the engines that it is for, and that work, the one that comes to it
    /// first.
    pub fn take_nearest(&mut self, habit: Habit) -> Option<(Box<Instance>, StartKind)> {
        self.take_where(habit, |instance| !instance.rests())
    }

    fn take_where(&mut self, habit: Habit, may: impl Fn(&Instance) -> bool) -> Option<(Box<Instance>, StartKind)> {
        let here = Here::now(self.function.kind, habit.typical);
        let suits = |instance: &Instance| Length::of(instance.shared.terms.class) == habit.length && may(instance);
        let nearest = self.pool.take_nearest(|instance| suits(instance).then(|| instance.distance(&here)));
        let (mut instance, kind) = nearest.or_else(|| self.pool.take_stem(|stem| suits(stem)))?;
        instance.claim(habit.typical);
        self.prefers_others = here.prefers_others();
        self.lately = instance.processor;
        Some((instance, kind))
    }

    /// The same where there is none that suits, and none is to come: of an engine that rests, or is for others.
    pub fn take_any(&mut self, mut habit: Habit) -> Option<(Box<Instance>, StartKind)> {
        let resting = self.take_where(habit, |_| true);
        if resting.is_some() || self.live_for(habit.length) > 0 {
            return resting;
        }
        let wanted = habit.length;
        let others = [Length::Long, Length::Short, Length::Own].into_iter().filter(|length| *length != wanted);
        others.into_iter().find_map(|length| {
            habit.length = length;
            self.take_where(habit, |_| true)
        })
    }

    /// Whether it is to have another instance, of another processor's engine, if there is one: its runs had better not be where its requests come
    /// from, and with one instance alone they would be by chance. Not before it has been asked a few times, and as long as it is.
    pub fn wants_choice(&self, now: u64) -> bool {
        let is_asked = self.runs >= RUNS_TO_CHOICE && self.used.is_some_and(|used| now.saturating_sub(used) < LATELY);
        is_asked
            && self.prefers_others
            && self.live_for(self.length) == 1
            && self.cores > 1
            && self.has_choice()
            && !self.closed
    }

    /// The processor that another instance is to be apart from.
    pub fn apart(&self) -> Option<u32> {
        self.lately.filter(|_| self.function.kind.is_pure())
    }

    /// Whether its requests are for one engine of a processor or for another by how long they take.
    pub fn has_choice(&self) -> bool {
        let is_usual = self.function.kind.is_pure() && self.function.pure.engine != NativeEngine::Kvm;
        is_usual && self.places.len() == 1 && self.longest > Length::Short
    }

    /// Whether a request of so many bytes is for longer runs' engines than these, and there are instances of those.
    pub fn goes_beyond(&self, length: Length, bytes: usize) -> bool {
        let wanted = self.habit(bytes, false).length;
        wanted > length && self.live_for(wanted) > 0
    }

    /// What an invocation, and perhaps a start before it, has taken where it ran: of use where there is a choice. What a run
    /// like it is expected to take of an engine.
    pub fn learn(&mut self, instance: &mut Instance) -> u64 {
        let ran = std::mem::take(&mut instance.ran);
        let mut typical = 0;
        if ran.took > 0 {
            self.runs = self.runs.saturating_add(1);
            typical = self.habits.learn(instance.asked, ran.took).typical;
            instance.engine.iter().for_each(|engine| engine.ran(ran.took));
        }
        if self.places.len() > 1 {
            self.learn_of_place(instance);
        }
        typical
    }

    fn learn_of_place(&mut self, instance: &mut Instance) {
        let pu = instance.shared.terms.pu;
        let Some(place) = self.places.iter_mut().find(|place| place.terms.pu == pu) else { return };
        place.ran(instance.took);
        match std::mem::take(&mut instance.start_took) {
            0 => {}
            took => place.started(took),
        }
    }

    /// One of its instances is not there any more.
    pub fn lose(&mut self, shared: &Shared) {
        if let Some(ones) = self.ones_mut(shared.terms.class) {
            *ones -= 1;
        }
    }

    /// One more is there of its instances, or will be.
    pub fn gain(&mut self, class: EngineClass) {
        if let Some(ones) = self.ones_mut(class) {
            *ones += 1;
        }
    }

    fn ones_mut(&mut self, class: EngineClass) -> Option<&mut u32> {
        match class {
            EngineClass::Short => None,
            EngineClass::Long => Some(&mut self.long_ones),
            EngineClass::Own(_) => Some(&mut self.own_ones),
        }
    }

    /// The function as it is on these terms.
    pub fn function_on(&self, terms: Terms) -> Arc<Function> {
        if terms.memory_mib == self.function.memory_mib {
            return self.function.clone();
        }
        Arc::new(Function { memory_mib: terms.memory_mib, ..(*self.function).clone() })
    }
}
