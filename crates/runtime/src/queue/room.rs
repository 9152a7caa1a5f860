//! How much a queue holds, and how much it may.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub struct Room {
    events_max: u64,
    bytes_max: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    events: u64,
    bytes: u64,
}

impl Room {
    pub fn new(events_max: u64, bytes_max: u64) -> Self {
        Self { events_max, bytes_max, held: Mutex::default() }
    }

    /// Takes room for one event, if there is some.
    pub fn take(&self, bytes: u64) -> bool {
        let mut held = self.held();
        let fits = held.events < self.events_max && held.bytes + bytes <= self.bytes_max;
        if fits {
            held.events += 1;
            held.bytes += bytes;
        }
        fits
    }

    /// Takes room for what must be kept, whether there is some or not.
    pub fn force(&self, events: u64, bytes: u64) {
        let mut held = self.held();
        held.events += events;
        held.bytes += bytes;
    }

    pub fn give_back(&self, events: u64, bytes: u64) {
        let mut held = self.held();
        held.events = held.events.saturating_sub(events);
        held.bytes = held.bytes.saturating_sub(bytes);
    }

    pub fn bytes(&self) -> u64 {
        self.held().bytes
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
