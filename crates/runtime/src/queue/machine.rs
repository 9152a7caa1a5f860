//! What happens to events, and when: a state machine that does nothing itself. Time comes from outside.
//!
//! ```text
//!            accepted, restored                      succeeded
//!   ───────────────► waiting ───► running ───────────────────────────► done
//!                       ▲           │  │ failed for the last time,
//!          retry time   │           │  │ too old, impossible
//!                       ╰───────────╯  ╰──────────────────────────────► dead
//!                failed; throttled; broken
//! ```
//!
//! Each target has a lane: its events run in the order of their numbers, as many at once as the target turns out to bear.
//! A throttled event holds its lane, so that nothing overtakes it; one that failed waits for its retry beside the lane.
//! A lane with events that are due is in turn, or held until a time, or as full as its target bears: then the end of one of
//! its own brings it into turn. So what waits for ten thousand targets without room costs as little as for one.

use super::event::{Id, Policy, Reason};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Events of one target at once, before it is known what it bears.
const FIRST_CAP: u32 = 8;
/// How long a lane is held whose target has no room and runs nothing of ours; doubled each time.
const HOLD_MIN_MS: u64 = 100;
const HOLD_MAX_MS: u64 = 5_000;
/// How often a lane is looked at that is as full as its target is known to bear: that may have been changed.
const KNOWN_MS: u64 = 1_000;
/// How long an event waits that the platform could not run; doubled each time. Lambda's.
const BROKEN_MIN_MS: u64 = 1_000;
const BROKEN_MAX_MS: u64 = 300_000;

/// What is the same for all events.
#[derive(Clone, Debug)]
pub struct Limits {
    pub concurrency: u32,
    pub retry_ms: Vec<u64>,
}

/// An event as the machine is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub id: Id,
    pub accepted_ms: u64,
    /// Not to be run before.
    pub due_ms: u64,
    pub attempts: u32,
}

/// What is to be done with an event; it is running from then on, until it is concluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Run(Id),
    /// Too old: to be concluded as [`Ending::Expired`].
    Expire(Id),
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Succeeded,
    Failed,
    Throttled,
    Broken,
    Expired,
    Impossible,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Done,
    RetryAt {
        due_ms: u64,
        attempts: u32,
    },
    /// It waits as it did before.
    Again,
    Dead(Reason),
}

struct Item {
    lane: Arc<str>,
    accepted_ms: u64,
    attempts: u32,
    /// How often in a row the platform could not run it.
    breaks: u32,
}

#[derive(Default)]
struct Lane {
    ready: BTreeSet<Id>,
    running: u32,
    items: u64,
    /// What the target has turned out to bear, and what it is known to.
    cap: u32,
    known: u32,
    held_until: u64,
    holds: u32,
    /// Where it is: in turn, or among those that are held, until then.
    in_turn: bool,
    held_at: Option<u64>,
}

/// All events of a node that are neither done nor dead.
pub struct Machine {
    limits: Limits,
    items: BTreeMap<Id, Item>,
    later: BTreeSet<(u64, Id)>,
    lanes: HashMap<Arc<str>, Lane>,
    /// Lanes that may run something, the next one first.
    turn: VecDeque<Arc<str>>,
    /// Lanes that may not before a time.
    held: BTreeSet<(u64, Arc<str>)>,
    running: u32,
}

impl Machine {
    pub fn new(limits: Limits) -> Self {
        let (items, later, lanes, turn, held) = Default::default();
        Self { limits, items, later, lanes, turn, held, running: 0 }
    }

    /// An event was accepted, or found on disk.
    pub fn enter(&mut self, target: &str, arrival: Arrival) {
        let Arrival { id, accepted_ms, due_ms, attempts } = arrival;
        let lane = match self.lanes.get_key_value(target) {
            Some((lane, _)) => lane.clone(),
            None => target.into(),
        };
        let entry = self.lanes.entry(lane.clone()).or_insert_with(|| Lane {
            cap: FIRST_CAP,
            known: u32::MAX,
            ..Lane::default()
        });
        entry.items += 1;
        self.items.insert(id, Item { lane, accepted_ms, attempts, breaks: 0 });
        self.later.insert((due_ms, id));
    }

    /// The next thing to do, if there is any at this moment.
    pub fn next(&mut self, now: u64, policy: impl Fn(&str) -> Policy) -> Option<Step> {
        while let Some((_, id)) = self.later.first().copied().filter(|(due, _)| *due <= now) {
            self.later.pop_first();
            self.make_ready(id);
        }
        while self.held.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.held.pop_first() else { break };
            if let Some(lane) = self.lanes.get_mut(&name) {
                lane.held_at = None;
            }
            self.offer(&name);
        }
        if self.running >= self.limits.concurrency {
            return None;
        }
        while let Some(name) = self.turn.pop_front() {
            if let Some(step) = self.step(&name, now, &policy) {
                return Some(step);
            }
        }
        None
    }

    /// The next event of a lane whose turn it is, if it may run.
    fn step(&mut self, name: &Arc<str>, now: u64, policy: impl Fn(&str) -> Policy) -> Option<Step> {
        let lane = self.lanes.get_mut(name)?;
        lane.in_turn = false;
        let id = lane.ready.first().copied()?;
        if lane.held_until > now {
            let until = lane.held_until;
            self.hold(name, until);
            return None;
        }
        if lane.running >= lane.cap {
            return None;
        }
        let policy = policy(name);
        // Even one that bears nothing is asked now and then, by what is first in the lane.
        lane.known = policy.concurrency.unwrap_or(u32::MAX).max(1);
        if lane.running >= lane.known {
            self.hold(name, now + KNOWN_MS);
            return None;
        }
        lane.ready.pop_first();
        lane.running += 1;
        self.running += 1;
        self.offer(name);
        let accepted = self.items.get(&id).map_or(0, |item| item.accepted_ms);
        let expired = now.saturating_sub(accepted) > policy.age_max_ms;
        Some(if expired { Step::Expire(id) } else { Step::Run(id) })
    }

    /// When [`Machine::next`] may find something that it has not found now, if nothing else happens.
    pub fn wake(&self) -> Option<u64> {
        let full = self.running >= self.limits.concurrency;
        let turn = (!self.turn.is_empty()).then_some(0);
        let held = turn.or_else(|| self.held.first().map(|(at, _)| *at)).filter(|_| !full);
        self.later.first().map(|(due, _)| *due).into_iter().chain(held).min()
    }

    /// A delivery is over.
    pub fn conclude(&mut self, id: Id, ending: Ending, now: u64, policy: &Policy) -> Verdict {
        let Some(item) = self.items.get_mut(&id) else { return Verdict::Done };
        let Some(lane) = self.lanes.get_mut(&item.lane) else { return Verdict::Done };
        lane.running = lane.running.saturating_sub(1);
        self.running = self.running.saturating_sub(1);
        lane.learn(ending, now, self.limits.concurrency);
        let (name, gone_at) = (item.lane.clone(), item.accepted_ms + policy.age_max_ms);
        let verdict = match ending {
            Ending::Succeeded => Verdict::Done,
            Ending::Expired => Verdict::Dead(Reason::EventAgeExceeded),
            Ending::Impossible => Verdict::Dead(Reason::TargetUnavailable),
            Ending::Throttled => Verdict::Again,
            Ending::Broken => {
                item.breaks += 1;
                let due = now + doubled(BROKEN_MIN_MS, item.breaks - 1, BROKEN_MAX_MS);
                self.later.insert((due.min(gone_at + 1), id));
                self.release(&name, now);
                return Verdict::Again;
            }
            Ending::Failed if item.attempts >= policy.retries => Verdict::Dead(Reason::RetriesExhausted),
            Ending::Failed => {
                let steps = &self.limits.retry_ms;
                let wait = steps.get(item.attempts as usize).or(steps.last()).copied().unwrap_or_default();
                (item.attempts, item.breaks) = (item.attempts + 1, 0);
                let due_ms = now + wait;
                if due_ms > gone_at {
                    Verdict::Dead(Reason::EventAgeExceeded)
                } else {
                    self.later.insert((due_ms, id));
                    Verdict::RetryAt { due_ms, attempts: item.attempts }
                }
            }
        };
        match verdict {
            Verdict::Again => self.make_ready(id),
            Verdict::Done | Verdict::Dead(_) => self.forget(id),
            Verdict::RetryAt { .. } => {}
        }
        self.release(&name, now);
        verdict
    }

    /// How often an event has failed; the disk may not have heard of the last time yet.
    pub fn attempts(&self, id: Id) -> Option<u32> {
        self.items.get(&id).map(|item| item.attempts)
    }

    /// Events that wait or run.
    pub fn depth(&self) -> u64 {
        self.items.len() as u64
    }

    pub fn running(&self) -> u32 {
        self.running
    }

    /// When the oldest of them was accepted.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.items.values().next().map(|item| item.accepted_ms)
    }

    /// Events that wait or run, by target.
    pub fn depths(&self) -> impl Iterator<Item = (&str, u64)> {
        self.lanes.iter().map(|(name, lane)| (&**name, lane.items))
    }

    fn make_ready(&mut self, id: Id) {
        let Some(item) = self.items.get(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&item.lane) else { return };
        lane.ready.insert(id);
        let name = item.lane.clone();
        self.offer(&name);
    }

    /// Brings a lane into turn that has events that are due, unless it is, or is held.
    fn offer(&mut self, name: &Arc<str>) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        if !lane.ready.is_empty() && !lane.in_turn && lane.held_at.is_none() {
            lane.in_turn = true;
            self.turn.push_back(name.clone());
        }
    }

    fn hold(&mut self, name: &Arc<str>, until: u64) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        lane.held_at = Some(until);
        self.held.insert((until, name.clone()));
    }

    /// Something of a lane has ended: it may have room again.
    fn release(&mut self, name: &Arc<str>, now: u64) {
        let Some(lane) = self.lanes.get_mut(name) else { return };
        if lane.held_until <= now
            && let Some(at) = lane.held_at.take()
        {
            self.held.remove(&(at, name.clone()));
        }
        self.offer(name);
    }

    fn forget(&mut self, id: Id) {
        let Some(item) = self.items.remove(&id) else { return };
        let Some(lane) = self.lanes.get_mut(&item.lane) else { return };
        lane.items -= 1;
        if lane.items > 0 {
            return;
        }
        if lane.in_turn {
            self.turn.retain(|name| *name != item.lane);
        }
        if let Some(at) = lane.held_at {
            self.held.remove(&(at, item.lane.clone()));
        }
        self.lanes.remove(&item.lane);
    }
}

impl Lane {
    /// How much the target bears: one more for each event that went well, what runs now when it had no room, and half when
    /// it could not be reached, so that what waits for a target that is gone takes no room from others.
    fn learn(&mut self, ending: Ending, now: u64, most: u32) {
        match ending {
            Ending::Throttled => {
                self.cap = self.running.max(1);
                self.holds += 1;
                // While something of ours runs there, its end is the moment to try again.
                self.held_until = match self.running {
                    0 => now + doubled(HOLD_MIN_MS, self.holds - 1, HOLD_MAX_MS),
                    _ => 0,
                };
            }
            Ending::Succeeded | Ending::Failed => {
                self.cap = (self.cap + 1).min(most.max(1));
                (self.holds, self.held_until) = (0, 0);
            }
            Ending::Broken => self.cap = (self.cap / 2).max(1),
            Ending::Expired | Ending::Impossible => {}
        }
    }
}

fn doubled(first: u64, times: u32, most: u64) -> u64 {
    first.saturating_mul(1 << times.min(20)).min(most)
}
