//! Looks at what a descriptor is that hold nothing.

use super::{ATTACHED, AWAY, GIVEN, Slot, cell, lives, slots, state};
use socket::migration::Stretch;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// As [`super::attached`], not held: for who keeps this descriptor from being closed meanwhile, as whoever has the epoll sets does with
/// their members.
pub fn seen(fd: RawFd) -> Option<&'static Slot> {
    let index = (cell(fd)?.load(Acquire) as usize).checked_sub(1)?;
    if AWAY.load(Relaxed) {
        lives::come_back();
    }
    slots().map(|slots| &slots[index]).filter(|slot| slot.state() == state::ATTACHED)
}

/// Calls on a connection that nobody has brought together with its other end yet, while that may be.
const YOUNG: u32 = 4096;

/// As [`seen`], of a connection that may get memory yet: what was sent over it may have been sent before what others were sent through
/// memory.
pub fn is_young(fd: RawFd) -> bool {
    let index = cell(fd).and_then(|cell| (cell.load(Acquire) as usize).checked_sub(1));
    let slot = index.and_then(|index| slots().map(|slots| &slots[index]));
    slot.is_some_and(|slot| {
        matches!(slot.state(), state::COUNTED | state::OFFERED | state::ATTACHING) && slot.calls.load(Relaxed) < YOUNG
    })
}

/// Whether any connection has memory.
pub fn any_attached() -> bool {
    ATTACHED.load(Relaxed) > 0
}

/// Connections of this process to which memory was ever given.
pub fn given() -> u32 {
    GIVEN.load(Acquire)
}

/// What lies in memory.
pub enum Found {
    Bytes,
    /// Nothing, until the sender says another number than this.
    Nothing(u64),
    /// Nothing that is in memory now.
    Unknown,
    /// Another thread receives.
    Busy,
}

impl Slot {
    /// Whether something lies in memory, and what to compare with when nothing was found.
    pub fn found(&self) -> Found {
        let Some(mut receiving) = self.receiving.try_lock() else { return Found::Busy };
        let Some(incoming) = receiving.as_mut() else { return Found::Unknown };
        match incoming.look() {
            Ok(Stretch::Memory { ready: 0, then: None }) => Found::Nothing(incoming.news().known()),
            Ok(Stretch::Memory { ready: 1.., .. }) | Err(_) => Found::Bytes,
            _ => Found::Unknown,
        }
    }
}
