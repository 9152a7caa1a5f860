//! Who has been woken and waits for which processor: so that nobody looks for an answer on the processor on which it is to be given.
//!
//! ```text
//!   waker     publish ─▶ "somebody is on his way to processor 3" ─▶ ring
//!   looker                 on processor 3: lets him go first
//!   sleeper                                             ring ─ ─▶ runs ─▶ "nobody is"
//! ```
//!
//! One file of a broker's, which all of its processes map: a word for each processor, when somebody was woken who had slept there. They are
//! hints. A word that is lost, or overwritten by another waker, is a look that goes on; one that nobody takes back, or a liar's, is believed for
//! some milliseconds, in which who looks there offers the processor to others. Only plain loads and stores.

use interconnect::waking::ticks;
use os::mapping::Mapping;
use os::memfd;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Processors that have a word; of others nothing is said.
const PROCESSORS: usize = 1024;
/// Each has a line of the cache for itself.
const LINE: usize = 64;
const BYTES: usize = PROCESSORS * LINE;
/// How long it is believed that somebody is on his way, in ticks: 2 to 5 ms.
const BELIEVED: u64 = 10_000_000;
/// Who was woken so long ago, in ticks (10 to 25 µs), and is not there, waits for another processor.
const STRAYS: u64 = 50_000;

/// The words, mapped.
#[derive(Debug)]
pub struct Processors(Mapping);

/// The file, for whoever is to map it: nobody can resize it.
pub fn publish() -> io::Result<OwnedFd> {
    memfd::sealed("lichen-processors", BYTES as u64)
}

impl Processors {
    /// Maps the file.
    pub fn attach(file: impl AsFd) -> io::Result<Self> {
        if memfd::sealed_len(&file)? != BYTES as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self(Mapping::shared(file, BYTES)?))
    }

    fn word(&self, processor: u32) -> Option<&AtomicU64> {
        let at = usize::try_from(processor).ok().filter(|at| *at < PROCESSORS)?;
        // SAFETY: in the mapping, aligned; all who have it use atomics.
        Some(unsafe { &*self.0.at(at * LINE).cast() })
    }

    /// Somebody who has slept on this processor is about to be woken.
    pub fn expect(&self, processor: u32) {
        if let Some(word) = self.word(processor) {
            word.store(ticks(), Relaxed);
        }
    }

    /// Who has slept on this processor does no more.
    pub fn arrive(&self, processor: u32) {
        if let Some(word) = self.word(processor)
            && word.load(Relaxed) != 0
        {
            word.store(0, Relaxed);
        }
    }

    /// Whether somebody was woken lately who is to run on this processor, and was not seen to. Never where ticks are not counted.
    pub fn is_awaited(&self, processor: u32) -> bool {
        let at = self.word(processor).map_or(0, |word| word.load(Relaxed));
        // One of the future is of a liar, or of a processor whose count is a little ahead.
        at != 0 && ticks().abs_diff(at) < BELIEVED
    }

    /// As [`Processors::is_awaited`]; and he would be there by now, had the kernel not put him elsewhere.
    pub fn has_strayed(&self, processor: u32) -> bool {
        let at = self.word(processor).map_or(0, |word| word.load(Relaxed));
        at != 0 && (STRAYS..BELIEVED).contains(&ticks().wrapping_sub(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_his_way_is_known_until_he_is_there() {
        let file = publish().unwrap();
        let [waker, other] = [(); 2].map(|()| Processors::attach(&file).unwrap());
        assert!(!other.is_awaited(3));
        waker.expect(3);
        assert_eq!((other.is_awaited(3), other.is_awaited(2)), (ticks() != 0, false));
        other.arrive(3);
        assert!(!waker.is_awaited(3));
        [PROCESSORS as u32, u32::MAX].into_iter().for_each(|beyond| {
            waker.expect(beyond);
            waker.arrive(beyond);
            assert!(!other.is_awaited(beyond));
        });
    }

    #[test]
    fn a_word_that_nobody_takes_back_is_not_believed_for_long() {
        let words = Processors::attach(publish().unwrap()).unwrap();
        for said in [1, u64::MAX, ticks().wrapping_add(u64::MAX / 2)] {
            words.word(0).unwrap().store(said, Relaxed);
            assert!(!words.is_awaited(0), "{said}");
        }
    }

    #[test]
    fn who_does_not_come_in_time_has_strayed() {
        let words = Processors::attach(publish().unwrap()).unwrap();
        let mut strayed_since = |ago: u64| {
            words.word(0).unwrap().store(ticks().wrapping_sub(ago), Relaxed);
            words.has_strayed(0)
        };
        // The test may be held up for longer than that is believed.
        assert_eq!((0..1000).any(|_| strayed_since(STRAYS)), ticks() != 0);
        assert!(![BELIEVED, u64::MAX / 2, u64::MAX - BELIEVED].into_iter().any(&mut strayed_since));
        words.arrive(0);
        assert!(!words.has_strayed(0));
    }

    #[test]
    fn another_file_is_refused() {
        assert!(Processors::attach(memfd::sealed("test", 4096).unwrap()).is_err());
    }
}
