//! A lock for memory that processes share after a fork: held for moments, never across a call that waits.
//!
//! It holds the number of the thread that has it. One whose holder has been killed is taken from it. No futex: who finds it
//! taken looks again, then yields.

use std::cell::{Cell, UnsafeCell};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
/// Looks before the processor is given to others.
const LOOKS: u32 = 200;
/// Turns of the others before somebody asks whether the holder is alive.
const TURNS: u32 = 1000;

thread_local! {
    static NUMBER: Cell<u32> = const { Cell::new(0) };
}

/// This thread's number.
#[inline]
fn number() -> u32 {
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(rustix::thread::gettid().as_raw_nonzero().get() as u32);
        }
        number.get()
    })
}

/// A child of a fork has one thread, with a number of its own.
pub fn forked() {
    NUMBER.with(|number| number.set(0));
}

#[derive(Debug)]
pub struct Lock<T> {
    holder: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by whoever holds the lock only.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub const fn new(value: T) -> Self {
        Self { holder: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    /// Frees it for one who has forgotten that he holds it, or whose parent has.
    pub fn release(&self) {
        self.holder.store(FREE, Ordering::Release);
    }

    #[inline]
    pub fn lock(&self) -> Held<'_, T> {
        let me = number();
        let mut looks = 0u32;
        loop {
            let holder = match self.holder.compare_exchange_weak(FREE, me, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Held(self),
                Err(holder) => holder,
            };
            looks = looks.wrapping_add(1);
            if looks < LOOKS {
                std::hint::spin_loop();
            } else if holder != FREE && looks.is_multiple_of(TURNS) && is_dead(holder) {
                if self.holder.compare_exchange(holder, me, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return Held(self);
                }
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// At once, or not.
    #[inline]
    pub fn try_lock(&self) -> Option<Held<'_, T>> {
        self.holder.compare_exchange(FREE, number(), Ordering::Acquire, Ordering::Relaxed).ok().map(|_| Held(self))
    }
}

fn is_dead(thread: u32) -> bool {
    let thread = rustix::process::Pid::from_raw(thread as i32);
    thread.is_some_and(|thread| rustix::process::test_kill_process(thread) == Err(rustix::io::Errno::SRCH))
}

/// The value, until this is dropped.
pub struct Held<'a, T>(&'a Lock<T>);

impl<T> Deref for Held<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: whoever has a `Held` has the lock.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.holder.store(FREE, Ordering::Release);
    }
}
