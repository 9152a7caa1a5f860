//! The processes that a broker serves, and whoever else has connected: each of them says who it is first.
//!
//! What they say is bounded: one message is short, few are heard of one process in one turn, and who says what it should not
//! is gone. They are told in ways that cannot make the broker wait.

use os::seqpacket;
use socket::member::{ADMITTED, HELLO, KEY, Key, LIST, MESSAGE_MAX, OFFER, PAIR, REFUSED};
use socket::notice::Notice;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Messages that are heard of one process before the others have their turn.
const TURN: usize = 16;

/// Connections of those that are no processes with a place: offers, and whoever has said nothing yet.
const OTHERS: usize = 4096;

/// A connection, as the broker numbers it; a process goes by the one that gave it its place.
pub type Number = u64;

/// A connection.
struct Member {
    socket: OwnedFd,
    /// The process that has connected.
    process: i32,
    place: Option<Place>,
}

/// A process's.
struct Place {
    notice: Notice,
    key: Key,
}

/// How a receiver is woken: what the other end is to be given.
pub struct Bell {
    pub number: u64,
    pub pipe: OwnedFd,
}

/// What a connection says, or that it is gone.
pub enum Event {
    Hello,
    Pair(OwnedFd, usize),
    Knock,
    /// An end of a connection, by whose key it is offered, and how its receiver is woken.
    Offer(Key, OwnedFd, Option<Bell>),
    /// It wants to know all there is.
    List,
    Gone,
}

/// All of them.
#[derive(Default)]
pub struct Members {
    all: BTreeMap<Number, Member>,
    keys: HashMap<Key, Number>,
    next: Number,
}

impl Members {
    /// Processes that have a place.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    pub fn notice(&self, number: Number) -> Option<&Notice> {
        Some(&self.all.get(&number)?.place.as_ref()?.notice)
    }

    /// Whose key this is.
    pub fn by_key(&self, key: &Key) -> Option<Number> {
        self.keys.get(key).copied()
    }

    /// The process that has connected so; 0: one that is not seen from here.
    pub fn process(&self, number: Number) -> i32 {
        self.all.get(&number).map_or(0, |member| member.process)
    }

    pub fn each(&self, tell: impl Fn(&Notice)) {
        self.all.values().filter_map(|member| member.place.as_ref()).for_each(|place| tell(&place.notice));
    }

    pub fn sockets(&self) -> impl Iterator<Item = (Number, BorrowedFd<'_>)> {
        self.all.iter().map(|(&number, member)| (number, member.socket.as_fd()))
    }

    /// One more has connected; who finds no room sees its socket hang up.
    pub fn admit(&mut self, socket: OwnedFd) {
        if self.all.len() >= self.keys.len() + OTHERS {
            tracing::warn!(most = OTHERS, "an offer finds no place with the broker of sockets");
            return;
        }
        let process = seqpacket::peer(&socket).map_or(0, |peer| peer.pid);
        self.all.insert(self.next, Member { socket, process, place: None });
        self.next += 1;
    }

    pub fn remove(&mut self, number: Number) {
        if let Some(place) = self.all.remove(&number).and_then(|member| member.place) {
            self.keys.remove(&place.key);
        }
    }

    /// What these have said.
    pub fn hear(&self, ready: &[Number]) -> Vec<(Number, Event)> {
        let ready = ready.iter().filter_map(|number| Some((*number, self.all.get(number)?)));
        let heard = ready.flat_map(|(number, member)| {
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

    /// Gives a process a place, if there may be `most` of them: a notice, which says at first that it may have `limit` records, and
    /// a key.
    pub fn welcome(&mut self, number: Number, most: usize, limit: u32) {
        if self.place(number, most, limit).is_err() {
            self.remove(number);
        }
    }

    fn place(&mut self, number: Number, most: usize, limit: u32) -> io::Result<()> {
        let count = self.count();
        let Some(member) = self.all.get_mut(&number).filter(|member| member.place.is_none()) else { return Ok(()) };
        if count >= most {
            tracing::warn!(most, "a process finds no place with the broker of sockets");
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let (notice, page) = Notice::publish()?;
        notice.limit(limit);
        let mut key = [0; KEY];
        rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
        let said: [&[u8]; 2] = [&[ADMITTED], &key];
        seqpacket::send(&member.socket, &said.map(IoSlice::new), &[page.as_fd()])?;
        member.place = Some(Place { notice, key });
        self.keys.insert(key, number);
        Ok(())
    }

    /// Tells a connection something. One that does not listen is gone when it is next heard.
    pub fn tell(&self, number: Number, message: &[u8], descriptors: &[BorrowedFd<'_>]) {
        if let Some(member) = self.all.get(&number) {
            let _ = seqpacket::send(&member.socket, &[IoSlice::new(message)], descriptors);
        }
    }

    pub fn answer(&self, number: Number, yes: bool) {
        self.tell(number, &[if yes { ADMITTED } else { REFUSED }], &[]);
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
        let has_place = self.place.is_some();
        if let (false, [OFFER, said @ ..]) = (has_place, &message[..len]) {
            return Some(offer(said, descriptors).unwrap_or(Event::Gone));
        }
        Some(match (&message[..len], descriptors.pop()) {
            ([1], None) if has_place => Event::Knock,
            ([PAIR, store], Some(memory)) if has_place => Event::Pair(memory, usize::from(*store)),
            (HELLO, None) if !has_place => Event::Hello,
            (LIST, None) if !has_place => Event::List,
            _ => Event::Gone,
        })
    }
}

/// What an offer says; nothing if it is none.
fn offer(said: &[u8], descriptors: Vec<OwnedFd>) -> Option<Event> {
    let (key, number) = said.split_first_chunk::<KEY>()?;
    let mut descriptors = descriptors.into_iter();
    let socket = descriptors.next()?;
    let bell = match u64::from_le_bytes(number.try_into().ok()?) {
        0 => None,
        number => Some(Bell { number, pipe: descriptors.next()? }),
    };
    Some(Event::Offer(*key, socket, bell))
}
