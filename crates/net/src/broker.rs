//! The broker of sockets over memory: one per processing unit, beside the processes that talk, never between them.
//!
//! ```text
//!   process ── pairs it is in ──▶ broker ── limit, frozen, asleep ──▶ the process's notice
//!                                   │ looks at claims, commits ahead, punches what is idle, asks the kernel what is there
//! ```
//!
//! Senders take records without asking. The broker reads what they have claimed; where a side grows, it has the next
//! records' memory there before they are used; what nobody has used for a second it gives back to the kernel, zeroed. The
//! bound on each process is one word. What a process says is not believed where it costs others: how much memory its
//! records have, the kernel says, and what is too much is taken, read or not.
//!
//! It also brings the two ends of a connection together ([`meetings`]): two processes that have one get a memory of theirs, and the
//! connection a number in it.
//!
//! A broker can end at any moment, and another take its place: it calls all processes ([`call`]), who tell it of the memory
//! that they have ([`adopted`]).
//!
//! A process is gone when its socket hangs up, which is when no child that it forked has it either. What it had sent can
//! then still be received, for a minute. Where nothing moves, the broker sleeps until somebody takes a record.

mod adopted;
mod call;
mod census;
mod client;
mod closer;
pub mod doors;
mod meetings;
mod members;
mod memory;
mod networks;
mod pairs;
#[cfg(test)]
mod tests;

pub use client::{ask, ask_all};
pub use memory::Sharing;

use crate::split::Known;
use call::Call;
use closer::Shown;
use doors::Door;
use meetings::{Meetings, Offered};
use members::{Bell, Event, Members, Number};
use networks::Networks;
use os::seqpacket::{self, Peer};
use pairs::{Pairs, Work};
use rustix::event::{PollFd, PollFlags, poll};
use socket::member::{Connection, Key, LISTED};
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a broker allows, and how it goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Records of all processes together.
    pub records: u32,
    /// Records of one process at most.
    pub each: u32,
    /// Processes, and pairs of one of them.
    pub members: usize,
    pub pairs: usize,
    /// How long a record is unused before its memory is taken back: where those of all processes have more than half of what they may
    /// have together, and where there is room.
    pub idle: Duration,
    pub keep: Duration,
    /// Who has a memory together.
    pub sharing: Sharing,
}

impl Default for Bounds {
    /// 256 MiB for all, 128 MiB for one.
    fn default() -> Self {
        let (idle, keep) = (Duration::from_secs(1), Duration::from_secs(10));
        Self { records: 8192, each: 4096, members: 1024, pairs: 4096, idle, keep, sharing: Sharing::Pair }
    }
}

/// Between two looks while something grows, and while something was used lately.
const GROWING: Duration = Duration::from_millis(1);
const USED: Duration = Duration::from_millis(250);
/// The longest time between two looks while records are taken that do not move.
const STILL: Duration = Duration::from_secs(60);
/// From this on, who takes a record wakes the broker.
const NAP: Duration = Duration::from_secs(1);

/// A descriptor.
fn spare() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(Into::into)
}

/// A broker.
pub struct Broker {
    listener: OwnedFd,
    /// Of a network's users.
    doors: Vec<Door>,
    /// Can be read when one of these is to be heard again.
    relieved: Option<PipeReader>,
    calls: Vec<Call>,
    /// A descriptor that is given up to admit somebody when there are no others.
    spare: Option<OwnedFd>,
    bounds: Bounds,
    members: Members,
    pairs: Pairs,
    meetings: Meetings,
    networks: Networks,
    /// Time to the next look; none while there is nothing to look at.
    pace: Option<Duration>,
    nap: u32,
    /// Whether that time has passed, and nobody has said anything.
    lapsed: bool,
    /// When connections that have closed were looked for last, and whether there may be some.
    swept: u64,
    open: bool,
}

impl Broker {
    /// A broker that listens at `path`, which must be free.
    pub fn bind(path: &Path, bounds: Bounds) -> io::Result<Self> {
        let listener = seqpacket::listen(path)?;
        // Without it, processes find out when they next have something to say.
        let call = Call::at(path).inspect_err(|error| tracing::warn!(%error, "processes cannot be called")).ok();
        let calls = call.into_iter().collect();
        let (members, pairs, meetings) = (Members::default(), Pairs::default(), Meetings::new(bounds.sharing));
        let networks = Networks::default();
        Ok(Self {
            listener,
            doors: Vec::new(),
            relieved: None,
            calls,
            spare: spare(),
            bounds,
            members,
            pairs,
            meetings,
            networks,
            pace: None,
            nap: 0,
            lapsed: false,
            swept: 0,
            open: false,
        })
    }

    /// The same, for which the halves of each network that is remembered in `folder` ([`crate::split`]) are one.
    pub fn over(self, folder: &Path) -> Self {
        Self { networks: Networks::remembered(folder), ..self }
    }

    /// The broker of one network, for all of its users: they come by [`doors`] in this folder, and who serves here has come at `path`.
    pub fn of_network(path: &Path, folder: &Path, known: &Known, bounds: Bounds) -> io::Result<Self> {
        let broker = Self::bind(path, bounds)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let (relieved, relieves) = io::pipe()?;
        for end in [relieved.as_fd(), relieves.as_fd()] {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        let (doors, calls) = Door::open_all(folder, known, &relieves)?;
        let (networks, members) = (Networks::one(known), Members::of_users(known.users.len()));
        Ok(Self { doors, relieved: Some(relieved), calls, networks, members, ..broker })
    }

    /// Connections that were brought together.
    pub fn met(&self) -> u64 {
        self.meetings.met()
    }

    /// Serves until `stop` can be read, or has hung up.
    pub fn run(&mut self, stop: BorrowedFd<'_>) -> io::Result<()> {
        while let Some(ready) = self.wait(stop)? {
            self.hear(&ready);
            self.admit();
            self.look();
            self.calls.retain_mut(|call| !call.is_due());
        }
        Ok(())
    }

    /// Waits for something to do: who has said something. None: stop.
    fn wait(&mut self, stop: BorrowedFd<'_>) -> io::Result<Option<Vec<Number>>> {
        self.lapsed = false;
        let naps = self.pace.is_none_or(|pace| pace >= NAP);
        if naps {
            self.nap = self.nap.wrapping_add(1).max(1);
            self.members.each(|notice| notice.sleep(self.nap));
            // What was taken before its process saw that this sleeps.
            self.look();
        }
        let (numbers, sockets): (Vec<Number>, Vec<BorrowedFd<'_>>) = self.members.sockets().unzip();
        let mut polled =
            vec![PollFd::from_borrowed_fd(stop, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        polled.extend(sockets.into_iter().map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
        let heard = self.doors.iter().filter(|door| !door.closer.is_behind());
        polled.extend(heard.map(|door| PollFd::new(door, PollFlags::IN)));
        polled.extend(self.relieved.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let limit =
            self.pace.into_iter().chain(self.calls.iter().map(Call::left)).min().map(|pace| rustix::time::Timespec {
                tv_sec: pace.as_secs() as i64,
                tv_nsec: pace.subsec_nanos().into(),
            });
        match poll(&mut polled, limit.as_ref()) {
            Ok(count) => self.lapsed = count == 0 && self.calls.iter().all(|call| !call.left().is_zero()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let said = |at: usize| !polled[at].revents().is_empty();
        let stops = said(0);
        if let Some(pipe) = &self.relieved {
            while rustix::io::read(pipe, &mut [0; 64]).is_ok_and(|len| len > 0) {}
        }
        let ready = (0..numbers.len()).filter(|at| said(at + 2)).map(|at| numbers[at]).collect();
        if naps {
            self.members.each(|notice| notice.sleep(0));
        }
        Ok((!stops).then_some(ready))
    }

    fn admit(&mut self) {
        self.admit_by(None);
        let doors = std::mem::take(&mut self.doors);
        doors.iter().for_each(|door| self.admit_by(Some(door)));
        self.doors = doors;
    }

    /// Who has come, if this is the way: by a door its user, from a namespace of the network's or the broker's own; to a network's broker
    /// otherwise who it is of; to another broker whoever its owner lets come, in whose stead he is.
    fn admitted(&self, socket: &Shown, door: Option<&Door>) -> Option<Peer> {
        let peer = seqpacket::peer(socket).ok()?;
        let own = rustix::process::geteuid().as_raw();
        let expected = door.map_or(own, |door| door.user);
        if peer.uid != expected && (door.is_some() || self.members.are_of_users()) {
            tracing::warn!(
                user = peer.uid,
                expected,
                "somebody comes by a door that is another user's, and is hung up on"
            );
            return None;
        }
        // Its number is that of other networks' users too, who may see the door.
        let namespace = |socket: BorrowedFd<'_>| os::netlink::namespace_of(socket).ok();
        let is_of_network = || {
            let from = namespace(socket.as_fd());
            from.is_some_and(|from| self.networks.has(from)) || from == namespace(self.listener.as_fd())
        };
        if door.is_some() && !is_of_network() {
            tracing::warn!(user = peer.uid, "somebody comes from another network, and is hung up on");
            return None;
        }
        Some(Peer { uid: expected, ..peer })
    }

    fn accept(&self, door: Option<&Door>) -> io::Result<Option<Shown>> {
        let socket = seqpacket::accept(door.map_or(self.listener.as_fd(), AsFd::as_fd))?;
        Ok(socket.map(|socket| Shown::by(door.map(|door| &door.closer), socket)))
    }

    /// Those who come by a door, or else to this broker's own socket.
    fn admit_by(&mut self, door: Option<&Door>) {
        while door.is_none_or(|door| !door.closer.is_behind()) {
            match self.accept(door) {
                Ok(Some(socket)) => {
                    let peer = self.admitted(&socket, door);
                    let crowder = peer.and_then(|peer| self.members.admit(socket, peer, door.is_some()));
                    if let Some(crowder) = crowder {
                        self.gone(crowder);
                    }
                }
                Ok(None) => return,
                // No descriptor is left: who waits is hung up on by the one that was kept for that, or would wait, and wake this, for ever.
                Err(error) => {
                    tracing::warn!(%error, "the broker of sockets cannot admit anybody");
                    let had = self.spare.take().is_some();
                    let turned_away = had && matches!(self.accept(door), Ok(Some(_)));
                    self.spare = spare();
                    if !turned_away {
                        return;
                    }
                }
            }
        }
    }

    /// A connection is gone, or is to go.
    fn gone(&mut self, number: Number) {
        self.meetings.withdraw(number);
        if let Some(place) = self.members.remove(number) {
            self.pairs.leave(place, os::monotonic_ns());
            self.meetings.leave(place);
            self.pace = None;
        }
    }

    /// Hears what these say.
    fn hear(&mut self, ready: &[Number]) {
        for (number, event) in self.members.hear(ready) {
            match event {
                Event::Hello(page) => self.members.welcome(number, page, &self.bounds),
                Event::Stranger(other) => self.members.turn_away(number, &other),
                Event::Pair(memory, store) => {
                    let place = self.members.place_of(number);
                    let watched = place.is_some_and(|place| {
                        self.pairs.of(place) < self.bounds.pairs
                            && self.members.has_room(number, &self.pairs)
                            && self.pairs.add(place, Arc::new(memory), store, false)
                    });
                    self.members.answer(number, watched);
                }
                // It moves again.
                Event::Knock => self.pace = None,
                Event::Offer(key, socket, bell) => self.introduce(number, &key, socket, bell),
                Event::List => self.list(number),
                Event::Has(memory, store, connections) => self.adopt(number, (&Arc::new(memory), store), connections),
                Event::Gone => self.gone(number),
            }
        }
        self.share();
    }

    /// An end of a connection is offered.
    fn introduce(&mut self, end: Number, key: &Key, socket: Shown, bell: Option<Bell>) {
        // A key is of use to its user alone.
        let user = self.members.user(end);
        let owner = self.members.by_key(key).filter(|owner| self.members.user_of(*owner) == Some(user));
        let by = owner.filter(|_| self.members.has_room(end, &self.pairs)).map(|owner| self.by(end, owner));
        let met = by.and_then(|by| {
            let key = meetings::Key::of(&socket, &mut self.networks)?;
            self.meetings.offer(by, (key, bell), &self.networks, (&mut self.pairs, self.bounds.pairs))
        });
        // At once: while it is held here, the connection cannot end.
        drop(socket);
        match met {
            Some(Offered::Met(met)) => {
                (self.open, self.pace) = (true, None);
                for (end, meeting, bell) in met.ends {
                    let mut files = vec![met.memory.as_fd()];
                    files.extend(bell.iter().map(|bell| bell.pipe.as_fd()));
                    self.members.tell(end, &meeting.message(), &files);
                    let _ = self.members.remove(end);
                }
            }
            Some(Offered::Waits { instead_of }) => {
                if let Some(before) = instead_of {
                    let _ = self.members.remove(before);
                }
            }
            None => drop(self.members.remove(end)),
        }
    }

    fn by(&self, offer: Number, owner: Number) -> meetings::By {
        meetings::By { offer, owner, process: self.members.process(offer), user: self.members.user(offer) }
    }

    /// A process tells of memory that it has from another broker, and of its connections there.
    fn adopt(&mut self, number: Number, memory: (&Arc<OwnedFd>, usize), connections: Vec<(Connection, Shown)>) {
        let Some(place) = self.members.place_of(number) else { return };
        let (file, store) = memory;
        let watched = self.pairs.has(place, file, store)
            || self.pairs.of(place) < self.bounds.pairs
                && self.members.has_room(number, &self.pairs)
                && self.pairs.add(place, file.clone(), store, true);
        if !watched {
            tracing::warn!(
                process = self.members.process(number),
                "memory that a process tells of is none, or another's"
            );
            return;
        }
        let by = self.by(number, place);
        for (connection, socket) in connections {
            if let Some(key) = meetings::Key::of(&socket, &mut self.networks) {
                self.meetings.adopt(file, connection, key, by);
            }
        }
        (self.open, self.pace) = (true, None);
    }

    /// Tells one who has asked all there is to know, to a network's user what is that user's.
    fn list(&mut self, number: Number) {
        let user = self.members.may_see(number);
        let sockets = self.meetings.census(self.members.count(user), user);
        match census::written(&sockets) {
            Ok(file) => self.members.tell(number, &[LISTED], &[file.as_fd()]),
            Err(error) => tracing::warn!(%error, "the broker's list cannot be written"),
        }
        let _ = self.members.remove(number);
    }

    /// All users have the same share of what there is, and all processes of each.
    fn share(&self) {
        self.members.share(&self.bounds);
    }

    fn look(&mut self) {
        let now = os::monotonic_ns();
        let idle = self.bounds.idle.as_nanos() as u64;
        let crowded = self.pairs.had() > self.bounds.records as usize / 2;
        let unused = if crowded { idle } else { self.bounds.keep.as_nanos() as u64 };
        let (members, bounds) = (&self.members, &self.bounds);
        let allowed = |place| members.allowed_to(place, bounds) as usize;
        let work = self.pairs.look(members, now, unused, allowed);
        self.pairs.bound(self.bounds.each as usize);
        if self.open && now.saturating_sub(self.swept) > idle {
            (self.open, self.swept) = (self.meetings.sweep(&mut self.pairs), now);
        }
        let work = if self.open { work.max(Work::Still) } else { work };
        self.pace = match (work, self.pace) {
            (Work::Grows, _) => Some(GROWING),
            (Work::Moves, _) | (Work::Still, None) => Some(USED),
            (Work::Still, Some(pace)) if self.lapsed => Some((pace * 2).clamp(USED, STILL)),
            (Work::Still, Some(pace)) => Some(pace.max(USED)),
            (Work::Nothing, _) => None,
        };
    }
}
