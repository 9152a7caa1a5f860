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
        // Nobody could tell the engines of another worker to give it up.
        let keeps = self.keeps && self.holding.link.strong_count() > 0;
        Ask { run: self.holding.run, from: if keeps { self.holding.from } else { Ask::NOTHING } }
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
    /// Where there is no worker.
    #[cfg(test)]
    pub fn to_nobody(from: u32) -> Arc<Self> {
        Arc::new(Self { run: [0; 16], from, link: Weak::new(), asked: AtomicU64::new(0), given_up: Mutex::default() })
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use worker::Server;

    async fn told(server: &Server) -> Option<Vec<(u32, u64)>> {
        match server.hear().await.unwrap().0 {
            Command::Release { items, .. } => items,
            other => panic!("{other:?}"),
        }
    }

    fn holding(link: &Arc<Link>) -> Arc<Holding> {
        Arc::new(Holding {
            run: [1; 16],
            from: 4096,
            link: Arc::downgrade(link),
            asked: AtomicU64::new(0),
            given_up: Mutex::default(),
        })
    }

    #[tokio::test]
    async fn items_are_given_up_together_and_the_rest_at_the_end() {
        let (ours, theirs) = os::seqpacket::pair().unwrap();
        let (link, server) = (Link::new(ours, 1 << 16).unwrap(), Server::new(theirs).unwrap());
        let one = holding(&link);
        let held = |id: u64, len: u64| Held { engine: 1, id, len };
        (0..ITEMS as u64).for_each(|id| one.give_up(held(id, 1)));
        assert_eq!(told(&server).await.unwrap().len(), ITEMS);
        one.give_up(held(7, BYTES));
        assert_eq!(told(&server).await, Some(vec![(1, 7)]), "what is large does not wait");
        let (keeps, takes) = (Hold { holding: one.clone(), keeps: true }, Hold { holding: one, keeps: false });
        keeps.begin();
        takes.begin();
        keeps.heard();
        keeps.holding.give_up(held(8, 1));
        drop((keeps, takes));
        assert_eq!(told(&server).await, Some(vec![(1, 8)]));
        // One that was not heard of may have left anything.
        let keeps = Hold { holding: holding(&link), keeps: true };
        keeps.begin();
        drop(keeps);
        assert_eq!(told(&server).await, None);
        // Nothing was asked for: nothing is said.
        drop(holding(&link));
        link.tell(Said::Command(Command::Retire { instance: 1 }));
        assert_eq!(server.hear().await.unwrap().0, Command::Retire { instance: 1 });
    }
}
