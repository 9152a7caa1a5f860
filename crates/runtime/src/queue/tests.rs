//! The machine against random histories, and the queue on a disk of its own.

use super::machine::{Arrival, Ending, Limits, Machine, Step, Verdict};
use super::*;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU32;
use tokio::sync::mpsc::{self, channel};

const PATIENCE: Duration = Duration::from_secs(30);

/// Random numbers that are the same in every run.
struct Lot(u64);

impl Lot {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn policy() -> Policy {
    Policy { retries: 2, age_max_ms: 60_000, ..Policy::nowhere() }
}

fn machine() -> Machine {
    Machine::new(Limits { concurrency: 5, retry_ms: vec![1_000, 2_000] })
}

/// What a disk would have.
#[derive(Clone, Copy)]
struct Kept {
    lane: u64,
    accepted_ms: u64,
    due_ms: u64,
    attempts: u32,
}

#[test]
fn every_event_ends_once_whatever_happens() {
    for seed in 0..200 {
        let (mut lot, mut machine, mut now, mut next_id) = (Lot(seed), machine(), 0, 1);
        let (mut kept, mut running): (BTreeMap<i64, Kept>, Vec<(i64, bool)>) = Default::default();
        let (mut ended, mut failures): (HashMap<i64, Verdict>, HashMap<i64, u32>) = Default::default();
        for round in 0..400 {
            now += lot.below(700);
            if round < 200 && lot.below(2) == 0 {
                let event = Kept { lane: lot.below(3), accepted_ms: now, due_ms: 0, attempts: 0 };
                kept.insert(next_id, event);
                enter(&mut machine, next_id, event);
                next_id += 1;
            }
            while let Some(step) = machine.next(now, |_| policy()) {
                let (Step::Run(id) | Step::Expire(id)) = step;
                assert!(running.iter().all(|(other, _)| *other != id), "seed {seed}: {id} runs twice at once");
                assert!(kept[&id].due_ms <= now, "seed {seed}: {id} runs too early");
                running.push((id, matches!(step, Step::Expire(_))));
                assert!(running.len() <= 5);
            }
            if !running.is_empty() && lot.below(3) > 0 {
                let (id, expired) = running.swap_remove(lot.below(running.len() as u64) as usize);
                let ending = match lot.below(8) {
                    _ if expired => Ending::Expired,
                    0..4 => Ending::Succeeded,
                    4 | 5 => Ending::Failed,
                    6 => Ending::Throttled,
                    _ => Ending::Broken,
                };
                *failures.entry(id).or_default() += u32::from(ending == Ending::Failed);
                match machine.conclude(id, ending, now, &policy()) {
                    Verdict::Again => {}
                    Verdict::RetryAt { due_ms, attempts } => {
                        let event = kept.get_mut(&id).unwrap();
                        (event.due_ms, event.attempts) = (due_ms, attempts);
                    }
                    verdict => {
                        kept.remove(&id);
                        assert_eq!(ended.insert(id, verdict), None, "seed {seed}: {id} ended twice");
                    }
                }
            }
            // The node is killed: what the disk has is all there is.
            if lot.below(100) == 0 {
                machine = self::machine();
                running.clear();
                kept.iter().for_each(|(id, event)| enter(&mut machine, *id, *event));
            }
            assert_eq!(machine.depth(), kept.len() as u64, "seed {seed}");
        }
        while !kept.is_empty() {
            for (id, _) in std::mem::take(&mut running) {
                machine.conclude(id, Ending::Succeeded, now, &policy());
                kept.remove(&id);
                ended.insert(id, Verdict::Done);
            }
            now = now.max(machine.wake().unwrap_or(now));
            while let Some(Step::Run(id) | Step::Expire(id)) = machine.next(now, |_| policy()) {
                running.push((id, false));
            }
            assert!(kept.is_empty() || !running.is_empty(), "seed {seed}: events are stuck");
        }
        assert_eq!(ended.len() as i64, next_id - 1);
        assert!(failures.values().all(|failures| *failures <= 3), "seed {seed}: more than two retries");
    }
}

fn enter(machine: &mut Machine, id: i64, event: Kept) {
    let Kept { lane, accepted_ms, due_ms, attempts } = event;
    machine.enter(&format!("f{lane}"), Arrival { id, accepted_ms, due_ms, attempts });
}

#[test]
fn events_run_in_their_order_and_a_throttled_one_is_not_overtaken() {
    let mut machine = machine();
    (1..=20).for_each(|id| enter(&mut machine, id, Kept { lane: 0, accepted_ms: 0, due_ms: 0, attempts: 0 }));
    let run = |machine: &mut Machine, now| machine.next(now, |_| policy());
    let first: Vec<_> = std::iter::from_fn(|| run(&mut machine, 0)).collect();
    assert_eq!(first, [1, 2, 3, 4, 5].map(Step::Run));
    // The target bears one at a time.
    for id in 2..=5 {
        assert_eq!(machine.conclude(id, Ending::Throttled, 0, &policy()), Verdict::Again);
    }
    assert_eq!(run(&mut machine, 0), None);
    machine.conclude(1, Ending::Succeeded, 0, &policy());
    assert_eq!(run(&mut machine, 0), Some(Step::Run(2)));
    assert_eq!(machine.conclude(2, Ending::Throttled, 0, &policy()), Verdict::Again);
    assert_eq!(run(&mut machine, 0), None);
    let wake = machine.wake().unwrap();
    assert_eq!((wake, run(&mut machine, wake)), (100, Some(Step::Run(2))));
}

#[test]
fn what_is_too_old_is_given_up() {
    let mut machine = machine();
    enter(&mut machine, 1, Kept { lane: 0, accepted_ms: 0, due_ms: 0, attempts: 0 });
    assert_eq!(machine.next(59_500, |_| policy()), Some(Step::Run(1)));
    let verdict = machine.conclude(1, Ending::Failed, 59_500, &policy());
    assert_eq!(verdict, Verdict::Dead(event::Reason::EventAgeExceeded));
    enter(&mut machine, 2, Kept { lane: 0, accepted_ms: 0, due_ms: 0, attempts: 0 });
    assert_eq!(machine.next(60_001, |_| policy()), Some(Step::Expire(2)));
}

/// Answers as the event's payload says, and tells what it was asked.
struct Stage {
    heard: mpsc::Sender<Event>,
    failures: AtomicU32,
    on_success: &'static str,
    on_failure: &'static str,
    /// Bytes of its answers.
    says: usize,
}

impl Stage {
    fn new(heard: mpsc::Sender<Event>) -> Self {
        Self { heard, failures: AtomicU32::new(0), on_success: "", on_failure: "", says: 6 }
    }
}

impl Performer for Stage {
    fn policy(&self, target: &str) -> Policy {
        let mut policy = Policy { retries: 1, age_max_ms: 3_600_000, ..Policy::nowhere() };
        if target == "f" {
            (policy.on_success, policy.on_failure) = (self.on_success.into(), self.on_failure.into());
        }
        policy
    }

    fn perform(&self, event: Event) -> Performance {
        let failed = &event.payload[..] == b"\"fail\"";
        self.failures.fetch_add(u32::from(failed), Relaxed);
        let _ = self.heard.try_send(event);
        let body = format!("\"{}\"", "a".repeat(self.says)).into();
        Box::pin(async move { Performed::Answered { body, failed, version: "$LATEST".into() } })
    }
}

fn event(request: &str, payload: &'static str) -> Event {
    let accepted_ms = api::time::now_ms();
    Event { request_id: request.into(), target: "f".into(), payload: payload.into(), accepted_ms, ..Event::default() }
}

fn config() -> QueueConfig {
    QueueConfig { retry_s: vec![0], ..QueueConfig::default() }
}

async fn empty(queue: &Queue) {
    let mut changed = queue.shared.changed.subscribe();
    let is_empty = async {
        loop {
            changed.mark_unchanged();
            if queue.state().depth > 0 {
                changed.changed().await.unwrap();
                continue;
            }
            // Messages to destinations enter when their events' ends are written.
            assert!(queue.flush(PATIENCE).await);
            // And may have run since.
            if queue.state().depth == 0 && queue.shared.owed.load(Relaxed) == 0 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, is_empty).await.unwrap();
}

#[tokio::test]
async fn what_was_accepted_survives_and_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let queue = Queue::open(&path, config()).unwrap();
    for number in 0..50 {
        queue.accept(event(&format!("r{number}"), "1")).await.unwrap();
    }
    drop(queue);
    let queue = Queue::open(&path, config()).unwrap();
    assert_eq!((queue.state().depth, queue.state().bytes), (50, 50));
    let (heard, mut said) = channel(1024);
    queue.start(Arc::new(Stage::new(heard)));
    empty(&queue).await;
    let mut ids: Vec<String> = std::iter::from_fn(|| said.try_recv().ok()).map(|event| event.request_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), queue.state().bytes), (50, 0));
}

#[tokio::test]
async fn failures_are_retried_then_kept_and_can_be_redriven() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let queue = Queue::open(&path, config()).unwrap();
    let (heard, mut said) = channel(1024);
    let stage = Stage { on_success: "done", ..Stage::new(heard) };
    queue.start(Arc::new(stage));
    queue.accept(event("bad", "\"fail\"")).await.unwrap();
    queue.accept(event("good", "1")).await.unwrap();
    empty(&queue).await;
    let heard: Vec<Event> = std::iter::from_fn(|| said.try_recv().ok()).collect();
    assert_eq!(heard.iter().filter(|event| event.request_id == "bad").count(), 2);
    let record = heard.iter().find(|event| event.target == "done").unwrap();
    assert!(record.payload.starts_with(br#"{"version":"1.0","#));
    let all = Which::default();
    let dead = queue.dead(&all, 10).unwrap();
    assert_eq!((dead.len(), dead[0].event.request_id.as_str(), dead[0].event.attempts), (1, "bad", 2));
    assert_eq!((dead[0].reason.as_str(), &dead[0].error), ("RetriesExhausted", &Bytes::from("\"aaaaaa\"")));
    assert_eq!(
        (dead[0].event.payload.len(), &queue.last_dead(&all).unwrap().unwrap().event.payload[..]),
        (0, &b"\"fail\""[..])
    );
    assert_eq!(queue.redrive(Which { request_id: "other".into(), ..Which::default() }).await.unwrap(), 0);
    assert_eq!(queue.redrive(all.clone()).await.unwrap(), 1);
    empty(&queue).await;
    assert_eq!(queue.state().dead, 1);
    assert_eq!(queue.purge(all).await.unwrap(), 1);
    assert_eq!((queue.state().dead, queue.state().bytes), (0, 0));
}

#[tokio::test]
async fn an_event_that_is_taken_once_is_not_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let queue = Queue::open(&path, config()).unwrap();
    let (first, again) = tokio::join!(queue.accept_once(event("a", "1")), queue.accept_once(event("a", "1")));
    first.and(again).unwrap();
    assert_eq!((queue.state().depth, queue.state().bytes), (1, 1));
    // Neither when it has run, nor after a restart.
    let (heard, mut said) = channel(16);
    queue.start(Arc::new(Stage::new(heard)));
    empty(&queue).await;
    queue.stop();
    drop(queue);
    let queue = Queue::open(&path, config()).unwrap();
    queue.accept_once(event("a", "1")).await.unwrap();
    queue.accept(event("b", "1")).await.unwrap();
    assert_eq!((queue.state().depth, queue.state().bytes), (1, 1));
    assert_eq!(said.try_recv().unwrap().request_id, "a");
}

#[tokio::test]
async fn a_full_queue_refuses_and_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let queue = Queue::open(&path, QueueConfig { events_max: 2, payload_max: 10, ..config() }).unwrap();
    assert!(matches!(queue.accept(event("long", "\"0123456789\"")).await, Err(AcceptError::TooLarge { .. })));
    queue.accept(event("a", "1")).await.unwrap();
    queue.accept(event("b", "1")).await.unwrap();
    assert!(matches!(queue.accept(event("c", "1")).await, Err(AcceptError::Full)));
    assert_eq!(queue.state().depth, 2);
}

#[tokio::test]
async fn what_cannot_be_noted_is_not_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let queue = Queue::open(&path, config()).unwrap();
    for number in 0..300 {
        queue.accept(event(&format!("r{number}"), "1")).await.unwrap();
    }
    // Somebody holds the disk.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (heard, mut said) = channel(1024);
    queue.start(Arc::new(Stage { on_success: "done", says: 1 << 20, ..Stage::new(heard) }));
    let mut changed = queue.shared.changed.subscribe();
    let held_up = async {
        while !queue.shared.owes_too_much() || queue.state().running > 0 {
            changed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, held_up).await.unwrap();
    let before = said.len();
    assert!((64..64 + 100).contains(&before), "{before} events ran");
    other.execute_batch("ROLLBACK").unwrap();
    empty(&queue).await;
    let targets: Vec<String> = std::iter::from_fn(|| said.try_recv().ok()).map(|event| event.target).collect();
    assert_eq!(targets.iter().filter(|target| *target == "f").count(), 300);
    assert_eq!((targets.len(), queue.shared.owed.load(Relaxed), queue.state().bytes), (600, 0, 0));
}

#[tokio::test]
async fn a_dead_event_keeps_little_of_what_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(&folder.path().join("queue.db"), config()).unwrap();
    let (heard, _said) = channel(16);
    queue.start(Arc::new(Stage { says: 1 << 20, ..Stage::new(heard) }));
    queue.accept(event("bad", "\"fail\"")).await.unwrap();
    empty(&queue).await;
    assert_eq!(queue.dead(&Which::default(), 1).unwrap()[0].error.len(), 8 * 1024);
}

#[test]
fn many_targets_that_have_no_room_cost_little() {
    const TARGETS: i64 = 2_000;
    let mut machine = Machine::new(Limits { concurrency: 100, retry_ms: vec![] });
    let asked = std::cell::Cell::new(0u64);
    for id in 1..=TARGETS {
        machine.enter(&format!("target-{id}"), Arrival { id, accepted_ms: 0, due_ms: id as u64, attempts: 0 });
    }
    let policy = |_: &str| {
        asked.set(asked.get() + 1);
        Policy { age_max_ms: 3_600_000, ..Policy::nowhere() }
    };
    let (mut now, mut tried) = (0, 0_i64);
    while now < 20_000 {
        while let Some(Step::Run(id)) = machine.next(now, policy) {
            machine.conclude(id, Ending::Throttled, now, &policy(""));
            tried += 1;
        }
        now = machine.wake().unwrap_or(now).max(now + 1);
    }
    assert!(tried >= 6 * TARGETS, "each is asked again and again: {tried}");
    assert!(asked.get() <= 3 * tried as u64, "and nobody else meanwhile: {}", asked.get());
}
