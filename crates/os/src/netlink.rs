//! What is asked of network namespaces: that their loopback device is up, and which one a socket is in.

use crate::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Brings `lo` up in the calling process's network namespace.
pub fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is valid; the name is shorter than its field and stays terminated.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads one ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}

/// A number for the network namespace that a socket was made in; no other has it while this machine runs. Linux 5.14.
pub fn namespace_of(socket: impl AsFd) -> io::Result<u64> {
    let (mut cookie, mut len) = (0u64, size_of::<u64>() as libc::socklen_t);
    let (level, name, at) = (libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &raw mut cookie);
    // SAFETY: the kernel writes `len` bytes at most, which `cookie` has.
    let result = unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, at.cast(), &raw mut len) };
    check(result.into()).map(|_| cookie)
}
