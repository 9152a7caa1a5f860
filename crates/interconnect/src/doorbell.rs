//! Waking a consumer that sleeps, and not waking one that does not.
//!
//! The consumer owns one word in shared memory, its *sleeping word*:
//!
//! | value | the consumer | the producer, after publishing |
//! |---|---|---|
//! | [`AWAKE`] | will look at the ring by itself | does nothing |
//! | [`FUTEX`] | sleeps on a word, as a futex | changes that word, wakes the futex |
//! | [`EVENT`] | waits for its eventfd, perhaps among other things | rings the eventfd |
//! | [`TURN`] | has offered its processor | says when it published |
//!
//! Consumer: look what the futex holds, write the sleeping word, fence, look at the ring once more, sleep. Producer:
//! publish, fence, read the sleeping word. At least one of the two sees what the other wrote (Dekker), so no message sleeps
//! in a ring. Between that look and the sleep something may still be published: then the futex is another than the consumer
//! has looked at, so the kernel, which looks once more, does not let the sleep begin. (It would on the sleeping word, which
//! the producer never writes.) A hostile consumer that lies in its word fails to be woken; a hostile producer that does not
//! ring leaves its own messages unread.

use crate::sync::{AtomicU32, Ordering, fence};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
#[cfg(not(loom))]
use std::time::Duration;

/// The consumer will look by itself.
pub const AWAKE: u32 = 0;
/// The consumer sleeps on a futex.
pub const FUTEX: u32 = 1;
/// The consumer waits for its eventfd.
pub const EVENT: u32 = 2;
/// The consumer has offered its processor, and looks by itself when it gets it back.
pub const TURN: u32 = 3;

/// How the consumer is to be woken, asked after something was published.
pub fn sleeper(word: &AtomicU32) -> u32 {
    fence(Ordering::SeqCst);
    word.load(Ordering::Relaxed)
}

/// Says how this consumer will sleep, to be followed by one more look at the ring.
pub fn announce(word: &AtomicU32, how: u32) {
    word.store(how, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// The same of many words, each of another ring of this consumer's: to be followed by one more look at each.
pub fn announce_all<'a>(words: impl Iterator<Item = &'a AtomicU32>, how: u32) {
    words.for_each(|word| word.store(how, Ordering::Relaxed));
    fence(Ordering::SeqCst);
}

/// Says that this consumer is awake.
pub fn awake(word: &AtomicU32) {
    word.store(AWAKE, Ordering::Relaxed);
}

/// The owner of a sleeping word, for those who are to be woken once per sleep: each has a value of its own, its number
/// above the two bits that say how.
#[derive(Debug, Default)]
pub struct Sleeps {
    value: u32,
}

impl Sleeps {
    /// Says how this end will sleep, to be followed by one more look.
    pub fn begin(&mut self, word: &AtomicU32, how: u32) {
        self.value = ((self.value >> 2) + 1) << 2 | how;
        announce(word, self.value);
    }

    /// Whether the owner of such a word says that it is awake, as far as can be seen from the other side.
    pub fn is_awake(word: &AtomicU32) -> bool {
        word.load(Ordering::Relaxed) & 3 == AWAKE
    }

    /// Says that this end is awake.
    pub fn end(&mut self, word: &AtomicU32) {
        self.value &= !3;
        word.store(self.value, Ordering::Relaxed);
    }
}

/// Who wakes the owner of such a word.
#[derive(Debug, Default)]
pub struct Wakes {
    done: u32,
}

impl Wakes {
    /// Asked after something was published. If the owner sleeps and has not been woken from this sleep, `wake` is to do it,
    /// given how; it says whether that has reached a sleeper. A bell always does: it stays rung. A futex does not, if
    /// the owner is only about to sleep: then what it sleeps on may have moved before it looked, not after.
    pub fn after(&mut self, word: &AtomicU32, wake: impl FnOnce(u32) -> bool) {
        let value = sleeper(word);
        if value & 3 != AWAKE && value != self.done && wake(value & 3) {
            self.done = value;
        }
    }
}

/// An eventfd, for those who only ring it, or only listen by [`hush`]: its flags and its count belong to all who hold it, so
/// whoever rings one that a hostile peer holds can be made to wait for ever.
pub fn event() -> io::Result<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// A pipe to ring a peer that may be hostile: where one listens, and where one rings. Each end's flags are its own.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

/// Rings an eventfd, or a pipe. One that is full rings already.
pub fn ring(event: impl AsFd) {
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

/// Takes what has rung, so that it polls readable again only when rung again: how often it had. Does not wait, whatever a
/// peer has made of an eventfd's flags.
pub fn hush(event: impl AsFd) -> u64 {
    use rustix::io::{Errno, ReadWriteFlags, preadv2, read};
    let mut rings = [0; 64 * 8];
    let whole = &mut [io::IoSliceMut::new(&mut rings)];
    let taken = match preadv2(&event, whole, u64::MAX, ReadWriteFlags::NOWAIT) {
        // A pipe before Linux 6.4, whose flags are this end's own; or a filter that knows this call not, within a sandbox.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => read(&event, &mut rings),
        result => result,
    };
    let counts = rings[..taken.unwrap_or(0)].chunks_exact(8);
    counts.fold(0, |sum, count| sum.saturating_add(u64::from_ne_bytes(count.try_into().expect("eight bytes"))))
}

/// The two ends of a bell that neither side can make the other block on: a pair of sockets, each end with a file
/// description of its own. (The flags of an eventfd are shared by all who hold it: a peer that makes it blocking and fills
/// it stops whoever rings.) When one end is gone, or shut down, the other polls as hung up.
pub fn bells() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Rings the other end of a bell. One that nobody hears, or that has rung often enough, is left alone.
pub fn knock(bell: impl AsFd) {
    use rustix::net::{SendFlags, send};
    let _ = send(bell, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
}

/// Takes what has rung at this end: whether the other end is still there.
pub fn heard(bell: impl AsFd) -> bool {
    use rustix::net::{RecvFlags, recv};
    let mut rings = [0u8; 4096];
    // Bounded: the other end may ring faster than this one listens.
    for _ in 0..64 {
        match recv(&bell, &mut rings, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return false,
            Ok((taken, _)) if taken < rings.len() => return true,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return error == rustix::io::Errno::AGAIN,
        }
    }
    true
}

/// Wakes the process that sleeps on `word`. Whether there was one.
#[cfg(not(loom))]
pub fn wake(word: &AtomicU32) -> bool {
    use rustix::thread::futex;
    futex::wake(word, futex::Flags::empty(), 1).is_ok_and(|woken| woken > 0)
}

/// Wakes whoever sleeps on a word that several may sleep on.
#[cfg(not(loom))]
pub fn wake_all(word: &AtomicU32) {
    use rustix::thread::futex;
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
}

/// Sleeps while `word` is `seen`, for `timeout` at most; returns early at will. False if it is because that is over.
#[cfg(not(loom))]
pub fn sleep(word: &AtomicU32, seen: u32, timeout: Option<Duration>) -> bool {
    use rustix::thread::futex;
    let timeout = timeout.map(|t| rustix::time::Timespec {
        tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: t.subsec_nanos().into(),
    });
    futex::wait(word, futex::Flags::empty(), seen, timeout.as_ref()) != Err(rustix::io::Errno::TIMEDOUT)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bell_rings_and_tells_of_its_other_end() {
        let (a, b) = bells().unwrap();
        assert!(heard(&b));
        knock(&a);
        use rustix::event::{PollFd, PollFlags, poll};
        assert_eq!(poll(&mut [PollFd::new(&b, PollFlags::IN)], None), Ok(1));
        assert!(heard(&b));
        drop(a);
        knock(&b);
        assert!(!heard(&b));
    }

    #[test]
    fn an_eventfd_tells_how_often_it_was_rung_and_blocks_nobody_who_listens() {
        let event = event().unwrap();
        ring(&event);
        ring(&event);
        assert_eq!(hush(&event), 2);
        // What a hostile peer can do to what it shares.
        rustix::fs::fcntl_setfl(&event, rustix::fs::OFlags::empty()).unwrap();
        assert_eq!(hush(&event), 0);
    }

    #[test]
    fn a_pipe_blocks_nobody_who_rings() {
        let (listens, rings) = pipe().unwrap();
        rustix::fs::fcntl_setfl(&listens, rustix::fs::OFlags::empty()).unwrap();
        (0..100_000).for_each(|_| ring(&rings));
        assert_eq!(hush(&listens), 64);
        rustix::fs::fcntl_setfl(&listens, rustix::fs::OFlags::NONBLOCK).unwrap();
        while hush(&listens) > 0 {}
        ring(&rings);
        assert_eq!(hush(&listens), 1);
    }

    #[test]
    fn a_bell_that_nobody_hears_blocks_nobody() {
        let (a, b) = bells().unwrap();
        // What a hostile peer can do to its own end.
        rustix::fs::fcntl_setfl(&b, rustix::fs::OFlags::empty()).unwrap();
        (0..10_000).for_each(|_| knock(&a));
        assert!(heard(&b));
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;

    /// For every interleaving: either the producer sees a sleeper, or the consumer sees the message.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let published = Arc::new(AtomicU32::new(0));
            let word = Arc::new(AtomicU32::new(AWAKE));
            let producer = {
                let (published, word) = (published.clone(), word.clone());
                loom::thread::spawn(move || {
                    published.store(1, Ordering::Release);
                    sleeper(&word) == FUTEX
                })
            };
            announce(&word, FUTEX);
            let seen = published.load(Ordering::Acquire) == 1;
            let rung = producer.join().unwrap();
            assert!(seen || rung, "the consumer sleeps on a published message");
        });
    }

    /// The same where one consumer sleeps for two rings.
    #[test]
    fn no_wake_up_of_many_is_lost() {
        loom::model(|| {
            let rings = Arc::new([0; 2].map(|_| (AtomicU32::new(0), AtomicU32::new(AWAKE))));
            let producers = [0, 1].map(|ring| {
                let rings = rings.clone();
                loom::thread::spawn(move || {
                    rings[ring].0.store(1, Ordering::Release);
                    sleeper(&rings[ring].1) == EVENT
                })
            });
            announce_all(rings.iter().map(|ring| &ring.1), EVENT);
            let seen = [0, 1].map(|ring: usize| rings[ring].0.load(Ordering::Acquire) == 1);
            for (ring, producer) in producers.into_iter().enumerate() {
                let rung = producer.join().unwrap();
                assert!(seen[ring] || rung, "the consumer sleeps on a message of ring {ring}");
            }
        });
    }

    /// For every interleaving of `Sender::nudge` with `Receiver::nudged`, where one nudge has not been read yet: either it is
    /// repeated, or whoever reads it sees what it was for.
    #[test]
    fn no_nudge_is_left_out_in_vain() {
        loom::model(|| {
            let done = Arc::new(AtomicU32::new(0));
            let read = Arc::new(AtomicU32::new(0));
            let nudger = {
                let (done, read) = (done.clone(), read.clone());
                loom::thread::spawn(move || {
                    done.store(1, Ordering::Release);
                    fence(Ordering::SeqCst);
                    read.load(Ordering::Acquire) == 1
                })
            };
            read.store(1, Ordering::Release);
            fence(Ordering::SeqCst);
            let seen = done.load(Ordering::Acquire) == 1;
            let repeated = nudger.join().unwrap();
            assert!(seen || repeated, "a reader waits for a nudge that does not come");
        });
    }
}
