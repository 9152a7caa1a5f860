//! A word that says whether an end naps, and of which nap it speaks.
//!
//! | value | its owner | the other side, after publishing |
//! |---|---|---|
//! | even | is awake: it will look by itself | does nothing |
//! | odd | naps, and waits for its socket | rings, once for this value |
//!
//! Its owner counts the word up when a nap begins and when it ends, so every nap has a value of its own, and a burst
//! into a ring whose reader has not yet got the processor rings one bell, not hundreds. Owner: write the word, fence,
//! look once more, sleep. Other side: publish, fence, read the word (Dekker, as in [`crate::doorbell`]): one of the two
//! sees what the other wrote. What it rings by is not known here.

use crate::doorbell;
use crate::sync::AtomicU32;

/// The owner's side of a word.
pub struct Nap<'a> {
    word: &'a AtomicU32,
    value: u32,
}

impl<'a> Nap<'a> {
    pub fn new(word: &'a AtomicU32) -> Self {
        Self { word, value: 0 }
    }

    /// Says that this end naps; to be followed by one more look. A nap that has begun goes on.
    pub fn begin(&mut self) {
        self.value |= 1;
        doorbell::announce(self.word, self.value);
    }

    /// Says that this end is awake. True: it had been napping.
    pub fn end(&mut self) -> bool {
        let napped = self.value & 1 == 1;
        if napped {
            self.value = self.value.wrapping_add(1);
            doorbell::announce(self.word, self.value);
        }
        napped
    }
}

/// The other side's view of a word.
pub struct Waker<'a> {
    word: &'a AtomicU32,
    rung: u32,
}

impl<'a> Waker<'a> {
    pub fn new(word: &'a AtomicU32) -> Self {
        Self { word, rung: 0 }
    }

    /// Whether a bell is due now, after something was published: true once for each nap.
    pub fn is_due(&mut self) -> bool {
        let value = doorbell::sleeper(self.word);
        let due = value & 1 == 1 && value != self.rung;
        if due {
            self.rung = value;
        }
        due
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::sync::Ordering;
    use loom::sync::Arc;

    /// For every interleaving of three messages with two naps: no nap is rung for twice.
    #[test]
    fn a_nap_is_rung_for_once() {
        loom::model(|| {
            let bells = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
            let word = Arc::new(AtomicU32::new(0));
            let sender = {
                let (bells, word) = (bells.clone(), word.clone());
                loom::thread::spawn(move || {
                    let mut waker = Waker::new(&word);
                    for _ in 0..3 {
                        if waker.is_due() {
                            bells[(waker.rung / 2) as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            };
            let mut nap = Nap::new(&word);
            nap.begin();
            nap.end();
            nap.begin();
            sender.join().unwrap();
            let rung = [0, 1].map(|i| bells[i].load(Ordering::Relaxed));
            assert!(rung.iter().all(|&times| times <= 1), "{rung:?} bells");
        });
    }

    /// One nap that lasts: it is rung for if anything was published after its last look.
    #[test]
    fn no_nap_outlasts_a_message() {
        loom::model(|| {
            let published = Arc::new(AtomicU32::new(0));
            let word = Arc::new(AtomicU32::new(0));
            let sender = {
                let (published, word) = (published.clone(), word.clone());
                loom::thread::spawn(move || {
                    let mut waker = Waker::new(&word);
                    (1..=2).fold(0, |rung, message| {
                        published.store(message, Ordering::Release);
                        if waker.is_due() { waker.rung } else { rung }
                    })
                })
            };
            let mut nap = Nap::new(&word);
            nap.begin();
            let first = published.load(Ordering::Acquire);
            nap.end();
            nap.begin();
            let seen = published.load(Ordering::Acquire).max(first);
            let rung_for = sender.join().unwrap();
            assert!(seen == 2 || rung_for == nap.value, "message 2 sleeps: {seen} seen, nap {rung_for} rung for");
        });
    }
}
