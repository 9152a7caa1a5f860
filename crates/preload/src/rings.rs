//! Programs that ask the kernel by `io_uring`, past libc: what they receive so is what TCP has. From the first ring on a process's
//! connections are on TCP, those that it has and those to come.
//!
//! A ring is seen when it is made by libc's `syscall` or by liburing's library, before it is there; of one that is made otherwise, its
//! descriptor is seen when a connection is to be offered memory.

use crate::{env, kernel, say, settle};
use std::ffi::OsStr;
use std::fs;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// What the kernel calls a ring's descriptor.
const NAME: &str = "anon_inode:[io_uring]";
/// Looking at all descriptors takes one part in so many of the time, at most.
const SHARE: u64 = 100;

/// A child that is forked has its parent's rings.
static USED: AtomicBool = AtomicBool::new(false);
/// Before which time, in nanoseconds, descriptors are not looked at again.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// One is about to be made, or has been found.
pub fn begin() {
    if env::is_on() && !USED.swap(true, SeqCst) {
        say::uses_rings();
        settle::all();
    }
}

/// Whether one was made or found.
pub fn are_known() -> bool {
    USED.load(SeqCst)
}

/// Whether this process has one, as far as can be seen.
pub fn are_used() -> bool {
    if are_known() {
        return true;
    }
    let before = kernel::now();
    if before < NEXT.load(Relaxed) {
        return false;
    }
    let found = there_are();
    let after = kernel::now();
    NEXT.store(after + SHARE * (after - before), Relaxed);
    if found {
        begin();
    }
    found
}

fn there_are() -> bool {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return false };
    descriptors
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|name| name.as_os_str() == OsStr::new(NAME)))
}
