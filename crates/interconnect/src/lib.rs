//! Memory between processes that do not trust each other.
//!
//! | module | what it is |
//! |---|---|
//! | [`layout`] | where everything lies in a channel's region |
//! | [`ring`] | single-producer, single-consumer framed messages over shared memory |
//! | [`doorbell`] | waking a consumer that sleeps, and not waking one that does not |
//! | [`nap`] | the same for ends that wait on a socket and are to be woken once per nap |
//! | [`channel`] | two rings, two bulk areas and their doorbells: what a gateway and an instance speak through |
//! | [`link`] | messages between two shims: over memory, TCP, a fabric, or simulated |
//!
//! The other side is hostile: every index and length in shared memory is read once, checked, then used. What it can
//! break is its own conversation, never this process. Which messages are sent is not known here.

// Mapped memory and system calls around a ring and a doorbell: nothing that loom can model.
#[cfg(not(loom))]
pub mod channel;
pub mod doorbell;
pub mod layout;
#[cfg(not(loom))]
pub mod link;
pub mod nap;
pub mod ring;
mod sync;
