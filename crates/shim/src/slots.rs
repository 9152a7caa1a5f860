//! The ends that one process has open, by the numbers under which it knows them.

use crate::protocol::EndId;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use xpucall::id::XpuPid;

/// How many there can be: as many as one process can have ends, and lanes that lead to them.
pub const SLOTS: u32 = 65_536;

/// What a slot is used for.
#[derive(Debug)]
pub enum Slot {
    Free,
    /// A FIFO that the process reads.
    Reader(ReaderEnd),
    /// A lane of such a FIFO, whose news are told in slot `reader`.
    Lane {
        lane: EndId,
        reader: u32,
    },
    Writer {
        lane: EndId,
    },
    /// What was here has ended; the process has yet to say that it knows. Whether it counts as an end of its.
    Over {
        counted: bool,
    },
}

/// A FIFO that a process reads.
#[derive(Debug)]
pub struct ReaderEnd {
    pub end: EndId,
    /// By which it is told of lanes.
    pub news: OwnedFd,
    /// The name of that in the epoll.
    pub name: u64,
    /// What found no room there.
    pub waiting: VecDeque<News>,
    /// Whether something did not.
    pub crowded: bool,
    /// Lanes that lead here and that its process has not done with.
    pub lanes: u32,
}

/// A lane that a reader is yet to be told of.
#[derive(Debug)]
pub struct News {
    pub slot: u32,
    pub from: XpuPid,
    pub region: OwnedFd,
    pub bell: OwnedFd,
}

/// All slots of one process.
#[derive(Debug, Default)]
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// Puts something into a free slot.
    pub fn put(&mut self, what: Slot) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = what;
            return Some(slot);
        }
        let slot = self.slots.len() as u32;
        (slot < SLOTS).then(|| {
            self.slots.push(what);
            slot
        })
    }

    pub fn get(&self, slot: u32) -> &Slot {
        self.slots.get(slot as usize).unwrap_or(&Slot::Free)
    }

    pub fn reader(&mut self, slot: u32) -> Option<&mut ReaderEnd> {
        match self.slots.get_mut(slot as usize) {
            Some(Slot::Reader(reader)) => Some(reader),
            _ => None,
        }
    }

    /// A lane to the reader in this slot is no more.
    pub fn lane_left(&mut self, slot: u32) {
        if let Some(reader) = self.reader(slot) {
            reader.lanes = reader.lanes.saturating_sub(1);
        }
    }

    /// Frees a slot: what was in it.
    pub fn take(&mut self, slot: u32) -> Slot {
        self.replace(slot, Slot::Free)
    }

    /// What was in a slot ends; its process still believes that it has it.
    pub fn end(&mut self, slot: u32) -> Slot {
        let counted = matches!(self.get(slot), Slot::Writer { .. } | Slot::Over { counted: true });
        self.replace(slot, Slot::Over { counted })
    }

    fn replace(&mut self, slot: u32, by: Slot) -> Slot {
        let Some(place) = self.slots.get_mut(slot as usize) else { return Slot::Free };
        if matches!(by, Slot::Free) && !matches!(place, Slot::Free) {
            self.free.push(slot);
        }
        std::mem::replace(place, by)
    }

    /// Everything that is in slots.
    pub fn drain(&mut self) -> impl Iterator<Item = (u32, Slot)> {
        self.free.clear();
        (0..).zip(std::mem::take(&mut self.slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xpucall::id::PuId;

    #[test]
    fn slots_are_used_again_once_given_back() {
        let lane = EndId { pu: PuId(0), incarnation: 1, serial: 1 };
        let mut slots = Slots::default();
        assert_eq!(slots.put(Slot::Writer { lane }), Some(0));
        assert!(matches!(slots.end(0), Slot::Writer { .. }));
        assert_eq!(slots.put(Slot::Writer { lane }), Some(1), "an ended one is not free yet");
        assert!(matches!(slots.take(0), Slot::Over { counted: true }));
        assert!(matches!(slots.take(0), Slot::Free), "not free twice");
        assert_eq!(slots.put(Slot::Over { counted: false }), Some(0));
        assert_eq!(slots.put(Slot::Over { counted: false }), Some(2));
        assert!(matches!(slots.take(9), Slot::Free));
    }
}
