//! Waiting for several descriptors: poll and select. Those without memory are the kernel's; it is asked about all of them.

use crate::look::Wait;
use crate::slot::{self, Entry};
use crate::{bell, epoll, kernel, member, real, receive, send, turn};
use libc::{c_int, fd_set, pollfd, sigset_t, timespec};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

const READ: i16 = libc::POLLIN | libc::POLLRDNORM;
/// Sockets with memory that one call waits for; more are found by their bells.
const MOST: usize = 64;
/// Descriptors among which the thread's bell is heard; among more, a byte over TCP wakes it.
const BESIDE: usize = 256;

/// The sockets with memory among those that are waited for, and where they are there.
struct Watched {
    entries: [Option<(usize, Entry)>; MOST],
    count: usize,
}

impl Watched {
    fn among(polls: &[pollfd]) -> Self {
        let mut watched = Self { entries: [const { None }; MOST], count: 0 };
        for (at, poll) in polls.iter().enumerate() {
            if !slot::is_known(poll.fd) {
                epoll::seen_among_others(poll.fd);
            }
            if watched.count < MOST
                && poll.events & READ != 0
                && let Some(entry) = slot::attached(poll.fd)
            {
                entry.watched.store(true, Relaxed);
                entry.meets();
                send::serve_recall(&entry, poll.fd);
                watched.entries[watched.count] = Some((at, entry));
                watched.count += 1;
            }
        }
        watched
    }

    fn iter(&self) -> impl Iterator<Item = &(usize, Entry)> {
        self.entries[..self.count].iter().flatten()
    }

    fn any(&self) -> bool {
        self.iter().any(|(_, entry)| entry.has_bytes())
    }

    /// When the first of what has come was sent, as its sender says; 0: nothing has.
    fn sent_at(&self) -> u64 {
        let news = self.iter().filter(|(_, entry)| entry.has_bytes()).filter_map(|(_, entry)| entry.news());
        // SAFETY: the memory beneath a connection is there while a thread is at work on it, as this one is.
        news.map(|news| unsafe { news.sent_at() }).min().unwrap_or(0)
    }

    fn together(&self) -> bool {
        self.iter().any(|(_, entry)| entry.shares_processor())
    }

    /// Says that this thread sleeps, until this bell rings: whether there is something already.
    fn lie(&self, bell: u64) -> bool {
        self.iter().fold(false, |any, (_, entry)| entry.lie(bell) || any)
    }

    fn rise(&self) {
        self.iter().for_each(|(_, entry)| entry.woke());
    }

    /// Corrects what the kernel says, which knows of no memory and takes bells for bytes: how many descriptors have something.
    fn correct(&self, polls: &mut [pollfd]) -> c_int {
        for (at, entry) in self.iter() {
            let poll = &mut polls[*at];
            let wanted = poll.events & READ;
            if entry.has_bytes() {
                poll.revents |= wanted;
            } else if poll.revents & READ != 0 && !receive::is_readable(entry, poll.fd) {
                send::serve_recall(entry, poll.fd);
                poll.revents &= !READ;
            }
        }
        polls.iter().filter(|poll| poll.revents != 0).count() as c_int
    }
}

/// When a wait ends; none if it does not.
struct Deadline(Option<u64>);

impl Deadline {
    fn after(timeout: Option<&timespec>) -> Self {
        Self(timeout.map(|time| {
            let span = (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64);
            kernel::now().saturating_add(span)
        }))
    }

    fn left(&self) -> Option<timespec> {
        let left = self.0?.saturating_sub(kernel::now());
        Some(timespec { tv_sec: (left / 1_000_000_000) as _, tv_nsec: (left % 1_000_000_000) as _ })
    }
}

/// As ppoll; None if no socket with memory is among these.
pub fn wait(polls: &mut [pollfd], timeout: Option<&timespec>, mask: *const sigset_t) -> Option<c_int> {
    let watched = Watched::among(polls);
    if watched.count == 0 {
        return None;
    }
    let deadline = Deadline::after(timeout);
    let now = timespec { tv_sec: 0, tv_nsec: 0 };
    let mut wait = Wait::begin();
    loop {
        let asked = ask(polls, Some(&now), mask);
        let found = if asked < 0 { asked } else { watched.correct(polls) };
        let left = deadline.left();
        if found != 0 || left.is_some_and(|left| left.tv_sec == 0 && left.tv_nsec == 0) {
            wait.end();
            return Some(found);
        }
        watched.iter().for_each(|(_, entry)| entry.doze());
        // Descriptors of the kernel's own would not be seen meanwhile.
        let alone = watched.count == polls.len();
        let together = watched.together();
        let budget = if alone { Wait::budget(together || turn::awaits_kernel()) } else { 0 };
        if alone && wait.seek(budget, together, watched.count, || watched.any()) {
            continue;
        }
        member::heed();
        // A descriptor more than the program may have open is refused.
        let bell = if polls.len() <= BESIDE { bell::beside() } else { None };
        let processor = kernel::processor();
        if watched.lie(bell.map_or(0, |(number, _)| number)) {
            watched.rise();
            continue;
        }
        wait.sleep();
        let left = deadline.left();
        let asked = match bell {
            Some((_, ear)) => ask_beside(polls, ear, left.as_ref(), mask),
            None => ask(polls, left.as_ref(), mask),
        };
        turn::rises(processor);
        wait.wake(watched.sent_at());
        watched.rise();
        if asked < 0 {
            return Some(asked);
        }
    }
}

/// The same, until the bell of this ear rings.
fn ask_beside(polls: &mut [pollfd], ear: RawFd, timeout: Option<&timespec>, mask: *const sigset_t) -> c_int {
    let mut all = [pollfd { fd: -1, events: 0, revents: 0 }; BESIDE + 1];
    let all = &mut all[..=polls.len()];
    all[0] = pollfd { fd: ear, events: libc::POLLIN, revents: 0 };
    all[1..].copy_from_slice(polls);
    let asked = ask(all, timeout, mask);
    if asked < 0 {
        return asked;
    }
    if all[0].revents != 0 {
        bell::heard_beside();
    }
    polls.copy_from_slice(&all[1..]);
    asked - c_int::from(all[0].revents != 0)
}

fn ask(polls: &mut [pollfd], timeout: Option<&timespec>, mask: *const sigset_t) -> c_int {
    let timeout: *const timespec = timeout.map_or(std::ptr::null(), |timeout| timeout);
    // SAFETY: the slice is the program's array; the mask is as it gave it.
    unsafe { real::ppoll(polls.as_mut_ptr(), polls.len() as _, timeout, mask) }
}

/// The sets of a select, as a poll has them.
pub struct Sets {
    sets: [*mut fd_set; 3],
    polls: [pollfd; libc::FD_SETSIZE],
    count: usize,
}

const WANTED: [i16; 3] = [libc::POLLIN, libc::POLLOUT, libc::POLLPRI];
/// What select calls readable, writable, exceptional.
const SAID: [i16; 3] =
    [READ | libc::POLLHUP | libc::POLLERR, libc::POLLOUT | libc::POLLWRNORM | libc::POLLERR, libc::POLLPRI];

impl Sets {
    /// None if no socket with memory is among these to be read, or one has a number that sets cannot hold.
    ///
    /// # Safety
    /// Each of the sets is null, or one that the program has given.
    pub unsafe fn take(count: c_int, sets: [*mut fd_set; 3]) -> Option<Self> {
        let count = usize::try_from(count).ok().filter(|&count| count <= libc::FD_SETSIZE)?;
        // SAFETY: it is not null, and below FD_SETSIZE.
        let has = |set: *mut fd_set, fd: usize| !set.is_null() && unsafe { libc::FD_ISSET(fd as c_int, set) };
        (0..count).filter(|fd| has(sets[0], *fd)).for_each(|fd| epoll::seen_among_others(fd as c_int));
        if !(0..count).any(|fd| has(sets[0], fd) && slot::attached(fd as c_int).is_some()) {
            return None;
        }
        let mut new = Self { sets, polls: [pollfd { fd: -1, events: 0, revents: 0 }; libc::FD_SETSIZE], count: 0 };
        for fd in 0..count {
            let wanted = (0..3).filter(|&i| has(sets[i], fd)).fold(0, |wanted, i| wanted | WANTED[i]);
            if wanted != 0 {
                new.polls[new.count] = pollfd { fd: fd as c_int, events: wanted, revents: 0 };
                new.count += 1;
            }
        }
        Some(new)
    }

    /// As pselect.
    pub fn wait(mut self, timeout: Option<&timespec>, mask: *const sigset_t) -> c_int {
        let polls = &mut self.polls[..self.count];
        let found = match wait(polls, timeout, mask) {
            Some(found) => found,
            None => ask(polls, timeout, mask),
        };
        if found < 0 {
            return found;
        }
        if polls.iter().any(|poll| poll.revents & libc::POLLNVAL != 0) {
            real::set_errno(libc::EBADF);
            return -1;
        }
        let mut bits = 0;
        for poll in polls {
            for (set, (wanted, said)) in self.sets.iter().zip(WANTED.iter().zip(SAID)) {
                if poll.events & wanted != 0 {
                    // SAFETY: this set has asked for this descriptor, so it is there and large enough.
                    unsafe {
                        if poll.revents & said != 0 {
                            bits += 1;
                        } else {
                            libc::FD_CLR(poll.fd, *set);
                        }
                    }
                }
            }
        }
        bits
    }
}
