//! Signals as descriptors, for loops that wait for several things.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// Blocks `signals` for the calling thread and answers a descriptor that becomes readable when one is pending.
pub fn descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: an all-zero sigset_t is valid storage for sigemptyset, which initialises it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours, and initialised first.
    unsafe {
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
    // SAFETY: signalfd reads the set and makes a new descriptor, which nobody else owns.
    let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    crate::check(fd.into())?;
    // SAFETY: checked above: a valid descriptor, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Unblocks `signals` for the calling thread.
pub fn unblock(signals: &[i32]) {
    // SAFETY: an all-zero sigset_t is valid storage for sigemptyset, which initialises it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}

/// Unblocks every signal: what a program expects at its start.
pub fn unblock_all() {
    // SAFETY: an all-zero sigset_t is valid storage for sigemptyset, which initialises it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
}

/// What a process does about a signal.
pub struct Disposition {
    signal: i32,
    action: libc::sigaction,
}

impl Disposition {
    fn replace(signal: i32, action: &libc::sigaction) -> Self {
        // SAFETY: an all-zero sigaction is valid storage for the kernel to fill in.
        let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: what is installed is no code, or code that was installed before.
        unsafe { libc::sigaction(signal, action, &mut before) };
        Self { signal, action: before }
    }

    /// Makes it so again.
    pub fn restore(&self) {
        Self::replace(self.signal, &self.action);
    }
}

/// Ended children need not be waited for: the kernel reaps them. Answers what was done about them before.
pub fn ignore_children() -> Disposition {
    // SAFETY: an all-zero sigaction is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = libc::SIG_IGN;
    Disposition::replace(libc::SIGCHLD, &action)
}
