//! Where a process sleeps: words that it alone writes, and a pipe for each, by which others wake it.
//!
//! A *bed* is for whoever waits for many connections at once, or for one after the other: an event loop, a thread. Its word is
//! odd while somebody sleeps there, and another one for each time, so that whoever sends on any of the connections wakes once
//! for each sleep. Who is about to sleep says so, then looks once more; who has sent something looks at the word afterwards:
//! at least one sees what the other wrote.
//!
//! The word is written before a wait and after it, by one store, however many connections there are. The pipe's reading end is
//! among what the sleeper's kernel waits for. Each other process opens the writing end for itself: its flags are its own, so
//! nobody can make it wait.

use os::mapping::Mapping;
use os::memfd;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, fence};

/// Beds of one process.
pub const BEDS: usize = 64;
/// Bytes of a word and of what keeps it apart from the next.
const APART: usize = 64;
const BYTES: usize = BEDS * APART;

fn word(page: &Mapping, bed: usize) -> &AtomicU32 {
    assert!(bed < BEDS, "a bed of the page");
    // SAFETY: in the page, aligned; an atomic, for which every value is one.
    unsafe { &*page.at(bed * APART).cast() }
}

/// A process's own.
pub struct Beds {
    page: Mapping,
    shown: OwnedFd,
}

impl Beds {
    pub fn publish() -> io::Result<Self> {
        let (page, shown) = memfd::published("lichen-beds", BYTES)?;
        Ok(Self { page, shown })
    }

    /// The page, as others may have it: to be read only.
    pub fn shown(&self) -> BorrowedFd<'_> {
        self.shown.as_fd()
    }

    /// Somebody lies down; to be followed by one more look at all that he waits for. Where others sleep already, they are woken as
    /// before.
    pub fn lie(&self, bed: usize) {
        let word = word(&self.page, bed);
        word.store(word.load(Relaxed) | 1, Relaxed);
        fence(SeqCst);
    }

    /// Somebody gets up, while others sleep on or nobody; then he looks.
    pub fn rise(&self, bed: usize, others: bool) {
        let word = word(&self.page, bed);
        let now = word.load(Relaxed);
        word.store((now | 1).wrapping_add(if others { 2 } else { 1 }), Relaxed);
        fence(SeqCst);
    }

    /// How often somebody has slept there.
    pub fn times(&self, bed: usize) -> u32 {
        word(&self.page, bed).load(Relaxed) >> 1
    }
}

/// Another process's beds, as one who sends to it has them.
pub struct Others {
    page: Mapping,
    bells: [OnceLock<OwnedFd>; BEDS],
    rung: [AtomicU32; BEDS],
}

impl Others {
    /// Of a page that has come from there.
    pub fn of(page: impl AsFd) -> io::Result<Self> {
        if memfd::sealed_len(&page)? != BYTES as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let page = Mapping::read_only(page, BYTES)?;
        Ok(Self { page, bells: [const { OnceLock::new() }; BEDS], rung: [const { AtomicU32::new(0) }; BEDS] })
    }

    /// Whether there is a bell for this bed.
    pub fn has_bell(&self, bed: usize) -> bool {
        self.bells.get(bed).is_some_and(|bell| bell.get().is_some())
    }

    /// A bell for a bed: the writing end of a pipe, with flags of its own. Descriptors that are none are not taken.
    pub fn keep(&self, bed: usize, bell: OwnedFd) {
        if let Some(place) = self.bells.get(bed) {
            let _ = place.set(bell);
        }
    }

    /// Asked after something was sent to one who sleeps in this bed, if he does (and after a fence): whether he needs to be woken
    /// in another way.
    pub fn wake(&self, bed: usize) -> bool {
        if bed >= BEDS {
            return true;
        }
        let now = word(&self.page, bed).load(Acquire);
        if now & 1 == 0 || self.rung[bed].swap(now, AcqRel) == now {
            return false;
        }
        let Some(bell) = self.bells[bed].get() else { return true };
        rustix::io::write(bell, &[1]).is_err()
    }
}

/// The writing end of a pipe that has come from another process, opened anew. An error: it is none.
pub fn reopened(bell: impl AsFd) -> io::Result<OwnedFd> {
    use rustix::fs::{FileType, Mode, OFlags, fstat, open};
    use std::os::fd::AsRawFd;
    let bell = bell.as_fd();
    if FileType::from_raw_mode(fstat(bell)?.st_mode) != FileType::Fifo {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(open(format!("/proc/self/fd/{}", bell.as_raw_fd()), flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_for_each_sleep() {
        let beds = Beds::publish().unwrap();
        let others = Others::of(beds.shown()).unwrap();
        let (ear, bell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        others.keep(3, reopened(&bell).unwrap());
        let heard = || rustix::io::read(&ear, &mut [0; 64]).unwrap_or(0);
        assert!(!others.wake(3), "nobody sleeps");
        beds.lie(3);
        assert!(!others.wake(3) && !others.wake(3));
        assert_eq!(heard(), 1);
        beds.lie(3);
        assert!(!others.wake(3), "he sleeps as before");
        beds.rise(3, true);
        assert!(!others.wake(3), "the other one sleeps on");
        assert_eq!(heard(), 1);
        beds.rise(3, false);
        assert!(!others.wake(3));
        beds.lie(4);
        assert!(others.wake(4), "there is no bell");
        assert_eq!(heard(), 0);
    }

    #[test]
    fn what_is_no_pipe_is_no_bell() {
        assert!(reopened(std::fs::File::open("/dev/null").unwrap()).is_err());
        assert!(Others::of(memfd::sealed("other", BYTES as u64 + 1).unwrap()).is_err());
    }
}
