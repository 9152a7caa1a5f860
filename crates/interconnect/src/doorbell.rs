//! Waking a consumer that sleeps, and not waking one that does not.
//!
//! The consumer owns one word in shared memory, its *sleeping word*:
//!
//! | value | the consumer | the producer, after publishing |
//! |---|---|---|
//! | [`AWAKE`] | will look at the ring by itself | does nothing |
//! | [`FUTEX`] | sleeps on the ring's head, as a futex | wakes that futex |
//! | [`EVENT`] | waits for its eventfd, perhaps among other things | rings the eventfd |
//!
//! Consumer: write the word, fence, look at the ring once more, sleep. Producer: publish, fence, read the word. At least
//! one of the two sees what the other wrote (Dekker), so no message sleeps in a ring. Between that look and the sleep the
//! head may still move: it is the head itself that the consumer sleeps on, so the kernel looks once more and the sleep
//! does not begin. (On the sleeping word, which the producer never writes, it would.) A hostile consumer that lies in its
//! word fails to be woken; a hostile producer that does not ring leaves its own messages unread.

use crate::sync::{AtomicU32, Ordering, fence};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
#[cfg(not(loom))]
use std::time::Duration;

/// The consumer will look by itself.
pub const AWAKE: u32 = 0;
/// The consumer sleeps on the ring's head.
pub const FUTEX: u32 = 1;
/// The consumer waits for its eventfd.
pub const EVENT: u32 = 2;

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

/// Says that this consumer is awake.
pub fn awake(word: &AtomicU32) {
    word.store(AWAKE, Ordering::Relaxed);
}

/// An eventfd that neither end can make the other block on.
pub fn event() -> io::Result<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Rings an eventfd. A counter that a hostile peer has filled rings already.
pub fn ring(event: impl AsFd) {
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

/// Empties an eventfd, so that it polls readable again only when rung again.
pub fn hush(event: impl AsFd) {
    let _ = rustix::io::read(event, &mut [0; 8]);
}

/// Wakes the process that sleeps on the ring's `head`.
#[cfg(not(loom))]
pub fn wake(head: &AtomicU32) {
    use rustix::thread::futex;
    let _ = futex::wake(head, futex::Flags::empty(), 1);
}

/// Sleeps while the ring's `head` is `seen`, for `timeout` at most; returns early at will.
#[cfg(not(loom))]
pub fn sleep(head: &AtomicU32, seen: u32, timeout: Option<Duration>) {
    use rustix::thread::futex;
    let timeout = timeout.map(|t| rustix::time::Timespec {
        tv_sec: t.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: t.subsec_nanos().into(),
    });
    let _ = futex::wait(head, futex::Flags::empty(), seen, timeout.as_ref());
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
