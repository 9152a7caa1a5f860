//! One processing unit, as the dispatcher knows it: its worker, its templates, and how much is on it.
//!
//! What runs where is decided elsewhere ([`crate::placement`]); nothing here knows of other PUs.

use super::config::DispatchConfig;
use super::habits::Length;
use super::link::Link;
use crate::function::Function;
use crate::placement::Terms;
use crate::registry::kind_of;
use crate::templates::{Seat, Templates};
use daemon::pu::Tier;
use sandbox::spec::{EngineClass, Kind, OWN_ENGINES, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// MiB that a PU's own daemons take of a memory that is bounded.
const DAEMONS_MIB: u64 = 32;

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

/// What instances can be started from.
pub(super) enum Source {
    Template {
        seat: Seat,
        id: u64,
    },
    /// It is being made, or the worker is.
    Later,
    Never {
        reason: String,
    },
}

/// The PU.
pub(super) struct Pu {
    pub spec: daemon::pu::Pu,
    pub worker: Option<Worker>,
    pub templates: Templates,
    /// How often its worker has been lost.
    pub losses: u64,
    /// Starts in flight, and those of them on engines for long runs, which may be busy for long.
    pub starting: u32,
    pub starting_long: u32,
    /// Others, on functions' own engines of each number: nobody else waits for those.
    starting_own: [u32; OWN_ENGINES],
    starts_max: u32,
    /// Counted once: the kernel is asked for them in a dozen calls.
    cores: u32,
    /// Instances that its worker may have, those included that it is still making or ending, and their memory.
    pub present: u32,
    reserved: Reserved,
}

/// Memory that instances may come to use.
#[derive(Clone, Debug, Default)]
struct Reserved {
    /// MiB of sandboxes: each has what it was promised as long as it lives.
    sandboxes: u64,
    /// Channels to engines, by the MiB of a run: to those for short runs, to those for long ones, and to functions' own. A
    /// channel has nothing, and an engine has one run at a time.
    channels: [BTreeMap<u32, u32>; 3],
}

impl Reserved {
    /// MiB: as many runs are under way as there are engines, at most, the largest of all in the worst case.
    fn mib(&self, cores: u32) -> u64 {
        let largest = |(length, channels): (Length, &BTreeMap<u32, u32>)| {
            let mut free = if length == Length::Own { cores * OWN_ENGINES as u32 } else { cores };
            let runs = channels.iter().rev().map(|(mib, count)| {
                let runs = free.min(*count);
                free -= runs;
                u64::from(*mib) * u64::from(runs)
            });
            runs.sum::<u64>()
        };
        self.sandboxes + Length::ALL.into_iter().zip(&self.channels).map(largest).sum::<u64>()
    }

    /// The same with one more instance.
    fn mib_with(&self, cores: u32, more: Terms) -> u64 {
        let mut with = self.clone();
        with.add(more);
        with.mib(cores)
    }

    fn add(&mut self, terms: Terms) {
        match terms.is_pure {
            true => *self.channels_to(terms.class).entry(terms.memory_mib).or_default() += 1,
            false => self.sandboxes += u64::from(terms.memory_mib),
        }
    }

    fn channels_to(&mut self, class: EngineClass) -> &mut BTreeMap<u32, u32> {
        &mut self.channels[Length::of(class) as usize]
    }

    fn take_away(&mut self, terms: Terms) {
        if !terms.is_pure {
            self.sandboxes -= u64::from(terms.memory_mib);
            return;
        }
        let channels = self.channels_to(terms.class);
        if let Some(count) = channels.get_mut(&terms.memory_mib) {
            *count -= 1;
            if *count == 0 {
                channels.remove(&terms.memory_mib);
            }
        }
    }
}

impl Pu {
    /// Template ids count from `first`.
    pub fn new(spec: daemon::pu::Pu, config: &DispatchConfig, first: u64) -> Self {
        let cores = spec.cores().max(1);
        let starts_max = (config.starts_per_core * cores).max(1);
        Self {
            spec,
            worker: None,
            templates: Templates::new(first),
            losses: 0,
            starting: 0,
            starting_long: 0,
            starting_own: [0; OWN_ENGINES],
            starts_max,
            cores,
            present: 0,
            reserved: Reserved::default(),
        }
    }

    /// Its worker, once that has spoken.
    pub fn ready(&self) -> Option<&Worker> {
        self.worker.as_ref().filter(|worker| worker.ready)
    }

    /// Whether another start may be in flight.
    pub fn may_start(&self) -> bool {
        self.starting < self.starts_max
    }

    /// Whether one on an engine of this class may begin where one may: some are left for those whose engines are not busy for long.
    pub fn may_start_on(&self, class: EngineClass) -> bool {
        match class {
            EngineClass::Short => true,
            EngineClass::Long => self.starting_long < self.starts_max.div_ceil(2),
            EngineClass::Own(number) => self.starting_own.get(usize::from(number)).is_some_and(|own| *own < self.cores),
        }
    }

    /// The counts of starts in flight that one on an engine of this class is in.
    pub fn starting_mut(&mut self, class: EngineClass) -> [Option<&mut u32>; 2] {
        match class {
            EngineClass::Short => [Some(&mut self.starting), None],
            EngineClass::Long => [Some(&mut self.starting), Some(&mut self.starting_long)],
            EngineClass::Own(number) => [self.starting_own.get_mut(usize::from(number)), None],
        }
    }

    /// One more instance is there, or will be.
    pub fn hold(&mut self, terms: Terms) {
        self.present += 1;
        self.reserved.add(terms);
    }

    pub fn let_go(&mut self, terms: Terms) {
        self.present -= 1;
        self.reserved.take_away(terms);
    }

    /// Nothing is there any more.
    pub fn clear(&mut self) {
        (self.present, self.reserved) = (0, Reserved::default());
    }

    /// MiB that its instances may come to use.
    pub fn reserved_mib(&self) -> u64 {
        self.reserved.mib(self.cores)
    }

    /// MiB that its memory lacks for one more instance, or for those that are there; 0 where that fits.
    pub fn lacks_mib(&self, more: Option<Terms>) -> u64 {
        let Some(memory) = self.spec.memory_mib else { return 0 };
        let reserved = more.map_or_else(|| self.reserved_mib(), |terms| self.reserved.mib_with(self.cores, terms));
        (DAEMONS_MIB + self.templates.occupied_mib() + reserved).saturating_sub(memory)
    }

    /// Whether its memory could hold an instance of so many MiB, were nothing else there.
    pub fn can_hold(&self, mib: u32) -> bool {
        self.spec.memory_mib.is_none_or(|memory| DAEMONS_MIB + u64::from(mib) <= memory)
    }

    /// MiB for templates and stems: what the node allows, and no more than half of what the PU has.
    pub fn budget_mib(&self, config: &DispatchConfig) -> u64 {
        let half = self.spec.memory_mib.map_or(u64::MAX, |memory| memory / 2);
        config.memory_budget_mib.min(half)
    }

    /// Instances at work or being started, for each thousand cores.
    pub fn load(&self) -> u32 {
        self.present.saturating_mul(1000) / self.cores
    }

    /// What the next instance of this post's function is started from here.
    pub fn source(&self, post: u64, function: &Function) -> Source {
        let Some(worker) = self.ready() else { return Source::Later };
        let dedicated = Seat::Dedicated(post);
        if let Some(id) = self.templates.ready(dedicated) {
            return Source::Template { seat: dedicated, id };
        }
        let Some(version) = worker.version_for(function) else {
            let kind = format!("{:?}", function.kind).to_lowercase();
            let whose = match self.spec.tier {
                Tier::Host => "this machine's worker".to_owned(),
                Tier::Namespace | Tier::Remote => format!("the worker of {}", self.spec.name),
            };
            return Source::Never { reason: format!("{whose} does not run {kind} functions") };
        };
        let generic = Seat::Generic(function.kind, version, function.network);
        if let Some(id) = self.templates.ready(generic) {
            return Source::Template { seat: generic, id };
        }
        match self.templates.hopeless(generic) {
            Some(reason) => Source::Never { reason: reason.to_owned() },
            None => Source::Later,
        }
    }

    /// Asks for the generic template of this function, where it is known which that is.
    pub fn want_generic(&mut self, function: &Function, now: u64, urgent: bool) {
        if let Some(version) = self.ready().and_then(|worker| worker.version_for(function)) {
            let seat = Seat::Generic(function.kind, version, function.network);
            self.templates.want(seat, function.kind, now, urgent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_reserve_what_their_runs_can_use_at_once() {
        let pure = |memory_mib| Terms { memory_mib, is_pure: true, ..Terms::default() };
        let mut reserved = Reserved::default();
        reserved.add(Terms { memory_mib: 100, ..Terms::default() });
        for (mib, expected) in [(10, 110), (30, 140), (20, 150), (30, 160), (5, 160)] {
            assert_eq!(reserved.mib_with(2, pure(mib)), expected);
            reserved.add(pure(mib));
            assert_eq!(reserved.mib(2), expected);
        }
        reserved.take_away(pure(30));
        assert_eq!(reserved.mib(2), 150);
        let long = Terms { class: EngineClass::Long, ..pure(70) };
        reserved.add(long);
        assert_eq!(reserved.mib(2), 220, "engines for long runs have theirs at the same time");
        reserved.take_away(long);
        for (own, expected) in [(1, 220), (1, 290), (7, 360)] {
            reserved.add(Terms { class: EngineClass::Own(own), ..pure(70) });
            assert_eq!(reserved.mib(2), expected, "as many as there are channels");
        }
        for own in [7, 1, 1] {
            reserved.take_away(Terms { class: EngineClass::Own(own), ..pure(70) });
        }
        for mib in [30, 20, 10, 5] {
            reserved.take_away(pure(mib));
        }
        assert_eq!((reserved.mib(2), reserved.channels[0].len() + reserved.channels[1].len()), (100, 0));
    }
}
