//! What a socket is, from its making to its end.

use crate::slot::{self, Entry, state};
use crate::{epoll, kernel, member, real, send, settle};
use libc::{c_int, c_uint, c_ulong, c_void, sockaddr, socklen_t};
use std::sync::atomic::Ordering::Relaxed;

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    // SAFETY: the arguments as they came.
    let fd = unsafe { real::socket(domain, kind, protocol) };
    let streams = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) == libc::SOCK_STREAM;
    begun(fd, streams && matches!(domain, libc::AF_INET | libc::AF_INET6), kind & libc::SOCK_NONBLOCK != 0);
    fd
}

/// A descriptor that the kernel has just given.
fn begun(fd: c_int, is_stream: bool, nonblocking: bool) {
    if fd >= 0 {
        let error = real::errno();
        if is_stream {
            slot::begin(fd);
            no_wait(fd, nonblocking);
        } else {
            slot::end(fd);
        }
        real::set_errno(error);
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    // SAFETY: the program's address, of this length.
    let ends = slot::live(fd).is_some_and(|entry| has_been(&entry)) && unsafe { is_none(address, len) };
    if ends {
        settle::descriptor(fd);
    } else if let Some(entry) = slot::live(fd)
        && has_been(&entry)
    {
        // A second connection of one socket is another connection.
        entry.give_up();
    }
    // SAFETY: the arguments as they came.
    let result = unsafe { real::connect(fd, address, len) };
    if ends && result == 0 && slot::is_ours() {
        // So is the one that this socket may have next.
        slot::end(fd);
    }
    result
}

/// Whether bytes went over this socket already.
fn has_been(entry: &Entry) -> bool {
    entry.state() == state::ATTACHED || entry.tcp_out.load(Relaxed) + entry.tcp_in.load(Relaxed) > 0
}

/// Whether this is nobody's address: a socket that is connected to it is connected no more.
///
/// # Safety
/// It is the program's, of this length.
unsafe fn is_none(address: *const sockaddr, len: socklen_t) -> bool {
    // SAFETY: the caller's.
    let family = if len as usize >= size_of::<sockaddr>() { unsafe { address.as_ref() } } else { None };
    family.is_some_and(|address| c_int::from(address.sa_family) == libc::AF_UNSPEC)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn listen(fd: c_int, backlog: c_int) -> c_int {
    if let Some(entry) = slot::live(fd) {
        entry.give_up();
    }
    // SAFETY: the arguments as they came.
    unsafe { real::listen(fd, backlog) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: the arguments as they came.
    let new = unsafe { real::accept(fd, address, len) };
    begun(new, is_stream(fd, new), false);
    new
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
    // SAFETY: the arguments as they came.
    let new = unsafe { real::accept4(fd, address, len, flags) };
    begun(new, is_stream(fd, new), flags & libc::SOCK_NONBLOCK != 0);
    new
}

/// Whether what was accepted is a stream whose bytes can be counted: all of them are yet to come. Of a listener that was made elsewhere, and
/// came by exec or in a message, nothing is known.
fn is_stream(listener: c_int, new: c_int) -> bool {
    slot::is_known(listener) || new >= 0 && crate::env::is_on() && kernel::is_tcp(new)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    if let Some(entry) = slot::attached(fd).filter(|_| how != libc::SHUT_RD) {
        // The end comes over TCP, behind what is in memory; and so does what is wrong with sending afterwards.
        send::pin(&entry);
    }
    // SAFETY: the arguments as they came.
    let result = unsafe { real::shutdown(fd, how) };
    if let (0, Some(entry)) = (result, slot::entry(fd)) {
        entry.shut(how);
    }
    result
}

/// As Linux has it.
const TCP_INQ: c_int = 36;

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    let other = [
        (libc::IPPROTO_TCP, libc::TCP_ULP),
        (libc::IPPROTO_TCP, libc::TCP_REPAIR),
        (libc::IPPROTO_TCP, TCP_INQ),
        (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    ];
    if other.contains(&(level, name)) || (level, name) == (libc::SOL_SOCKET, libc::SO_OOBINLINE) {
        settle::descriptor(fd);
    }
    // SAFETY: the arguments as they came.
    let result = unsafe { real::setsockopt(fd, level, name, value, len) };
    if level == libc::SOL_SOCKET
        && let Some(entry) = slot::live(fd)
    {
        // It may be a time-out, by one name or another.
        entry.asked.store(false, Relaxed);
    }
    result
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if member::is_ours(fd) {
        // None that the program has.
        real::set_errno(libc::EBADF);
        return -1;
    }
    ended(fd);
    // SAFETY: the arguments as they came.
    unsafe { real::close(fd) }
}

/// A descriptor is about to be closed.
fn ended(fd: c_int) {
    let is_socket = slot::is_known(fd);
    if (is_socket || epoll::is_set(fd)) && slot::is_ours() {
        if let Some(entry) = slot::live(fd).filter(slot::is_last) {
            match entry.state() {
                state::ATTACHED => abandon(&entry, fd),
                state::OFFERED => hasten(fd),
                _ => {}
            }
        }
        epoll::closed(fd);
        slot::end(fd);
    }
}

/// Closing a connection whose bytes were not all received resets it, whether they lie in the kernel or in memory.
fn abandon(entry: &Entry, fd: c_int) {
    if entry.has_bytes() {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let at: *const libc::linger = &linger;
        // SAFETY: one structure of this frame.
        unsafe { real::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, at.cast(), size_of::<libc::linger>() as _) };
    } else {
        // Bells that nobody has heard are no bytes.
        crate::receive::is_readable(entry, fd);
    }
}

/// Ends a connection that the broker may hold for a moment yet, since it was shown to it: without, its end would come when the broker
/// next runs.
fn hasten(fd: c_int) {
    if kernel::resets(fd) {
        kernel::disconnect(fd);
    } else {
        // SAFETY: a descriptor of the program, which it closes.
        unsafe { real::shutdown(fd, libc::SHUT_RDWR) };
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int == 0 {
        slot::known(first, last).for_each(ended);
    }
    // In pieces, around what is this library's.
    let mut from = first;
    for ours in member::ours().into_iter().filter(|ours| (first..=last).contains(ours)) {
        if from < ours {
            // SAFETY: closes descriptors, as asked.
            unsafe { real::close_range(from, ours - 1, flags) };
        }
        from = ours + 1;
    }
    if from > last && from > first {
        return 0;
    }
    // SAFETY: the arguments as they came.
    unsafe { real::close_range(from, last, flags) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn closefrom(first: c_int) {
    // SAFETY: closes what it is asked to. Negative: all.
    unsafe { close_range(first.max(0) as c_uint, c_uint::MAX, 0) };
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup(fd: c_int) -> c_int {
    borrowed(fd);
    // SAFETY: the arguments as they came.
    let new = unsafe { real::dup(fd) };
    doubled(fd, new);
    new
}

/// `new` is another descriptor of what `fd` is.
fn doubled(fd: c_int, new: c_int) {
    if new >= 0 && fd != new {
        epoll::doubled(fd, new);
    }
    let concerned = slot::is_known(fd) || slot::is_known(new);
    if new >= 0 && fd != new && concerned && slot::is_ours() {
        slot::duplicate(fd, new);
    }
    // libc reads and writes there by itself (`stdin`, `stdout`, `stderr`).
    if (0..=libc::STDERR_FILENO).contains(&new) && slot::live(new).is_some() {
        settle::descriptor(new);
    }
}

/// A child that borrows this process's memory (vfork) is about to have another descriptor of it, which nobody knows of: mostly it becomes
/// another program then, whose input and output that is.
fn borrowed(fd: c_int) {
    if slot::is_known(fd) && !slot::is_ours() {
        settle::descriptor(fd);
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup2(fd: c_int, new: c_int) -> c_int {
    borrowed(fd);
    if fd != new && kernel::is_open(fd) {
        if member::is_ours(new) {
            // As Linux says of a descriptor that another thread is at.
            real::set_errno(libc::EBUSY);
            return -1;
        }
        ended(new);
    }
    // SAFETY: the arguments as they came.
    let made = unsafe { real::dup2(fd, new) };
    doubled(fd, made);
    made
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int {
    borrowed(fd);
    if fd != new && kernel::is_open(fd) {
        if member::is_ours(new) {
            // As Linux says of a descriptor that another thread is at.
            real::set_errno(libc::EBUSY);
            return -1;
        }
        ended(new);
    }
    // SAFETY: the arguments as they came.
    let made = unsafe { real::dup3(fd, new, flags) };
    doubled(fd, made);
    made
}

/// As Linux has it.
const F_SETSIG: c_int = 10;

/// # Safety
/// As libc's. (Its third argument comes where a fixed one does.)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    if matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) {
        borrowed(fd);
    }
    // SAFETY: the arguments as they came.
    let result = unsafe { real::fcntl(fd, command, argument) };
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => doubled(fd, result),
        libc::F_SETFL => {
            no_wait(fd, argument & libc::O_NONBLOCK as c_ulong != 0);
            if argument & libc::O_ASYNC as c_ulong != 0 {
                unwatched(fd);
            }
        }
        libc::F_SETOWN | F_SETSIG => unwatched(fd),
        _ => {}
    }
    result
}

/// Whether calls on a descriptor are to wait was said.
fn no_wait(fd: c_int, nonblocking: bool) {
    if let Some(entry) = slot::live(fd) {
        entry.nonblocking.store(nonblocking, Relaxed);
        entry.asked.store(false, Relaxed);
    }
}

fn unwatched(fd: c_int) {
    if let Some(entry) = slot::live(fd) {
        entry.give_up();
        epoll::unwatch(&entry);
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_ulong) -> c_int {
    // SAFETY: the caller's.
    unsafe { fcntl(fd, command, argument) }
}

/// # Safety
/// As libc's. (Its third argument comes where a fixed one does.)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, argument: c_ulong) -> c_int {
    if request == libc::FIONREAD
        && let Some(entry) = slot::entry(fd).filter(|entry| entry.state() == state::ATTACHED)
    {
        let place = argument as *mut c_int;
        // SAFETY: the arguments as they came. The kernel sees whether there is a place for it, where that is not to be seen from here.
        if !super::is_on_stack(place) && unsafe { real::ioctl(fd, request, argument) } < 0 {
            return -1;
        }
        let waiting = entry.waiting(fd);
        // SAFETY: it is there, as was just found out.
        unsafe { *place = c_int::try_from(waiting).unwrap_or(c_int::MAX) };
        return 0;
    }
    // SAFETY: the arguments as they came.
    let result = unsafe { real::ioctl(fd, request, argument) };
    if request == libc::FIONBIO && result == 0 {
        // SAFETY: the int that the kernel has just read.
        no_wait(fd, unsafe { *(argument as *const c_int) } != 0);
    }
    if request == libc::FIOASYNC {
        unwatched(fd);
    }
    result
}

/// Where the bytes of a connection may go: -1 for what is no TCP socket that this library knows, 0 for TCP, 1 for memory.
#[unsafe(no_mangle)]
pub extern "C" fn lichen_socket_tier(fd: c_int) -> c_int {
    match slot::entry(fd) {
        Some(entry) if entry.state() == state::ATTACHED => c_int::from(entry.meets()),
        Some(_) => 0,
        None => -1,
    }
}

/// How often what this end of a connection sends has changed between TCP and memory.
#[unsafe(no_mangle)]
pub extern "C" fn lichen_socket_turns(fd: c_int) -> u64 {
    let turns = |entry: Entry| entry.sending.lock().as_ref().map_or(0, |out| out.turns().into());
    slot::attached(fd).map_or(0, turns)
}
