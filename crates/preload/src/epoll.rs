//! Epoll sets: the kernel's, with one more look at the members that have memory.
//!
//! Registrations stay the kernel's, whose answer is right for every socket that has no memory, for writing, for the end and for
//! faults, edge or level, once or always. What it does not know is what lies in memory; and it takes bells for bytes. So before a
//! wait members are looked at, while it lasts they may be rung for, and after it what bells have said is corrected.

mod member;
mod members;

use crate::look::Wait;
use crate::member::heed;
use crate::slot::{Entry, Slot};
use crate::{bell, kernel, real, receive, send, slot, turn};
use libc::{c_int, epoll_event, sigset_t};
use member::Member;
use members::{Attended, Set, Sets};
use socket::lock::{Held, Lock};
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;
const WRITE: u32 = (libc::EPOLLOUT | libc::EPOLLWRNORM) as u32;
const EDGE: u32 = libc::EPOLLET as u32;
const ONCE: u32 = libc::EPOLLONESHOT as u32;
/// Events that one call gives at most, and of those, how many of what lies in memory: who is given more is still at work on the first when
/// the last have left his cache, and asks for what is there by then when he has gone through these.
const MOST: usize = 512;
const IN_MEMORY: usize = 64;

/// Sets, and members of sets, that there have been: while none, nobody need look.
static KNOWN: AtomicU32 = AtomicU32::new(0);
static MEMBERS: AtomicU32 = AtomicU32::new(0);

static SETS: Lock<Sets> = Lock::new(Sets::new());

fn sets() -> Held<'static, Sets> {
    SETS.lock()
}

/// Tells the kernel what it has not heard yet of a set's members.
fn settle(set: RawFd) {
    if let Some(of) = sets().get(set) {
        of.settle(set);
    }
}

/// The same for all sets: this process may become another program.
pub fn settle_all() {
    if MEMBERS.load(Relaxed) > 0 {
        sets().settle();
    }
}

/// Another process is given a set.
pub fn given(set: RawFd) {
    if MEMBERS.load(Relaxed) > 0 {
        sets().share(Some(set));
    }
}

/// Before a fork: no other thread is at work on these. The child has the same sets.
pub fn hold() {
    let mut sets = sets();
    sets.share(None);
    let _until_released = std::mem::ManuallyDrop::new(sets);
}

/// After it, in the parent.
pub fn release() {
    SETS.release();
}

/// After it, in the child.
pub fn forked() {
    SETS.release();
    sets().forked();
}

/// A set was made.
pub fn created(set: RawFd) {
    if set >= 0 && crate::env::is_on() {
        KNOWN.store(1, Relaxed);
        sets().close(set);
        sets().of(set);
    }
}

/// A registration is to be made, changed or removed: whether that is all there is to be done ([`members`]), and the kernel hears of it later.
/// The program's event is looked at only where it may wait: else the kernel is the first to, which finds out whether there is one.
pub fn registers_late(set: RawFd, what: c_int, fd: RawFd, event: impl Fn() -> Option<epoll_event>) -> bool {
    if MEMBERS.load(Relaxed) == 0 {
        return false;
    }
    let entry = slot::attached(fd);
    let mut sets = sets();
    let Some(of) = sets.get(set) else { return false };
    let Some(said) = entry.as_ref().and_then(|_| of.defers(what, fd, &event)) else {
        of.settle_one(set, fd);
        return false;
    };
    note(&mut sets, (set, what, fd), event(), entry.as_ref());
    sets.of(set).owe(fd, said);
    true
}

/// A registration has been made, changed or removed, in the kernel.
pub fn registered(set: RawFd, what: c_int, fd: RawFd, event: Option<epoll_event>) {
    let known = slot::entry(fd);
    note(&mut sets(), (set, what, fd), event, known.as_ref());
}

fn note(sets: &mut Sets, (set, what, fd): (RawFd, c_int, RawFd), event: Option<epoll_event>, known: Option<&Entry>) {
    let Some(entry) = known else {
        // A set within a set: the outer one is waited for in ways that do not look into the inner one.
        if let (libc::EPOLL_CTL_ADD, Some(inner)) = (what, sets.get(fd)) {
            inner.hide(fd);
        }
        return;
    };
    KNOWN.store(1, Relaxed);
    MEMBERS.store(1, Relaxed);
    entry.set.store(set + 1, Relaxed);
    let of = sets.of(set);
    of.remove(fd);
    let told = what != libc::EPOLL_CTL_DEL && event.is_some_and(|event| event.events & READ != 0);
    entry.told.store(told, Relaxed);
    if told {
        entry.eventful.store(true, Relaxed);
    }
    if let (libc::EPOLL_CTL_ADD | libc::EPOLL_CTL_MOD, Some(event)) = (what, event) {
        of.put(set, Member::new(fd, event.events, event.u64));
    }
}

/// Has others wake a set by a bell: its number, and the bell for who is to be given it.
pub fn bell<T>(set: RawFd, act: impl FnOnce(u64, BorrowedFd<'_>) -> T) -> Option<T> {
    let mut sets = sets();
    sets.get(set)?.bell(set).map(|bell| act(bell.number(), bell.pipe()))
}

/// A set has another descriptor.
pub fn doubled(set: RawFd, new: RawFd) {
    if KNOWN.load(Relaxed) > 0 {
        sets().double(set, new);
    }
}

/// Whoever waits for it is not seen: it is to be rung for whenever it was empty.
pub fn unwatch(entry: &Entry) {
    entry.unwatchable.store(true, Relaxed);
    entry.nap();
}

/// A set is about to be waited for as a descriptor among others.
pub fn seen_among_others(fd: RawFd) {
    if KNOWN.load(Relaxed) > 0
        && let Some(of) = sets().get(fd)
    {
        of.hide(fd);
    }
}

/// Whether a descriptor is a set that is known here.
pub fn is_set(fd: RawFd) -> bool {
    KNOWN.load(Relaxed) > 0 && sets().has(fd)
}

/// A set's descriptor is closed.
pub fn closed(set: RawFd) {
    sets().close(set);
}

/// A socket's descriptor is closed, or about to be.
pub fn left(fd: RawFd) {
    if MEMBERS.load(Relaxed) > 0 {
        sets().leave(fd);
    }
}

/// What is to be known before a wait, of one who `stays` until something comes, or not; None if no more than the kernel says.
fn attend(set: RawFd, stays: bool) -> Option<Attended> {
    if MEMBERS.load(Relaxed) == 0 {
        return None;
    }
    let mut sets = sets();
    let of = sets.get(set)?;
    let mut attended = of.attend(set, stays);
    attended.together |= turn::awaits_kernel();
    if attended.memory == 0 && of.bell.is_none() {
        // The kernel alone is asked.
        of.settle(set);
        return None;
    }
    Some(attended)
}

/// Whether there is something to say of any.
fn any_due(set: RawFd) -> bool {
    sets().get(set).is_some_and(Set::any_due)
}

/// Says what lies in memory: how many events, and when the first of it was sent.
fn scan(set: RawFd, events: &mut [epoll_event]) -> (usize, u64) {
    let mut sets = sets();
    let Some(of) = sets.get(set) else { return (0, 0) };
    let (mut count, mut sent_at) = (0, 0);
    for at in 0..of.look(events.len()) {
        if let Some(member) = of.found(at) {
            if count == 0 {
                sent_at = member.sent_at();
            }
            events[count] = say(set, member);
            count += 1;
        }
    }
    if count > 0 && of.has_sleepers() {
        of.leave_to_others(count == events.len());
    }
    (count, sent_at)
}

/// What is said of a member for which something lies in memory.
fn say(set: RawFd, member: &mut Member) -> epoll_event {
    member.told = member.slot().map(Slot::arrived);
    if member.events & ONCE != 0 {
        change(set, member, ONCE);
    }
    epoll_event { events: member.found_events(), u64: member.data }
}

/// Changes what the kernel is to say of a member.
fn change(set: RawFd, member: &Member, events: u32) {
    let mut event = epoll_event { events, u64: member.data };
    // SAFETY: one structure of this frame.
    unsafe { real::epoll_ctl(set, libc::EPOLL_CTL_MOD, member.fd, &mut event) };
}

/// Corrects what the kernel says behind the first `found` events: how many there are then. Who has found none `looks_again`, or not.
fn correct(set: RawFd, events: &mut [epoll_event], (found, said): (usize, usize), looks_again: bool) -> usize {
    let mut sets = sets();
    let Some(of) = sets.get(set) else { return found + said };
    let (mut left, mut heard) = (found, false);
    for at in found..found + said {
        let mut event = events[at];
        if let (true, Some(bell)) = (bell::is_mark(&event), &of.bell) {
            bell.hear();
            heard = true;
            continue;
        }
        let data = event.u64;
        let spent = of.once(data).is_some_and(|member| member.told.is_some());
        if event.events & !WRITE != 0
            && let Some(member) = of.told_by(set, data)
            && event.events & READ != 0
        {
            event.events &= !sift(set, member);
        }
        if spent {
            // The kernel tells even one that it was asked nothing of that the other end is gone; who asks anew is told.
            event.events = 0;
        } else if event.events != 0
            && let Some(member) = of.once(data)
        {
            // Nor is what lies in memory said of it before it is asked for anew.
            member.told = member.told.or(Some(0));
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
    if heard && (left > 0 || !looks_again) {
        of.pass_on();
    }
    left
}

/// Of a member that the kernel calls readable: what of that is not so.
fn sift(set: RawFd, member: &mut Member) -> u32 {
    let Some(slot) = member.slot() else { return 0 };
    if member.events & EDGE != 0 && slot.has_bytes() && member.told == Some(slot.arrived()) {
        return READ;
    }
    if receive::is_readable(slot, member.fd) {
        member.told = Some(slot.arrived());
        return 0;
    }
    send::serve_recall(slot, member.fd);
    if member.events & ONCE != 0 && member.told.is_none() {
        // The kernel has said it once, for nothing.
        member.spoken = false;
        change(set, member, member.events);
    }
    READ
}

/// Asks the kernel.
fn ask(set: RawFd, events: &mut [epoll_event], timeout: c_int, mask: *const sigset_t) -> c_int {
    // SAFETY: the slice is the program's array; the mask is as it gave it.
    unsafe { real::epoll_pwait(set, events.as_mut_ptr(), events.len() as c_int, timeout, mask) }
}

/// The same, by who has lain down.
fn sleep(set: RawFd, events: &mut [epoll_event], timeout: c_int, mask: *const sigset_t) -> c_int {
    let processor = kernel::processor();
    let asked = ask(set, events, timeout, mask);
    turn::rises(processor);
    asked
}

/// Asks the kernel what it has to say beside what was `found` in memory, before that if some members are `young`: how many events there are
/// then. Less than none: it could not be asked, and nothing was found.
fn ask_beside(
    set: RawFd,
    events: &mut [epoll_event],
    found: usize,
    (stays, young): (bool, bool),
    mask: *const sigset_t,
) -> c_int {
    settle(set);
    let asked = ask(set, &mut events[found..], 0, mask);
    if asked < 0 && found == 0 {
        return asked;
    }
    let all = correct(set, events, (found, asked.max(0) as usize), stays);
    if young {
        events[..all].rotate_left(found);
    }
    all as c_int
}

/// Of so many events, how many may be of what lies in memory: what the kernel has to say is not to be kept out by it.
fn share(room: usize) -> usize {
    (room - room.div_ceil(4)).clamp(1, IN_MEMORY)
}

/// What the kernel has to say to one who has room for one event, now and then, before what lies in memory is looked at.
fn kernel_first(set: RawFd, events: &mut [epoll_event], mask: *const sigset_t) -> Option<c_int> {
    if events.len() > 1 || !found_often() {
        return None;
    }
    settle(set);
    let asked = ask(set, events, 0, mask);
    if asked < 0 {
        return Some(asked);
    }
    let left = correct(set, events, (0, asked as usize), true);
    (left > 0).then_some(left as c_int)
}

/// As epoll_pwait; None if no member has memory.
pub fn wait(set: RawFd, events: &mut [epoll_event], timeout: c_int, mask: *const sigset_t) -> Option<c_int> {
    if events.is_empty() {
        return None;
    }
    let Attended { memory, looked, together, young } = attend(set, timeout != 0)?;
    let most = events.len().min(MOST);
    let events = &mut events[..most];
    if memory > 0
        && let Some(first) = kernel_first(set, events, mask)
    {
        return Some(first);
    }
    let deadline = u64::try_from(timeout).ok().filter(|ms| *ms > 0).map(|ms| kernel::now() + ms * 1_000_000);
    let (mut wait, mut glances): (Option<Wait>, _) =
        (None, memory > 0 && !together && timeout != 0 && Wait::is_short());
    loop {
        let (mut found, sent_at) = scan(set, &mut events[..share(most)]);
        if let (1.., Some(wait)) = (found, &mut wait) {
            wait.wake(sent_at);
        }
        // The kernel's own descriptors have to wait for a moment.
        if found == 0 && std::mem::take(&mut glances) && Wait::glance(looked, || any_due(set)) {
            continue;
        }
        let budget = if found > 0 || timeout == 0 || memory == 0 { 0 } else { Wait::budget(together) };
        // And get their turn, if not each time. Who does not look asks for them below.
        let asks_below = budget == 0 && timeout != 0;
        if (found == 0 && !asks_below) || (found > 0 && found < most && (young || found_often())) {
            match ask_beside(set, events, found, (timeout != 0, young), mask) {
                ..0 => return Some(-1),
                all => found = all as usize,
            }
        }
        let left = deadline.map(|deadline| deadline.saturating_sub(kernel::now()));
        if found > 0 || timeout == 0 || left == Some(0) {
            if let Some(wait) = wait {
                wait.end();
            }
            return Some(found as c_int);
        }
        if wait.get_or_insert_with(Wait::begin).seek(budget, together, looked, || any_due(set)) {
            continue;
        }
        heed();
        if sets().get(set).is_some_and(|of| of.lie(set)) {
            continue;
        }
        if let Some(wait) = &mut wait {
            wait.sleep();
        }
        let ms = left.map_or(-1, |left| left.div_ceil(1_000_000).min(i32::MAX as u64) as c_int);
        let asked = sleep(set, events, ms, mask);
        let error = real::errno();
        if let Some(set) = sets().get(set) {
            set.rise();
        }
        if asked < 0 {
            real::set_errno(error);
            return Some(asked);
        }
        let found = correct(set, events, (0, asked as usize), true);
        if found > 0 {
            if let Some(wait) = wait {
                wait.end();
            }
            return Some(found as c_int);
        }
    }
}

/// What the kernel has said to one who waited while no member had memory, without what this library has put into the set since.
/// None: nothing else was said.
pub fn heard(set: RawFd, events: &mut [epoll_event], said: c_int) -> Option<c_int> {
    let count = usize::try_from(said).unwrap_or(0);
    if !events[..count].iter().any(bell::is_mark) {
        return Some(said);
    }
    let left = correct(set, events, (0, count), true);
    (left > 0).then_some(left as c_int)
}

/// Every eighth time.
fn found_often() -> bool {
    thread_local! {
        static TIMES: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    TIMES.with(|times| times.replace(times.get().wrapping_add(1)).is_multiple_of(8))
}
