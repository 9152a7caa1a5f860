//! Outputs of pure functions that are kept, so that the same function on the same inputs need not run again.
//!
//! ```text
//!   take(key) ─ kept ─────────────────────────────────▶ Hit
//!        ├────── nobody runs it ─▶ Run(turn) ─ keep ──▶ Hit for those who wait, and for those who come
//!        │                                ├─── fail ──▶ whoever waits runs it too, all at once
//!        │                                ╰─ dropped ─▶ one of those who wait has the turn
//!        ╰────── somebody does ─▶ waits for that
//! ```
//! Bounded in bytes; what was not asked for longest goes first. One result takes an eighth of the room at most, so that
//! it does not push out everything. Not here: what makes two runs the same, which is [`Key`]'s maker's to know, and
//! failures, which are never kept.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What an entry takes beside its bytes, about.
const OVERHEAD: usize = 256;
/// The part of the room that one result may take.
const SHARE: usize = 8;

/// A hash of all that the outputs depend on.
pub type Key = [u8; 32];

/// What a node has kept.
#[derive(Debug)]
pub struct Results {
    /// Bytes.
    room: usize,
    state: Mutex<State>,
    evictions: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<Key, Kept>,
    /// By when they were asked for last.
    order: BTreeMap<u64, Key>,
    running: HashMap<Key, watch::Receiver<Progress>>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Kept {
    body: Bytes,
    asked: u64,
}

#[derive(Clone, Debug)]
enum Progress {
    Running,
    Done(Bytes),
    Failed,
}

/// What there is of a result.
#[derive(Debug)]
pub enum Found {
    Hit(Bytes),
    /// It has to be run, by whoever asked.
    Run(Turn),
}

/// The turn to run something; others may wait for what comes of it.
#[derive(Debug)]
pub struct Turn {
    results: Arc<Results>,
    key: Key,
    /// Nothing where nobody waits for this one.
    progress: Option<watch::Sender<Progress>>,
}

/// What is kept at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    pub entries: usize,
    pub bytes: usize,
    /// That had to make room, since the node's start.
    pub evictions: u64,
}

impl Results {
    /// Room for so many bytes; without any nothing is kept, and nobody waits for another.
    pub fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { room, state: Mutex::default(), evictions: AtomicU64::new(0) })
    }

    pub fn is_off(&self) -> bool {
        self.room == 0
    }

    pub fn fill(&self) -> Fill {
        let state = self.state();
        Fill { entries: state.kept.len(), bytes: state.bytes, evictions: self.evictions.load(Relaxed) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A result, now or when it is there; or the turn to make it.
    pub async fn take(self: &Arc<Self>, key: Key) -> Found {
        loop {
            let mut running = match self.look(key) {
                Ok(found) => return found,
                Err(running) => running,
            };
            match running.wait_for(|progress| !matches!(progress, Progress::Running)).await.as_deref() {
                Ok(Progress::Done(body)) => return Found::Hit(body.clone()),
                // What went wrong for one may go well for another; and waiting in a row for failures takes for ever.
                Ok(_) => return Found::Run(Turn { results: self.clone(), key, progress: None }),
                // Whoever had the turn let go of it.
                Err(_) => {}
            }
        }
    }

    fn look(self: &Arc<Self>, key: Key) -> Result<Found, watch::Receiver<Progress>> {
        let mut state = self.state();
        if let Some(body) = state.ask(&key) {
            return Ok(Found::Hit(body));
        }
        // A turn that was let go of may still be listed for a moment.
        if let Some(running) = state.running.get(&key).filter(|running| running.has_changed().is_ok()) {
            return Err(running.clone());
        }
        let (progress, running) = watch::channel(Progress::Running);
        state.running.insert(key, running);
        Ok(Found::Run(Turn { results: self.clone(), key, progress: Some(progress) }))
    }

    fn insert(&self, key: Key, body: &Bytes) {
        let size = body.len() + OVERHEAD;
        if size > self.room / SHARE {
            return;
        }
        let mut state = self.state();
        // A copy: what came is a part of something larger, which this would keep.
        state.remove(&key);
        let asked = state.tick();
        state.kept.insert(key, Kept { body: Bytes::copy_from_slice(body), asked });
        state.order.insert(asked, key);
        state.bytes += size;
        while state.bytes > self.room
            && let Some((_, oldest)) = state.order.pop_first()
        {
            state.remove(&oldest);
            self.evictions.fetch_add(1, Relaxed);
        }
    }
}

impl State {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn ask(&mut self, key: &Key) -> Option<Bytes> {
        let now = self.tick();
        let kept = self.kept.get_mut(key)?;
        self.order.remove(&kept.asked);
        kept.asked = now;
        self.order.insert(now, *key);
        Some(kept.body.clone())
    }

    fn remove(&mut self, key: &Key) {
        if let Some(kept) = self.kept.remove(key) {
            self.order.remove(&kept.asked);
            self.bytes -= kept.body.len() + OVERHEAD;
        }
    }
}

impl Turn {
    /// It went well, with this.
    pub fn keep(mut self, body: &Bytes) {
        self.results.insert(self.key, body);
        self.tell(Progress::Done(body.clone()));
    }

    /// It did not.
    pub fn fail(mut self) {
        self.tell(Progress::Failed);
    }

    fn tell(&mut self, progress: Progress) {
        let Some(sender) = self.progress.take() else { return };
        // Whoever looks from now on finds it kept, or has a turn of their own.
        self.results.state().running.remove(&self.key);
        sender.send_replace(progress);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.progress.is_some() {
            self.results.state().running.remove(&self.key);
        }
    }
}
