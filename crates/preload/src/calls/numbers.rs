//! `syscall`: calls that programs make by number, of which some are the same as those by name. Event loops close descriptors so (libuv):
//! unseen, what next has the number would be taken for the socket that had it.

use super::{leaving, sockets, streams, waiting};
use crate::{epoll, real, rings};
use libc::{c_int, c_long, c_uint, c_ulong};

/// What comes where an argument of this kind does.
trait Argument {
    fn of(word: usize) -> Self;
}

macro_rules! integers {
    ($($kind:ty)*) => {$(
        impl Argument for $kind {
            fn of(word: usize) -> Self {
                word as Self
            }
        }
    )*};
}

integers! { c_int c_uint c_ulong usize }

impl<T> Argument for *const T {
    fn of(word: usize) -> Self {
        word as Self
    }
}

impl<T> Argument for *mut T {
    fn of(word: usize) -> Self {
        word as Self
    }
}

/// # Safety
/// As libc's. (It has any number of arguments, which come where these do.)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    first: usize,
    second: usize,
    third: usize,
    fourth: usize,
    fifth: usize,
    sixth: usize,
) -> c_long {
    let words = [first, second, third, fourth, fifth, sixth];
    /// The call of this name, with as many of the words as it has arguments.
    macro_rules! call {
        ($call:path, $($at:literal)*) => {
            // SAFETY: the caller's; the kernel has these arguments in the same order.
            unsafe { $call($(Argument::of(words[$at])),*) as c_long }
        };
    }
    match number {
        libc::SYS_close => call!(sockets::close, 0),
        libc::SYS_read => call!(streams::read, 0 1 2),
        libc::SYS_write => call!(streams::write, 0 1 2),
        libc::SYS_readv => call!(streams::readv, 0 1 2),
        libc::SYS_writev => call!(streams::writev, 0 1 2),
        libc::SYS_recvfrom => call!(streams::recvfrom, 0 1 2 3 4 5),
        libc::SYS_sendto => call!(streams::sendto, 0 1 2 3 4 5),
        libc::SYS_recvmsg => call!(streams::recvmsg, 0 1 2),
        libc::SYS_sendmsg => call!(streams::sendmsg, 0 1 2),
        libc::SYS_sendmmsg => call!(streams::sendmmsg, 0 1 2 3),
        libc::SYS_recvmmsg => call!(streams::recvmmsg, 0 1 2 3 4),
        libc::SYS_sendfile => call!(streams::sendfile, 0 1 2 3),
        libc::SYS_splice => call!(streams::splice, 0 1 2 3 4 5),
        libc::SYS_socket => call!(sockets::socket, 0 1 2),
        libc::SYS_connect => call!(sockets::connect, 0 1 2),
        libc::SYS_accept => call!(sockets::accept, 0 1 2),
        libc::SYS_accept4 => call!(sockets::accept4, 0 1 2 3),
        libc::SYS_shutdown => call!(sockets::shutdown, 0 1),
        libc::SYS_dup => call!(sockets::dup, 0),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_dup2 => call!(sockets::dup2, 0 1),
        libc::SYS_dup3 => call!(sockets::dup3, 0 1 2),
        libc::SYS_close_range => call!(sockets::close_range, 0 1 2),
        libc::SYS_fcntl => call!(sockets::fcntl, 0 1 2),
        libc::SYS_ioctl => call!(sockets::ioctl, 0 1 2),
        libc::SYS_execve => call!(leaving::execve, 0 1 2),
        libc::SYS_execveat => call!(leaving::execveat, 0 1 2 3 4),
        libc::SYS_epoll_create1 => call!(waiting::epoll_create1, 0),
        libc::SYS_epoll_ctl => call!(waiting::epoll_ctl, 0 1 2 3),
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => {
            epoll::given(Argument::of(first));
            // SAFETY: the words as they came.
            unsafe { real::syscall(number, first, second, third, fourth, fifth, sixth) }
        }
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait => {
            epoll::given(Argument::of(first));
            // SAFETY: the words as they came.
            unsafe { real::syscall(number, first, second, third, fourth, fifth, sixth) }
        }
        libc::SYS_io_uring_setup => {
            rings::begin();
            // SAFETY: the words as they came.
            unsafe { real::syscall(number, first, second, third, fourth, fifth, sixth) }
        }
        // SAFETY: the words as they came.
        _ => unsafe { real::syscall(number, first, second, third, fourth, fifth, sixth) },
    }
}
