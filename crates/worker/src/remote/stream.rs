//! Words over a link, whose messages are shorter: in parts, one word after the other.
//!
//! The first byte of a part says whether the word ends with it. What the link does not take yet waits here; whoever has
//! much to say looks at [`Stream::backlog`] first.

use super::RemoteError;
use super::words::{WORD_MAX, Word};
use interconnect::link::{Interest, Link, MESSAGE_MAX, SendError};
use rustix::event::PollFlags;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

/// The first byte of a part.
const MORE: u8 = 0;
const LAST: u8 = 1;
/// Words taken at a time, before others have their turn.
pub const TURN: usize = 64;

pub struct Stream {
    link: Box<dyn Link>,
    outgoing: VecDeque<Vec<u8>>,
    backlog: usize,
    /// What has come of a word.
    incoming: Vec<u8>,
    part: Vec<u8>,
}

/// A word with its body.
pub struct Heard {
    pub word: Word,
    bytes: Vec<u8>,
    body: usize,
}

impl Heard {
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.body..]
    }
}

impl Stream {
    pub fn new(link: Box<dyn Link>) -> Self {
        Self { link, outgoing: VecDeque::new(), backlog: 0, incoming: Vec::new(), part: Vec::new() }
    }

    /// Bytes that wait for the link.
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    pub fn say(&mut self, word: &Word, body: &[&[u8]]) -> Result<(), RemoteError> {
        let bytes = word.encode(body);
        let mut parts = bytes.chunks(MESSAGE_MAX - 1).peekable();
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_some() { MORE } else { LAST };
            self.backlog += part.len() + 1;
            self.outgoing.push_back([&[last][..], part].concat());
        }
        self.pass_on()
    }

    /// Gives the link what it takes.
    pub fn pass_on(&mut self) -> Result<(), RemoteError> {
        while let Some(part) = self.outgoing.front() {
            match self.link.send(part) {
                Ok(()) => {
                    self.backlog -= part.len();
                    self.outgoing.pop_front();
                }
                Err(SendError::Ended(end)) => return Err(end.into()),
                Err(_) => break,
            }
        }
        self.link.flush()?;
        Ok(())
    }

    /// The next word that is whole.
    pub fn hear(&mut self) -> Result<Option<Heard>, RemoteError> {
        while self.link.receive(&mut self.part, &mut Vec::new())? {
            let (last, bytes) = self.part.split_first().ok_or(RemoteError::Malformed)?;
            if self.incoming.len() + bytes.len() > WORD_MAX {
                return Err(RemoteError::Malformed);
            }
            self.incoming.extend_from_slice(bytes);
            if *last == LAST {
                let bytes = std::mem::take(&mut self.incoming);
                let (word, body) = Word::decode(&bytes).ok_or(RemoteError::Malformed)?;
                return Ok(Some(Heard { word, bytes, body }));
            }
        }
        Ok(None)
    }

    /// Asks to be woken. False: there is something already.
    pub fn arm(&mut self) -> bool {
        self.link.arm()
    }

    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.link.poll_fd()
    }

    pub fn wants(&self) -> PollFlags {
        let Interest { read, write } = self.link.wants();
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, read);
        flags.set(PollFlags::OUT, write);
        flags
    }
}
