//! This process's place with the broker, and the memories that it shares with others.
//!
//! Nobody waits for the broker: until it has answered, connections stay on TCP. A child that was forked has a place of its own, and
//! goes on using the memories that it has got from its parent; whose place lasts until that child has ended too.
//!
//! When the broker ends, memory stays, and so does what this process keeps of it. A new broker is told of all that ([`ears`] hear
//! it call), by whoever has connections there: children tell of what they have from their parents, in the parents' place.

pub mod ears;
mod held;

pub use held::Held;

use crate::env::settings;
use crate::{kernel, say, turn};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use socket::lock::{Held as Locked, Lock};
use socket::member::{Joining, Key, Meeting, Member, NoPlace};
use std::cell::Cell;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

/// Descriptors of this library are out of the way of the program's.
pub const HIGH: RawFd = 500;
/// As far as the kernel makes room at once, and few processes may have more.
const ROOM: RawFd = 1000;

struct State {
    place: Place,
    /// The memories in which this process has a store.
    shares: Vec<Weak<Held>>,
    /// Places of processes that this one descends from, and the memories that are theirs.
    inherited: Vec<(Member, Vec<Weak<Held>>)>,
    /// A broker has come, and was not told of all yet.
    untold: bool,
    /// When there was a new broker last, and when one was looked for.
    found: u64,
    tried: u64,
}

/// From one look for a broker that is gone to the next, and how long its last answers may be found after it, in nanoseconds.
const PAUSE: u64 = 10_000_000;
const LATE: u64 = 60_000_000_000;

enum Place {
    None,
    Asked(Joining),
    Had(Member),
}

static STATE: Lock<State> = Lock::new(State {
    place: Place::None,
    shares: Vec::new(),
    inherited: Vec::new(),
    untold: false,
    found: 0,
    tried: 0,
});
/// The descriptors that stay, a bit each: not the program's to close.
static OURS: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];

/// Before a fork: no other thread is at work here.
pub fn hold() {
    let _until_released = ManuallyDrop::new(state());
}

/// After it, in the parent and in the child.
pub fn release() {
    STATE.release();
}

fn state() -> Locked<'static, State> {
    STATE.lock()
}

/// In a child: what there was is the parent's, and stays open.
pub fn forked() {
    let state = &mut *state();
    let shares = std::mem::take(&mut state.shares);
    match std::mem::replace(&mut state.place, Place::None) {
        Place::Had(member) => state.inherited.push((member, shares)),
        place => {
            let _parents = ManuallyDrop::new(place);
        }
    }
}

/// A socket to the broker, whose calls do not wait. What it gives, this process maps and believes: it is to be this user's, or root's.
pub fn connect() -> io::Result<OwnedFd> {
    let path = settings().broker.as_ref().ok_or(io::ErrorKind::NotFound)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path.as_path())?)?;
    let socket = raised(socket);
    let owner = rustix::net::sockopt::socket_peercred(&socket)?.uid;
    if !owner.is_root() && owner != rustix::process::geteuid() {
        // SAFETY: this library's, just made. (Dropping it would be seen by what stands before libc.)
        unsafe { crate::real::close(socket.into_raw_fd()) };
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, NoPlace::Owner(owner.as_raw())));
    }
    Ok(socket)
}

/// The same under a high number, if there is room.
pub fn raised(socket: OwnedFd) -> OwnedFd {
    match rustix::io::fcntl_dupfd_cloexec(&socket, HIGH) {
        Ok(high) => {
            // SAFETY: the descriptor is this library's. (Dropping it would be seen by what stands before libc.)
            unsafe { crate::real::close(socket.into_raw_fd()) };
            // SAFETY: just made for us.
            unsafe { OwnedFd::from_raw_fd(high.into_raw_fd()) }
        }
        Err(_) => socket,
    }
}

/// Has the kernel make room for high numbers, while this process has one thread: where there are several, who needs the first of them
/// waits until all processors have been elsewhere (some 20 ms), in the midst of whatever it does.
pub fn make_room() {
    let flags = rustix::event::EventfdFlags::CLOEXEC;
    let Ok(any) = rustix::event::eventfd(0, flags) else { return };
    let high = rustix::io::fcntl_dupfd_cloexec(&any, ROOM).map(IntoRawFd::into_raw_fd);
    for fd in high.into_iter().chain([any.into_raw_fd()]) {
        // SAFETY: this library's, just made. (Dropping it would be seen by what stands before libc.)
        unsafe { crate::real::close(fd) };
    }
}

/// What this process offers connections by; None until the broker has answered. An error: there is no broker.
pub fn key() -> io::Result<Option<Key>> {
    let mut state = state();
    if state.find_broker(false) {
        // Soon, perhaps.
        return Ok(None);
    }
    if let Place::Had(member) = &state.place {
        let key = member.key().inspect_err(say::no_place);
        member.take_processors().into_iter().for_each(turn::told);
        return key;
    }
    let asked = match std::mem::replace(&mut state.place, Place::None) {
        Place::Asked(asked) => asked,
        _ => Joining::by(connect().inspect_err(say::no_place)?)?,
    };
    match asked.poll().inspect_err(say::no_place)? {
        Ok(member) => {
            let key = member.key();
            member.take_processors().into_iter().for_each(turn::told);
            member.descriptors().into_iter().filter(|fd| *fd >= 0).for_each(protect);
            state.place = Place::Had(member);
            key
        }
        Err(asked) => {
            state.place = Place::Asked(asked);
            Ok(None)
        }
    }
}

/// Whether the broker that this process has its place with is there no more.
pub fn is_alone() -> bool {
    matches!(&state().place, Place::Had(member) if member.is_alone())
}

impl State {
    /// Where the broker has ended and there is another, this process has its place with that one: whether there is none. So it is with
    /// the places of those whom it descends from, if `all` are looked at.
    fn find_broker(&mut self, all: bool) -> bool {
        let now = kernel::now();
        let lost = matches!(&self.place, Place::Had(member) if member.is_alone());
        if lost && now.saturating_sub(self.tried) < PAUSE {
            return true;
        }
        if lost && let Some(Place::Had(member)) = self.take_place_if(|member| member.notice().is_none()) {
            // Its memories go on without; they keep what they need of it.
            unprotect(member.descriptors()[0]);
            return false;
        }
        let mut taken = false;
        let own = if let Place::Had(member) = &mut self.place { Some(member) } else { None };
        // What nobody here has anything of is the others' to tell.
        let is_of_use = |shares: &[Weak<Held>]| all && shares.iter().any(|share| share.strong_count() > 0);
        let inherited = self.inherited.iter_mut().filter(|(_, shares)| is_of_use(shares)).map(|(member, _)| member);
        let mut misses = false;
        for member in own.into_iter().chain(inherited).filter(|member| member.is_alone()) {
            self.tried = now;
            let found = again(member);
            (taken, misses) = (taken | found, misses | !found);
        }
        if taken {
            (self.untold, self.found) = (true, now);
        }
        lost && misses
    }

    fn take_place_if(&mut self, so: impl FnOnce(&Member) -> bool) -> Option<Place> {
        match &self.place {
            Place::Had(member) if so(member) => Some(std::mem::replace(&mut self.place, Place::None)),
            _ => None,
        }
    }

    /// Tells a new broker what there is. Whoever cannot be told all at once is told all again.
    fn tell(&mut self) {
        if std::mem::take(&mut self.untold) {
            let own = if let Place::Had(member) = &self.place { Some((member, &self.shares)) } else { None };
            let all = own.into_iter().chain(self.inherited.iter().map(|(member, shares)| (member, shares)));
            self.untold = !all.fold(true, |told, (member, shares)| told & held::tell(member, shares).is_ok());
        }
    }
}

/// Takes a place with a new broker: whether there is one.
fn again(member: &mut Member) -> bool {
    let Ok(socket) = connect() else { return false };
    let taken = member.rejoin(&socket).is_ok();
    // SAFETY: this library's, and the member has it under a number of its own.
    unsafe { crate::real::close(socket.into_raw_fd()) };
    taken
}

/// Called by whoever is about to wait: looks, once in a while and when a broker has called, whether there is a new one.
pub fn heed() {
    if ears::is_time()
        && crate::slot::is_ours()
        && let Some(mut state) = STATE.try_lock()
    {
        state.find_broker(true);
        state.tell();
    }
}

/// The same, by those who find what they look for, and need not wait: one time in many.
pub fn heed_at_times() {
    thread_local! {
        static TIMES: Cell<u8> = const { Cell::new(0) };
    }
    if TIMES.with(|times| times.replace(times.get().wrapping_add(1))) == u8::MAX {
        heed();
    }
}

fn place_of(fd: RawFd) -> Option<(&'static AtomicU64, u64)> {
    let at = usize::try_from(fd).ok()?;
    Some((OURS.get(at / 64)?, 1 << (at % 64)))
}

/// A descriptor is this library's from now on, and not the program's to close.
pub fn protect(fd: RawFd) {
    if let Some((word, bit)) = place_of(fd) {
        word.fetch_or(bit, Relaxed);
    }
}

pub fn unprotect(fd: RawFd) {
    if let Some((word, bit)) = place_of(fd) {
        word.fetch_and(!bit, Relaxed);
    }
}

/// Whether a descriptor is this library's, and stays.
pub fn is_ours(fd: RawFd) -> bool {
    place_of(fd).is_some_and(|(word, bit)| word.load(Relaxed) & bit != 0)
}

/// Those, in order.
pub fn ours() -> Vec<u32> {
    let all = OURS.iter().enumerate().flat_map(|(at, word)| {
        let word = word.load(Relaxed);
        (0..64).filter(move |bit| word & 1 << bit != 0).map(move |bit| at as u32 * 64 + bit)
    });
    all.collect()
}

/// The memory of a meeting: the share that this process has of this file, or a new one.
pub fn share(file: &OwnedFd, meeting: Meeting) -> Option<Arc<Held>> {
    let state = &mut *state();
    let known = state.shares.iter().filter_map(Weak::upgrade).find(|held| held.is(file, meeting.stores[0]));
    // Perhaps by a broker that has ended meanwhile: the new one hears of this connection too.
    state.untold |= state.found > 0 && kernel::now().saturating_sub(state.found) < LATE;
    if known.is_some() {
        return known;
    }
    let Place::Had(member) = &state.place else { return None };
    let held = Arc::new(Held::join(file, meeting.stores[0], member.quota())?);
    state.shares.retain(|held| held.strong_count() > 0);
    state.shares.push(Arc::downgrade(&held));
    Some(held)
}
