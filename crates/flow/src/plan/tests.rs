//! Plans against a naive interpreter, in every order of completion that chance finds; and what is left when they end.
//! `SEED=…` is for other flows than those of every run.

mod losses;
mod random;
mod reference;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use sets::{Item, Set, Sets};

use super::{Abort, Action, Bounds, Data, Event, Plan, Shard};
use crate::graph::Program;
use crate::language::{Offline, check};
use random::Chance;

/// Data that counts how much of it there is.
#[derive(Debug)]
pub struct Counted {
    text: Arc<str>,
    alive: Arc<AtomicUsize>,
    /// Of what is elsewhere: whether it is lost.
    lost: Option<Arc<AtomicBool>>,
}

impl Counted {
    fn new(text: &str, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self { text: text.into(), alive: alive.clone(), lost: None }
    }

    fn with(mut self, lost: Option<Arc<AtomicBool>>) -> Self {
        self.lost = lost;
        self
    }

    fn is_lost(&self) -> bool {
        self.lost.as_ref().is_some_and(|lost| lost.load(Ordering::Relaxed))
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(&self.text, &self.alive).with(self.lost.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl From<Bytes> for Counted {
    fn from(bytes: Bytes) -> Self {
        Self::new(std::str::from_utf8(&bytes).unwrap(), &Arc::default())
    }
}

impl Data for Counted {
    fn is_away(&self) -> bool {
        self.lost.is_some()
    }
}

/// Whatever runs may run again.
fn any(_: &str) -> bool {
    true
}

pub fn program(text: &str) -> Arc<Program> {
    let checked = check(text, None, &Offline);
    Arc::new(checked.program.unwrap_or_else(|| panic!("{text}\n{:#?}", checked.diagnostics)))
}

/// A set as a function gets it: its name; names, keys and texts of its items.
pub type Given = (String, Vec<(String, u64, String)>);

/// What a function makes of its inputs: something that tells them apart, and not their order where that is free. Every
/// third makes two items, every fifth none.
pub fn function(name: &str, inputs: &[Given], results: &[String]) -> Sets<String> {
    let mut said = name.to_owned();
    for (parameter, items) in inputs {
        let items: Vec<String> = items.iter().map(|(name, key, text)| format!("{name}@{key}:{text}")).collect();
        said += &format!("({parameter} {})", items.join(" "));
    }
    let hash = said
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let text = format!("{name}{hash:x}");
    let make = |(place, result): (usize, &String)| {
        let hash = hash.rotate_left(place as u32 * 7);
        let count = if hash % 5 == 0 { 0 } else { 1 + usize::from(hash % 3 == 0) };
        let item =
            |index: usize| Item::new(format!("i{index}"), (hash >> 8).wrapping_add(index as u64) % 3, text.clone());
        Set::new(result.clone(), (0..count).map(item).collect())
    };
    results.iter().enumerate().map(make).collect()
}

fn run_shard(program: &Program, shard: &Shard<Counted>) -> (String, Sets<String>) {
    let app = &program.graphs[shard.graph].apps[shard.app];
    let inputs = app.ports.iter().zip(&shard.inputs).map(|(port, piece)| {
        let items = piece.iter().map(|item| (item.name.clone(), item.key, item.data.text.to_string()));
        (port.parameter.clone(), items.collect::<Vec<_>>())
    });
    let inputs: Vec<_> = inputs.collect();
    let results: Vec<String> = app.outputs.iter().map(|(result, _)| result.clone()).collect();
    let name = app.label.rsplit('.').next().unwrap();
    (format!("{name} {inputs:?}"), function(name, &inputs, &results))
}

/// What a run came to: the flow's outputs, and how often each shard ran.
type Outcome = (Sets<String>, BTreeMap<String, usize>);

/// Drives a plan, completing shards in an order of chance's.
fn drive(program: &Arc<Program>, inputs: &Sets<String>, bounds: Bounds, chance: &mut Chance) -> Outcome {
    let alive = Arc::new(AtomicUsize::new(0));
    let counted = |set: &Set<String>| set.clone().map(|text| Counted::new(&text, &alive));
    let mut out = Vec::new();
    let mut plan = Plan::start(program.clone(), bounds, any, inputs.iter().map(counted).collect(), &mut out).unwrap();
    let (mut waiting, mut ran, mut done) = (Vec::new(), BTreeMap::new(), None);
    loop {
        for action in out.drain(..) {
            match action {
                Action::Run(shard) => waiting.push(shard),
                Action::Done(outputs) => assert!(done.replace(outputs).is_none(), "done twice"),
                Action::Abort(why) => panic!("aborted: {why:?}"),
            }
        }
        assert!(waiting.len() <= bounds.window && plan.running() == waiting.len());
        let Some(shard) = (!waiting.is_empty()).then(|| waiting.swap_remove(chance.below(waiting.len()))) else {
            break;
        };
        let (said, outputs) = run_shard(program, &shard);
        *ran.entry(said).or_insert(0) += 1;
        let id = shard.id;
        drop(shard);
        let outputs = outputs.into_iter().map(|set| counted(&set)).collect();
        plan.step(Event::Finished { shard: id, outputs }, &mut out);
    }
    let outputs = done.expect("a run without shards is done");
    let outputs = outputs.into_iter().map(|set| set.map(|data| data.text.to_string())).collect();
    assert_eq!(alive.load(Ordering::Relaxed), 0, "something is still held");
    (outputs, ran)
}

#[test]
fn any_order_gives_what_the_naive_interpreter_gives() {
    let (mut chance, mut flows) = (Chance::new(), 0);
    while flows < 300 {
        let (text, inputs) = chance.flow();
        let program = program(&text);
        let Some((expected, expected_ran)) = reference::run(&program, &inputs) else { continue };
        flows += 1;
        for window in [1, 1 + chance.below(6), 1000] {
            let bounds = Bounds { window, spread: 3, shards: 1_000_000 };
            let (outputs, ran) = drive(&program, &inputs, bounds, &mut chance);
            assert_eq!(outputs, expected, "{text}\n{inputs:?}");
            assert_eq!(ran, expected_ran, "{text}\n{inputs:?}");
        }
    }
}

#[test]
fn a_run_that_is_ended_anywhere_holds_nothing() {
    let mut chance = Chance::new();
    for _ in 0..300 {
        let (text, inputs) = chance.flow();
        let program = program(&text);
        let alive = Arc::new(AtomicUsize::new(0));
        let counted = |set: &Set<String>| set.clone().map(|text| Counted::new(&text, &alive));
        let mut out = Vec::new();
        let bounds = Bounds { window: 4, ..Bounds::default() };
        let mut plan =
            Plan::start(program.clone(), bounds, any, inputs.iter().map(counted).collect(), &mut out).unwrap();
        let (mut waiting, mut last) = (Vec::new(), None);
        let mut steps = chance.below(30);
        while last.is_none() {
            for action in out.drain(..) {
                match action {
                    Action::Run(shard) => waiting.push(shard),
                    other => last = Some(other),
                }
            }
            if last.is_some() || waiting.is_empty() {
                break;
            }
            let shard = waiting.swap_remove(chance.below(waiting.len()));
            let event = match (steps, chance.below(2)) {
                (0, 0) => Event::Cancel,
                (0, _) => Event::Failed { shard: shard.id, report: Counted::new("why", &alive) },
                _ => {
                    let outputs = run_shard(&program, &shard).1.iter().map(counted).collect();
                    Event::Finished { shard: shard.id, outputs }
                }
            };
            steps = steps.saturating_sub(1);
            plan.step(event, &mut out);
        }
        assert!(plan.is_over() && plan.running() == 0);
        if let Some(Action::Abort(_)) = last {
            let late = waiting.first().map_or(0, |shard| shard.id);
            plan.step(Event::Finished { shard: late, outputs: Vec::new() }, &mut out);
            assert!(out.is_empty(), "nothing follows the end");
        }
        drop((waiting, last));
        assert_eq!(alive.load(Ordering::Relaxed), 0, "{text}");
    }
}

fn items(count: usize) -> Sets<String> {
    vec![Set::new("A", (0..count).map(|index| Item::new(format!("{index}"), 0, "x".to_owned())).collect())]
}

/// Consumers start while their producers still run; what is done is not kept; shards are made as there is room.
#[test]
fn ten_thousand_shards_in_bounded_memory() {
    let program =
        program("flow f(A) => (C) { a(x = each A) => (B = r); b(x = each B) => (N = r); c(x = all N) => (C = r); }");
    let mut out = Vec::new();
    let bounds = Bounds { window: 8, ..Bounds::default() };
    let alive = Arc::new(AtomicUsize::new(0));
    let inputs = items(10_000).into_iter().map(|set| set.map(|text| Counted::new(&text, &alive))).collect();
    let mut plan = Plan::start(program.clone(), bounds, any, inputs, &mut out).unwrap();
    let (mut a, mut b, mut most) = (0, 0, 0);
    while let Some(action) = out.pop() {
        let Action::Run(shard) = action else { break };
        let (app, id) = (shard.app, shard.id);
        drop(shard);
        let (a_or_b, result) = if app == 0 { (&mut a, "item") } else { (&mut b, "") };
        *a_or_b += usize::from(app < 2);
        let made = (!result.is_empty()).then(|| Item::new("i", 0, Counted::new(result, &alive)));
        let outputs = vec![Set::new("r", made.into_iter().collect())];
        plan.step(Event::Finished { shard: id, outputs }, &mut out);
        assert!(plan.running() <= 8 && a <= b + 9, "{a} have run before {b}");
        most = most.max(alive.load(Ordering::Relaxed));
    }
    assert_eq!((a, b), (10_000, 10_000));
    assert!(most <= 10_010 && alive.load(Ordering::Relaxed) == 0, "{most} items at a time");
    assert!(plan.is_over());
}

#[test]
fn failures_go_where_the_author_says() {
    let text = |policy: &str| format!("flow f(A) => (B) {{ a(x = each A) => (M = r) {policy}; }}").replace("M", "B");
    let run = |text: &str| {
        let program = program(text);
        let mut out = Vec::new();
        let inputs = items(3).into_iter().map(|set| set.map(|text| Counted::new(&text, &Arc::default()))).collect();
        let mut plan = Plan::start(program, Bounds::default(), any, inputs, &mut out).unwrap();
        for id in 0..3 {
            let item = Item::new("i", 0, Counted::new("fine", &Arc::default()));
            let event = match id {
                1 => Event::Failed { shard: id, report: Counted::new("why", &Arc::default()) },
                _ => Event::Finished { shard: id, outputs: vec![Set::new("r", vec![item])] },
            };
            plan.step(event, &mut out);
        }
        out.pop().unwrap()
    };
    let outputs = |action: Action<Counted>| match action {
        Action::Done(sets) => sets
            .iter()
            .flat_map(|set| set.items.iter().map(|item| format!("{} {} {}", set.name, item.name, item.data.text)))
            .collect(),
        other => vec![format!("{other:?}")],
    };
    assert_eq!(outputs(run(&text(""))), ["Abort(Failed(1))"]);
    assert_eq!(outputs(run(&text("on error fail"))), ["Abort(Failed(1))"]);
    assert_eq!(outputs(run(&text("on error skip"))), ["B i fine", "B i fine"]);
    let both = "flow f(A) => (B, E) { a(x = each A) => (B = r) on error => E; }";
    assert_eq!(outputs(run(both)), ["B i fine", "B i fine", "E 1 why"]);
}

#[test]
fn too_many_shards_end_a_run_and_unknown_sets_refuse_it() {
    let program = program("flow f(A) => (B) { a(x = each A, y = each A) => (B = r); }");
    let (mut out, bounds) = (Vec::new(), Bounds { window: 100, spread: 1, shards: 20 });
    let inputs: Sets<Bytes> = items(10).into_iter().map(|set| set.map(Bytes::from)).collect();
    let plan = Plan::start(program.clone(), bounds, any, inputs, &mut out).unwrap();
    assert_eq!(out.len(), 21);
    assert!(matches!(out.last(), Some(Action::Abort(Abort::TooMany))) && plan.is_over());
    let error = Plan::<Bytes>::start(program, bounds, any, vec![Set::new("X", vec![])], &mut out).unwrap_err();
    assert_eq!(error.to_string(), "the flow takes no set 'X'; it takes: A");
}
