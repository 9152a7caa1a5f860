//! Bringing a connection back to TCP, both ways and for good: before it gets into hands that know of no memory.
//!
//! What this end sends goes over TCP at once. What the other end has put into memory, and nobody has taken, it sends again over TCP:
//! it is asked to by a word and a bell, and finds that in its next call. One that makes none for a while has stalled, and what
//! it has put into memory is lost to whoever gets the descriptor.

use crate::slot::{self, Entry, state};
use crate::{epoll, kernel, receive, send};
use socket::migration::Stretch;
use std::os::fd::{BorrowedFd, RawFd};

/// How long another end may take, in nanoseconds.
const PATIENCE: u64 = 300_000_000;

/// A descriptor gets into other hands.
pub fn descriptor(fd: RawFd) {
    epoll::given(fd);
    settle(std::iter::once(fd));
}

/// A new program gets the descriptors that do not close then.
pub fn inherited() {
    settle(slot::known(0, u32::MAX).filter(|&fd| {
        // SAFETY: only asked about; the kernel says if it is none.
        let flags = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) });
        flags.is_ok_and(|flags| !flags.contains(rustix::io::FdFlags::CLOEXEC))
    }));
}

/// All connections are about to be used past this library.
pub fn all() {
    settle(slot::known(0, u32::MAX));
}

fn settle(descriptors: impl Iterator<Item = RawFd> + Clone) {
    // All of them, before anything is ended: two that are ends of one connection send each other what was not taken.
    for fd in descriptors.clone() {
        recall(fd);
    }
    for fd in descriptors.clone() {
        call(fd);
    }
    let until = kernel::now() + PATIENCE;
    let is_settled = |fd| {
        slot::attached(fd).is_none_or(|entry| {
            send::serve_recall(&entry, fd);
            is_settled(&entry, fd)
        })
    };
    while !descriptors.clone().all(is_settled) && kernel::now() < until {
        serve();
        std::thread::yield_now();
    }
}

/// Does what others' ends may ask of those that this process has: the thread that would do it in its next call may be this one.
fn serve() {
    for fd in slot::known(0, u32::MAX) {
        if let Some(entry) = slot::attached(fd) {
            send::serve_recall(&entry, fd);
        }
    }
}

fn recall(fd: RawFd) {
    let Some(entry) = slot::live(fd) else { return };
    entry.give_up();
    if entry.state() != state::ATTACHED {
        return;
    }
    if !entry.meets() {
        // Nobody has put anything into memory; and nobody will, once the other end sees this.
        send::pin(&entry);
    }
    if let Some(incoming) = entry.receiving.lock().as_mut() {
        incoming.recall();
    }
}

/// Rings, so that the other end looks; the last that goes through memory. It need not, if it is there already.
fn call(fd: RawFd) {
    let Some(entry) = slot::attached(fd) else { return };
    send::serve_recall(&entry, fd);
    if let Some(out) = entry.sending.lock().as_mut() {
        if out.rise() {
            out.ring();
            if kernel::bell(fd).is_err() {
                out.unring();
            }
        }
        out.pin();
    }
}

fn is_settled(entry: &Entry, fd: RawFd) -> bool {
    let mut receiving = entry.receiving.lock();
    let Some(incoming) = receiving.as_mut() else { return true };
    match incoming.look() {
        Ok(Stretch::Memory { ready: 0, .. }) => {
            receive::strip(entry, fd, incoming);
            false
        }
        Ok(Stretch::Memory { .. } | Stretch::Tcp { left: Some(_) }) => false,
        Ok(Stretch::Tcp { left: None }) | Err(_) => true,
    }
}
