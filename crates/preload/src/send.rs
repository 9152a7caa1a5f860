//! Sending on a connection that has memory, or may get some.

use crate::look::{self, Wait};
use crate::slot::{self, Entry, Slot, state};
use crate::{kernel, offer, real, turn};
use socket::layout::LOCAL;
use socket::lock::Held;
use socket::migration::Outgoing;
use socket::parts::Part;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::Ordering::Relaxed;

/// Flags of a call that can go through memory.
const CARRIED: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE | libc::MSG_EOR | libc::MSG_CONFIRM;

/// The connection that a call sends on, if that has memory, or may get some.
pub fn live(fd: RawFd) -> Option<Entry> {
    let entry = slot::live(fd);
    if entry.is_none() && slot::is_known(fd) {
        turn::sent(true);
    }
    entry
}

/// A call that sends `parts`; `original` makes it as the program did.
pub fn send(entry: &Entry, fd: RawFd, parts: &[Part], flags: i32, original: impl Fn() -> isize) -> isize {
    if entry.state() != state::ATTACHED {
        if flags & !CARRIED != 0 {
            // Urgent bytes, or memory that the kernel reports on: more than bytes in order.
            entry.give_up();
        }
        offer::step(entry, fd, true);
        if let Ok(sent) = entry.counted(&original, &entry.tcp_out, true) {
            turn::sent(true);
            return sent;
        }
    }
    if flags & !CARRIED != 0 {
        pin(entry);
    }
    carry(entry, fd, parts, flags, original)
}

fn carry(entry: &Entry, fd: RawFd, parts: &[Part], flags: i32, original: impl Fn() -> isize) -> isize {
    let total: usize = parts.iter().map(|part| part.len).sum();
    let met = entry.meets();
    let (mut done, mut paced) = (0, true);
    loop {
        let mut sending = entry.sending.lock();
        let Some(out) = sending.as_mut() else { return original() };
        if out.is_recalled() {
            drop(sending);
            serve_recall(entry, fd);
            continue;
        }
        if total > 0 && met && out.rise() {
            if entry.heard.load(Relaxed) {
                entry.heard.store(false, Relaxed);
                out.answered();
            }
            // SAFETY: the program's buffers.
            done += unsafe { if paced { out.put_paced(parts, done) } else { out.put(parts, done) } };
            if done > 0
                && let Err(error) = wake(entry, fd, out)
                && done == total
                && error != libc::EAGAIN
            {
                return failed(error, flags);
            }
            turn::sent(false);
            if done == total {
                return done as isize;
            }
            if paced && out.is_far() {
                let waits = flags & libc::MSG_DONTWAIT == 0 && !entry.nonblocking.load(Relaxed);
                paced = pace(entry, sending, waits);
                continue;
            }
            if wait_for_room(entry, sending) {
                continue;
            }
            sending = entry.sending.lock();
            if let Some(out) = sending.as_mut() {
                out.sink();
            }
        }
        let Some(out) = sending.as_mut() else { return original() };
        out.fly();
        drop(sending);
        let sent = if done == 0 { original() } else { rest(fd, parts, done, flags) };
        let error = real::errno();
        if let Some(out) = entry.sending.lock().as_mut() {
            out.land(sent.max(0) as usize);
        }
        real::set_errno(error);
        return if sent < 0 && done > 0 { done as isize } else { done as isize + sent };
    }
}

/// Wakes whoever sleeps until something comes: by his bell, or a byte over TCP. An error's number if that could not be sent.
fn wake(entry: &Entry, fd: RawFd, out: &mut Outgoing) -> Result<(), i32> {
    let Some(bell) = out.owes_bell() else { return Ok(()) };
    if entry.wake(bell, out.sleeper()) {
        out.rang();
        return Ok(());
    }
    out.ring();
    kernel::bell(fd).inspect_err(|_| out.unring())
}

/// Bytes of a file that are read at once.
const PIECE: usize = 16 << 10;

/// Sends `len` bytes of a file, from `at` on, or from where it was read up to: they are read here, and so go where all others
/// go, rather than over TCP, there and back for each file. How many, or an error, and where the next ones are. None: the kernel is to do it.
pub fn file(entry: &Entry, fd: RawFd, from: BorrowedFd<'_>, at: Option<u64>, len: usize) -> Option<(isize, u64)> {
    let rises = || entry.sending.lock().as_mut().is_some_and(|out| !out.is_recalled() && out.rise());
    if entry.state() != state::ATTACHED || len == 0 || !entry.meets() || !rises() {
        return None;
    }
    // Of others it is not known whether reading waits, and takes what it reads.
    let is_file = rustix::fs::fstat(from).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
    if !is_file {
        return None;
    }
    let begin = at.or_else(|| rustix::fs::tell(from).ok())?;
    let (mut piece, mut done) = ([0u8; PIECE], 0);
    while done < len {
        let want = PIECE.min(len - done);
        let got = match rustix::io::pread(from, &mut piece[..want], begin + done as u64) {
            Ok(0) => break,
            Ok(got) => got,
            // The kernel says what is wrong.
            Err(_) if done == 0 => return None,
            Err(_) => break,
        };
        // SAFETY: the bytes are this frame's.
        let original = || unsafe { real::send(fd, piece.as_ptr().cast(), got, 0) };
        let sent = carry(entry, fd, &[Part::of(&piece[..got])], 0, original);
        if sent < 0 && done == 0 {
            return Some((sent, begin));
        }
        done += sent.max(0) as usize;
        if sent < got as isize {
            break;
        }
    }
    let end = begin + done as u64;
    if at.is_none() {
        // As the kernel leaves it.
        let _ = rustix::fs::seek(from, rustix::fs::SeekFrom::Start(end));
    }
    Some((done as isize, end))
}

/// Waits a little for a receiver that is at work to make room: whether it has.
fn wait_for_room(entry: &Entry, mut sending: Held<'_, Option<Outgoing>>) -> bool {
    let Some(out) = sending.as_mut() else { return false };
    let together = out.shares_processor(kernel::processor());
    drop(sending);
    let mut wait = Wait::begin();
    let there = wait.look(
        Wait::budget(together),
        1,
        || 0,
        || entry.sending.try_lock().is_some_and(|mut held| held.as_mut().is_none_or(|out| out.room() >= LOCAL / 4)),
    );
    if there {
        wait.end();
    }
    there
}

/// Waits a little for a receiver that is at work to catch up, where much is on its way: whether it has. Else the rest goes ahead of it.
/// Less so for a program that does not let calls wait, and may have others to send to.
fn pace(entry: &Entry, mut sending: Held<'_, Option<Outgoing>>, waits: bool) -> bool {
    let Some(out) = sending.as_mut() else { return false };
    let together = out.shares_processor(kernel::processor());
    drop(sending);
    look::pace(together, waits, || {
        entry.sending.try_lock().is_some_and(|mut held| held.as_mut().is_none_or(|out| !out.is_far()))
    })
}

/// Sends over TCP what lies behind the first `done` bytes.
fn rest(fd: RawFd, parts: &[Part], done: usize, flags: i32) -> isize {
    kernel::with_rest(parts, done, usize::MAX, |message| {
        // SAFETY: the parts are the caller's buffers.
        unsafe { real::sendmsg(fd, message, flags) }
    })
}

/// The other end is gone: what TCP says to whoever sends then.
fn failed(error: i32, flags: i32) -> isize {
    if error == libc::EPIPE && flags & libc::MSG_NOSIGNAL == 0 {
        // SAFETY: the signal that TCP would have raised in this thread.
        unsafe { libc::raise(libc::SIGPIPE) };
    }
    real::set_errno(error);
    -1
}

/// A call that the kernel makes, and that sends as many bytes as it says.
pub fn by_kernel(entry: &Entry, original: impl Fn() -> isize) -> isize {
    if entry.state() != state::ATTACHED
        && let Ok(sent) = entry.counted(&original, &entry.tcp_out, true)
    {
        return sent;
    }
    if let Some(out) = entry.sending.lock().as_mut() {
        out.sink();
        out.fly();
    }
    let sent = original();
    let error = real::errno();
    if let Some(out) = entry.sending.lock().as_mut() {
        out.land(sent.max(0) as usize);
    }
    real::set_errno(error);
    sent
}

/// What this end sends goes over TCP from now on.
pub fn pin(entry: &Entry) {
    if let Some(out) = entry.sending.lock().as_mut() {
        out.pin();
    }
}

/// If the other end wants all over TCP, sends it there what it has not taken from memory.
pub fn serve_recall(entry: &Slot, fd: RawFd) {
    let mut sending = entry.sending.lock();
    let Some(out) = sending.as_mut() else { return };
    let Some(left) = out.withdraw() else { return };
    let (mut piece, mut done) = ([0; 4096], 0);
    while done < left {
        let len = out.take_back(done, &mut piece[..(left - done).min(4096)]);
        out.fly();
        let sent = push(fd, &piece[..len]);
        out.land(sent);
        if sent == 0 {
            return;
        }
        done += sent;
    }
}

/// Sends something now: how much. Waits for room, which TCP has unless the other end does not read, for a moment.
fn push(fd: RawFd, bytes: &[u8]) -> usize {
    const TRIES: u32 = 20;
    for _ in 0..TRIES {
        // SAFETY: the bytes are a slice.
        let sent =
            unsafe { real::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
        match sent {
            1.. => return sent as usize,
            _ if real::errno() == libc::EAGAIN => {
                let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
                // SAFETY: one structure of this frame.
                unsafe { real::poll(&mut poll, 1, 10) };
            }
            _ => return 0,
        }
    }
    0
}
