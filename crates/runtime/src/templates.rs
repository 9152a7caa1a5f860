//! Which templates there are, which are made next, and which have to go. Pure.
//!
//! ```text
//!             want           next: Prepare        prepared
//!  (nothing) ──────► Waiting ─────────────► Preparing ──────► Ready ──╮ next: Discard, forget
//!                      ▲                       │   │                  ├──► (nothing)
//!                      ╰── failed, ended ──────╯   ╰──► Refused ──────╯
//! ```
//!
//! There is one *generic* template for each kind, version and network, from which every function can be started, and one
//! *dedicated* template for each function that has been deployed or used of late and that allows it. Dedicated ones share
//! a budget of memory; the function that was not used for longest loses its own first.

use crate::scaling::{self, Demand};
use sandbox::spec::{Kind, Network, Version};
use std::collections::HashMap;

/// Templates that are prepared at the same time.
const PREPARING_MAX: usize = 2;
/// A dedicated template that has failed so often in a row (could not be made, has ended, or has taken a worker with it)
/// is not made again.
const FAILURES_MAX: u32 = 4;
/// After so many attempts in vain nobody waits for a template any more, although it is tried again.
const HOPES: u32 = 3;
/// Before the second attempt; doubled for each further one, up to a limit.
const PAUSE: u64 = 100_000_000;
const DOUBLINGS_MAX: u32 = 4;
/// A template that has lived for so long has not failed.
const SOUND: u64 = 5_000_000_000;

/// What a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seat {
    Generic(Kind, Version, Network),
    /// Of the function with this pool.
    Dedicated(u64),
}

/// How far a template is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Waiting { not_before: u64 },
    Preparing { id: u64 },
    Ready { id: u64, since: u64, prepare_us: u64 },
    Refused { reason: String },
}

/// What a function with a dedicated template is doing, as far as it matters here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    /// Its template must stay: instances run, or are to be kept ready whatever the load.
    pub needed: bool,
    pub last_used: u64,
}

/// What is to be told to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Prepare { id: u64, seat: Seat },
    Discard { id: u64, seat: Seat },
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    phase: Phase,
    /// In a row, and the last one's reason.
    failures: u32,
    trouble: String,
    /// Attempts in a row in which it was not even ready.
    in_vain: u32,
    demand: Demand,
    /// Slots last asked for.
    slots: u32,
    /// Whether a request has asked for it, rather than a deployment: then others may have to go.
    urgent: bool,
    /// When it was last asked for.
    wanted: u64,
}

/// The templates of one worker. Their ids are never used twice.
#[derive(Debug)]
pub struct Templates {
    seats: HashMap<Seat, Entry>,
    ids: HashMap<u64, Seat>,
    next_id: u64,
}

impl Templates {
    /// Ids count from `first`.
    pub fn new(first: u64) -> Self {
        Self { seats: HashMap::new(), ids: HashMap::new(), next_id: first }
    }

    /// Asks for a template; `urgent` if for a request.
    pub fn want(&mut self, seat: Seat, kind: Kind, now: u64, urgent: bool) {
        let waiting = || Entry {
            kind,
            phase: Phase::Waiting { not_before: 0 },
            failures: 0,
            trouble: String::new(),
            in_vain: 0,
            demand: Demand::default(),
            slots: 0,
            urgent,
            wanted: now,
        };
        let entry = self.seats.entry(seat).or_insert_with(waiting);
        entry.urgent |= urgent;
        entry.wanted = now;
    }

    /// Whether another template would fit, were all made that were asked for.
    pub fn has_room(&self, kind: Kind, budget: u64) -> bool {
        (self.seats.len() as u64 + 1) * scaling::template_mib(kind) <= budget
    }

    /// How far the template is that was asked for.
    pub fn phase(&self, seat: Seat) -> Option<&Phase> {
        self.seats.get(&seat).map(|entry| &entry.phase)
    }

    /// The template to start instances from.
    pub fn ready(&self, seat: Seat) -> Option<u64> {
        match self.phase(seat)? {
            Phase::Ready { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// Why there is no use in waiting for a template.
    pub fn hopeless(&self, seat: Seat) -> Option<&str> {
        let entry = self.seats.get(&seat)?;
        match &entry.phase {
            Phase::Refused { reason } => Some(reason),
            Phase::Waiting { .. } | Phase::Preparing { .. } if entry.in_vain >= HOPES => Some(&entry.trouble),
            _ => None,
        }
    }

    /// Notes a start from this template.
    pub fn started(&mut self, seat: Seat, now: u64) {
        if let Some(entry) = self.seats.get_mut(&seat) {
            entry.demand.note(now);
        }
    }

    /// All templates.
    pub fn iter(&self) -> impl Iterator<Item = (Seat, &Phase)> {
        self.seats.iter().map(|(seat, entry)| (*seat, &entry.phase))
    }

    /// Whose template this is.
    pub fn seat(&self, id: u64) -> Option<Seat> {
        self.ids.get(&id).copied()
    }

    /// What to do next with `budget` MiB, to be called until there is nothing. `activity` tells what a pool is doing.
    pub fn next(&mut self, now: u64, budget: u64, activity: impl Fn(u64) -> Activity) -> Option<Step> {
        let preparing = self.seats.values().filter(|entry| matches!(entry.phase, Phase::Preparing { .. })).count();
        if preparing >= PREPARING_MAX {
            return None;
        }
        let due = |entry: &Entry| matches!(entry.phase, Phase::Waiting { not_before } if not_before <= now);
        let waiting = self.seats.iter().filter(|(_, entry)| due(entry));
        let first = waiting.max_by_key(|(seat, e)| (matches!(seat, Seat::Generic(..)), e.urgent, e.wanted));
        let (seat, entry) = first.map(|(seat, entry)| (*seat, entry))?;
        let (kind, urgent, wanted) = (entry.kind, entry.urgent, entry.wanted);
        let fits = self.occupied_mib() + scaling::template_mib(kind) <= budget;
        if fits || matches!(seat, Seat::Generic(..)) {
            return Some(self.prepare(seat));
        }
        if urgent { self.evict(wanted, activity) } else { None }
    }

    fn prepare(&mut self, seat: Seat) -> Step {
        let id = self.next_id;
        self.next_id += 1;
        self.ids.insert(id, seat);
        if let Some(entry) = self.seats.get_mut(&seat) {
            entry.phase = Phase::Preparing { id };
            entry.slots = 0;
        }
        Step::Prepare { id, seat }
    }

    fn evict(&mut self, wanted: u64, activity: impl Fn(u64) -> Activity) -> Option<Step> {
        let dedicated = self.seats.iter().filter_map(|(seat, entry)| match (seat, &entry.phase) {
            (Seat::Dedicated(pool), Phase::Ready { id, .. }) => Some((*seat, *id, activity(*pool))),
            _ => None,
        });
        let idle = dedicated.filter(|(_, _, pool)| !pool.needed && pool.last_used < wanted);
        let (seat, id, _) = idle.min_by_key(|(_, _, pool)| pool.last_used)?;
        self.forget(seat);
        Some(Step::Discard { id, seat })
    }

    /// MiB that all templates together are taken to occupy.
    pub fn occupied_mib(&self) -> u64 {
        let present = self.seats.values().filter(|e| matches!(e.phase, Phase::Preparing { .. } | Phase::Ready { .. }));
        present.map(|entry| scaling::template_mib(entry.kind)).sum()
    }

    /// A template has reached its fork point.
    pub fn prepared(&mut self, id: u64, prepare_us: u64, now: u64) -> Option<Seat> {
        self.set(id, |_, entry| {
            entry.in_vain = 0;
            Phase::Ready { id, since: now, prepare_us }
        })
    }

    /// Children of a template would not be sound, or nobody can make it.
    pub fn refused(&mut self, id: u64, reason: String) -> Option<Seat> {
        let seat = self.set(id, |_, _| Phase::Refused { reason });
        self.ids.remove(&id);
        seat
    }

    /// A template could not be made. It is tried again, after a pause, unless it fails too often.
    pub fn failed(&mut self, id: u64, reason: String, now: u64) -> Option<Seat> {
        let seat = self.set(id, |seat, entry| {
            entry.failures += 1;
            entry.in_vain += 1;
            entry.trouble = reason;
            again(seat, entry, now)
        });
        self.ids.remove(&id);
        seat
    }

    /// A template is gone that had been ready. It is made again, after a pause, unless it ends too often.
    pub fn ended(&mut self, id: u64, now: u64) -> Option<Seat> {
        let seat = self.set(id, |seat, entry| {
            let sound = matches!(entry.phase, Phase::Ready { since, .. } if now.saturating_sub(since) >= SOUND);
            entry.failures = if sound { 1 } else { entry.failures + 1 };
            entry.trouble = "it has ended as soon as it was ready".into();
            again(seat, entry, now)
        });
        self.ids.remove(&id);
        seat
    }

    /// The worker is gone, and all templates with it. Those that it was about to make are suspected.
    pub fn reset(&mut self, now: u64) {
        self.ids.clear();
        for (seat, entry) in &mut self.seats {
            let suspect = matches!(entry.phase, Phase::Preparing { .. });
            entry.failures = if suspect { entry.failures + 1 } else { 0 };
            entry.trouble = "the worker has ended while it was made".into();
            entry.phase = if suspect { again(*seat, entry, now) } else { Phase::Waiting { not_before: 0 } };
        }
    }

    /// Nobody wants this template any more: its id, where there is something to discard.
    pub fn forget(&mut self, seat: Seat) -> Option<u64> {
        let entry = self.seats.remove(&seat)?;
        let (Phase::Preparing { id } | Phase::Ready { id, .. }) = entry.phase else { return None };
        self.ids.remove(&id);
        Some(id)
    }

    /// Templates whose number of waiting slots is to change, with the new number.
    pub fn reserve(&mut self, now: u64) -> Vec<(u64, u32)> {
        let mut changes = Vec::new();
        for entry in self.seats.values_mut() {
            let Phase::Ready { id, .. } = entry.phase else { continue };
            let slots = scaling::slots(&entry.demand, now);
            if std::mem::replace(&mut entry.slots, slots) != slots {
                changes.push((id, slots));
            }
        }
        changes
    }

    /// When time alone will next change something here.
    pub fn due(&self, now: u64) -> Option<u64> {
        let due = self.seats.values().filter_map(|entry| match entry.phase {
            Phase::Waiting { not_before } if not_before > now => Some(not_before),
            Phase::Ready { .. } => entry.demand.fades(now),
            _ => None,
        });
        due.min()
    }

    fn set(&mut self, id: u64, phase: impl FnOnce(Seat, &mut Entry) -> Phase) -> Option<Seat> {
        let seat = *self.ids.get(&id)?;
        let entry = self.seats.get_mut(&seat)?;
        entry.phase = phase(seat, entry);
        Some(seat)
    }
}

fn again(seat: Seat, entry: &Entry, now: u64) -> Phase {
    if entry.failures >= FAILURES_MAX && matches!(seat, Seat::Dedicated(_)) {
        return Phase::Refused { reason: format!("{} ({FAILURES_MAX} times in a row)", entry.trouble) };
    }
    Phase::Waiting { not_before: now + (PAUSE << entry.failures.saturating_sub(1).min(DOUBLINGS_MAX)) }
}

#[cfg(test)]
mod tests;
