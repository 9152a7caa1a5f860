//! Slots where processes begin and end: forks, programs that take the place of others, and the library's own beginning.

use super::{AWAY, HOLDS, PROCESS, SLOTS, Slot, close_offer, is_ours, slots};
use crate::{bell, epoll, member, relatives};
use socket::lock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Before a fork: the child will hold what this process holds. The sets come last: who has one of the others may close a descriptor,
/// and look among them whether it is one.
pub extern "C" fn before_fork() {
    member::hold();
    bell::hold();
    epoll::hold();
    let child = relatives::expect();
    each_held(|slot| slot.join(child));
}

/// After a fork, in the parent.
pub extern "C" fn in_parent() {
    epoll::release();
    bell::release();
    member::release();
}

/// After a fork, in the child: offers belong to the parent.
pub extern "C" fn in_child() {
    bell::release();
    bell::forked();
    member::release();
    lock::forked();
    epoll::forked();
    relatives::born();
    PROCESS.store(std::process::id(), Relaxed);
    member::forked();
    (0..SLOTS).for_each(close_offer);
}

fn each_held(mut act: impl FnMut(&Slot)) {
    let Some(slots) = slots() else { return };
    for (index, slot) in slots.iter().enumerate() {
        if HOLDS[index].load(Acquire) > 0 {
            act(slot);
        }
    }
}

/// This process is about to become another program, which holds nothing. If it does not, it comes back when it next uses one.
pub fn depart() {
    if is_ours() {
        epoll::settle_all();
        each_held(|slot| {
            slot.holders.fetch_and(!relatives::own(), AcqRel);
        });
        AWAY.store(true, Release);
    }
}

#[cold]
pub fn come_back() {
    AWAY.store(false, Release);
    each_held(|slot| slot.join(relatives::own()));
}

/// When the library is loaded.
pub fn start() {
    PROCESS.store(std::process::id(), Relaxed);
    // SAFETY: both are calls without arguments that may run in any thread.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
}
