//! The atomics of this crate: the machine's, or loom's when its model checker explores every interleaving
//! (`RUSTFLAGS="--cfg loom"`).

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};

/// What the kernel does for those who sleep on a word, as far as the models need it: it compares and puts to sleep, and
/// wakes, each with the word's queue locked. Nobody really sleeps here: whether one would for ever is asked at the end.
#[cfg(all(test, loom))]
pub(crate) struct Futex(loom::sync::Mutex<(bool, bool)>);

#[cfg(all(test, loom))]
impl Futex {
    pub fn new() -> Self {
        Self(loom::sync::Mutex::new((false, false)))
    }

    /// One sleeper goes to sleep while `word` is `seen`.
    pub fn sleep(&self, word: &AtomicU32, seen: u32) {
        let mut queue = self.0.lock().unwrap();
        queue.0 = word.load(Ordering::Relaxed) == seen;
    }

    /// Wakes it, if it sleeps. Whether it did.
    pub fn wake(&self) -> bool {
        let mut queue = self.0.lock().unwrap();
        queue.1 |= queue.0;
        queue.0
    }

    /// Whether it went to sleep and nobody woke it.
    pub fn sleeps_for_ever(&self) -> bool {
        let queue = self.0.lock().unwrap();
        queue.0 && !queue.1
    }
}
