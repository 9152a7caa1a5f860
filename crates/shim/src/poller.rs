//! What the shim waits for: descriptors, each with a name of its own, in one epoll.

use rustix::event::{Timespec, epoll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Whose descriptor it is. The number is never reused, so that an event which comes late is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Listener,
    /// The supervisor.
    Control,
    /// A connection that has not said hello.
    Stranger(u64),
    /// An attached process's connection.
    Process(u64),
    /// Its doorbell: rung for a call.
    Doorbell(u64),
    /// Itself: that it has ended.
    Death(u64),
    /// The news of a FIFO that a process reads: room for what waits.
    News(u64),
    /// A link to another shim.
    Link(u8),
    /// A program that this shim has started: that it has ended.
    Child(u64),
    /// Links with other machines: one that has come, or was made.
    Remote,
    /// A lane whose other end is this shim: something to read, or room.
    Relay(u64),
}

const KIND: u32 = 56;

impl Name {
    fn pack(self) -> u64 {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Control => (1, 0),
            Self::Stranger(number) => (2, number),
            Self::Process(number) => (3, number),
            Self::Doorbell(number) => (4, number),
            Self::Death(number) => (5, number),
            Self::News(number) => (6, number),
            Self::Link(pu) => (7, pu.into()),
            Self::Child(number) => (8, number),
            Self::Relay(number) => (9, number),
            Self::Remote => (10, 0),
        };
        debug_assert!(number < 1 << KIND);
        kind << KIND | number
    }

    fn unpack(word: u64) -> Option<Self> {
        let number = word & ((1 << KIND) - 1);
        Some(match word >> KIND {
            0 => Self::Listener,
            1 => Self::Control,
            2 => Self::Stranger(number),
            3 => Self::Process(number),
            4 => Self::Doorbell(number),
            5 => Self::Death(number),
            6 => Self::News(number),
            7 => Self::Link(number as u8),
            8 => Self::Child(number),
            9 => Self::Relay(number),
            10 => Self::Remote,
            _ => return None,
        })
    }
}

/// For what of a descriptor to wait.
pub const READ: epoll::EventFlags = epoll::EventFlags::IN;
pub const WRITE: epoll::EventFlags = epoll::EventFlags::OUT;
/// Every ring of a bell that is never read.
pub const RINGS: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ET);

/// The epoll.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(64) })
    }

    pub fn add(&self, fd: impl AsFd, name: Name, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(name.pack()), flags)?)
    }

    pub fn change(&self, fd: impl AsFd, name: Name, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(name.pack()), flags)?)
    }

    /// To be called before a descriptor that others have copies of is closed.
    pub fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits for events, for ever where no limit is given; a limit is kept to the millisecond above it.
    pub fn wait(&mut self, limit: Option<Duration>, ready: &mut Vec<Name>) {
        ready.clear();
        self.events.clear();
        let limit =
            limit.map(|limit| Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() });
        // Interrupted or not: whoever asks looks at the clock by itself.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), limit.as_ref());
        ready.extend(self.events.iter().filter_map(|event| Name::unpack(event.data.u64())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for name in [Name::Listener, Name::Process(7), Name::Link(255), Name::Relay((1 << KIND) - 1)] {
            assert_eq!(Name::unpack(name.pack()), Some(name));
        }
        assert_eq!(Name::unpack(u64::MAX), None);
    }
}
