//! Registrations of which the kernel hears when it is next asked, and not before.
//!
//! Some event loops remove a connection from their set and put it back for each message, or change what they want of it: four system
//! calls for a request and its answer, of which nothing is left when the loop sleeps. What lies in memory is known here, and whether there
//! is room to send. So such changes, of members that have memory, are written down, and made before the kernel is asked for anything by
//! this set ([`Set::settle`]). Not where somebody waits for the set in the kernel meanwhile, or may wait in ways that are not seen.

use super::super::{READ, WRITE};
use super::{Set, Sets};
use crate::real;
use libc::{EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, c_int, epoll_event};
use std::os::fd::RawFd;

/// What a program may want of a member whose registration can wait: by level, as often as it is so.
const PLAIN: u32 = READ | WRITE | (libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// What the kernel has been told of a member: events, and the program's data.
pub type Said = (u32, u64);

fn is_plain(events: u32) -> bool {
    events & !PLAIN == 0
}

impl Set {
    /// Whether all who may wait for it do so in ways that are seen.
    pub fn is_seen(&self) -> bool {
        !(self.hidden || self.unsure || self.shared)
    }

    /// Whether the kernel need not hear of this at once, and what it has been told of the member. The kernel's answer would be yes.
    pub fn defers(&mut self, what: c_int, fd: RawFd, event: impl Fn() -> Option<epoll_event>) -> Option<Said> {
        if !self.waited || !self.is_seen() || self.sleepers > 0 {
            return None;
        }
        let wants_plain = || event().is_some_and(|event| is_plain(event.events));
        if what == EPOLL_CTL_ADD {
            self.removed.get(&fd).filter(|_| wants_plain())?;
            return self.removed.remove(&fd);
        }
        let (_, member) = self.members[*self.descriptors_of.get(&fd)?].as_ref()?;
        let can = member.memory && is_plain(member.events);
        let defers = can && (what == EPOLL_CTL_DEL || what == EPOLL_CTL_MOD && wants_plain());
        defers.then(|| member.said.unwrap_or((member.events, member.data)))
    }

    /// The kernel has been told this of one, of which something else is wanted by now, or nothing.
    pub fn owe(&mut self, fd: RawFd, said: Said) {
        match self.descriptors_of.get(&fd).copied().and_then(|at| self.member(at)) {
            Some(member) if said == (member.events, member.data) => {}
            Some(member) => {
                member.said = Some(said);
                self.late.insert(fd);
            }
            None => {
                self.removed.insert(fd, said);
            }
        }
    }

    /// Tells the kernel what it has not heard yet of this member.
    pub fn settle_one(&mut self, set: RawFd, fd: RawFd) {
        if self.removed.remove(&fd).is_some() {
            tell(set, EPOLL_CTL_DEL, fd, 0, 0);
        }
        if let Some(member) = self.descriptors_of.get(&fd).copied().and_then(|at| self.member(at))
            && member.said.take().is_some()
        {
            tell(set, EPOLL_CTL_MOD, fd, member.events, member.data);
        }
    }

    /// Tells the kernel all that it has not heard yet: to be done before it is asked for events.
    pub fn settle(&mut self, set: RawFd) {
        while let Some(fd) = self.late.pop_first() {
            self.settle_one(set, fd);
        }
        while let Some((fd, _)) = self.removed.pop_first() {
            tell(set, EPOLL_CTL_DEL, fd, 0, 0);
        }
    }
}

impl Sets {
    /// Before this process becomes another program, which has the kernel's sets alone.
    pub fn settle(&mut self) {
        self.each(|of, set| of.settle(set));
    }

    /// Others may wait for a set from now on, of whom nothing is seen. None: for all of them.
    pub fn share(&mut self, shared: Option<RawFd>) {
        self.each(|of, set| {
            if shared.is_none_or(|shared| shared == set) {
                of.settle(set);
                of.shared = true;
            }
        });
    }

    /// A socket's descriptor is about to be closed.
    pub fn settle_before(&mut self, fd: RawFd) {
        self.each(|of, set| of.settle_one(set, fd));
    }

    fn each(&mut self, mut act: impl FnMut(&mut Set, RawFd)) {
        for (set, number) in &self.descriptors {
            if let Some(of) = self.all.get_mut(number) {
                act(of, *set);
            }
        }
    }
}

fn tell(set: RawFd, what: c_int, fd: RawFd, events: u32, data: u64) {
    let mut event = epoll_event { events, u64: data };
    // SAFETY: one structure of this frame.
    unsafe { real::epoll_ctl(set, what, fd, &mut event) };
}
