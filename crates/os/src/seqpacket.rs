//! Messages with descriptors over Unix sockets that keep message boundaries.

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most descriptors one message can carry here.
pub const DESCRIPTORS_MAX: usize = 64;

/// Two connected ends. Both close on exec; both block until told otherwise.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
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
/// the other end is gone. A message longer than `buffer` is an error, not a truncation.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    descriptors.clear();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
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
    fn too_long_a_message_is_an_error() {
        let (a, b) = pair().unwrap();
        send(&a, &[IoSlice::new(b"hello")], &[]).unwrap();
        assert!(receive(&b, &mut [0; 2], &mut Vec::new()).is_err());
        drop(a);
        assert_eq!(receive(&b, &mut [0; 2], &mut Vec::new()).unwrap(), 0);
    }
}
