//! Whose turn it is on a processor. Who looks for an answer there keeps others from running, perhaps the one who is to give it, by way of some
//! that run elsewhere. So whoever wakes somebody says first for which processor that one waits ([`socket::processors`]), and who looks there lets
//! him go first.
//!
//! Not whoever else wants the processor: one who computes would take it for milliseconds, each time.

use crate::kernel;
use socket::processors::Processors;
use std::cell::Cell;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

/// The words of this process's broker; never unmapped, as any thread may be looking at them.
static WORDS: AtomicPtr<Processors> = AtomicPtr::new(std::ptr::null_mut());

/// Who gets the processor back later than this, in nanoseconds, has let somebody go first who has more to do than to answer.
const LATE: u64 = 1_000_000;
/// Then he does not look for so many waits: who looks beside one who computes has used up his share when he is needed. Twice as many each time
/// that it happens again, up to the second number.
const SLEEPS: [u32; 2] = [64, 4096];

thread_local! {
    static SLEEPS_LEFT: Cell<u32> = const { Cell::new(0) };
    static SLEEPS_NEXT: Cell<u32> = const { Cell::new(SLEEPS[0]) };
    /// What this thread has sent last went over TCP.
    static BY_KERNEL: Cell<bool> = const { Cell::new(false) };
}

/// A broker has given this process its words.
pub fn told(file: OwnedFd) {
    if let Ok(words) = Processors::attach(&file) {
        WORDS.store(Box::into_raw(Box::new(words)), Release);
    }
    // SAFETY: this library's. (Dropping it would be seen by what stands before libc.)
    unsafe { crate::real::close(file.into_raw_fd()) };
}

fn words() -> Option<&'static Processors> {
    // SAFETY: null, or what `told` has put there, which nobody takes away.
    unsafe { WORDS.load(Acquire).as_ref() }
}

/// Somebody is about to be woken who has slept on this processor, as he says.
pub fn woken(processor: u32) {
    if let Some(words) = words() {
        words.expect(processor);
    }
}

/// This thread, which said to sleep on this processor, does no more.
pub fn rises(processor: u32) {
    if let Some(words) = words() {
        words.arrive(processor);
    }
}

/// What has become of a processor on which somebody looks.
#[derive(PartialEq, Eq)]
pub enum Turn {
    /// Nobody was woken who waits for it.
    Ours,
    /// Somebody has run.
    Given,
    /// Somebody has run for long, or was woken and is not here: this look is over.
    Theirs,
}

/// Lets whoever was woken, and waits for this processor, go first.
pub fn give() -> Turn {
    let Some(words) = words() else { return Turn::Ours };
    let processor = kernel::processor();
    if !words.is_awaited(processor) {
        return Turn::Ours;
    }
    let before = kernel::now();
    rustix::thread::sched_yield();
    let next = SLEEPS_NEXT.get();
    if kernel::now() - before > LATE {
        SLEEPS_LEFT.set(next);
        SLEEPS_NEXT.set((2 * next).min(SLEEPS[1]));
        return Turn::Theirs;
    } else if next > SLEEPS[0] {
        SLEEPS_NEXT.set(next - 1);
    }
    match words.is_awaited(processor) {
        // Where this processor is idle, the kernel may bring him.
        true if words.has_strayed(processor) => Turn::Theirs,
        true => Turn::Ours,
        false => Turn::Given,
    }
}

/// Whether this thread is to look where it waits now.
pub fn may_look() -> bool {
    let left = SLEEPS_LEFT.get();
    SLEEPS_LEFT.set(left.saturating_sub(1));
    left == 0
}

/// This thread has sent something, over TCP or through memory.
pub fn sent(by_kernel: bool) {
    BY_KERNEL.set(by_kernel);
}

/// Whether it waits for what the kernel will tell of, as it seems: an answer over TCP, which nobody finds by looking.
pub fn awaits_kernel() -> bool {
    BY_KERNEL.get()
}
