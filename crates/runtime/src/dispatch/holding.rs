//! What the engines of a PU hold for one run of a flow: items that went nowhere, and are to be given up in the end.
//!
//! An item is given up when nothing of the run wants it any more; what may have been left without anybody's having heard of
//! it, by a run that was ended, goes with the whole of it.

use super::link::{Link, Said};
use super::{Dispatcher, Payload};
use crate::function::Function;
use sets::Set;
use sets::wire::{Ask, Data, Held, RunId};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use worker::protocol::Command;

/// Items, and their bytes, that are given up together.
const ITEMS: usize = 64;
const BYTES: u64 = 1 << 20;

/// Of one run, on one PU.
#[derive(Debug)]
pub struct Holding {
    run: RunId,
    from: u32,
    link: Weak<Link>,
    /// Runs of functions that were asked to leave something, and have not been heard of.
    asked: AtomicU64,
    given_up: Mutex<(Vec<(u32, u64)>, u64)>,
}

/// What a run of a function has to do with it.
#[derive(Clone, Debug)]
pub struct Hold {
    pub holding: Arc<Holding>,
    /// Whether what it leaves is to be held.
    pub keeps: bool,
}

impl Hold {
    pub(super) fn ask(&self) -> Ask {
        Ask { run: self.holding.run, from: if self.keeps { self.holding.from } else { Ask::NOTHING } }
    }

    /// A run of a function is about to begin.
    pub fn begin(&self) {
        self.holding.asked.fetch_add(u64::from(self.keeps), Relaxed);
    }

    /// What it has left is known, and will be given up item by item.
    pub fn heard(&self) {
        self.holding.asked.fetch_sub(u64::from(self.keeps), Relaxed);
    }
}

impl Holding {
    fn tell(&self, items: Option<Vec<(u32, u64)>>) {
        if let Some(link) = self.link.upgrade() {
            link.tell(Said::Command(Command::Release { run: self.run, items }));
        }
    }

    /// Nothing of the run wants this item any more.
    pub fn give_up(&self, held: Held) {
        let mut given_up = self.given_up.lock().unwrap_or_else(PoisonError::into_inner);
        let (items, bytes) = &mut *given_up;
        items.push((held.engine, held.id));
        *bytes += held.len;
        if items.len() >= ITEMS || *bytes >= BYTES {
            let (items, _) = mem::take(&mut *given_up);
            drop(given_up);
            self.tell(Some(items));
        }
    }

    /// Nor any of these.
    pub fn give_up_all(&self, sets: &[Set<Payload>]) {
        for item in sets.iter().flat_map(|set| &set.items) {
            if let Data::Held(held) = item.data {
                self.give_up(held);
            }
        }
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let (items, _) = mem::take(self.given_up.get_mut().unwrap_or_else(PoisonError::into_inner));
        if self.asked.load(Relaxed) > 0 {
            self.tell(None);
        } else if !items.is_empty() {
            self.tell(Some(items));
        }
    }
}

impl Dispatcher {
    /// The PU on which this function's runs are, all of them.
    pub fn sole_pu(&self, function: &Function) -> Option<u8> {
        match self.state().places(function)[..] {
            [place] => Some(place.terms.pu),
            _ => None,
        }
    }

    /// For one run of a flow: items from `from` bytes on.
    pub fn holding(&self, pu: u8, from: u32) -> Option<Arc<Holding>> {
        let link = Arc::downgrade(&self.state().pu(pu).ready()?.link);
        let run = uuid::Uuid::new_v4().into_bytes();
        Some(Arc::new(Holding { run, from, link, asked: AtomicU64::new(0), given_up: Mutex::default() }))
    }
}
