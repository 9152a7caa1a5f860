//! Memory between processes that do not trust each other.
//!
//! | module | what it is |
//! |---|---|
//! | [`region`] | memory that several processes map, with a header that is checked |
//! | [`layout`] | where everything lies in a channel's region |
//! | [`ring`] | single-producer, single-consumer framed messages over shared memory |
//! | [`doorbell`] | waking a consumer that sleeps, and not waking one that does not |
//! | [`nap`] | the same for ends that wait on a socket and are to be woken once per nap |
//! | [`waking`] | what being woken takes here, and so how long to look before sleeping |
//! | [`channel`] | two rings, two bulk areas and their doorbells: what a gateway and an instance speak through |
//! | [`lane`] | one ring, one way, that a third party can cut: what a FIFO is made of |
//! | [`floor`] | the least that an exchange through memory takes, to measure beside |
//! | [`guard`] | cutting a lane while its ends are at work |
//! | [`link`] | messages between two shims: over memory, TCP, a fabric, or simulated |
//!
//! The other side is hostile: every index and length in shared memory is read once, checked, then used. What it can
//! break is its own conversation, never this process. Which messages are sent is not known here.

// Mapped memory and system calls around a ring and a doorbell: nothing that loom can model.
#[cfg(not(loom))]
pub mod channel;
pub mod doorbell;
#[cfg(not(loom))]
pub mod floor;
pub mod guard;
#[cfg(not(loom))]
pub mod lane;
pub mod layout;
#[cfg(not(loom))]
pub mod link;
pub mod nap;
#[cfg(not(loom))]
pub mod region;
pub mod ring;
mod sync;
#[cfg(not(loom))]
pub mod turns;
#[cfg(not(loom))]
pub mod waking;
mod wide;
