//! Reading and writing.

use crate::kernel::{self, PARTS};
use crate::slot::{self, Entry, state};
use crate::{real, receive, send, settle};
use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, off64_t, size_t, sockaddr, socklen_t, ssize_t, timespec};
use socket::parts::Part;
use std::os::fd::BorrowedFd;

fn one(buffer: *const c_void, len: size_t) -> Part {
    Part { at: buffer.cast_mut().cast(), len }
}

/// None if the kernel is to look at these.
///
/// # Safety
/// The array is the program's, of that length.
unsafe fn many<'a>(parts: *const iovec, count: usize) -> Option<&'a [Part]> {
    // SAFETY: a part is an iovec in memory.
    (count > 0 && count <= PARTS && !parts.is_null())
        .then(|| unsafe { std::slice::from_raw_parts(parts.cast(), count) })
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, buffer: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::read(fd, buffer, len) };
    let Some(entry) = slot::live(fd) else { return original() };
    receive::receive(&entry, fd, &[one(buffer, len)], 0, original)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __read_chk(fd: c_int, buffer: *mut c_void, len: size_t, room: size_t) -> ssize_t {
    refuse_overflow(len, room);
    // SAFETY: the caller's.
    unsafe { read(fd, buffer, len) }
}

/// What fortified calls do whose buffer is too small.
fn refuse_overflow(len: size_t, room: size_t) {
    if len > room {
        std::process::abort();
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::readv(fd, parts, count) };
    let Some(entry) = slot::live(fd) else { return original() };
    // SAFETY: the program's buffers.
    match unsafe { many(parts, usize::try_from(count).unwrap_or(0)) } {
        Some(parts) => receive::receive(&entry, fd, parts, 0, original),
        None => original(),
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn preadv2(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::preadv2(fd, parts, count, offset, flags) };
    let Some((entry, flags)) = unplaced(fd, offset, flags) else { return original() };
    // SAFETY: the program's buffers.
    match unsafe { many(parts, usize::try_from(count).unwrap_or(0)) } {
        Some(parts) => receive::receive(&entry, fd, parts, flags, original),
        None => original(),
    }
}

/// A call that would say where in a file, and does not: as what, with which flags. None: it is the kernel's to answer, which refuses what is
/// a place, and has all there is over TCP for flags that nobody carries.
fn unplaced(fd: c_int, offset: off64_t, flags: c_int) -> Option<(Entry, c_int)> {
    let entry = slot::live(fd).filter(|_| offset == -1)?;
    match flags {
        0 => Some((entry, 0)),
        libc::RWF_NOWAIT => Some((entry, libc::MSG_DONTWAIT)),
        _ => {
            settle::descriptor(fd);
            None
        }
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn preadv64v2(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's. Offsets have 64 bits in both.
    unsafe { preadv2(fd, parts, count, offset, flags) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recv(fd: c_int, buffer: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::recv(fd, buffer, len, flags) };
    let Some(entry) = slot::live(fd) else { return original() };
    if flags & libc::MSG_TRUNC != 0 {
        return dropping(&entry, fd, len, flags, original);
    }
    receive::receive(&entry, fd, &[one(buffer, len)], flags, original)
}

/// A call that throws bytes away, whose buffer may be none.
fn dropping(entry: &Entry, fd: c_int, len: size_t, flags: c_int, original: impl Fn() -> isize) -> ssize_t {
    let mut scratch = [0u8; 16 * 1024];
    let most = len.min(scratch.len());
    if entry.state() != state::ATTACHED {
        entry.give_up();
    }
    if entry.state() != state::ATTACHED {
        return original();
    }
    receive::receive(entry, fd, &[Part::into(&mut scratch[..most])], flags & !libc::MSG_TRUNC, original)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recv_chk(
    fd: c_int,
    buffer: *mut c_void,
    len: size_t,
    room: size_t,
    flags: c_int,
) -> ssize_t {
    refuse_overflow(len, room);
    // SAFETY: the caller's.
    unsafe { recv(fd, buffer, len, flags) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvfrom(
    fd: c_int,
    buffer: *mut c_void,
    len: size_t,
    flags: c_int,
    from: *mut sockaddr,
    size: *mut socklen_t,
) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = move || unsafe { real::recvfrom(fd, buffer, len, flags, from, size) };
    let Some(entry) = slot::live(fd) else { return original() };
    if entry.state() == state::ATTACHED && !from.is_null() && !size.is_null() {
        // As TCP does, whose bytes come from nobody in particular.
        // SAFETY: the program's.
        unsafe { *size = 0 };
    }
    if flags & libc::MSG_TRUNC != 0 {
        return dropping(&entry, fd, len, flags, original);
    }
    receive::receive(&entry, fd, &[one(buffer, len)], flags, original)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recvfrom_chk(
    fd: c_int,
    buffer: *mut c_void,
    len: size_t,
    room: size_t,
    flags: c_int,
    from: *mut sockaddr,
    size: *mut socklen_t,
) -> ssize_t {
    refuse_overflow(len, room);
    // SAFETY: the caller's.
    unsafe { recvfrom(fd, buffer, len, flags, from, size) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = move || unsafe { real::recvmsg(fd, message, flags) };
    let Some(entry) = slot::live(fd).filter(|_| !message.is_null()) else { return original() };
    // SAFETY: the program's message.
    let asked = unsafe { &mut *message };
    // SAFETY: the program's buffers.
    let Some(parts) = (unsafe { many(asked.msg_iov, asked.msg_iovlen) }) else { return original() };
    if entry.state() == state::ATTACHED && flags & libc::MSG_ERRQUEUE == 0 {
        (asked.msg_namelen, asked.msg_controllen, asked.msg_flags) = (0, 0, 0);
    }
    if flags & libc::MSG_TRUNC != 0 {
        return dropping(&entry, fd, parts.iter().map(|part| part.len).sum(), flags, original);
    }
    receive::receive(&entry, fd, parts, flags, original)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    if slot::live(fd).is_none() || count == 0 || messages.is_null() {
        // SAFETY: the arguments as they came.
        return unsafe { real::recvmmsg(fd, messages, count, flags, timeout) };
    }
    // SAFETY: the program's time, if there is one.
    let time = unsafe { timeout.as_ref() }.map(|time| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64);
    let until = time.map(|time| kernel::now().saturating_add(time));
    let mut flags = flags;
    for done in 0..count.min(PARTS as c_uint) {
        // SAFETY: there are `count` of them.
        let message = unsafe { &mut *messages.add(done as usize) };
        // SAFETY: the program's message.
        let got = unsafe { recvmsg(fd, &mut message.msg_hdr, flags & !libc::MSG_WAITFORONE) };
        if got < 0 {
            return if done == 0 { -1 } else { done as c_int };
        }
        message.msg_len = got as c_uint;
        if flags & libc::MSG_WAITFORONE != 0 {
            flags |= libc::MSG_DONTWAIT;
        }
        // As the kernel has it: looked at between two messages only.
        if until.is_some_and(|until| kernel::now() >= until) {
            return done as c_int + 1;
        }
    }
    count.min(PARTS as c_uint) as c_int
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, buffer: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::write(fd, buffer, len) };
    let Some(entry) = send::live(fd) else { return original() };
    send::send(&entry, fd, &[one(buffer, len)], 0, original)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::writev(fd, parts, count) };
    let Some(entry) = send::live(fd) else { return original() };
    // SAFETY: the program's buffers.
    match unsafe { many(parts, usize::try_from(count).unwrap_or(0)) } {
        Some(parts) => send::send(&entry, fd, parts, 0, original),
        None => original(),
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev2(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::pwritev2(fd, parts, count, offset, flags) };
    let Some((entry, flags)) = unplaced(fd, offset, flags) else { return original() };
    // SAFETY: the program's buffers.
    match unsafe { many(parts, usize::try_from(count).unwrap_or(0)) } {
        Some(parts) => send::send(&entry, fd, parts, flags, original),
        None => original(),
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64v2(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    offset: off64_t,
    flags: c_int,
) -> ssize_t {
    // SAFETY: the caller's. Offsets have 64 bits in both.
    unsafe { pwritev2(fd, parts, count, offset, flags) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(fd: c_int, buffer: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::send(fd, buffer, len, flags) };
    let Some(entry) = send::live(fd) else { return original() };
    send::send(&entry, fd, &[one(buffer, len)], flags, original)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    buffer: *const c_void,
    len: size_t,
    flags: c_int,
    to: *const sockaddr,
    size: socklen_t,
) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::sendto(fd, buffer, len, flags, to, size) };
    let Some(entry) = send::live(fd) else { return original() };
    send::send(&entry, fd, &[one(buffer, len)], flags, original)
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::sendmsg(fd, message, flags) };
    // SAFETY: the program's message, if there is one.
    let Some(said) = (unsafe { message.as_ref() }) else { return original() };
    let controlled = !said.msg_control.is_null() && said.msg_controllen > 0;
    if controlled {
        // SAFETY: the program's message.
        unsafe { give_away(said) };
    }
    let Some(entry) = send::live(fd) else { return original() };
    // SAFETY: the program's buffers.
    match unsafe { many(said.msg_iov, said.msg_iovlen) } {
        Some(parts) if !controlled => send::send(&entry, fd, parts, flags, original),
        _ => send::by_kernel(&entry, original),
    }
}

/// Brings the descriptors of a message back to TCP.
///
/// # Safety
/// The message is the program's.
unsafe fn give_away(message: &msghdr) {
    // SAFETY: the program's message, whose control lies in memory as these macros walk it.
    unsafe {
        let mut part = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = part.as_ref() {
            if header.cmsg_level == libc::SOL_SOCKET && header.cmsg_type == libc::SCM_RIGHTS {
                let len = header.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize) / size_of::<c_int>();
                let fds = libc::CMSG_DATA(part).cast::<c_int>();
                (0..len).for_each(|i| settle::descriptor(fds.add(i).read_unaligned()));
            }
            part = libc::CMSG_NXTHDR(message, part);
        }
    }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
    if slot::live(fd).is_none() || messages.is_null() {
        // SAFETY: the arguments as they came.
        return unsafe { real::sendmmsg(fd, messages, count, flags) };
    }
    for done in 0..count.min(PARTS as c_uint) {
        // SAFETY: there are `count` of them.
        let message = unsafe { &mut *messages.add(done as usize) };
        // SAFETY: the program's message.
        let sent = unsafe { sendmsg(fd, &message.msg_hdr, flags) };
        if sent < 0 {
            return if done == 0 { -1 } else { done as c_int };
        }
        message.msg_len = sent as c_uint;
    }
    count.min(PARTS as c_uint) as c_int
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(to: c_int, from: c_int, offset: *mut off64_t, len: size_t) -> ssize_t {
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::sendfile(to, from, offset, len) };
    let Some(entry) = send::live(to) else { return original() };
    // SAFETY: the arguments as they came, but for no bytes: the kernel looks whether there is an offset, and this a file.
    if !offset.is_null() && unsafe { real::sendfile(to, from, offset, 0) } < 0 {
        return send::by_kernel(&entry, original);
    }
    // SAFETY: the program's, if it has given one, which the kernel has just read; not negative, as the kernel has it.
    let at = (!offset.is_null()).then(|| unsafe { *offset });
    let read = match (from, at.map(u64::try_from)) {
        (..0, _) | (_, Some(Err(_))) => None,
        // SAFETY: the program says that it is open, and the kernel would be asked about it likewise.
        (_, at) => send::file(&entry, to, unsafe { BorrowedFd::borrow_raw(from) }, at.and_then(Result::ok), len),
    };
    let Some((sent, end)) = read else { return send::by_kernel(&entry, original) };
    if !offset.is_null() {
        // SAFETY: as above.
        unsafe { *offset = end as off64_t };
    }
    sent
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(to: c_int, from: c_int, offset: *mut off64_t, len: size_t) -> ssize_t {
    // SAFETY: the caller's. Offsets have 64 bits in both.
    unsafe { sendfile(to, from, offset, len) }
}

/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn splice(
    from: c_int,
    from_at: *mut off64_t,
    to: c_int,
    to_at: *mut off64_t,
    len: size_t,
    flags: c_uint,
) -> ssize_t {
    settle::descriptor(from);
    // SAFETY: the arguments as they came.
    let original = || unsafe { real::splice(from, from_at, to, to_at, len, flags) };
    match slot::live(to) {
        Some(entry) => send::by_kernel(&entry, original),
        None => original(),
    }
}
