//! What the kernel knows of a TCP connection.

use crate::check;
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd};

/// `struct tcp_info` up to the words that are asked for here: they have been there, in these places, since Linux 4.1.
#[repr(C)]
struct Info {
    words: [u64; 16],
    received: u64,
}

const _: () = assert!(offset_of!(Info, received) == 128 && size_of::<Info>() == 136);

/// Bytes that have come in over the network.
pub fn received(socket: impl AsFd) -> io::Result<u64> {
    let (mut info, mut len) = (Info { words: [0; 16], received: 0 }, size_of::<Info>() as libc::socklen_t);
    let (number, at) = (socket.as_fd().as_raw_fd(), (&raw mut info).cast());
    // SAFETY: the kernel writes `len` bytes at most, which `info` has, all of them integers.
    let result = unsafe { libc::getsockopt(number, libc::IPPROTO_TCP, libc::TCP_INFO, at, &raw mut len) };
    check(result.into())?;
    if len as usize == size_of::<Info>() { Ok(info.received) } else { Err(io::ErrorKind::Unsupported.into()) }
}
