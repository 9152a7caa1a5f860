//! A socket in an epoll set: whether there is something to say of it, and whether it was said to sleep.

use super::{EDGE, ONCE, READ, WRITE};
use crate::receive;
use crate::slot::{self, Found, Slot};
use socket::stream::News;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Some member was ever to be told of once.
pub(super) static ANY_ONCE: AtomicBool = AtomicBool::new(false);

/// A socket in a set.
pub struct Member {
    pub fd: RawFd,
    pub events: u32,
    pub data: u64,
    /// Something was said of it, and nothing has come since; or it was to be said once.
    pub told: Option<u64>,
    /// Where its words are. For as long as it is a member, its descriptor is open, and so its memory there.
    news: Option<News>,
    /// What its sender had said when nothing was there.
    quiet: Option<u64>,
    /// The last look has found something of it; and in which of its set's waits one did last, or it was called.
    pub(super) found: bool,
    pub(super) seen_at: u32,
    /// The kernel has said something of it before it had memory, and was to do so once.
    pub(super) spoken: bool,
    /// What the kernel has been told of it, if that is something else than what is wanted.
    pub(super) said: Option<(u32, u64)>,
    /// There was room to send when it was last looked at.
    pub(super) roomy: bool,
    /// It was found to have memory; and by what number its sender calls it.
    pub(super) memory: bool,
    pub(super) way: Option<u32>,
    /// What its sender had said, and for which nap it is to be rung, when it was said to sleep. Who sleeps counts as one of its sleepers.
    pub(super) lain: Option<(u64, u32)>,
}

impl Member {
    pub fn new(fd: RawFd, events: u32, data: u64) -> Self {
        if events & ONCE != 0 {
            ANY_ONCE.store(true, Relaxed);
        }
        Self {
            fd,
            events,
            data,
            told: None,
            news: None,
            quiet: None,
            found: false,
            seen_at: 0,
            spoken: false,
            said: None,
            roomy: false,
            memory: false,
            way: None,
            lain: None,
        }
    }

    /// The socket, if it has memory.
    pub fn slot(&self) -> Option<&'static Slot> {
        slot::seen(self.fd)
    }

    /// Whether it is said here, and not by the kernel alone, that there is room to send.
    pub(super) fn tells_of_room(&self) -> bool {
        self.events & WRITE != 0 && self.events & (EDGE | ONCE) == 0
    }

    /// What is to be said of one that was found.
    pub(super) fn found_events(&self) -> u32 {
        let deaf = || self.slot().is_some_and(Slot::is_deaf);
        let read = match self.found {
            true if deaf() => READ | libc::EPOLLRDHUP as u32,
            true => READ,
            false => 0,
        };
        self.events & (read | if self.roomy { WRITE } else { 0 })
    }

    /// What its sender says, and its nap.
    fn said(&mut self, slot: &Slot) -> Option<(u64, u32)> {
        if self.news.is_none() {
            self.news = slot.news();
        }
        // SAFETY: whoever has this member has all sets, which a descriptor leaves before it is closed; until then its memory is there.
        self.news.as_ref().map(|news| unsafe { (news.number(), news.nap()) })
    }

    /// Whether its sender has said nothing since nothing was there: that is so of most, and most often asked.
    fn is_quiet(&self) -> bool {
        // SAFETY: as in `said`.
        self.news.as_ref().is_some_and(|news| self.quiet == Some(unsafe { news.number() }))
    }

    /// When something was last sent to it, to be compared with other members'.
    pub fn sent_at(&self) -> u64 {
        // SAFETY: as in `said`.
        self.news.as_ref().map_or(0, |news| unsafe { news.sent_at() })
    }

    /// Whether there is something to say of it.
    pub fn is_due(&mut self) -> bool {
        self.due() == Some(true)
    }

    /// The same; None while another thread is at work on it.
    fn due(&mut self) -> Option<bool> {
        if self.is_quiet() {
            return Some(false);
        }
        let Some(slot) = self.slot().filter(|_| self.events & READ != 0) else { return Some(false) };
        let Some((number, _)) = self.said(slot) else { return Some(false) };
        Some(match (slot.found(), self.told) {
            (Found::Nothing(number), _) => {
                self.quiet = Some(number);
                false
            }
            (Found::Busy, _) => return None,
            (Found::Unknown, _) => false,
            (Found::Bytes, told) if self.events & ONCE != 0 => told.is_none() && !self.spoken,
            (Found::Bytes, Some(told)) if self.events & EDGE != 0 => told != number,
            (Found::Bytes, _) => true,
        })
    }

    /// Has it rung for by this bell when something comes: whether something is there already. One of which an edge was told is to be
    /// rung for anew.
    pub(super) fn lie(&mut self, bell: u64, anew: bool) -> bool {
        let Some(slot) = self.slot().filter(|_| self.events & READ != 0) else { return false };
        let said = self.said(slot);
        if said.is_none() || self.lain == said && !anew {
            return false;
        }
        if self.events & EDGE != 0
            && slot.has_bytes()
            && let Some(incoming) = slot.receiving.lock().as_mut()
        {
            receive::strip(slot, self.fd, incoming);
            incoming.wake();
        }
        self.rise();
        slot.lie(bell);
        let naps = self.said(slot);
        self.lain = said.zip(naps).map(|((number, _), (_, nap))| (number, nap));
        self.is_due()
    }

    /// Whether it was said to sleep, and goes on to, and nothing has come since: then it need not be looked at before it is called.
    pub(super) fn rests(&mut self) -> bool {
        let lain = self.lain;
        lain.is_some() && self.slot().is_some_and(|slot| self.said(slot) == lain) && self.due() == Some(false)
    }

    /// It sleeps no more, or is no member any more.
    pub(super) fn rise(&mut self) {
        if let (Some(_), Some(slot)) = (self.lain.take(), self.slot()) {
            slot.woke();
        }
    }
}
