//! Engines that end, with what runs there and what they hold.

use super::*;
use crate::plan::past::{ENDS_MAX, LOSSES_MAX};

/// Engines, the number of the one that is next to end going round.
const ENGINES: usize = 3;
/// A function that is not run again, and whose items are all here.
const ONCE: &str = "f1";

/// How a run is driven whose engines end by chance.
struct World<'a> {
    program: &'a Arc<Program>,
    chance: &'a mut Chance,
    alive: Arc<AtomicUsize>,
    /// What each engine holds.
    held: Vec<Vec<Arc<AtomicBool>>>,
    /// Shards under way, each with its engine, and whether that has ended.
    going: Vec<(Shard<Counted>, usize, bool)>,
    /// How many more engines may end: with shards, and where nothing runs.
    ends: [usize; 2],
    ran: BTreeMap<String, usize>,
    runs: usize,
}

impl World<'_> {
    fn counted(&mut self, set: Set<String>, engine: Option<usize>) -> Set<Counted> {
        let Self { chance, alive, held, .. } = self;
        set.map(|text| {
            let mut data = Counted::new(&text, alive);
            if let Some(engine) = engine.filter(|_| chance.below(4) > 0) {
                let lost = Arc::new(AtomicBool::new(false));
                held[engine].push(lost.clone());
                data.lost = Some(lost);
            }
            data
        })
    }

    /// An engine ends, or not.
    fn perhaps_end_one(&mut self) {
        if self.chance.below(3) > 0 {
            return;
        }
        let engine = self.chance.below(ENGINES);
        let with = usize::from(!self.going.iter().any(|(_, on, gone)| *on == engine && !gone));
        if self.ends[with] == 0 {
            return;
        }
        self.ends[with] -= 1;
        self.held[engine].drain(..).for_each(|lost| lost.store(true, Ordering::Relaxed));
        let there = self.going.iter_mut().filter(|(_, on, _)| *on == engine);
        there.for_each(|(.., gone)| *gone = true);
    }

    /// What one of the shards under way comes to.
    fn event(&mut self) -> Event<Counted> {
        let (shard, engine, gone) = self.going.swap_remove(self.chance.below(self.going.len()));
        let (said, outputs) = run_shard(self.program, &shard);
        let once = said.starts_with(ONCE);
        let inputs = shard.inputs.iter().flatten().enumerate();
        let lost: Vec<usize> = inputs.filter(|(_, item)| item.data.is_lost()).map(|(at, _)| at).collect();
        if !once && (gone || !lost.is_empty()) {
            let report = Counted::new("gone", &self.alive);
            // Which of both it is first is by chance.
            let lost = if gone && self.chance.below(2) == 0 { Vec::new() } else { lost };
            return Event::Interrupted { shard: shard.id, lost, report };
        }
        *self.ran.entry(said).or_insert(0) += 1;
        let outputs = outputs.into_iter().map(|set| self.counted(set, (!once).then_some(engine))).collect();
        Event::Finished { shard: shard.id, outputs }
    }

    /// The last action.
    fn drive(&mut self, inputs: &Sets<String>, bounds: Bounds, forgets: bool) -> Action<Counted> {
        let inputs = inputs.iter().map(|set| self.counted(set.clone(), None)).collect();
        let mut out = Vec::new();
        let again = |name: &str| name != ONCE;
        let mut plan = Plan::start(self.program.clone(), bounds, again, inputs, &mut out).unwrap();
        loop {
            for action in out.drain(..) {
                let Action::Run(shard) = action else {
                    self.going.clear();
                    assert!(plan.is_over() && plan.remembered() == 0);
                    return action;
                };
                self.runs += 1;
                let engine = self.chance.below(ENGINES);
                self.going.push((shard, engine, false));
            }
            assert!(!self.going.is_empty(), "nothing runs, and it is not over");
            assert!(self.going.len() <= bounds.window && plan.running() == self.going.len());
            self.perhaps_end_one();
            if forgets && self.chance.below(8) == 0 {
                plan.forget();
            }
            let event = self.event();
            plan.step(event, &mut out);
        }
    }
}

fn world<'a>(program: &'a Arc<Program>, chance: &'a mut Chance, ends: [usize; 2]) -> World<'a> {
    let held = vec![Vec::new(); ENGINES];
    let (alive, ran) = (Arc::default(), BTreeMap::new());
    World { program, chance, alive, held, going: Vec::new(), ends, ran, runs: 0 }
}

fn texts(outputs: Sets<Counted>) -> Sets<String> {
    outputs.into_iter().map(|set| set.map(|data| data.text.to_string())).collect()
}

#[test]
fn whatever_is_lost_outputs_are_as_if_nothing_was() {
    let (mut chance, mut flows, mut again) = (Chance::new(), 0, 0);
    while flows < 300 {
        let (text, inputs) = chance.flow();
        let program = program(&text);
        let Some((expected, expected_ran)) = reference::run(&program, &inputs) else { continue };
        flows += 1;
        for window in [1, 1 + chance.below(6), 1000] {
            let bounds = Bounds { window, spread: 3, shards: expected_ran.values().sum::<usize>() as u64 + 10_000 };
            let mut world = world(&program, &mut chance, [ENDS_MAX as usize, 10]);
            let last = world.drive(&inputs, bounds, false);
            let Action::Done(outputs) = last else { panic!("{last:?} of {text}\n{inputs:?}") };
            assert_eq!(texts(outputs), expected, "{text}\n{inputs:?}");
            for (shard, runs) in &world.ran {
                let expected = expected_ran[shard];
                assert!(*runs >= expected && (*runs == expected || !shard.starts_with(ONCE)), "{shard}: {runs}");
            }
            assert_eq!(world.ran.len(), expected_ran.len());
            assert_eq!(world.alive.load(Ordering::Relaxed), 0, "something is still held");
            again += world.ran.values().sum::<usize>() - expected_ran.values().sum::<usize>();
        }
    }
    assert!(again > 100, "{again} runs of what was lost");
}

#[test]
fn engines_that_never_cease_to_end_end_the_run_and_it_holds_nothing() {
    let (mut chance, mut failed) = (Chance::new(), 0);
    for round in 0..300 {
        let (text, inputs) = chance.flow();
        let program = program(&text);
        let Some((expected, ran)) = reference::run(&program, &inputs) else { continue };
        let bounds = Bounds { window: 1 + chance.below(8), spread: 3, shards: 1_000_000 };
        let mut world = world(&program, &mut chance, [usize::MAX; 2]);
        match world.drive(&inputs, bounds, round % 2 == 0) {
            Action::Done(outputs) if !text.contains("on error") => assert_eq!(texts(outputs), expected, "{text}"),
            Action::Done(_) => {}
            Action::Abort(Abort::Failed(_)) => failed += 1,
            other => panic!("{other:?}"),
        }
        let most = ran.values().sum::<usize>() * (LOSSES_MAX as usize + 1) * (ENDS_MAX as usize + 1);
        assert!(world.runs <= most, "{} runs of {most}: {text}", world.runs);
        assert_eq!(world.alive.load(Ordering::Relaxed), 0, "{text}");
    }
    assert!(failed > 10, "{failed}");
}

/// A plan whose events are given by hand.
struct Bench {
    plan: Plan<Counted>,
    out: Vec<Action<Counted>>,
    program: Arc<Program>,
    alive: Arc<AtomicUsize>,
}

impl Bench {
    fn new(text: &str, count: usize) -> Self {
        let (program, alive) = (program(text), Arc::default());
        let mut out = Vec::new();
        let inputs = items(count).into_iter().map(|set| set.map(|text| Counted::new(&text, &alive))).collect();
        let bounds = Bounds { shards: 20, ..Bounds::default() };
        let plan = Plan::start(program.clone(), bounds, any, inputs, &mut out).unwrap();
        Self { plan, out, program, alive }
    }

    /// What is to be run now, by the names of the functions and the shards' numbers.
    fn runs(&mut self) -> Vec<(String, u64)> {
        let label = |action: &Action<Counted>| match action {
            Action::Run(shard) => (self.program.graphs[shard.graph].apps[shard.app].label.clone(), shard.id),
            other => (format!("{other:?}"), 0),
        };
        let runs = self.out.iter().map(label).collect();
        self.out.clear();
        runs
    }

    /// It leaves one item, elsewhere, or called otherwise.
    fn finish(&mut self, shard: u64, name: &str) {
        let item = Item::new(name, 0, Counted::new("made", &self.alive).with(Some(Arc::default())));
        self.plan.step(Event::Finished { shard, outputs: vec![Set::new("r", vec![item])] }, &mut self.out);
    }

    fn lose(&mut self, shard: u64, lost: &[usize]) {
        let report = Counted::new("gone", &self.alive);
        self.plan.step(Event::Interrupted { shard, lost: lost.to_vec(), report }, &mut self.out);
    }
}

const CHAIN: &str = "flow f(A) => (Z) { a(x = each A) => (B = r); b(x = each B) => (C = r); c(x = all C) => (D = r); d(x = all D) => (Z = r); }";

fn named(name: &str, shard: u64) -> Vec<(String, u64)> {
    vec![(name.to_owned(), shard)]
}

#[test]
fn only_what_is_needed_is_made_again() {
    let mut bench = Bench::new(CHAIN, 3);
    assert_eq!(bench.runs().len(), 3);
    (0..3).for_each(|shard| bench.finish(shard, "i"));
    (3..6).for_each(|shard| bench.finish(shard, "i"));
    assert_eq!(bench.runs().last().unwrap(), &("c".to_owned(), 6));
    let before = bench.alive.load(Ordering::Relaxed);
    // What `b` was given is nowhere any more, so `a` comes first.
    bench.lose(6, &[1]);
    assert_eq!(bench.runs(), named("a", 7));
    bench.finish(7, "i");
    // Those that wait have taken a number each.
    assert_eq!(bench.runs(), named("b", 10));
    bench.finish(10, "i");
    assert_eq!(bench.runs(), named("c", 11));
    assert_eq!(bench.alive.load(Ordering::Relaxed), before, "what was made for it on the way is gone");
    bench.finish(11, "i");
    bench.finish(12, "i");
    assert!(matches!(bench.out.pop(), Some(Action::Done(_))));
    bench.out.clear();
    assert_eq!((bench.plan.remembered(), bench.alive.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn one_that_makes_something_else_ends_the_run() {
    let mut bench = Bench::new(CHAIN, 1);
    (0..2).for_each(|shard| bench.finish(shard, "i"));
    bench.runs();
    bench.lose(2, &[0]);
    assert_eq!(bench.runs(), named("a", 3));
    bench.finish(3, "i");
    bench.finish(6, "other");
    assert!(matches!(bench.out.last(), Some(Action::Abort(Abort::Differs(6, (0, 1))))), "{:?}", bench.out);
}

#[test]
fn one_that_ends_its_engines_is_a_failure_at_last() {
    let mut bench = Bench::new("flow f(A) => (Z) { a(x = all A) => (Z = r); }", 1);
    for shard in 0..u64::from(ENDS_MAX) {
        bench.lose(shard, &[]);
        assert!(matches!(bench.out.last(), Some(Action::Run(_))));
    }
    bench.lose(u64::from(ENDS_MAX), &[]);
    assert!(matches!(bench.out.last(), Some(Action::Abort(Abort::Failed(_)))));
    assert_eq!(bench.plan.remembered(), 0);
}

#[test]
fn what_is_forgotten_is_a_failure_where_it_is_lost() {
    let mut bench = Bench::new(CHAIN, 1);
    (0..2).for_each(|shard| bench.finish(shard, "i"));
    assert!(bench.plan.remembered() > 0);
    bench.plan.forget();
    bench.lose(2, &[0]);
    assert!(matches!(bench.out.last(), Some(Action::Abort(Abort::Failed(2)))));
}

#[test]
fn a_long_chain_of_recipes_is_no_deep_one() {
    let steps: String = (0..1000).map(|at| format!("s{at}(x = all S{at}) => (S{} = r); ", at + 1)).collect();
    let mut bench =
        Bench::new(&format!("flow f(S0) => (S1000) {{ {steps} }}").replace("S0)", "A)").replace("S0;", "A;"), 1);
    bench.plan.bounds.shards = 1000;
    (0..999).for_each(|shard| bench.finish(shard, "i"));
    assert!(bench.plan.remembered() > 999);
    bench.lose(999, &[0]);
    let last = bench.runs().pop().unwrap();
    assert_eq!(last.0, "s0", "all of it is made again");
    drop(bench);
}
