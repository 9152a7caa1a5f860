//! Hearing that there is a new broker: by a named pipe beside its socket, that is in whatever this process waits for.

use super::{HIGH, protect};
use crate::env::settings;
use crate::{kernel, real};
use libc::epoll_event;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// From one look to the next, in nanoseconds, where nobody has called.
const SELDOM: u64 = 1_000_000_000;

/// What epoll says of the pipe: no program's data is the address of this.
static MARK: u8 = 0;
static CALLED: AtomicBool = AtomicBool::new(false);
static NEXT: AtomicU64 = AtomicU64::new(0);

fn mark() -> u64 {
    std::ptr::from_ref(&MARK) as u64
}

/// Whether this is the pipe's event: a broker has called, or has ended.
pub fn is_mark(event: &epoll_event) -> bool {
    let is_mark = event.u64 == mark();
    if is_mark {
        CALLED.store(true, Relaxed);
    }
    is_mark
}

/// Whether to look for a new broker.
pub fn is_time() -> bool {
    let now = kernel::now();
    if !CALLED.load(Relaxed) && now < NEXT.load(Relaxed) {
        return false;
    }
    NEXT.store(now + SELDOM, Relaxed);
    CALLED.store(false, Relaxed);
    true
}

/// Has whoever waits for a set hear of it. (Children have the pipe that their parents have.)
pub fn hear_in(set: RawFd) {
    static PIPE: OnceLock<Option<RawFd>> = OnceLock::new();
    let Some(pipe) = *PIPE.get_or_init(open) else { return };
    let mut event = epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: mark() };
    // SAFETY: one structure of this frame.
    unsafe { real::epoll_ctl(set, libc::EPOLL_CTL_ADD, pipe, &mut event) };
}

fn open() -> Option<RawFd> {
    use rustix::fs::{FileType, Mode, OFlags, fstat};
    let place = socket::member::call_beside(settings().broker.as_ref()?);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pipe = rustix::fs::open(&place, flags, Mode::empty()).ok()?;
    let is_pipe = fstat(&pipe).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    let high = rustix::io::fcntl_dupfd_cloexec(&pipe, HIGH);
    // SAFETY: this library's. (Dropping it would be seen by what stands before libc.)
    unsafe { real::close(pipe.into_raw_fd()) };
    let pipe = high.ok().filter(|_| is_pipe)?;
    protect(pipe.as_raw_fd());
    Some(pipe.into_raw_fd())
}
