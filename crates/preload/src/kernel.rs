//! What this library asks the kernel about a socket itself: never waiting, and without the calls that it stands before.

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket::parts::Part;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};

/// The parts of one call at most; more are the kernel's to refuse.
pub const PARTS: usize = 1024;

/// What lies in a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    Empty,
    /// Something.
    Some,
    /// Nothing, and nothing will come.
    End,
    Fault(i32),
}

fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the program uses this descriptor in the call that leads here. Should it close it meanwhile, the kernel answers for
    // whatever has its number, as it does to the program.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Looks at the front of a socket.
pub fn front(fd: RawFd) -> Queue {
    let mut byte = [MaybeUninit::uninit(); 1];
    match rustix::net::recv(borrow(fd), &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Queue::End,
        Ok(_) => Queue::Some,
        Err(Errno::AGAIN | Errno::INTR) => Queue::Empty,
        Err(error) => Queue::Fault(error.raw_os_error()),
    }
}

/// How many bytes lie in a socket.
pub fn queued(fd: RawFd) -> u64 {
    rustix::io::ioctl_fionread(borrow(fd)).unwrap_or(0)
}

/// Whether what comes next was sent behind an urgent byte: the kernel counts none of it as long as that is so. Who sends such a byte stays on
/// TCP.
pub fn is_at_mark(fd: RawFd) -> bool {
    const SIOCATMARK: libc::c_ulong = 0x8905;
    let mut mark: libc::c_int = 0;
    // SAFETY: asks for one int of this frame.
    (unsafe { crate::real::ioctl(fd, SIOCATMARK, &raw mut mark as libc::c_ulong) }) == 0 && mark != 0
}

/// Throws away `count` bytes at most, and says at once that they have come: how many, or the fault that the kernel has told instead. Who sends by Nagle's rule would hold the next bell
/// back otherwise, until this end's delay is over: nothing goes back over TCP that could tell him.
pub fn discard(fd: RawFd, count: u64) -> Result<u64, i32> {
    let mut scratch = [MaybeUninit::<u8>::uninit(); 512];
    let most = usize::try_from(count).unwrap_or(usize::MAX).min(scratch.len());
    if most == 0 {
        return Ok(0);
    }
    let got = match rustix::net::recv(borrow(fd), &mut scratch[..most], RecvFlags::DONTWAIT) {
        Ok((_, got)) => got as u64,
        Err(Errno::AGAIN | Errno::INTR) => 0,
        Err(error) => return Err(error.raw_os_error()),
    };
    if got > 0 {
        let _ = rustix::net::sockopt::set_tcp_quickack(borrow(fd), true);
    }
    Ok(got)
}

/// Reads what is in a pipe, as far as it goes.
pub fn drain(fd: RawFd) {
    let mut scratch = [MaybeUninit::<u8>::uninit(); 4096];
    for _ in 0..32 {
        match rustix::io::read(borrow(fd), &mut scratch[..]) {
            Ok((_, [])) => {}
            _ => return,
        }
    }
}

/// Whether an epoll set that was to tell once of a descriptor has done so: it wants nothing of it any more.
pub fn has_spoken(set: RawFd, fd: RawFd) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    /// How to tell, and not what of.
    const PRIVATE: u32 = 0xf000_0000;
    let Ok(place) = open(format!("/proc/self/fdinfo/{set}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return false;
    };
    // Who asks may hold what a close that is seen would wait for.
    let place = place.into_raw_fd();
    let (mut text, mut piece) = (Vec::new(), [MaybeUninit::<u8>::uninit(); 4096]);
    while let Ok((read @ [_, ..], _)) = rustix::io::read(borrow(place), &mut piece[..]) {
        text.extend_from_slice(read);
    }
    // SAFETY: this function's, and nobody else has it.
    unsafe { crate::real::close(place) };
    let text = String::from_utf8_lossy(&text);
    let wanted = |line: &str| {
        let mut words = line.strip_prefix("tfd:")?.split_whitespace();
        let is_it = words.next()?.parse() == Ok(fd);
        let events = u32::from_str_radix(words.nth(1)?, 16).ok()?;
        is_it.then_some(events & !PRIVATE)
    };
    let mut known = text.lines().filter_map(wanted).peekable();
    known.peek().is_some() && known.all(|events| events == 0)
}

/// Sends one byte that means nothing. An error's number if the other end is gone.
pub fn bell(fd: RawFd) -> Result<(), i32> {
    match rustix::net::send(borrow(fd), &[0xbe], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.raw_os_error()),
    }
}

/// Whether this is a socket of TCP.
pub fn is_tcp(fd: RawFd) -> bool {
    use rustix::net::{ipproto, sockopt::socket_protocol};
    socket_protocol(borrow(fd)).is_ok_and(|protocol| protocol == Some(ipproto::TCP))
}

/// Whether the program has bounded how long calls that receive wait.
pub fn has_timeout(fd: RawFd) -> bool {
    use rustix::net::sockopt::{Timeout, socket_timeout};
    socket_timeout(borrow(fd), Timeout::Recv).is_ok_and(|timeout| timeout.is_some())
}

/// Whether calls on this descriptor wait.
pub fn waits(fd: RawFd) -> bool {
    rustix::fs::fcntl_getfl(borrow(fd)).is_ok_and(|flags| !flags.contains(rustix::fs::OFlags::NONBLOCK))
}

/// Whether closing this connection resets it: it was told to, or has bytes that nobody has received.
pub fn resets(fd: RawFd) -> bool {
    use rustix::net::sockopt::socket_linger;
    queued(fd) > 0 || socket_linger(borrow(fd)).is_ok_and(|time| time.is_some_and(|time| time.is_zero()))
}

/// Resets a connection, whoever else holds it.
pub fn disconnect(fd: RawFd) {
    let _ = rustix::net::connect_unspec(borrow(fd));
}

/// The processor on which this thread is, now.
pub fn processor() -> u32 {
    rustix::thread::sched_getcpu() as u32
}

/// Nanoseconds of a clock that only goes forward.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Hands `call` a message of what lies behind the first `skip` bytes of a program's parts, `most` bytes at most.
pub fn with_rest(
    parts: &[Part],
    mut skip: usize,
    mut most: usize,
    call: impl FnOnce(&mut libc::msghdr) -> isize,
) -> isize {
    let mut left = [const { MaybeUninit::<libc::iovec>::uninit() }; PARTS];
    let mut count = 0;
    for part in parts {
        let skipped = skip.min(part.len);
        skip -= skipped;
        let len = (part.len - skipped).min(most);
        if len > 0 && count < left.len() {
            left[count].write(libc::iovec { iov_base: part.at.wrapping_add(skipped).cast(), iov_len: len });
            (count, most) = (count + 1, most - len);
        }
    }
    // SAFETY: zeroes are a message without name and control.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = left.as_mut_ptr().cast();
    message.msg_iovlen = count as _;
    call(&mut message)
}

/// Whether there is such a descriptor.
pub fn is_open(fd: RawFd) -> bool {
    fd >= 0 && rustix::io::fcntl_getfd(borrow(fd)).is_ok()
}
