//! How the engines of a unit come to know each other, so that what one holds for a flow can be read by all: see
//! `engine::held`.
//!
//! ```text
//!  a new engine ── its arena and its table ──▶ here ── the table ──▶ every other one: "watch it"
//!                                               ▲                          │
//!                                               ╰──── "I do": it is lent that one's arena
//! ```

use super::engine::EngineProcess;
use super::message::ToEngine;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The engines that know each other.
#[derive(Default)]
pub(super) struct Neighbours {
    all: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    last: u32,
    engines: BTreeMap<u32, Neighbour>,
}

#[derive(Clone)]
struct Neighbour {
    engine: Arc<EngineProcess>,
    arena: Arc<OwnedFd>,
    board: Arc<OwnedFd>,
}

impl Neighbours {
    fn all(&self) -> MutexGuard<'_, Known> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new engine: it is called by a number of its own, and known to all others until it ends.
    pub async fn join(self: Arc<Self>, engine: Arc<EngineProcess>) {
        let Some([arena, board]) = engine.window().await else { return };
        let new = Neighbour { engine: engine.clone(), arena: Arc::new(arena), board: Arc::new(board) };
        let (number, others) = {
            let mut all = self.all();
            all.last += 1;
            let (number, others) = (all.last, all.engines.clone());
            all.engines.insert(number, new.clone());
            (number, others)
        };
        engine.tell(&ToEngine::Name { number, others: others.keys().copied().collect() }, &[]).await;
        for (other, its) in others {
            engine.tell(&ToEngine::Watch { number: other }, &[its.board.as_fd()]).await;
            its.engine.tell(&ToEngine::Watch { number }, &[new.board.as_fd()]).await;
            if !its.engine.is_alive() {
                engine.tell(&ToEngine::Part { number: other }, &[]).await;
            }
        }
        while let Some(watched) = engine.watches().await {
            let reader = self.all().engines.get(&watched).map(|reader| reader.engine.clone());
            if let Some(reader) = reader {
                reader.tell(&ToEngine::Lend { number }, &[new.arena.as_fd()]).await;
            }
        }
        let left = {
            let mut all = self.all();
            all.engines.remove(&number);
            all.engines.clone()
        };
        for its in left.into_values() {
            its.engine.tell_later(ToEngine::Part { number });
        }
    }

    /// Items of a run are wanted no more, each named by its engine and its id; none: no item of the run.
    pub fn release(&self, run: [u8; 16], items: Option<&[(u32, u64)]>) {
        for (number, its) in self.all().engines.iter() {
            let own = |items: &[(u32, u64)]| items.iter().filter(|(of, _)| of == number).map(|(_, id)| *id).collect();
            let items: Option<Vec<u64>> = items.map(own);
            if items.as_ref().is_none_or(|items| !items.is_empty()) {
                its.engine.tell_later(ToEngine::Release { run, items });
            }
        }
    }
}
