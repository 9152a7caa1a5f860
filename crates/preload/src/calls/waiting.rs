//! Poll, select, epoll.

use crate::{epoll as sets, kernel, poll as polls, real, slot};
use libc::{c_int, epoll_event, fd_set, nfds_t, pollfd, sigset_t, size_t, timespec, timeval};
use std::ptr::null;

/// # Safety
/// The array is the program's, of that length.
unsafe fn array<'a>(polls: *mut pollfd, count: nfds_t) -> &'a mut [pollfd] {
    if polls.is_null() || count == 0 {
        return &mut [];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts_mut(polls, count as usize) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(polls: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    let time = timespec { tv_sec: (timeout.max(0) / 1000).into(), tv_nsec: (timeout.max(0) % 1000 * 1_000_000).into() };
    // SAFETY: the program's array.
    let found = polls::wait(unsafe { array(polls, count) }, (timeout >= 0).then_some(&time), null());
    // SAFETY: the arguments as they came.
    found.unwrap_or_else(|| unsafe { real::poll(polls, count, timeout) })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __poll_chk(polls: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int {
    if room / size_of::<pollfd>() < count as usize {
        std::process::abort();
    }
    // SAFETY: the caller's.
    unsafe { poll(polls, count, timeout) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ppoll(
    polls: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the program's array and time.
    let found = unsafe { polls::wait(array(polls, count), timeout.as_ref(), mask) };
    // SAFETY: the arguments as they came.
    found.unwrap_or_else(|| unsafe { real::ppoll(polls, count, timeout, mask) })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __ppoll_chk(
    polls: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    room: size_t,
) -> c_int {
    if room / size_of::<pollfd>() < count as usize {
        std::process::abort();
    }
    // SAFETY: the caller's.
    unsafe { ppoll(polls, count, timeout, mask) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    other: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    // SAFETY: the program's sets.
    let Some(taken) = (unsafe { polls::Sets::take(count, [read, write, other]) }) else {
        // SAFETY: the arguments as they came.
        return unsafe { real::select(count, read, write, other, timeout) };
    };
    // SAFETY: the program's time, if there is one.
    let time = unsafe { timeout.as_ref() }.map(|time| timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_usec * 1000 });
    let began = crate::kernel::now();
    let found = taken.wait(time.as_ref(), null());
    // SAFETY: as above.
    if let Some(time) = unsafe { timeout.as_mut() } {
        // What is left of it, as Linux says.
        let whole = (time.tv_sec as u64).saturating_mul(1_000_000).saturating_add(time.tv_usec as u64);
        let left = whole.saturating_sub((crate::kernel::now() - began) / 1000);
        (time.tv_sec, time.tv_usec) = ((left / 1_000_000) as _, (left % 1_000_000) as _);
    }
    found
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pselect(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    other: *mut fd_set,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the program's sets.
    match unsafe { polls::Sets::take(count, [read, write, other]) } {
        // SAFETY: the program's time, if there is one.
        Some(taken) => taken.wait(unsafe { timeout.as_ref() }, mask),
        // SAFETY: the arguments as they came.
        None => unsafe { real::pselect(count, read, write, other, timeout, mask) },
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_create(size: c_int) -> c_int {
    // SAFETY: the argument as it came.
    let set = unsafe { real::epoll_create(size) };
    sets::created(set);
    set
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_create1(flags: c_int) -> c_int {
    // SAFETY: the argument as it came.
    let set = unsafe { real::epoll_create1(flags) };
    sets::created(set);
    set
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_ctl(set: c_int, what: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    // SAFETY: the program's, which the kernel reads too, but of one that is removed.
    let wanted = || if what == libc::EPOLL_CTL_DEL { None } else { unsafe { event.as_ref() }.copied() };
    // One that the kernel does not see at once has to be there for certain. Event loops have it on their stack.
    let at_hand = || if super::is_on_stack(event) { wanted() } else { None };
    if slot::is_known(fd) && sets::registers_late(set, what, fd, at_hand) {
        return 0;
    }
    // SAFETY: the arguments as they came.
    let result = unsafe { real::epoll_ctl(set, what, fd, event) };
    if result == 0 {
        sets::registered(set, what, fd, wanted());
    }
    result
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(set: c_int, events: *mut epoll_event, most: c_int, timeout: c_int) -> c_int {
    let plain = |timeout| {
        // SAFETY: the arguments as they came.
        unsafe { real::epoll_wait(set, events, most, timeout) }
    };
    // SAFETY: the program's array.
    unsafe { wait(set, (events, most), timeout, null(), plain) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait(
    set: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
    mask: *const sigset_t,
) -> c_int {
    let plain = |timeout| {
        // SAFETY: the arguments as they came.
        unsafe { real::epoll_pwait(set, events, most, timeout, mask) }
    };
    // SAFETY: the program's array.
    unsafe { wait(set, (events, most), timeout, mask, plain) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_pwait2(
    set: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    // SAFETY: the program's time, if there is one.
    let ms = unsafe { timeout.as_ref() }.map(|time| time.tv_sec * 1000 + (time.tv_nsec + 999_999) / 1_000_000);
    let rounded = ms.map_or(-1, |ms| c_int::try_from(ms).unwrap_or(c_int::MAX));
    let plain = |left: c_int| {
        let time = timespec { tv_sec: (left / 1000).into(), tv_nsec: (left % 1000 * 1_000_000).into() };
        let timeout = if left == rounded { timeout } else { &raw const time };
        // SAFETY: the arguments as they came, or less of the time.
        unsafe { real::epoll_pwait2(set, events, most, timeout, mask) }
    };
    // SAFETY: the program's array.
    unsafe { wait(set, (events, most), rounded, mask, plain) }
}

/// Waits `plain`ly where no member has memory.
///
/// # Safety
/// The array is the program's, of that length.
unsafe fn wait(
    set: c_int,
    (events, most): (*mut epoll_event, c_int),
    timeout: c_int,
    mask: *const sigset_t,
    plain: impl Fn(c_int) -> c_int,
) -> c_int {
    let Some(most) = usize::try_from(most).ok().filter(|&most| most > 0 && !events.is_null()) else {
        return plain(timeout);
    };
    // SAFETY: the caller's.
    let events = unsafe { std::slice::from_raw_parts_mut(events, most) };
    let deadline = u64::try_from(timeout).ok().filter(|ms| *ms > 0).map(|ms| kernel::now() + ms * 1_000_000);
    let mut left = timeout;
    loop {
        if let Some(found) = sets::wait(set, events, left, mask) {
            return found;
        }
        let said = plain(left);
        if let Some(found) = sets::heard(set, events, said) {
            return found;
        }
        if let Some(deadline) = deadline {
            let rest = deadline.saturating_sub(kernel::now()).div_ceil(1_000_000);
            left = c_int::try_from(rest).unwrap_or(c_int::MAX).min(left);
        }
    }
}
