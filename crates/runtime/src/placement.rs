//! On which processing unit an invocation runs. Pure.
//!
//! ```text
//!  the first of these, of the profile that the function names first; where it has none, the next profile's
//!    1. an instance that waits there          cheapest PU first, then the fastest, then the least loaded
//!    2. a stem that waits there               likewise
//!    3. a start, where the PU can make one    likewise; its time counts what starts take there
//! ```
//! So a function runs on the first kind of PU that is up and has room, and a warm instance is used before another is
//! started, but not in place of a start on a kind that the function likes better: an instance from a time in which that
//! one was down or full is left to end. Where nothing can serve now, the caller waits.
//!
//! What is known of a PU at this moment is the caller's to find out; nothing here looks at chains of functions.

use api::pu::{Price, Profile, PuKind};
use sandbox::spec::EngineClass;

/// Measured times count half as much with each of so many further ones.
const MEMORY_OF_TIMES: u64 = 8;

/// The terms on which instances of a function run on a PU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The PU's number.
    pub pu: u8,
    pub memory_mib: u32,
    pub price: Price,
    /// Whether they are channels to engines.
    pub is_pure: bool,
    /// Which engines.
    pub class: EngineClass,
}

/// A PU on which a function may run: the function's side of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub terms: Terms,
    /// Which of the function's profiles this is; the first is liked best.
    pub rank: u8,
    /// How long invocations and starts have taken there of late, in nanoseconds; 0 where there was none.
    pub run_ns: u64,
    pub start_ns: u64,
}

impl Place {
    /// Notes how long an invocation has taken.
    pub fn ran(&mut self, ns: u64) {
        self.run_ns = averaged(self.run_ns, ns);
    }

    /// Notes how long a start has taken.
    pub fn started(&mut self, ns: u64) {
        self.start_ns = averaged(self.start_ns, ns);
    }
}

fn averaged(so_far: u64, ns: u64) -> u64 {
    match so_far {
        0 => ns,
        so_far => so_far - so_far / MEMORY_OF_TIMES + ns / MEMORY_OF_TIMES,
    }
}

/// A place at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    pub place: Place,
    /// An instance that has served waits there.
    pub warm: bool,
    /// An instance that has served nobody waits there.
    pub stem: bool,
    /// Another can be started there now: the PU is up, and has room and a template.
    pub startable: bool,
    /// Instances at work on the PU for each thousand cores.
    pub load: u32,
}

/// What serves an invocation; the PU's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Warm(u8),
    Stem(u8),
    Start(u8),
}

/// Chooses among candidates; nothing where none can serve now.
pub fn choose(candidates: impl IntoIterator<Item = Candidate>) -> Option<Choice> {
    let offers = candidates.into_iter().filter_map(|candidate| {
        let Candidate { place, load, .. } = candidate;
        let pu = place.terms.pu;
        let (stage, choice, takes) = match candidate {
            Candidate { warm: true, .. } => (0, Choice::Warm(pu), place.run_ns),
            Candidate { stem: true, .. } => (1, Choice::Stem(pu), place.run_ns),
            Candidate { startable: true, .. } => (2, Choice::Start(pu), place.start_ns + place.run_ns),
            _ => return None,
        };
        Some(((place.rank, stage, place.terms.price, takes, load, pu), choice))
    });
    offers.min_by_key(|(key, _)| *key).map(|(_, choice)| choice)
}

/// The PUs, each with its kind and price by its number, on which a function with these profiles may run, those of the
/// first profile first. A function that names none runs on PUs of the first PU's kind: code for one kind may be of no use
/// to another.
pub fn places(profiles: &[Profile], memory_mib: u32, pus: &[(PuKind, Price)]) -> Vec<Place> {
    let own = [Profile { kind: pus.first().map_or(PuKind::Cpu, |(kind, _)| *kind), ..Profile::default() }];
    let profiles = if profiles.is_empty() { &own[..] } else { profiles };
    let mut places: Vec<Place> = Vec::with_capacity(pus.len());
    for (rank, profile) in (0u8..).zip(profiles) {
        for (pu, (_, price)) in (0u8..).zip(pus).filter(|(_, (kind, _))| *kind == profile.kind) {
            let known = places.iter().any(|place| place.terms.pu == pu);
            let price = profile.price.unwrap_or(*price);
            let terms = Terms { pu, memory_mib: profile.memory_mib.unwrap_or(memory_mib), price, ..Terms::default() };
            places.extend((!known).then(|| Place { terms, rank, ..Place::default() }));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pu: u8, rank: u8) -> Candidate {
        let terms = Terms { pu, ..Terms::default() };
        Candidate { place: Place { terms, rank, ..Place::default() }, ..Candidate::default() }
    }

    fn warm(candidate: Candidate) -> Candidate {
        Candidate { warm: true, ..candidate }
    }

    fn startable(candidate: Candidate) -> Candidate {
        Candidate { startable: true, ..candidate }
    }

    fn priced(candidate: Candidate, micros: u64) -> Candidate {
        let mut candidate = candidate;
        candidate.place.terms.price = Price::from_micros(micros);
        candidate
    }

    #[test]
    fn the_first_profile_that_can_serve_does() {
        assert_eq!(choose([warm(at(0, 1)), startable(at(1, 0))]), Some(Choice::Start(1)));
        assert_eq!(choose([warm(at(0, 1)), at(1, 0)]), Some(Choice::Warm(0)));
        assert_eq!(choose([startable(at(0, 1)), warm(startable(at(1, 0)))]), Some(Choice::Warm(1)));
        assert_eq!(choose([at(0, 1), at(1, 0)]), None);
        assert_eq!(choose([]), None);
    }

    #[test]
    fn among_equals_the_price_decides_then_the_time_then_the_load() {
        assert_eq!(choose([priced(warm(at(0, 0)), 2), priced(warm(at(1, 0)), 1)]), Some(Choice::Warm(1)));
        assert_eq!(
            choose([priced(warm(at(0, 0)), 2), priced(startable(at(1, 0)), 1)]),
            Some(Choice::Warm(0)),
            "a start is no substitute for what waits"
        );
        let mut slow = startable(at(0, 0));
        slow.place.start_ns = 2;
        assert_eq!(choose([slow, startable(at(1, 0))]), Some(Choice::Start(1)));
        let busy = Candidate { load: 1, ..startable(at(0, 0)) };
        assert_eq!(choose([busy, startable(at(1, 0))]), Some(Choice::Start(1)));
        assert_eq!(choose([startable(at(0, 0)), startable(at(1, 0))]), Some(Choice::Start(0)));
    }

    #[test]
    fn profiles_become_places() {
        use PuKind::{Cpu, Dpu};
        let pus = [(Cpu, Price::from_micros(9)), (Dpu, Price::from_micros(4)), (Cpu, Price::from_micros(8))];
        let profiles = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Profile>>();
        let shown = |texts: &[&str]| {
            let places = places(&profiles(texts), 128, &pus);
            places.iter().map(|p| (p.terms.pu, p.rank, p.terms.memory_mib, p.terms.price.micros())).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[]), [(0, 0, 128, 9), (2, 0, 128, 8)]);
        assert_eq!(shown(&["dpu:memory=64:price=0.000001", "cpu"]), [(1, 0, 64, 1), (0, 1, 128, 9), (2, 1, 128, 8)]);
        assert_eq!(shown(&["dpu", "dpu:memory=1"]), [(1, 0, 128, 4)], "what is said first counts");
        assert_eq!(shown(&["gpu"]), []);
    }

    #[test]
    fn times_are_averaged() {
        let mut place = Place::default();
        place.ran(800);
        assert_eq!(place.run_ns, 800);
        (0..100).for_each(|_| place.ran(1600));
        assert!((1500..=1600).contains(&place.run_ns), "{}", place.run_ns);
    }

    /// What must hold whatever the state: a thousand states drawn from a fixed seed.
    #[test]
    fn a_choice_can_serve_and_none_is_better() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..1000 {
            let candidates: Vec<Candidate> = (0..draw(6) as u8)
                .map(|pu| {
                    let terms = Terms { pu, memory_mib: 128, price: Price::from_micros(draw(3)), ..Terms::default() };
                    let place = Place { terms, rank: draw(3) as u8, run_ns: draw(3), start_ns: draw(3) };
                    let [warm, stem, startable] = [(); 3].map(|()| draw(3) == 0);
                    Candidate { place, warm, stem, startable, load: draw(3) as u32 }
                })
                .collect();
            let can_serve = |c: &&Candidate| c.warm || c.stem || c.startable;
            let best_rank = candidates.iter().filter(can_serve).map(|c| c.place.rank).min();
            let Some(choice) = choose(candidates.iter().copied()) else {
                assert_eq!(best_rank, None);
                continue;
            };
            let (Choice::Warm(pu) | Choice::Stem(pu) | Choice::Start(pu)) = choice;
            let chosen = &candidates[usize::from(pu)];
            assert_eq!(Some(chosen.place.rank), best_rank);
            let rivals = candidates.iter().filter(|c| c.place.rank == chosen.place.rank);
            let (warm, stem) = rivals.clone().fold((false, false), |(w, s), c| (w || c.warm, s || c.stem));
            match choice {
                Choice::Warm(_) => assert!(chosen.warm),
                Choice::Stem(_) => assert!(chosen.stem && !warm),
                Choice::Start(_) => assert!(chosen.startable && !warm && !stem),
            }
            let same = rivals.filter(|c| match choice {
                Choice::Warm(_) => c.warm,
                Choice::Stem(_) => c.stem,
                Choice::Start(_) => c.startable,
            });
            assert!(same.into_iter().all(|c| c.place.terms.price >= chosen.place.terms.price));
        }
    }
}
