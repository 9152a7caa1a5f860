//! Sockets over memory, without the sockets: the byte streams that two processes share, and where their bytes lie.
//!
//! | module | what it is |
//! |---|---|
//! | [`layout`] | where everything lies in the memory of a pair |
//! | [`region`] | that memory: made by one process, joined by one other |
//! | [`stream`] | one direction of one connection: bytes in order, and marks between them |
//! | [`freeze`] | keeping senders out of their records for a moment |
//! | [`records`] | the larger pieces of memory that streams take and give back, and their bounds |
//! | [`family`], [`lock`] | what a process shares with the children that it forks |
//! | [`calls`] | who has something for those who wait for many connections |
//! | [`bells`] | how a process is woken |
//! | [`member`] | a process and its broker |
//! | [`build`] | whether they are of builds that understand each other |
//! | [`notice`] | what the broker tells a process: how much it may take |
//! | [`watch`] | a pair as the broker sees it |
//! | [`parts`] | a program's buffers |
//! | [`migration`] | a direction of a connection as its ends see it: now over TCP, now through memory |
//! | [`wait`] | how long to look before sleeping |
//! | [`fixed`] | rings of a fixed size, to be measured beside all this |
//!
//! The other process is hostile: each of its words is read once, checked, then used. Each word has one writer, and there is
//! no read-modify-write between processes: memory that is shared by processors that are not coherent in these works too.
//! Which connection is which stream is decided above, and so is waiting; nothing here makes a system call on a socket.

#[cfg(not(loom))]
pub mod bells;
#[cfg(not(loom))]
pub mod build;
#[cfg(not(loom))]
mod bytes;
pub mod calls;
#[cfg(not(loom))]
pub mod family;
#[cfg(not(loom))]
pub mod fixed;
pub mod freeze;
pub mod layout;
#[cfg(not(loom))]
pub mod lock;
#[cfg(not(loom))]
pub mod member;
#[cfg(not(loom))]
pub mod migration;
#[cfg(not(loom))]
pub mod notice;
#[cfg(not(loom))]
pub mod parts;
#[cfg(not(loom))]
pub mod processors;
#[cfg(not(loom))]
pub mod records;
#[cfg(not(loom))]
pub mod region;
pub mod stream;
mod sync;
#[cfg(not(loom))]
pub mod wait;
#[cfg(not(loom))]
pub mod watch;
