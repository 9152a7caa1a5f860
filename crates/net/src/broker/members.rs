//! The processes that a broker serves, and whoever else has connected: each of them says who it is first.
//!
//! What they say is bounded: one message is short, few are heard of one process in one turn, and who says what it should not
//! is gone. They are told in ways that cannot make the broker wait.

use super::Bounds;
use super::closer::Shown;
use super::pairs::Pairs;
use os::cgroup::Room;
use os::seqpacket::{self, Peer};
use socket::build;
use socket::layout::RECORD;
use socket::member::{ADMITTED, Connection, HAS, HELLO, KEY, Key, LIST, MESSAGE_MAX, OFFER, PAIR, REFUSED};
use socket::notice::Notice;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Messages that are heard of one process before the others have their turn.
const TURN: usize = 16;

/// Connections of those that are no processes with a place: offers, and whoever has said nothing yet.
const OTHERS: usize = 4096;

/// Connections by which one place can be had: a process, and children that it has forked.
const HELD: usize = 1024;

/// Connections of a network's users, and memories of them: each user may have an equal part, whatever the others have.
const GUESTS: u64 = 16384;

/// A connection, as the broker numbers it; a place goes by the one for which it was made.
pub type Number = u64;

/// A connection.
struct Member {
    socket: Shown,
    /// The process that has connected, and whose it is.
    process: i32,
    user: u32,
    /// Whether it has come by a door of a network's.
    guest: bool,
    place: Option<Number>,
}

/// A process's, and of children that it has forked: of all who have its notice.
struct Place {
    notice: Notice,
    /// The file of the notice, by what the kernel says of it.
    page: (u64, u64),
    key: Key,
    user: u32,
    /// What its control group may have, if that is bounded.
    room: Option<Room>,
    /// Connections by which it is had.
    held: usize,
}

/// How a receiver is woken: what the other end is to be given.
pub struct Bell {
    pub number: u64,
    pub pipe: Shown,
}

/// What a connection says, or that it is gone.
pub enum Event {
    /// It wants a place: perhaps the one of a notice that it has got from another broker.
    Hello(Option<OwnedFd>),
    /// The same, of a build that this one does not understand.
    Stranger(build::Other),
    Pair(OwnedFd, usize),
    /// Memory in which it has this store, and connections that lie there.
    Has(OwnedFd, usize, Vec<(Connection, Shown)>),
    Knock,
    /// An end of a connection, by whose key it is offered, and how its receiver is woken.
    Offer(Key, Shown, Option<Bell>),
    /// It wants to know all there is.
    List,
    Gone,
}

/// All of them.
#[derive(Default)]
pub struct Members {
    all: BTreeMap<Number, Member>,
    places: BTreeMap<Number, Place>,
    pages: HashMap<(u64, u64), Number>,
    keys: HashMap<Key, Number>,
    /// Connections by which places are had.
    held: usize,
    /// Places of each user that has one, and connections of each guest.
    users: BTreeMap<u32, usize>,
    guests: HashMap<u32, usize>,
    /// Places of each control group whose memory is bounded.
    groups: BTreeMap<u64, usize>,
    /// Of how many users a network's guests are; none: of none.
    parts: usize,
    next: Number,
    /// The last process of another build that was spoken of.
    stranger: i32,
    /// What all of them say to each other of processors, once there is one.
    processors: Option<OwnedFd>,
}

impl Members {
    /// Those of a network that has so many users.
    pub fn of_users(parts: usize) -> Self {
        Self { parts, ..Self::default() }
    }

    /// Whether they are a network's.
    pub fn are_of_users(&self) -> bool {
        self.parts > 0
    }

    /// Places that processes have, all or a user's.
    pub fn count(&self, user: Option<u32>) -> usize {
        user.map_or(self.places.len(), |user| self.users.get(&user).copied().unwrap_or(0))
    }

    /// Records that each process of a user may have, when so many more have come: users have equal shares, and each user's processes.
    pub fn allowed(&self, bounds: &Bounds, user: u32, more: usize) -> u32 {
        let has_none = !self.users.contains_key(&user);
        let users = self.users.len() + usize::from(has_none && more > 0);
        let share = bounds.records / (users as u32).max(1);
        bounds.each.min(share / ((self.count(Some(user)) + more) as u32).max(1))
    }

    /// Records that one may have of what its group may: a quarter, which it shares with its like. The group's other memory is its programs',
    /// which the kernel would kill.
    fn bounded(&self, room: Option<Room>, more: usize) -> u32 {
        room.map_or(u32::MAX, |room| {
            let alike = self.groups.get(&room.group).map_or(0, |places| *places) + more;
            u32::try_from(room.bytes / 4 / RECORD as u64 / alike.max(1) as u64).unwrap_or(u32::MAX)
        })
    }

    /// Records that a place may have now.
    pub fn allowed_to(&self, place: Number, bounds: &Bounds) -> u32 {
        let place = self.places.get(&place);
        place.map_or(0, |place| self.allowed(bounds, place.user, 0).min(self.bounded(place.room, 0)))
    }

    /// Tells all places what they may have now.
    pub fn share(&self, bounds: &Bounds) {
        self.places.iter().for_each(|(number, place)| place.notice.limit(self.allowed_to(*number, bounds)));
    }

    /// Connections, or memories, that a guest's user may have.
    fn part(&self) -> usize {
        ((os::process::descriptors() / 4).min(GUESTS) as usize / self.parts.max(1)).max(16)
    }

    /// Whether a connection's user may have more memories: guests' are bounded.
    pub fn has_room(&self, number: Number, pairs: &Pairs) -> bool {
        self.all.get(&number).is_none_or(|member| {
            let is_theirs = |place| self.places.get(&place).is_some_and(|place| place.user == member.user);
            !member.guest || pairs.held_by(is_theirs) < self.part()
        })
    }

    /// Whose connections one may be told of, by who it is; none: all.
    pub fn may_see(&self, number: Number) -> Option<u32> {
        self.all.get(&number).filter(|member| member.guest).map(|member| member.user)
    }

    /// Whose process this is.
    pub fn user(&self, number: Number) -> u32 {
        self.all.get(&number).map_or(u32::MAX, |member| member.user)
    }

    /// Whose place this is.
    pub fn user_of(&self, place: Number) -> Option<u32> {
        self.places.get(&place).map(|place| place.user)
    }

    pub fn notice(&self, place: Number) -> Option<&Notice> {
        Some(&self.places.get(&place)?.notice)
    }

    /// The place of who has connected so.
    pub fn place_of(&self, number: Number) -> Option<Number> {
        self.all.get(&number)?.place
    }

    /// Whose key this is.
    pub fn by_key(&self, key: &Key) -> Option<Number> {
        self.keys.get(key).copied()
    }

    /// The process that has connected so; 0: one that is not seen from here.
    pub fn process(&self, number: Number) -> i32 {
        self.all.get(&number).map_or(0, |member| member.process)
    }

    /// All places' notices.
    pub fn each(&self, tell: impl Fn(&Notice)) {
        self.places.values().for_each(|place| tell(&place.notice));
    }

    /// Of those who are heard.
    pub fn sockets(&self) -> impl Iterator<Item = (Number, BorrowedFd<'_>)> {
        let heard = self.all.iter().filter(|(_, member)| !member.socket.is_behind());
        heard.map(|(&number, member)| (number, member.socket.as_fd()))
    }

    /// One more has connected. Where there is no room, whoever takes most of it makes some: which connection is to be removed. Of
    /// guests, each user has room of its own.
    pub fn admit(&mut self, socket: Shown, peer: seqpacket::Peer, guest: bool) -> Option<Number> {
        let Peer { pid: process, uid: user, .. } = peer;
        let number = self.next;
        self.next += 1;
        let crowder = if guest {
            let part = self.part();
            let had = self.guests.entry(user).or_default();
            *had += 1;
            let is_full = *had > part;
            // Where all are places', the one that comes has none.
            is_full.then(|| self.crowder(|member| member.guest && member.user == user).unwrap_or(number))
        } else {
            (self.all.len() >= self.held + OTHERS).then(|| self.crowder(|_| true)).flatten()
        };
        self.all.insert(number, Member { socket, process, user, guest, place: None });
        crowder
    }

    /// Of these, of the process that has the most connections without a place, the one that came first.
    fn crowder(&self, so: impl Fn(&Member) -> bool) -> Option<Number> {
        let mut had = HashMap::<i32, (usize, Number)>::new();
        for (&number, member) in self.all.iter().filter(|(_, member)| member.place.is_none() && so(member)) {
            had.entry(member.process).or_insert((0, number)).0 += 1;
        }
        let (_, first) = had.into_values().max_by_key(|(count, first)| (*count, std::cmp::Reverse(*first)))?;
        tracing::warn!(
            most = OTHERS,
            "offers find no place with the broker of sockets: those who have the most lose some"
        );
        Some(first)
    }

    /// Somebody is gone: the place that is nobody's any more.
    pub fn remove(&mut self, number: Number) -> Option<Number> {
        let member = self.all.remove(&number)?;
        if member.guest
            && let Some(had) = self.guests.get_mut(&member.user)
        {
            *had -= 1;
        }
        let number = member.place?;
        let place = self.places.get_mut(&number)?;
        (place.held, self.held) = (place.held - 1, self.held - 1);
        if place.held > 0 {
            return None;
        }
        let place = self.places.remove(&number)?;
        if let Some(had) = self.users.get_mut(&place.user) {
            *had -= 1;
        }
        self.users.retain(|_, had| *had > 0);
        if let Some(had) = place.room.and_then(|room| self.groups.get_mut(&room.group)) {
            *had -= 1;
        }
        self.groups.retain(|_, had| *had > 0);
        self.keys.remove(&place.key);
        self.pages.remove(&place.page);
        Some(number)
    }

    /// What these have said.
    pub fn hear(&self, ready: &[Number]) -> Vec<(Number, Event)> {
        let ready = ready.iter().filter_map(|number| Some((*number, self.all.get(number)?)));
        let heard = ready.flat_map(|(number, member)| {
            let mut gone = false;
            let events = (0..TURN).map_while(move |_| {
                let event = if gone || member.socket.is_behind() { None } else { member.next() };
                // What it says next is said by one who has a place.
                gone = matches!(event, Some(Event::Gone | Event::Hello(_) | Event::Stranger(_)));
                event.map(|event| (number, event))
            });
            events.collect::<Vec<_>>()
        });
        heard.collect()
    }

    /// Gives a process a place, if there may be more of them: a notice, which says how many records it may have, and a key. One that has
    /// brought a notice has the place of that.
    pub fn welcome(&mut self, number: Number, page: Option<OwnedFd>, bounds: &Bounds) {
        if let Err(error) = self.place(number, page, bounds) {
            tracing::warn!(%error, "a process is given no place with the broker of sockets");
            self.remove(number);
        }
    }

    fn place(&mut self, number: Number, page: Option<OwnedFd>, bounds: &Bounds) -> io::Result<()> {
        let user = self.user(number);
        let count = self.count(self.are_of_users().then_some(user));
        let room = os::cgroup::room_of(self.process(number));
        let limit = self.allowed(bounds, user, 1).min(self.bounded(room, 1));
        let Some(member) = self.all.get_mut(&number).filter(|member| member.place.is_none()) else { return Ok(()) };
        let known = match &page {
            Some(page) => self.pages.get(&identity(page)?),
            None => None,
        };
        if let Some(&known) = known {
            let place = self.places.get_mut(&known).ok_or(io::ErrorKind::NotFound)?;
            if place.user != user {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            if place.held >= HELD {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            let said: [&[u8]; 2] = [&[ADMITTED], &place.key];
            seqpacket::send(&member.socket, &said.map(IoSlice::new), &[])?;
            (place.held, self.held, member.place) = (place.held + 1, self.held + 1, Some(known));
            return Ok(());
        }
        if count >= bounds.members / self.parts.max(1) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let (notice, page, is_new) = match page {
            Some(page) => (Notice::of(&page)?, page, false),
            None => {
                let (notice, page) = Notice::publish()?;
                (notice, page, true)
            }
        };
        notice.limit(limit);
        let mut key = [0; KEY];
        rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
        let said: [&[u8]; 2] = [&[ADMITTED], &key];
        if self.processors.is_none() {
            // Without them, whoever looks looks on.
            self.processors = socket::processors::publish().ok();
        }
        let page_of_new = is_new.then(|| page.as_fd());
        let files: Vec<BorrowedFd<'_>> = self.processors.iter().map(AsFd::as_fd).chain(page_of_new).collect();
        seqpacket::send(&member.socket, &said.map(IoSlice::new), &files)?;
        let page = identity(&page)?;
        member.place = Some(number);
        self.places.insert(number, Place { notice, page, key, user, room, held: 1 });
        *self.users.entry(user).or_default() += 1;
        if let Some(room) = room {
            *self.groups.entry(room.group).or_default() += 1;
        }
        self.pages.insert(page, number);
        self.keys.insert(key, number);
        self.held += 1;
        Ok(())
    }

    /// Tells a process of another build that it is, and which this one is.
    pub fn turn_away(&mut self, number: Number, other: &build::Other) {
        let process = self.process(number);
        if self.stranger != process {
            self.stranger = process;
            tracing::warn!(
                process,
                library = %other,
                broker = build::name(),
                "a program's socket library is of a build that this broker does not understand: its connections stay on TCP; \
                 start it by the `lichen socket run` of this broker's build, or the broker with the library's"
            );
        }
        self.tell(number, &[&[REFUSED], build::own().as_bytes()].concat(), &[]);
        self.remove(number);
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
        let received = seqpacket::receive(&self.socket, &mut message, &mut descriptors);
        let mut descriptors: Vec<Shown> = descriptors.into_iter().map(|file| self.socket.beside(file)).collect();
        let len = match received {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(Event::Gone),
        };
        let has_place = self.place.is_some();
        match (has_place, &message[..len]) {
            (false, [OFFER, said @ ..]) => return Some(offer(said, descriptors).unwrap_or(Event::Gone)),
            (true, [HAS, store, said @ ..]) => return Some(has(*store, said, descriptors).unwrap_or(Event::Gone)),
            _ => {}
        }
        let shown = descriptors.pop();
        if shown.as_ref().is_some_and(|memory| !os::memfd::has_ordinary_pages(memory)) {
            return Some(Event::Gone);
        }
        let shown = shown.and_then(Shown::into_memory);
        Some(match (&message[..len], shown) {
            ([1], None) if has_place => Event::Knock,
            ([PAIR, store], Some(memory)) if has_place => Event::Pair(memory, usize::from(*store)),
            (hello, page) if !has_place && hello.starts_with(HELLO) => {
                match build::understands(&hello[HELLO.len()..]) {
                    Ok(()) => Event::Hello(page),
                    Err(other) => Event::Stranger(other),
                }
            }
            (LIST, None) if !has_place => Event::List,
            _ => Event::Gone,
        })
    }
}

/// A memory file, by what the kernel says of it.
fn identity(file: &OwnedFd) -> io::Result<(u64, u64)> {
    os::memfd::sealed_len(file)?;
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// What a message about memory says; nothing if it is none.
fn has(store: u8, said: &[u8], descriptors: Vec<Shown>) -> Option<Event> {
    let connections = Connection::all_of(said)?;
    let mut descriptors = descriptors.into_iter();
    let memory = descriptors.next().filter(|memory| os::memfd::has_ordinary_pages(memory))?.into_memory()?;
    (connections.len() == descriptors.len())
        .then(|| Event::Has(memory, store.into(), connections.into_iter().zip(descriptors).collect()))
}

/// What an offer says; nothing if it is none.
fn offer(said: &[u8], descriptors: Vec<Shown>) -> Option<Event> {
    let (key, number) = said.split_first_chunk::<KEY>()?;
    let mut descriptors = descriptors.into_iter();
    let socket = descriptors.next()?;
    let bell = match u64::from_le_bytes(number.try_into().ok()?) {
        0 => None,
        number => Some(Bell { number, pipe: descriptors.next()? }),
    };
    Some(Event::Offer(*key, socket, bell))
}
