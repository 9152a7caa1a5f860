//! Epoll sets: the kernel's, with one more look at the members that have memory.
//!
//! Registrations stay the kernel's, whose answer is right for every socket that has no memory, for writing, for the end and for
//! faults, edge or level, once or always. What it does not know is what lies in memory; and it takes bells for bytes. So before a
//! wait members are looked at, while it lasts they may be rung for, and after it what bells have said is corrected.

use crate::bell::{self, Bell};
use crate::look::Wait;
use crate::slot::{self, Entry};
use crate::{kernel, real, receive, send};
use libc::{c_int, epoll_event, sigset_t};
use socket::lock::{Held, Lock};
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;
const EDGE: u32 = libc::EPOLLET as u32;
const ONCE: u32 = libc::EPOLLONESHOT as u32;
/// Events that one call gives at most.
const MOST: usize = 512;

/// A socket in a set.
#[derive(Clone, Copy, Debug)]
struct Member {
    fd: RawFd,
    events: u32,
    data: u64,
    /// Something was said of it, and nothing has come since; or it was to be said once.
    told: Option<u64>,
}

#[derive(Debug, Default)]
struct Set {
    members: Vec<Member>,
    /// Where the next look begins.
    turn: usize,
    /// Somebody was seen to wait for it by this descriptor: then he does not find its bell among his events.
    waited: bool,
    /// By what others wake who waits for it.
    bell: Option<Bell>,
}

impl Set {
    /// The number of its bell; 0: there is none that is this process's.
    fn bell(&self) -> u64 {
        self.bell.as_ref().filter(|bell| bell.is_own()).map_or(0, Bell::number)
    }
}

/// Sets that there have been: while none, nobody need look.
static MEMBERS: AtomicU32 = AtomicU32::new(0);

static SETS: Lock<BTreeMap<RawFd, Set>> = Lock::new(BTreeMap::new());

fn sets() -> Held<'static, BTreeMap<RawFd, Set>> {
    SETS.lock()
}

/// Before a fork: no other thread is at work on these.
pub fn hold() {
    let _until_released = std::mem::ManuallyDrop::new(sets());
}

/// After it, in the parent and in the child.
pub fn release() {
    SETS.release();
}

/// A registration has been made, changed or removed, in the kernel.
pub fn registered(set: RawFd, what: c_int, fd: RawFd, event: Option<epoll_event>) {
    let known = slot::entry(fd);
    let mut sets = sets();
    if known.is_none() {
        // A set within a set: the outer one is waited for in ways that do not look into the inner one.
        if let (libc::EPOLL_CTL_ADD, Some(inner)) = (what, sets.get(&fd)) {
            inner.members.iter().filter_map(|member| slot::entry(member.fd)).for_each(|entry| unwatch(&entry));
        }
        return;
    }
    MEMBERS.store(1, Relaxed);
    if let Some(entry) = &known {
        entry.set.store(set + 1, Relaxed);
    }
    let of = sets.entry(set).or_default();
    of.members.retain(|member| member.fd != fd);
    if let (libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD, Some(event)) = (what, event) {
        of.members.push(Member { fd, events: event.events, data: event.u64, told: None });
    }
}

/// Has others wake a set by a bell: its number, and the bell for who is to be given it.
pub fn bell<T>(set: RawFd, act: impl FnOnce(u64, BorrowedFd<'_>) -> T) -> Option<T> {
    let mut sets = sets();
    let of = sets.get_mut(&set)?;
    if of.bell.is_none() && of.waited {
        of.bell = Bell::in_set(set);
    }
    of.bell.as_ref().filter(|bell| bell.is_own()).map(|bell| act(bell.number(), bell.pipe()))
}

/// A set has another descriptor: by that it is waited for in ways that are not seen.
pub fn doubled(set: RawFd) {
    if MEMBERS.load(Relaxed) == 0 {
        return;
    }
    if let Some(of) = sets().get(&set) {
        of.members.iter().filter_map(|member| slot::entry(member.fd)).for_each(|entry| unwatch(&entry));
    }
}

/// Whoever waits for it is not seen: it is to be rung for whenever it was empty.
pub fn unwatch(entry: &Entry) {
    entry.unwatchable.store(true, Relaxed);
    entry.nap();
}

/// Whether a descriptor is a set that is known here.
pub fn is_set(fd: RawFd) -> bool {
    MEMBERS.load(Relaxed) > 0 && sets().contains_key(&fd)
}

/// A descriptor is closed: as a set, and as a member.
pub fn closed(fd: RawFd, is_socket: bool) {
    let mut sets = sets();
    if is_socket {
        sets.values_mut().for_each(|set| set.members.retain(|member| member.fd != fd));
    }
    sets.remove(&fd);
}

/// Whether more is to be known of this set than the kernel says.
fn is_known(set: RawFd) -> bool {
    if MEMBERS.load(Relaxed) == 0 {
        return false;
    }
    let mut sets = sets();
    let Some(of) = sets.get_mut(&set) else { return false };
    of.waited = true;
    let has_memory = |member: &Member| slot::attached(member.fd).is_some();
    of.bell.is_some() || slot::any_attached() && of.members.iter().any(has_memory)
}

/// Whether there is something to say of a member.
fn is_due(member: &Member, entry: &Entry) -> bool {
    if member.events & READ == 0 || !entry.has_bytes() {
        return false;
    }
    match member.told {
        Some(_) if member.events & ONCE != 0 => false,
        Some(told) if member.events & EDGE != 0 => told != entry.arrived(),
        _ => true,
    }
}

/// Whether there is something to say of any.
fn any_due(set: RawFd) -> bool {
    let sets = sets();
    let mut members = sets.get(&set).into_iter().flat_map(|of| &of.members);
    members.any(|member| slot::attached(member.fd).is_some_and(|entry| is_due(member, &entry)))
}

/// Says what lies in memory: how many events.
fn scan(set: RawFd, events: &mut [epoll_event]) -> usize {
    let (mut sets, mut count) = (sets(), 0);
    let Some(of) = sets.get_mut(&set) else { return 0 };
    let len = of.members.len();
    for step in 0..len {
        let member = &mut of.members[(of.turn + step) % len];
        let entry = slot::attached(member.fd).filter(|entry| is_due(member, entry));
        let (Some(entry), true) = (entry, count < events.len()) else { continue };
        member.told = Some(entry.arrived());
        if member.events & ONCE != 0 {
            change(set, member, ONCE);
        }
        events[count] = epoll_event { events: member.events & READ, u64: member.data };
        count += 1;
    }
    of.turn = of.turn.wrapping_add(1) % len.max(1);
    count
}

/// Changes what the kernel is to say of a member.
fn change(set: RawFd, member: &Member, events: u32) {
    let mut event = epoll_event { events, u64: member.data };
    // SAFETY: one structure of this frame.
    unsafe { real::epoll_ctl(set, libc::EPOLL_CTL_MOD, member.fd, &mut event) };
}

/// For each member that has memory.
fn each(set: RawFd, mut act: impl FnMut(&Member, &Entry)) {
    if let Some(of) = sets().get(&set) {
        for member in of.members.iter().filter(|member| member.events & READ != 0) {
            if let Some(entry) = slot::attached(member.fd) {
                act(member, &entry);
            }
        }
    }
}

/// Corrects what the kernel says behind the first `found` events: how many there are then.
fn correct(set: RawFd, events: &mut [epoll_event], found: usize, said: usize) -> usize {
    let mut sets = sets();
    let Some(of) = sets.get_mut(&set) else { return found + said };
    let mut left = found;
    for at in found..found + said {
        let mut event = events[at];
        if let (true, Some(bell)) = (bell::is_mark(&event), &of.bell) {
            bell.hear();
            continue;
        }
        let data = event.u64;
        let of_this = |member: &&mut Member| member.data == data && slot::attached(member.fd).is_some();
        if let Some(member) = of.members.iter_mut().find(of_this).filter(|_| event.events & READ != 0) {
            event.events &= !sift(set, member);
        }
        // What is in memory was said already.
        let twice = events[..found].iter_mut().find(|other| { other.u64 } == data);
        if let Some(other) = twice {
            other.events |= event.events;
        } else if event.events != 0 {
            events[left] = event;
            left += 1;
        }
    }
    left
}

/// Of a member that the kernel calls readable: what of that is not so.
fn sift(set: RawFd, member: &mut Member) -> u32 {
    let Some(entry) = slot::attached(member.fd) else { return 0 };
    if member.events & EDGE != 0 && entry.has_bytes() && member.told == Some(entry.arrived()) {
        return READ;
    }
    if receive::is_readable(&entry, member.fd) {
        member.told = Some(entry.arrived());
        return 0;
    }
    send::serve_recall(&entry, member.fd);
    if member.events & ONCE != 0 && member.told.is_none() {
        // The kernel has said it once, for nothing.
        change(set, member, member.events);
    }
    READ
}

/// Asks the kernel.
fn ask(set: RawFd, events: &mut [epoll_event], timeout: c_int, mask: *const sigset_t) -> c_int {
    // SAFETY: the slice is the program's array; the mask is as it gave it.
    unsafe { real::epoll_pwait(set, events.as_mut_ptr(), events.len() as c_int, timeout, mask) }
}

/// As epoll_pwait; None if no member has memory.
pub fn wait(set: RawFd, events: &mut [epoll_event], timeout: c_int, mask: *const sigset_t) -> Option<c_int> {
    if events.is_empty() || !is_known(set) {
        return None;
    }
    let most = events.len().min(MOST);
    let events = &mut events[..most];
    let deadline = u64::try_from(timeout).ok().map(|ms| kernel::now() + ms * 1_000_000);
    let (wait, mut together) = (Wait::begin(), false);
    each(set, |member, entry| {
        entry.watched.store(true, Relaxed);
        entry.meets();
        send::serve_recall(entry, member.fd);
        together |= entry.shares_processor();
    });
    loop {
        let mut found = scan(set, events);
        let budget = if found > 0 || timeout == 0 { 0 } else { Wait::budget(together) };
        // The kernel's own descriptors get their turn, if not each time. Who does not look asks it below.
        let asks_below = budget == 0 && timeout != 0;
        if (found == 0 && !asks_below) || (found > 0 && found < most && found_often()) {
            let asked = ask(set, &mut events[found..], 0, mask);
            if asked < 0 && found == 0 {
                return Some(asked);
            }
            found = correct(set, events, found, asked.max(0) as usize);
        }
        let left = deadline.map(|deadline| deadline.saturating_sub(kernel::now()));
        if found > 0 || left == Some(0) {
            wait.end();
            return Some(found as c_int);
        }
        each(set, |_, entry| entry.doze());
        if wait.look(budget, || any_due(set)) {
            continue;
        }
        lie(set);
        if any_due(set) {
            each(set, |_, entry| entry.woke());
            continue;
        }
        let ms = left.map_or(-1, |left| left.div_ceil(1_000_000).min(i32::MAX as u64) as c_int);
        let asked = ask(set, events, ms, mask);
        each(set, |_, entry| entry.woke());
        if asked < 0 {
            return Some(asked);
        }
        let found = correct(set, events, 0, asked as usize);
        if found > 0 {
            wait.end();
            return Some(found as c_int);
        }
    }
}

/// Says that all members are to be rung for. One of which an edge was told is to be rung for anew.
fn lie(set: RawFd) {
    let bell = sets().get(&set).map_or(0, Set::bell);
    each(set, |member, entry| {
        if member.events & EDGE != 0
            && entry.has_bytes()
            && let Some(incoming) = entry.receiving.lock().as_mut()
        {
            receive::strip(member.fd, incoming);
            incoming.wake();
        }
        entry.lie(bell);
    });
}

/// Every eighth time.
fn found_often() -> bool {
    thread_local! {
        static TIMES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    TIMES.with(|times| times.replace(times.get().wrapping_add(1)).is_multiple_of(8))
}
