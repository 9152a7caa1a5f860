//! One end of an instance's channel, and what waits to go into it.

use crate::protocol::Event;
use interconnect::channel::{Channel, ReceiveError, SendError};
use interconnect::doorbell;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Words of one instance that were sent to near and not yet passed on there.
pub const WINDOW: usize = 32;

/// A message of a channel.
#[derive(Debug)]
pub struct Message {
    pub kind: u32,
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

/// What waits its turn.
pub enum Item {
    Message(Message),
    /// What was printed, from the byte on that is next.
    Log(Vec<u8>, usize),
    /// The last of all.
    Event(Event),
}

/// What became of the first thing that waits.
pub enum Passed {
    /// It is where it belongs.
    On,
    /// It can be said by now.
    Event(Event),
    /// There is no room.
    Full,
    /// There is nothing.
    Nothing,
}

pub struct Passage {
    channel: Channel,
    pub waiting: VecDeque<Item>,
}

impl Passage {
    pub fn new(channel: Channel) -> Self {
        channel.receiver.sleep_by_event();
        Self { channel, waiting: VecDeque::new() }
    }

    /// Rings when there is something to take.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.channel.receiver.bell()
    }

    pub fn body_max(&self) -> usize {
        self.channel.sender.body_max()
    }

    /// Quiets the bell; to be followed by taking what there is.
    pub fn hush(&self) {
        doorbell::hush(self.bell());
    }

    /// The next message from whoever has the other end.
    pub fn take(&mut self) -> Result<Option<Message>, ReceiveError> {
        let message = self.channel.receiver.receive()?;
        Ok(message.map(|message| Message { kind: message.kind(), head: message.head().to_vec(), body: message.body() }))
    }

    /// Says that there is room.
    pub fn nudge(&mut self, kind: u32) {
        // Whoever has broken its channel needs none.
        let _ = self.channel.sender.nudge(kind);
    }

    /// Passes on the first thing that waits; what is printed goes to `log`.
    pub fn pass(&mut self, log: Option<&OwnedFd>) -> Passed {
        let done = match self.waiting.front_mut() {
            None => return Passed::Nothing,
            Some(Item::Event(_)) => true,
            Some(Item::Message(Message { kind, head, body })) => {
                // What a channel cannot take, or nobody reads, is lost, as it is to a reader that is gone.
                self.channel.sender.send(*kind, head, body) != Err(SendError::Busy)
            }
            Some(Item::Log(bytes, from)) => log.is_none_or(|log| print(log, bytes, from)),
        };
        if !done {
            return Passed::Full;
        }
        match self.waiting.pop_front() {
            Some(Item::Event(event)) => Passed::Event(event),
            _ => Passed::On,
        }
    }
}

/// Writes what the pipe takes: whether that is all, or nobody reads it.
fn print(log: &OwnedFd, bytes: &[u8], from: &mut usize) -> bool {
    while *from < bytes.len() {
        match rustix::io::write(log.as_fd(), &bytes[*from..]) {
            Ok(len) => *from += len,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return false,
            Err(_) => return true,
        }
    }
    true
}
