//! What ends a guest that does not end by itself: a signal to the thread that is in it, at the deadline and then every
//! millisecond, or when somebody cancels the run.
//!
//! The signal does nothing but interrupt `KVM_RUN`; whoever is interrupted looks why. Since it comes again, it does not matter
//! that the first one may come a moment before the guest is entered.

use crate::stop::{Stop, signal};
use std::io;
use std::sync::Once;
use std::time::{Duration, Instant};

/// The timer of one thread.
#[derive(Debug)]
pub struct Kick(libc::timer_t);

// SAFETY: a timer is a number of the process's; only the signal that it sends is a thread's.
unsafe impl Send for Kick {}

/// A run that is watched until this is dropped.
pub struct Watched<'a> {
    kick: &'a Kick,
    stop: &'a Stop,
}

extern "C" fn nothing(_: libc::c_int) {}

fn thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Sees to it that the signal does not end the process. Another engine of this process may have done so: that is as good.
fn handle() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: zeroed actions are valid; the handler does nothing, on whatever stack.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal(), std::ptr::null(), &raw mut action);
            if action.sa_sigaction == libc::SIG_DFL {
                action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
                libc::sigaction(signal(), &raw const action, std::ptr::null_mut());
            }
        }
    });
}

impl Kick {
    /// For the calling thread.
    pub fn new() -> io::Result<Self> {
        handle();
        // SAFETY: a zeroed event is valid; the kernel reads it and writes the timer's number.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = signal();
            event.sigev_notify_thread_id = thread();
            let mut timer: libc::timer_t = std::mem::zeroed();
            match libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) {
                0 => Ok(Self(timer)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    fn set(&self, first: Duration, then: Duration) {
        let time =
            |time: Duration| libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        let when = libc::itimerspec { it_interval: time(then), it_value: time(first) };
        // SAFETY: a timer of ours, and a structure that outlives the call.
        unsafe { libc::timer_settime(self.0, 0, &raw const when, std::ptr::null_mut()) };
    }

    /// From now on.
    pub fn watch<'a>(&'a self, deadline: Instant, stop: &'a Stop) -> Watched<'a> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.set(left.max(Duration::from_nanos(1)), Duration::from_millis(1));
        stop.enter(thread());
        Watched { kick: self, stop }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.stop.leave();
        self.kick.set(Duration::ZERO, Duration::ZERO);
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        // SAFETY: a timer of ours, which nobody uses any more.
        unsafe { libc::timer_delete(self.0) };
    }
}
