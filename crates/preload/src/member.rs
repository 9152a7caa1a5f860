//! This process's place with the broker, and the memories that it shares with others.
//!
//! Nobody waits for the broker: until it has answered, connections stay on TCP. A child that was forked has a place of its own, and
//! goes on using the memories that it has got from its parent; whose place lasts until that child has ended too.

use crate::env::settings;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use socket::lock::{Held, Lock};
use socket::member::{Joining, Key, Meeting, Member};
use socket::region::Share;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

/// Descriptors of this library are out of the way of the program's.
pub const HIGH: RawFd = 500;

struct State {
    place: Place,
    /// The memories, by which file they are, and the store that this process has.
    shares: Vec<((u64, u64), usize, Weak<Share>)>,
}

enum Place {
    None,
    Asked(Joining),
    Had(Arc<Member>),
}

static STATE: Lock<State> = Lock::new(State { place: Place::None, shares: Vec::new() });
/// The descriptors that stay, and 1 more: not the program's to close.
static OURS: [AtomicI32; 256] = [const { AtomicI32::new(0) }; 256];
/// None is below this one.
static LOWEST: AtomicI32 = AtomicI32::new(i32::MAX);

/// Before a fork: no other thread is at work here.
pub fn hold() {
    let _until_released = ManuallyDrop::new(state());
}

/// After it, in the parent and in the child.
pub fn release() {
    STATE.release();
}

fn state() -> Held<'static, State> {
    STATE.lock()
}

/// In a child: what there was is the parent's, and stays open.
pub fn forked() {
    let mut state = state();
    let _parents = ManuallyDrop::new(std::mem::replace(&mut state.place, Place::None));
    state.shares.clear();
}

/// A socket to the broker, whose calls do not wait.
pub fn connect() -> io::Result<OwnedFd> {
    let path = settings().broker.as_ref().ok_or(io::ErrorKind::NotFound)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path.as_path())?)?;
    Ok(raised(socket))
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

/// What this process offers connections by; None until the broker has answered. An error: there is no broker.
pub fn key() -> io::Result<Option<Key>> {
    let mut state = state();
    if let Place::Had(member) = &state.place {
        if !member.is_alone() {
            return Ok(Some(*member.key()));
        }
        // Its memories go on without; they keep what they need of it: the second of these.
        unprotect(member.descriptors()[0]);
        state.place = Place::None;
    }
    let asked = match std::mem::replace(&mut state.place, Place::None) {
        Place::Asked(asked) => asked,
        _ => Joining::by(connect()?)?,
    };
    match asked.poll()? {
        Ok(member) => {
            let key = *member.key();
            member.descriptors().into_iter().for_each(protect);
            state.place = Place::Had(Arc::new(member));
            Ok(Some(key))
        }
        Err(asked) => {
            state.place = Place::Asked(asked);
            Ok(None)
        }
    }
}

/// A descriptor is this library's from now on, and not the program's to close.
pub fn protect(fd: RawFd) {
    LOWEST.fetch_min(fd, Relaxed);
    replace(0, fd + 1);
}

pub fn unprotect(fd: RawFd) {
    replace(fd + 1, 0);
}

/// Puts one descriptor in the place of another, each and 1 more.
fn replace(before: i32, now: i32) {
    let put = |place: &&AtomicI32| place.compare_exchange(before, now, Relaxed, Relaxed).is_ok();
    let _ = OURS.iter().find(put);
}

/// Whether a descriptor is this library's, and stays.
pub fn is_ours(fd: RawFd) -> bool {
    fd >= LOWEST.load(Relaxed) && OURS.iter().any(|place| place.load(Relaxed) == fd + 1)
}

/// Those, in order.
pub fn ours() -> Vec<u32> {
    let mut ours: Vec<u32> = OURS.iter().filter_map(|place| u32::try_from(place.load(Relaxed) - 1).ok()).collect();
    ours.sort_unstable();
    ours
}

/// The memory of a meeting: the share that this process has of this file, or a new one.
pub fn share(file: &OwnedFd, meeting: Meeting) -> Option<Arc<Share>> {
    let stat = rustix::fs::fstat(file).ok()?;
    let (identity, store) = ((stat.st_dev, stat.st_ino), usize::from(meeting.stores[0]));
    let mut state = state();
    let known = state.shares.iter().find(|(file, own, _)| (*file, *own) == (identity, store));
    if let Some(share) = known.and_then(|(.., share)| share.upgrade()) {
        return Some(share);
    }
    let Place::Had(member) = &state.place else { return None };
    let share = Arc::new(Share::join(file, store, member.quota()).ok()?);
    state.shares.retain(|(.., share)| share.strong_count() > 0);
    state.shares.push((identity, store, Arc::downgrade(&share)));
    Some(share)
}
