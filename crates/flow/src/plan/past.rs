//! What made the items that lie elsewhere, so that they can be made again should they be lost there.
//!
//! ```text
//!   lot ──▶ item ──▶ Away: its data now, while somebody wants it
//!    ╎                 │
//!    ▼                 ▼
//!   trace            maker ──▶ recipe: the function, and a trace of each of its inputs ──▶ makers …
//! ```
//!
//! A trace keeps the data that is here, and no data that is elsewhere: that is let go of when nobody wants it, and made again
//! by its own maker if need be. A recipe goes when nothing is left that may come from it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use sets::{Item, Sets};

use super::part::{Lot, Piece};
use super::{Data, ShardId};
use crate::graph::{AppId, GraphId};

/// For how many losses of what it takes, or has made, a shard is run again: more than come by chance while a flow runs.
pub const LOSSES_MAX: u32 = 16;
/// How often a shard is run again whose engine has ended with it. An engine runs one thing at a time: what was in three that
/// ended is to blame.
pub const ENDS_MAX: u32 = 2;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The data of an item in a plan.
#[derive(Debug)]
pub enum Have<D> {
    /// It is not lost.
    Here(D),
    Away(Arc<Away<D>>),
}

impl<D: Clone> Clone for Have<D> {
    fn clone(&self) -> Self {
        match self {
            Self::Here(data) => Self::Here(data.clone()),
            Self::Away(away) => Self::Away(away.clone()),
        }
    }
}

impl<D: Clone> Have<D> {
    /// None as long as it is being made again.
    pub fn data(&self) -> Option<D> {
        match self {
            Self::Here(data) => Some(data.clone()),
            Self::Away(away) => away.now().as_ref().map(|(data, _)| data.clone()),
        }
    }
}

/// Data that lies elsewhere.
#[derive(Debug)]
pub struct Away<D> {
    /// With the run that has left it.
    now: Mutex<Option<(D, ShardId)>>,
    pub maker: Arc<Maker>,
    pub nth: Nth,
}

/// Which result of an application an item is in, and where there.
pub type Nth = (usize, usize);

impl<D> Away<D> {
    fn now(&self) -> MutexGuard<'_, Option<(D, ShardId)>> {
        locked(&self.now)
    }

    pub fn is_missing(&self) -> bool {
        self.now().is_none()
    }

    /// Whether it is what a shard of this number was given.
    pub fn is_of(&self, shard: ShardId) -> bool {
        self.now().as_ref().is_some_and(|(_, by)| *by < shard)
    }

    pub fn lose(&self) {
        *self.now() = None;
    }

    pub fn put(&self, data: D, by: ShardId) {
        *self.now() = Some((data, by));
    }
}

/// A shard whose recipe is wanted as long as this is there.
#[derive(Debug)]
pub struct Maker {
    pub shard: ShardId,
    ledger: Arc<Ledger>,
}

impl Drop for Maker {
    fn drop(&mut self) {
        locked(&self.ledger.unwanted).push(self.shard);
    }
}

/// Recipes that nobody wants any more, and how many items there are in traces.
#[derive(Debug, Default)]
struct Ledger {
    unwanted: Mutex<Vec<ShardId>>,
    traced: AtomicUsize,
}

/// What is left of a lot when nobody wants its items.
#[derive(Debug)]
pub struct Trace<D> {
    items: Vec<Item<Past<D>>>,
    /// The lot that it is of, or that was last made of it.
    lot: Mutex<Weak<Lot<D>>>,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
enum Past<D> {
    Here(D),
    Away(Weak<Away<D>>, Arc<Maker>, Nth),
}

impl<D> Drop for Trace<D> {
    fn drop(&mut self) {
        self.ledger.traced.fetch_sub(self.items.len(), Relaxed);
    }
}

impl<D: Data> Trace<D> {
    fn of(lot: &Piece<D>, ledger: &Arc<Ledger>) -> Arc<Self> {
        let past = |have: &Have<D>| match have {
            Have::Here(data) => Past::Here(data.clone()),
            Have::Away(away) => Past::Away(Arc::downgrade(away), away.maker.clone(), away.nth),
        };
        let items = lot.items.iter().map(|item| Item::new(item.name.clone(), item.key, past(&item.data)));
        ledger.traced.fetch_add(lot.items.len(), Relaxed);
        Arc::new(Self { items: items.collect(), lot: Mutex::new(Arc::downgrade(lot)), ledger: ledger.clone() })
    }

    /// The items once more. Those whose data nobody has are added to what is to be made.
    pub fn revive(self: &Arc<Self>, wants: &mut Vec<Want<D>>) -> Piece<D> {
        let mut last = locked(&self.lot);
        if let Some(lot) = last.upgrade() {
            return lot;
        }
        let mut have = |item: &Item<Past<D>>| match &item.data {
            Past::Here(data) => Have::Here(data.clone()),
            Past::Away(away, maker, nth) => Have::Away(away.upgrade().unwrap_or_else(|| {
                let away = Arc::new(Away { now: Mutex::new(None), maker: maker.clone(), nth: *nth });
                wants.push(Want { away: away.clone(), name: item.name.clone(), key: item.key });
                away
            })),
        };
        let items = self.items.iter().map(|item| Item::new(item.name.clone(), item.key, have(item)));
        let lot = Lot::traced(items.collect(), self.clone());
        *last = Arc::downgrade(&lot);
        lot
    }
}

/// An item that is to be made again, as it was.
#[derive(Debug)]
pub struct Want<D> {
    pub away: Arc<Away<D>>,
    pub name: String,
    pub key: u64,
}

/// How often a shard was begun anew.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tries {
    losses: u32,
    ends: u32,
}

impl Tries {
    /// After a loss, if it may be.
    pub fn after_loss(self) -> Option<Self> {
        (self.losses < LOSSES_MAX).then_some(Self { losses: self.losses + 1, ..self })
    }

    /// Once it has come to its end.
    fn done(self) -> Self {
        Self { ends: 0, ..self }
    }

    /// After the end of its engine, if it may be.
    pub fn after_end(self) -> Option<Self> {
        (self.ends < ENDS_MAX).then_some(Self { ends: self.ends + 1, ..self })
    }
}

/// How to run a shard again that was done.
#[derive(Debug)]
pub struct Recipe<D> {
    pub graph: GraphId,
    pub app: AppId,
    pub inputs: Vec<Arc<Trace<D>>>,
    pub tries: Tries,
}

/// The recipes of all items that are elsewhere, and of what they were made from.
#[derive(Debug)]
pub struct Recipes<D> {
    by_maker: HashMap<ShardId, Recipe<D>>,
    ledger: Arc<Ledger>,
}

impl<D: Data> Recipes<D> {
    pub fn new() -> Self {
        Self { by_maker: HashMap::new(), ledger: Arc::default() }
    }

    pub fn get(&self, maker: ShardId) -> Option<&Recipe<D>> {
        self.by_maker.get(&maker)
    }

    pub fn tried(&mut self, maker: ShardId, tries: Tries) {
        if let Some(recipe) = self.by_maker.get_mut(&maker) {
            recipe.tries = tries.done();
        }
    }

    /// What a shard has left, and how it is made again: `results` are the names of what it may leave.
    pub fn note(
        &mut self,
        shard: ShardId,
        (graph, app): (GraphId, AppId),
        inputs: &[Piece<D>],
        results: &[(String, usize)],
        outputs: Sets<D>,
        tries: Tries,
    ) -> Sets<Have<D>> {
        let mut items = outputs.iter().flat_map(|set| &set.items);
        if !items.any(|item| item.data.is_away()) {
            return outputs.into_iter().map(|set| set.map(Have::Here)).collect();
        }
        let inputs = inputs.iter().map(|lot| lot.trace_or(|| Trace::of(lot, &self.ledger))).collect();
        self.by_maker.insert(shard, Recipe { graph, app, inputs, tries: tries.done() });
        let maker = Arc::new(Maker { shard, ledger: self.ledger.clone() });
        let kept = outputs.into_iter().map(|set| {
            let result = results.iter().position(|(name, _)| *name == set.name).unwrap_or(usize::MAX);
            let mut index = 0..;
            set.map(|data| match index.next() {
                Some(index) if data.is_away() => {
                    let now = Mutex::new(Some((data, shard)));
                    Have::Away(Arc::new(Away { now, maker: maker.clone(), nth: (result, index) }))
                }
                _ => Have::Here(data),
            })
        });
        kept.collect()
    }

    /// How much is remembered: recipes, and items in them.
    pub fn len(&self) -> usize {
        self.by_maker.len() + self.ledger.traced.load(Relaxed)
    }

    /// Nothing can be made again that was made so far.
    pub fn clear(&mut self) {
        self.by_maker.clear();
        self.sweep();
    }

    /// Drops the recipes that nobody wants any more, and those that only these have wanted.
    pub fn sweep(&mut self) {
        loop {
            let unwanted = std::mem::take(&mut *locked(&self.ledger.unwanted));
            if unwanted.is_empty() {
                return;
            }
            unwanted.iter().for_each(|shard| drop(self.by_maker.remove(shard)));
        }
    }
}
