//! How a connection gets memory: each end shows its socket to the broker, which gives both the same memory if the two are ends of
//! one connection.
//!
//! Only connections that last get that far: until then they cost nothing but counting. To meet costs as much as ten or
//! twenty round trips over TCP. So a connection has cost more than that before, and whenever it ends, it has not cost half as much again
//! as over TCP. Nobody waits for the broker: its answer is looked for in later calls, and until both ends have it all goes over TCP.

use crate::env::settings;
use crate::slot::{Attached, Entry, state};
use crate::{bell, epoll, member, rings, settle};
use socket::member::{COME_WITHIN, MESSAGE_MAX, Meeting, OFFER};
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::Relaxed;

/// A connection lasts that has answered so often, or has had so many calls, or bytes.
const TURNS: u32 = 32;
const CALLS: u32 = 256;
const BYTES: u64 = 1 << 20;

/// Calls after which a connection whose other end does not show up stays on TCP.
const PATIENCE: u32 = 1 << 20;
/// Calls in which the broker's first answer to this process is looked for.
const SHORT_PATIENCE: u32 = 1 << 12;

/// One more call on a connection that has no memory yet, which `sends` or receives.
pub fn step(entry: &Entry, fd: RawFd, sends: bool) {
    let calls = entry.calls.fetch_add(1, Relaxed) + 1;
    if sends {
        entry.count_turn();
    }
    if !lasts(entry, calls) {
        return;
    }
    // One thread alone: an end that is shown twice waits for another that has gone already.
    let Some(_alone) = entry.offering.try_lock() else { return };
    match entry.state() {
        state::COUNTED => {
            let begun = begin(entry, fd);
            let patience = settings().after.unwrap_or(CALLS).saturating_add(SHORT_PATIENCE);
            if begun.is_none() || calls > patience {
                entry.give_up();
            }
        }
        // More seldom as time goes by.
        state::OFFERED
            if (calls < 64 || calls.is_multiple_of(16)) && (poll(entry, fd).is_none() || calls > PATIENCE) =>
        {
            if member::is_alone() {
                entry.offer_again();
            } else {
                entry.keep_offer(None);
            }
        }
        _ => {}
    }
}

fn lasts(entry: &Entry, calls: u32) -> bool {
    match settings().after {
        Some(after) => calls >= after,
        None => {
            let moved = || entry.tcp_in.load(Relaxed).saturating_add(entry.tcp_out.load(Relaxed));
            entry.turns.load(Relaxed) >= TURNS || calls >= CALLS || moved() >= BYTES
        }
    }
}

/// Shows the broker this end, if that has answered this process. None if this connection is not to have memory.
fn begin(entry: &Entry, fd: RawFd) -> Option<()> {
    // SAFETY: the program uses this descriptor in the call that leads here.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let (own, peer) = ends(socket)?;
    let ports = [own.port(), peer.port()];
    let near = peer.ip().is_loopback() || peer.ip() == own.ip() || settings().names(ports);
    if !near || own == peer || !settings().allows(ports) || rings::are_used() {
        return None;
    }
    let Some(key) = member::key().ok()? else { return Some(()) };
    let broker = member::connect().ok()?;
    let show = |number: u64, bell: Option<BorrowedFd<'_>>| {
        let said: [&[u8]; 3] = [&[OFFER], &key, &number.to_le_bytes()];
        let files: Vec<BorrowedFd<'_>> = std::iter::once(socket).chain(bell).collect();
        os::seqpacket::send(&broker, &said.map(IoSlice::new), &files).is_ok()
    };
    // By what whoever receives will probably be woken.
    let set = entry.set.load(Relaxed) - 1;
    let shown = if set >= 0 {
        epoll::bell(set, |number, pipe| show(number, Some(pipe)))
    } else {
        bell::of_thread(|number, pipe| show(number, Some(pipe)))
    };
    if !shown.unwrap_or_else(|| show(0, None)) {
        return None;
    }
    entry.keep_offer(Some(broker.into_raw_fd()));
    Some(())
}

/// The addresses of both ends of a TCP connection.
fn ends(socket: BorrowedFd<'_>) -> Option<(SocketAddr, SocketAddr)> {
    use rustix::net::{getpeername, getsockname, ipproto, sockopt};
    if sockopt::socket_protocol(socket).ok()? != Some(ipproto::TCP) {
        return None;
    }
    let own = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    let peer = SocketAddr::try_from(getpeername(socket).ok()??).ok()?;
    let plain = |address: SocketAddr| SocketAddr::new(canonical(address.ip()), address.port());
    Some((plain(own), plain(peer)))
}

fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// Looks for the broker's answer. None if there will be none.
fn poll(entry: &Entry, fd: RawFd) -> Option<()> {
    let offer = entry.offer()?;
    // SAFETY: the offer's descriptor is open as long as this entry keeps it.
    let broker = unsafe { BorrowedFd::borrow_raw(offer) };
    let (mut message, mut files) = ([0; MESSAGE_MAX], Vec::new());
    let len = match os::seqpacket::receive(broker, &mut message, &mut files) {
        Ok(len) => len,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(()),
        Err(_) => return None,
    };
    let meeting = Meeting::of(&message[..len])?;
    // A connection that is over has no name any more that others could not have had when they met: only the one that is still there
    // met its own other end.
    // SAFETY: the program uses this descriptor in the call that leads here.
    rustix::net::getpeername(unsafe { BorrowedFd::borrow_raw(fd) }).ok()?;
    let file = files.first()?;
    let bell = files.get(1).and_then(bell::of_another);
    let share = member::share(file, meeting)?;
    if share.is_pod() && crate::kernel::now().saturating_sub(meeting.told) > COME_WITHIN {
        // Others may have got its number since.
        entry.offer_again();
        return Some(());
    }
    match entry.attach(share, meeting, bell) {
        Attached::Yes => {
            entry.end_offer();
            if rings::are_known() {
                // Another thread has made one meanwhile, perhaps too early to see this connection.
                settle::descriptor(fd);
            }
        }
        Attached::Later => keep(broker, &files, &message[..len]),
        Attached::Never => return None,
    }
    Some(())
}

/// Puts an answer that came too early back, so that it is found again: the descriptor of the offer becomes a socket of our own
/// that holds it.
fn keep(broker: BorrowedFd<'_>, files: &[OwnedFd], message: &[u8]) {
    let Ok((ours, again)) = os::seqpacket::pair() else { return };
    let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    let sent = os::seqpacket::send(&again, &[IoSlice::new(message)], &files);
    let quiet = rustix::io::ioctl_fionbio(&ours, true);
    if sent.is_ok() && quiet.is_ok() {
        // SAFETY: the number stays this library's: it becomes another file, atomically.
        let mut place = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(broker.as_raw_fd()) });
        let _ = rustix::io::dup3(&ours, &mut place, rustix::io::DupFlags::CLOEXEC);
    }
}
