//! Engines as those see them who choose one: how long each is expected to be busy.
//!
//! An engine runs one request after the other, each to its end, and has a processor of its own. A request goes to the one
//! that is expected to come to it first, so that short runs pass by a long one. Of those that are alike it is the one on
//! the processor where the request is: the engine comes to life there as soon as the asking thread sleeps, without the tens
//! of microseconds in which another processor is woken. Not so where each run takes a process: one is taken down and another
//! made after it, and the answer would wait for that. Nor where a run takes so long that nothing of the loop's, and of a client's beside it,
//! is left in the processor's caches.
//!
//! Where fewer processors are to compute than there are ([`crate::balance`]), the engines of the others rest: they finish what
//! they have, and are asked again when those that work have no channel left.

use crate::balance::{Balance, Run};
use crate::placement::Terms;
use sandbox::spec::{EngineClass, Kind};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::runtime::{Handle, Id};

/// The PU whose processors the event loops are on.
const HOST: u8 = 0;
/// What it takes to wake an engine on another processor, and to be woken from there, in nanoseconds.
const AWAY: u64 = 20_000;
/// What comes after a run in a process, and is in the way of an answer from the same processor.
const AFTER: u64 = 40_000;
/// What it takes those beside a run to have again what it has driven from the processor's caches, and how long such a run is.
const COLD: u64 = 60_000;
const COLD_FROM: u64 = 120_000;
/// What a run counts for at least, and what it is believed to have taken at most.
const RUN_MIN: u64 = 5_000;
const RUN_MAX: u64 = 3_600_000_000_000;

/// One engine.
#[derive(Debug)]
pub(super) struct Engine {
    pu: u8,
    processor: u32,
    class: EngineClass,
    /// Whether others compute, and its processor is left to those who bring them work.
    rests: AtomicBool,
    /// Nanoseconds that the requests it was given are expected to take.
    expected: AtomicU64,
    requests: AtomicU32,
    runs: AtomicU64,
    busy: AtomicU64,
    /// Whose requests they are, by post, where that is of interest: of an engine for the long runs of all.
    of: Mutex<Vec<u64>>,
}

/// What an engine has done, and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineState {
    /// The number of its PU.
    pub pu: u8,
    pub processor: u32,
    /// For which runs it is.
    pub class: EngineClass,
    /// Whether it is to do nothing at present, so that its processor has time for requests and answers.
    pub rests: bool,
    /// Requests that it runs, or that wait for it.
    pub requests: u32,
    pub runs: u64,
    /// Nanoseconds that they took.
    pub busy: u64,
}

/// Which of this machine's processors are to compute, so that most connections are served by the others: none, unless at
/// least as many are left.
#[derive(Debug)]
pub struct Computing {
    /// The first of them.
    from: AtomicU32,
}

impl Default for Computing {
    fn default() -> Self {
        Self { from: AtomicU32::new(u32::MAX) }
    }
}

impl Computing {
    /// Whether this processor is left to requests and answers, or all are to everything.
    pub fn spares(&self, processor: u32) -> bool {
        processor < self.from.load(Relaxed)
    }

    /// So many compute of these, those with the highest numbers, which come first.
    fn choose(&self, computing: u32, processors: &[u32]) {
        let computing = computing as usize;
        let last = computing.checked_sub(1).filter(|_| 2 * computing <= processors.len());
        self.from.store(last.map_or(u32::MAX, |last| processors[last]), Relaxed);
    }
}

/// All engines that instances have told of.
#[derive(Debug, Default)]
pub(super) struct Engines {
    all: Vec<Arc<Engine>>,
    /// Of the host's own.
    pub computing: Arc<Computing>,
    /// How many processors of each PU compute.
    crews: HashMap<u8, Crew>,
}

/// The processors of a PU.
#[derive(Debug)]
struct Crew {
    balance: Balance,
    /// What was ordered, whatever the load.
    fixed: Option<u32>,
    /// As many as are at work now.
    computing: u32,
}

impl Crew {
    fn new(processors: u32, fixed: Option<u32>) -> Self {
        Self { balance: Balance::new(processors), fixed, computing: u32::MAX }
    }

    /// How many are to compute, if that has changed.
    fn changed(&mut self) -> Option<u32> {
        let wanted = self.fixed.unwrap_or(self.balance.computing());
        (std::mem::replace(&mut self.computing, wanted) != wanted).then_some(wanted)
    }
}

/// What one request is expected to take of an engine, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    engine: Arc<Engine>,
    post: u64,
    nanoseconds: u64,
}

impl Engines {
    /// The engine on this processor of a PU that serves instances on such terms. What an instance says of where it is is
    /// believed: there are not many processors.
    pub fn of(&mut self, terms: &Terms, processor: u32) -> Option<Arc<Engine>> {
        let (pu, class) = (terms.pu, terms.class);
        let wanted = (pu, processor, class);
        let known = self.all.iter().find(|engine| (engine.pu, engine.processor, engine.class) == wanted);
        if known.is_some() {
            return known.cloned();
        }
        if processor as usize >= rustix::thread::CpuSet::MAX_CPU {
            return None;
        }
        let [expected, runs, busy] = [0; 3].map(AtomicU64::new);
        let (rests, requests) = (AtomicBool::new(false), AtomicU32::new(0));
        let of = Mutex::default();
        let engine = Arc::new(Engine { pu, processor, class, rests, expected, requests, runs, busy, of });
        self.all.push(engine.clone());
        if let Some(computing) = self.crews.get(&pu).map(|crew| crew.computing) {
            self.choose(pu, computing);
        }
        Some(engine)
    }

    /// A run on this PU is over, at `now`. A PU whose processors are this machine's has so many of them, of which as many
    /// compute as the load or its owner has it.
    pub fn note(&mut self, pu: u8, crew: (u32, Option<u32>), now: u64, run: Run) {
        let crew = self.crews.entry(pu).or_insert_with(|| Crew::new(crew.0, crew.1));
        crew.balance.note(now, run);
        if let Some(computing) = crew.changed() {
            self.choose(pu, computing);
        }
    }

    /// So many processors compute, those with the highest numbers: devices interrupt the first ones, as a rule.
    fn choose(&self, pu: u8, computing: u32) {
        let here = || self.all.iter().filter(|engine| engine.pu == pu);
        let mut processors: Vec<u32> = here().map(|engine| engine.processor).collect();
        processors.sort_unstable_by(|one, other| other.cmp(one));
        processors.dedup();
        if pu == HOST {
            self.computing.choose(computing, &processors);
        }
        for engine in here() {
            let rank = processors.iter().position(|processor| *processor == engine.processor);
            engine.rests.store(rank.is_some_and(|rank| rank >= computing as usize), Relaxed);
        }
    }

    /// Whether engines of this class have been heard of on this PU.
    pub fn has(&self, pu: u8, class: EngineClass) -> bool {
        self.all.iter().any(|engine| engine.pu == pu && engine.class == class)
    }

    pub fn states(&self) -> Vec<EngineState> {
        self.all.iter().map(|engine| engine.state()).collect()
    }
}

impl Engine {
    /// After how long it would come to a request that is on this processor.
    pub fn distance(&self, here: &Here) -> u64 {
        let away = if self.processor == here.processor { here.after } else { AWAY };
        self.expected.load(Relaxed).saturating_add(away)
    }

    pub fn rests(&self) -> bool {
        self.rests.load(Relaxed)
    }

    /// Whether a request waits behind the one that it runs.
    pub fn is_waited_for(&self) -> bool {
        self.requests.load(Relaxed) > 1
    }

    /// Whether a request of another post is among them, of an engine for long runs.
    pub fn is_shared_with(&self, post: u64) -> bool {
        self.of().iter().any(|of| *of != post)
    }

    fn of(&self) -> MutexGuard<'_, Vec<u64>> {
        self.of.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Runs so far.
    pub fn runs(&self) -> u64 {
        self.runs.load(Relaxed)
    }

    /// A run is over that took so many nanoseconds.
    pub fn ran(&self, nanoseconds: u64) {
        self.runs.fetch_add(1, Relaxed);
        self.busy.fetch_add(nanoseconds.min(RUN_MAX), Relaxed);
    }

    fn state(&self) -> EngineState {
        let [runs, busy] = [&self.runs, &self.busy].map(|number| number.load(Relaxed));
        let (pu, processor, class) = (self.pu, self.processor, self.class);
        let (rests, requests) = (self.rests(), self.requests.load(Relaxed));
        EngineState { pu, processor, class, rests, requests, runs, busy }
    }
}

impl Claim {
    pub fn new(engine: Arc<Engine>, post: u64, nanoseconds: u64) -> Self {
        let nanoseconds = nanoseconds.max(RUN_MIN);
        engine.expected.fetch_add(nanoseconds, Relaxed);
        engine.requests.fetch_add(1, Relaxed);
        if engine.class == EngineClass::Long {
            engine.of().push(post);
        }
        Self { engine, post, nanoseconds }
    }

    /// It takes so many nanoseconds at least.
    pub fn at_least(&mut self, nanoseconds: u64) {
        let more = nanoseconds.saturating_sub(self.nanoseconds);
        self.engine.expected.fetch_add(more, Relaxed);
        self.nanoseconds += more;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.engine.expected.fetch_sub(self.nanoseconds, Relaxed);
        self.engine.requests.fetch_sub(1, Relaxed);
        if self.engine.class == EngineClass::Long {
            let mut of = self.engine.of();
            if let Some(at) = of.iter().position(|post| *post == self.post) {
                of.swap_remove(at);
            }
        }
    }
}

/// Where a request is.
#[derive(Debug)]
pub(super) struct Here {
    pub processor: u32,
    pub event_loop: Option<Id>,
    /// What it costs if the run is on its processor, in nanoseconds.
    after: u64,
}

impl Here {
    /// Where the calling thread is, which asks for a run of a function of this kind that takes so many nanoseconds as a rule.
    pub fn now(kind: Kind, typical: u64) -> Self {
        let event_loop = Handle::try_current().ok().map(|handle| handle.id());
        Self { processor: rustix::thread::sched_getcpu() as u32, event_loop, after: after(kind, typical) }
    }

    /// Whether an engine on another processor is nearer.
    pub fn prefers_others(&self) -> bool {
        self.after > AWAY
    }
}

fn after(kind: Kind, typical: u64) -> u64 {
    let process = if kind == Kind::Native { AFTER } else { 0 };
    process + if typical >= COLD_FROM { COLD } else { 0 }
}

/// What a run is expected to take after one that took `took`: the last few count most.
pub(super) fn learn(typical: u64, took: u64) -> u64 {
    let took = took.min(RUN_MAX);
    if typical == 0 { took } else { typical - typical / 8 + took / 8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_the_one_that_is_free_first() {
        let mut engines = Engines::default();
        let at = |processor, kind, typical| Here { processor, event_loop: None, after: after(kind, typical) };
        let wasm = |processor| at(processor, Kind::Wasm, 20_000);
        let here = Terms::default();
        let [one, other] = [3, 4].map(|processor| engines.of(&here, processor).unwrap());
        assert!(Arc::ptr_eq(&one, &engines.of(&here, 3).unwrap()) && engines.of(&here, u32::MAX).is_none());
        assert!(!engines.has(0, EngineClass::Long));
        let [third, own] =
            [EngineClass::Long, EngineClass::Own(1)].map(|class| engines.of(&Terms { class, ..here }, 3).unwrap());
        assert!(engines.has(0, EngineClass::Long) && !engines.has(1, EngineClass::Long));
        assert!(engines.has(0, EngineClass::Own(1)) && !engines.has(0, EngineClass::Own(2)));
        assert!(!Arc::ptr_eq(&one, &third) && !Arc::ptr_eq(&third, &own), "there are several on a processor");
        let claims = [7, 7].map(|post| Claim::new(third.clone(), post, 0));
        assert!(!third.is_shared_with(7) && third.is_shared_with(8));
        let other_post = Claim::new(third.clone(), 8, 0);
        assert!(third.is_shared_with(7));
        drop(claims);
        assert!(third.is_shared_with(7) && !third.is_shared_with(8));
        drop(other_post);
        assert!(!third.is_shared_with(7));
        assert!(one.distance(&wasm(3)) < other.distance(&wasm(3)) && other.distance(&wasm(4)) < one.distance(&wasm(4)));
        let mut short = Claim::new(one.clone(), 1, 0);
        assert!(one.distance(&wasm(3)) < other.distance(&wasm(3)), "waiting for a short one is shorter than the way");
        let long = Claim::new(one.clone(), 1, 1_000_000);
        assert!(one.distance(&wasm(3)) > other.distance(&wasm(3)));
        assert!(engines.states()[0].requests == 2 && one.is_waited_for() && !other.is_waited_for());
        one.ran(700);
        drop(long);
        [1_000_000, 7].into_iter().for_each(|nanoseconds| short.at_least(nanoseconds));
        assert!(one.distance(&wasm(3)) > other.distance(&wasm(3)) && !one.is_waited_for());
        drop(short);
        assert_eq!(
            engines.states()[0],
            EngineState {
                pu: 0,
                processor: 3,
                class: EngineClass::Short,
                rests: false,
                requests: 0,
                runs: 1,
                busy: 700
            }
        );
        assert_eq!(one.distance(&wasm(3)), 0);
        for here in [at(3, Kind::Native, 1), at(3, Kind::Wasm, COLD_FROM), at(3, Kind::Native, 1_000_000)] {
            assert!(one.distance(&here) > other.distance(&here), "what a run costs others is in nobody's way");
        }
    }

    #[test]
    fn engines_of_processors_that_do_not_compute_rest() {
        let mut engines = Engines::default();
        let (here, there) = (Terms::default(), Terms { pu: 1, ..Terms::default() });
        let long = Terms { class: EngineClass::Long, ..here };
        let first = engines.of(&here, 3).unwrap();
        engines.note(0, (3, Some(1)), 0, Run::default());
        assert!(!first.rests(), "one is always at work");
        let others = [(&here, 5), (&here, 4), (&long, 3), (&long, 5), (&there, 3)];
        let others = others.map(|(terms, processor)| engines.of(terms, processor).unwrap());
        let resting = |others: &[Arc<Engine>]| others.iter().map(|one| one.rests()).collect::<Vec<_>>();
        assert!(first.rests());
        assert_eq!(resting(&others), [false, true, true, false, false]);
        assert_eq!([3, 4, 5, 6].map(|processor| engines.computing.spares(processor)), [true, true, false, false]);
        engines.note(1, (1, None), 0, Run::default());
        assert_eq!((others[4].rests(), engines.states()[0].rests), (false, true));
        assert!(!engines.computing.spares(5), "another PU's are not the loops'");
        engines.choose(0, 2);
        assert!(
            [3, 4, 5].into_iter().all(|processor| engines.computing.spares(processor)),
            "fewer than compute are left"
        );
    }

    #[test]
    fn what_is_typical_follows_what_happens() {
        assert_eq!(learn(0, 700), 700);
        let much_later = (0..100).fold(700, |typical, _| learn(typical, 8000));
        assert!((7900..=8000).contains(&much_later), "{much_later}");
    }
}
