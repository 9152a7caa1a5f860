//! The processes that a broker serves.
//!
//! What they say is bounded: one message is short, few are heard of one process in one turn, and who says what it should not
//! is gone. They are told in ways that cannot make the broker wait.

use os::seqpacket;
use socket::member::{ADMITTED, HELLO, MESSAGE_MAX, PAIR, REFUSED};
use socket::notice::Notice;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Messages that are heard of one process before the others have their turn.
const TURN: usize = 16;

/// A process, as the broker numbers it.
pub type Number = u64;

/// A process.
pub struct Member {
    socket: OwnedFd,
    pub notice: Notice,
    /// What it reads the notice by, until it is welcomed.
    page: Option<OwnedFd>,
}

/// What a process says, or that it is gone.
pub enum Event {
    Hello,
    Pair(OwnedFd, usize),
    Knock,
    Gone,
}

/// All of them.
#[derive(Default)]
pub struct Members {
    all: BTreeMap<Number, Member>,
    next: Number,
}

impl Members {
    pub fn count(&self) -> usize {
        self.all.len()
    }

    pub fn get(&self, number: Number) -> Option<&Member> {
        self.all.get(&number)
    }

    pub fn each(&self, tell: impl Fn(&Member)) {
        self.all.values().for_each(tell);
    }

    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.values().map(|member| member.socket.as_fd())
    }

    /// One more, if there may be `most` of them; who is not admitted sees its socket hang up.
    pub fn admit(&mut self, socket: OwnedFd, most: usize) {
        if self.all.len() >= most {
            tracing::warn!(most, "a process finds no place with the broker of sockets");
            return;
        }
        match Notice::publish() {
            Ok((notice, page)) => {
                self.all.insert(self.next, Member { socket, notice, page: Some(page) });
                self.next += 1;
            }
            Err(error) => tracing::warn!(%error, "a process cannot be given a notice"),
        }
    }

    pub fn remove(&mut self, number: Number) {
        self.all.remove(&number);
    }

    /// What all have said.
    pub fn hear(&self) -> Vec<(Number, Event)> {
        let heard = self.all.iter().flat_map(|(&number, member)| {
            let mut gone = false;
            let events = (0..TURN).map_while(move |_| {
                let event = if gone { None } else { member.next() };
                gone = matches!(event, Some(Event::Gone));
                event.map(|event| (number, event))
            });
            events.collect::<Vec<_>>()
        });
        heard.collect()
    }

    /// Gives a process its notice.
    pub fn welcome(&mut self, number: Number) {
        let Some(member) = self.all.get_mut(&number) else { return };
        if let Some(page) = member.page.take() {
            // One that does not listen is gone when it is next heard.
            let _ = seqpacket::send(&member.socket, &[IoSlice::new(&[ADMITTED])], &[page.as_fd()]);
        }
    }

    pub fn answer(&self, number: Number, yes: bool) {
        if let Some(member) = self.all.get(&number) {
            let _ = seqpacket::send(&member.socket, &[IoSlice::new(&[if yes { ADMITTED } else { REFUSED }])], &[]);
        }
    }
}

impl Member {
    /// What it says next, if it has said something.
    fn next(&self) -> Option<Event> {
        let (mut message, mut descriptors) = ([0; MESSAGE_MAX], Vec::new());
        let len = match seqpacket::receive(&self.socket, &mut message, &mut descriptors) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(Event::Gone),
        };
        Some(match (&message[..len], descriptors.pop()) {
            ([1], None) => Event::Knock,
            ([PAIR, store], Some(memory)) => Event::Pair(memory, usize::from(*store)),
            (HELLO, None) => Event::Hello,
            _ => Event::Gone,
        })
    }
}
