//! Namespaces.

use crate::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const SO_NETNS_COOKIE: i32 = 71;

/// A set of namespace kinds, by the kernel's CLONE_NEW* bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(i32);

impl Kinds {
    /// All seven that a sandbox has of its own.
    pub const ALL: Self = Self(Self::WITHOUT_CGROUP.0 | libc::CLONE_NEWCGROUP);
    /// All but the cgroup namespace, whose root is where its maker stands: it is made after the maker has moved.
    pub const WITHOUT_CGROUP: Self = Self(
        libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC,
    );
    /// What a part of a machine has of its own: processes, network, mounts, host name, IPC. Users and control groups are
    /// the machine's.
    pub const UNIT: Self =
        Self(libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC);
    /// Cgroup.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP);
    /// Mount.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS);
    /// Network.
    pub const NET: Self = Self(libc::CLONE_NEWNET);
    /// User.
    pub const USER: Self = Self(libc::CLONE_NEWUSER);

    /// The kernel's bits.
    pub fn bits(self) -> i32 {
        self.0
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Puts the calling thread into the namespaces, of these kinds, of another process, or into the one namespace that a
/// descriptor names. What concerns process ids takes effect for its next child.
pub fn enter(process: impl AsFd, kinds: Kinds) -> io::Result<()> {
    // SAFETY: setns reads no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_setns, process.as_fd().as_raw_fd(), kinds.0) }).map(drop)
}

/// Gives the calling thread new namespaces of its own.
pub fn unshare(kinds: Kinds) -> io::Result<()> {
    // SAFETY: unshare reads no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_unshare, kinds.0) }).map(drop)
}

/// A number of the network namespace in which a socket was made, that no other namespace of this kernel has ever had.
/// Linux 5.14.
pub fn cookie(socket: impl AsFd) -> io::Result<u64> {
    let (mut cookie, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes eight bytes, into a word that is there until the call returns.
    let result =
        unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut len) };
    check(result.into()).map(|_| cookie)
}
