//! Who has something for sleepers: what a process says to those who wait for many of its connections at once.
//!
//! ```text
//!   sender:   head ─▶ fence ─▶ look at the nap: asleep → write the way down ─▶ fence ─▶ look at its set: asleep → ring
//!   receiver: nap ─▶ fence ─▶ look at head        …then nobody looks at this connection until its way is written down
//!             set asleep ─▶ fence ─▶ look at what is written down: nothing → sleep until it rings
//! ```
//!
//! So a wait costs what has come since the last one, whatever the number of those for whom nothing has. Each process writes down, in a
//! page of its own, the ways on which it has woken somebody; whoever receives some of them reads on from where he was, and looks at the
//! connections that are his. Who has fallen far behind looks at all. In the same page a process says which of its sets sleep.
//!
//! A set is rung for once for each of its sleeps, however many ways are written down before it gets up: each sleep has a number of its own, and a
//! process notes for which it has rung ([`crate::records::Store::rang`]). Whoever finds the same number again has written down what the sleeper looks at
//! when he gets up, or before he sleeps again.

use crate::layout::{CALLED, Calls, SETS};
use crate::sync::{Ordering, fence};

/// Bits of a set's word that say on which processor it sleeps.
const PROCESSOR: u32 = 16;

/// A sleep of who waits by a set: on which processor, in the lower bits, by its number and 1 more, and which one it is. One without a number is
/// to be rung for each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleep(u64);

impl Sleep {
    /// Of somebody of whom nothing is known.
    pub(crate) const UNKNOWN: Self = Self(0);

    fn new(processor: u32, which: u64) -> Self {
        let processor = u64::from(processor).min((1 << PROCESSOR) - 2) + 1;
        Self(which << PROCESSOR | processor)
    }

    /// The processor on which he sleeps, if it is known.
    pub fn processor(self) -> Option<u32> {
        (self.0 as u32 & ((1 << PROCESSOR) - 1)).checked_sub(1)
    }

    /// Which of the set's sleeps it is; 0: that is not said.
    pub(crate) fn which(self) -> u64 {
        self.0 >> PROCESSOR
    }
}

impl Calls {
    #[cfg(test)]
    fn new() -> Self {
        use crate::sync::{AtomicU32, AtomicU64};
        let ways = std::array::from_fn(|_| AtomicU32::new(0));
        let asleep = crate::layout::Asleep(std::array::from_fn(|_| AtomicU64::new(0)));
        Self { written: AtomicU32::new(0), ways, asleep }
    }

    /// Writes a way down. By one thread of the process at a time.
    pub(crate) fn call(&self, way: u32) {
        let written = self.written.load(Ordering::Relaxed);
        // Whoever sees what follows in the place of something older sees that this was written.
        fence(Ordering::Release);
        self.ways[written as usize % CALLED].store(way, Ordering::Relaxed);
        self.written.store(written.wrapping_add(1), Ordering::Release);
    }

    /// How who waits by this set sleeps, if he does, asked after something was written down. Always where the set has no number.
    pub(crate) fn sleeps(&self, set: usize) -> Option<Sleep> {
        fence(Ordering::SeqCst);
        if set == 0 {
            return Some(Sleep::UNKNOWN);
        }
        let word = self.asleep.0[set % SETS].load(Ordering::Relaxed);
        (word != 0).then_some(Sleep(word))
    }

    /// Says that who waits by this set, on this processor, is to be rung for from now on, once, where `which` is a number that no other sleep
    /// has; to be followed by a look at what is written down.
    pub fn lie(&self, set: usize, processor: u32, which: u64) {
        self.asleep.0[set % SETS].store(Sleep::new(processor, which).0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Says that he looks himself before he sleeps.
    pub fn rise(&self, set: usize) {
        self.asleep.0[set % SETS].store(0, Ordering::Relaxed);
    }

    /// How many were ever written down, as the process says.
    pub fn written(&self) -> u32 {
        self.written.load(Ordering::Acquire)
    }

    /// Has `each` look at what was written down since there were `read`: how many there are now; or none, if it was not kept.
    pub fn read(&self, read: u32, mut each: impl FnMut(u32)) -> Result<u32, u32> {
        let written = self.written();
        let new = written.wrapping_sub(read) as usize;
        if new < CALLED {
            for at in 0..new {
                each(self.ways[read.wrapping_add(at as u32) as usize % CALLED].load(Ordering::Relaxed));
            }
        }
        // What was read in the place of something older is known to be.
        fence(Ordering::Acquire);
        let now = self.written.load(Ordering::Relaxed);
        if (now.wrapping_sub(read) as usize) < CALLED { Ok(written) } else { Err(written) }
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::sync::{AtomicU32, AtomicU64};
    use loom::sync::Arc;

    /// A sender and a receiver of one connection: the words that they share.
    struct Shared {
        calls: Calls,
        set: Calls,
        head: AtomicU64,
        nap: AtomicU32,
        rung: AtomicU32,
    }

    const WAY: u32 = 7;

    fn send(shared: &Shared, rung: &mut u32) {
        shared.head.store(shared.head.load(Ordering::Relaxed) + 1, Ordering::Release);
        fence(Ordering::SeqCst);
        let nap = shared.nap.load(Ordering::Relaxed);
        if nap & 1 == 1 && nap != *rung {
            *rung = nap;
            shared.calls.call(WAY);
            if shared.set.sleeps(1).is_some() {
                // By way of the kernel.
                shared.rung.swap(1, Ordering::Release);
            }
        }
    }

    /// Who receives, of a member of a set, as the library before libc has it: the member naps on until something comes, awake as the set
    /// may be, and then is looked at only if it is called.
    struct Receiver {
        nap: u32,
        /// What its sender had said, and for which nap it is to be rung, when it was said to sleep.
        lain: Option<(u64, u32)>,
        awake: bool,
        read: u32,
        received: u64,
    }

    impl Receiver {
        fn harvest(&mut self, shared: &Shared) {
            if shared.calls.written() != self.read {
                self.read = shared.calls.read(self.read, |way| assert_eq!(way, WAY)).unwrap_or_else(|now| now);
                // Once for each nap: so this one is over, though what it was called for may have been received before.
                (self.awake, self.lain) = (true, None);
            }
        }

        /// Whether something has come, which is received.
        fn look(&mut self, shared: &Shared) -> bool {
            self.awake && std::mem::replace(&mut self.received, shared.head.load(Ordering::Acquire)) != self.received
        }

        /// Lies down: whether it is to sleep.
        fn lie(&mut self, shared: &Shared) -> bool {
            self.harvest(shared);
            let said = shared.head.load(Ordering::Acquire);
            if self.awake && self.lain != Some((said, self.nap)) {
                self.nap += 2;
                shared.nap.store(self.nap, Ordering::Relaxed);
                fence(Ordering::SeqCst);
                self.lain = Some((said, self.nap));
                if self.look(shared) {
                    return false;
                }
            }
            self.awake &= self.lain != Some((shared.head.load(Ordering::Acquire), self.nap));
            shared.set.lie(1, 0, self.nap.into());
            shared.calls.written() == self.read
        }
    }

    /// For every interleaving: who sleeps while something has come is rung for.
    #[test]
    fn nobody_sleeps_on_what_was_sent() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(4);
        model.check(|| {
            let shared = Arc::new(Shared {
                calls: Calls::new(),
                set: Calls::new(),
                head: AtomicU64::new(0),
                nap: AtomicU32::new(0),
                rung: AtomicU32::new(0),
            });
            let sender = {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    let mut rung = 0;
                    send(&shared, &mut rung);
                    send(&shared, &mut rung);
                })
            };
            let mut receiver = Receiver { nap: 1, lain: None, awake: true, read: 0, received: 0 };
            let mut sleeps = false;
            // It rests, is called, is looked at, and rests again.
            for _ in 0..3 {
                receiver.harvest(&shared);
                if receiver.look(&shared) {
                    continue;
                }
                sleeps = receiver.lie(&shared) && shared.rung.swap(0, Ordering::Acquire) == 0;
                if sleeps {
                    break;
                }
                shared.set.rise(1);
            }
            sender.join().unwrap();
            let head = shared.head.load(Ordering::Acquire);
            assert!(
                !sleeps || head == receiver.received || shared.rung.swap(0, Ordering::Relaxed) == 1,
                "asleep, and nobody rings"
            );
        });
    }

    /// For every interleaving: a sender of several connections that rings once for each sleep of a set leaves nothing behind.
    #[test]
    fn who_is_rung_for_once_finds_all_that_was_written_down() {
        let spared = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let seen_spared = spared.clone();
        loom::model(move || {
            let [calls, set] = [Arc::new(Calls::new()), Arc::new(Calls::new())];
            let bell = Arc::new(AtomicU32::new(0));
            let sender = {
                let (calls, set, bell, spared) = (calls.clone(), set.clone(), bell.clone(), spared.clone());
                loom::thread::spawn(move || {
                    let mut rung = 0;
                    for way in [WAY, WAY + 1] {
                        calls.call(way);
                        match set.sleeps(1) {
                            Some(sleep) if sleep.which() != rung => {
                                bell.swap(1, Ordering::Release);
                                rung = sleep.which();
                            }
                            Some(_) => _ = spared.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
                            None => {}
                        }
                    }
                })
            };
            let (mut read, mut sleeps) = (0, false);
            for which in 1..4 {
                read = calls.read(read, drop).unwrap_or_else(|now| now);
                set.lie(1, 0, which);
                sleeps = calls.written() == read && bell.swap(0, Ordering::Acquire) == 0;
                if sleeps {
                    break;
                }
                set.rise(1);
            }
            sender.join().unwrap();
            let rung = bell.load(Ordering::Relaxed) == 1;
            assert!(!sleeps || rung || calls.written() == read, "asleep, and nobody rings");
        });
        assert!(seen_spared.load(std::sync::atomic::Ordering::Relaxed) > 0, "a ring was spared");
    }

    /// For every interleaving: what is read is what was written, or it is known that something was not kept. (The reader is the thread
    /// that was spawned: what reads a word before it writes it, as the writer does, loom does not set against earlier reads of others.)
    #[test]
    fn nothing_that_was_written_down_is_missed() {
        let overtaken = std::sync::atomic::AtomicU32::new(0);
        let overtaken = std::sync::Arc::new(overtaken);
        let seen_overtaken = overtaken.clone();
        loom::model(move || {
            let calls = Arc::new(Calls::new());
            let reader = {
                let (calls, overtaken) = (calls.clone(), overtaken.clone());
                loom::thread::spawn(move || {
                    let mut read = 0;
                    for _ in 0..2 {
                        let mut seen = Vec::new();
                        read = match calls.read(read, |way| seen.push(way)) {
                            Ok(now) => {
                                assert!(seen.iter().copied().eq(read + 1..=now), "{seen:?} behind {read}");
                                now
                            }
                            Err(now) => {
                                overtaken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                                now
                            }
                        };
                    }
                })
            };
            (1..4).for_each(|way| calls.call(way));
            reader.join().unwrap();
        });
        assert!(seen_overtaken.load(std::sync::atomic::Ordering::Relaxed) > 0, "some of it was not kept");
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn who_falls_behind_is_told() {
        let calls = Calls { written: AtomicU32::new(u32::MAX - 1), ..Calls::new() };
        let (mut read, mut seen) = (calls.written(), Vec::new());
        (0..5).for_each(|way| calls.call(way));
        read = calls.read(read, |way| seen.push(way)).unwrap();
        assert_eq!((read, seen.as_slice()), (3, [0, 1, 2, 3, 4].as_slice()));
        assert_eq!(calls.read(read, |_| panic!("nothing new")), Ok(3));
        (0..CALLED as u32).for_each(|way| calls.call(way));
        assert_eq!(calls.read(read, drop), Err(3 + CALLED as u32));
        assert_eq!(calls.read(3 + CALLED as u32, drop), Ok(3 + CALLED as u32));
    }

    #[test]
    fn sets_without_a_number_are_always_rung_for() {
        let calls = Calls::new();
        assert_eq!((calls.sleeps(0), calls.sleeps(5)), (Some(Sleep::UNKNOWN), None));
        assert_eq!((Sleep::UNKNOWN.processor(), Sleep::UNKNOWN.which()), (None, 0));
        calls.lie(5, 3, 9);
        let sleep = calls.sleeps(5).unwrap();
        assert_eq!((sleep.processor(), sleep.which(), calls.sleeps(6)), (Some(3), 9, None));
        calls.rise(5);
        assert_eq!(calls.sleeps(5), None);
    }
}
