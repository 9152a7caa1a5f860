//! Messages with descriptors over Unix sockets that keep message boundaries.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, recvmsg, sendmsg,
    socket_with, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// The most descriptors one message can carry here.
pub const DESCRIPTORS_MAX: usize = 64;
/// The most that the kernel lets anybody send with one.
const SENT_MAX: usize = 253;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Two connected ends. Both close on exec; both block until told otherwise.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A socket at `path` that others connect to; `accept` does not block. The path must be free.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The next connection; neither it nor its other end can make the other block. Nothing while nobody waits.
pub fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        // One that has gone again while it waited is nobody.
        Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A connection to whoever listens at `path`. Its reads do not block.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Who has connected, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// In this process's pid namespace; 0 where it cannot be seen from there.
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// Who was at the other end when it connected.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    option(socket.as_fd(), libc::SO_PEERCRED, &mut peer)?;
    Ok(Peer { pid: peer.pid, uid: peer.uid, gid: peer.gid })
}

/// A descriptor of the process that has connected. Kernels before 6.5 look it up by its number, which names another
/// process if it has ended already: then the socket has hung up as well.
pub fn peer_process(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut number: libc::c_int = -1;
    match option(socket.as_fd(), libc::SO_PEERPIDFD, &mut number) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(()) => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        Err(_) => crate::pidfd::open(peer(socket)?.pid),
    }
}

fn option<T: Copy>(socket: BorrowedFd<'_>, name: libc::c_int, value: &mut T) -> io::Result<()> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let at: *mut T = value;
    // SAFETY: the kernel writes `len` bytes at most, which `value` has; both options write integers only.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, at.cast(), &mut len) };
    crate::check(result.into())?;
    if len as usize == size_of::<T>() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Sends one message, whole or not at all.
pub fn send(socket: impl AsFd, parts: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    sendmsg(socket, parts, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message into `buffer`: its length, and its descriptors, which close on exec. A length of 0 means that
/// the other end is gone. A message longer than `buffer` is an error, not a truncation, and so is one with more descriptors than
/// may be; what came with it is among `descriptors` then too, for the caller to close.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SENT_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    descriptors.clear();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    let is_cut = got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    if is_cut || descriptors.len() > DESCRIPTORS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message was longer than its reader expects"));
    }
    Ok(got.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_message_carries_descriptors() {
        let (a, b) = pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send(&a, &[IoSlice::new(b"he"), IoSlice::new(b"llo")], &[writer.as_fd()]).unwrap();
        drop(writer);
        let (mut buffer, mut descriptors) = ([0; 16], Vec::new());
        assert_eq!(receive(&b, &mut buffer, &mut descriptors).unwrap(), 5);
        assert_eq!(&buffer[..5], b"hello");
        std::fs::File::from(descriptors.pop().unwrap()).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn the_kernel_says_who_connects() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = listen(&path).unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let client = connect(&path).unwrap();
        let server = accept(&listener).unwrap().unwrap();
        assert_eq!(peer(&server).unwrap().pid, std::process::id() as i32);
        assert!(!crate::pidfd::has_ended(peer_process(&server).unwrap()));
        let nothing = receive(&client, &mut [0; 1], &mut Vec::new()).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn too_long_a_message_is_an_error() {
        let (a, b) = pair().unwrap();
        send(&a, &[IoSlice::new(b"hello")], &[]).unwrap();
        assert!(receive(&b, &mut [0; 2], &mut Vec::new()).is_err());
        drop(a);
        assert_eq!(receive(&b, &mut [0; 2], &mut Vec::new()).unwrap(), 0);
    }
}
