//! A PU's life as a member: it joins, serves as long as its lease lasts, and fences itself.
//!
//! ```text
//!   Apart ──link──▶ Joining ──its own Join is applied──▶ Serving ──link or lease ends──▶ Fencing ──all has ended──▶ Apart
//! ```
//!
//! The lease counts from when the member asked, by its own clock; the head counts from when it answered, and adds a margin.
//! So a member that is cut off has stopped when the head goes on without it. A member asks to join only after everything of
//! its earlier life has ended.

use super::message::{Entry, Message, Record};
use super::state::State;
use super::step::Action;
use super::{Acks, Ends, Home, Node, Place};
use std::time::Duration;
use xpucall::id::PuId;

pub enum Phase {
    Apart,
    Joining(Joining),
    Serving {
        incarnation: u32,
        /// `None`: the head, which needs none.
        lease: Option<Lease>,
    },
    Fencing,
}

#[derive(Clone, Copy)]
pub struct Lease {
    until: Duration,
    renew: Duration,
}

pub struct Joining {
    lease: Lease,
    incarnation: Option<u32>,
    parts: u32,
    taken: u32,
}

impl Node {
    pub(super) fn link_up(&mut self, pu: PuId, shares: bool) {
        if self.head.is_some() {
            self.peer_linked(pu, shares);
        } else if pu == PuId::HEAD {
            if self.linked {
                self.link_down(pu, false);
            }
            self.linked = true;
            if matches!(self.phase, Phase::Apart) {
                self.join();
            }
        }
    }

    pub(super) fn link_down(&mut self, pu: PuId, dead: bool) {
        if self.head.is_some() {
            self.peer_unlinked(pu, dead);
        } else if pu == PuId::HEAD && self.linked {
            self.linked = false;
            self.depart();
        }
    }

    fn lease(&self) -> Lease {
        Lease { until: self.now + self.config.timing.lease, renew: self.now + self.config.timing.renewal }
    }

    fn asked(&self) -> u64 {
        u64::try_from(self.now.as_micros()).unwrap_or(u64::MAX)
    }

    fn join(&mut self) {
        self.phase = Phase::Joining(Joining { lease: self.lease(), incarnation: None, parts: 0, taken: 0 });
        self.state = State::default();
        self.report(Message::Join { asked: self.asked() });
    }

    /// Ends everything of this life, before the lease does or because it has.
    pub(super) fn depart(&mut self) {
        if self.head.is_some() {
            return;
        }
        if self.linked {
            self.linked = false;
            self.out.push(Action::Drop { pu: PuId::HEAD });
        }
        match self.phase {
            Phase::Apart | Phase::Fencing => {}
            Phase::Joining(_) => self.phase = Phase::Apart,
            Phase::Serving { .. } => {
                self.fail_calls();
                self.out.push(Action::Fence);
                self.phase = Phase::Fencing;
                self.processes.clear();
                self.ends = Ends::default();
                self.home = Home::default();
                self.acks = Acks::default();
                self.lazy.clear();
                self.lazy_due = None;
                self.inbox.clear();
            }
        }
        self.state = State::default();
    }

    pub(super) fn fenced_itself(&mut self) {
        if matches!(self.phase, Phase::Fencing) {
            self.phase = Phase::Apart;
            if self.linked {
                self.join();
            }
        }
    }

    pub(super) fn told_by_head(&mut self, message: Message) {
        match message {
            Message::Welcome { incarnation, seq, parts } => self.welcomed(incarnation, seq, parts),
            Message::Part { number, records } => self.take_part(number, &records),
            Message::Renewed { asked } => self.renewed(asked),
            Message::Entry { seq, entry } => match &self.phase {
                Phase::Serving { .. } => self.apply(seq, &entry),
                Phase::Joining(joining) if joining.parts > 0 && joining.taken == joining.parts => {
                    self.apply(seq, &entry);
                }
                _ => {}
            },
            Message::Answered { id, result } => self.answered(id, result),
            _ => {}
        }
    }

    fn welcomed(&mut self, incarnation: u32, seq: u64, parts: u32) {
        if let Phase::Joining(joining) = &mut self.phase {
            joining.incarnation = Some(incarnation);
            (joining.parts, joining.taken) = (parts, 0);
            self.state = State::at(seq);
        }
    }

    fn take_part(&mut self, number: u32, records: &[Record]) {
        let Phase::Joining(joining) = &mut self.phase else { return };
        if number != joining.taken || number >= joining.parts {
            return self.depart();
        }
        joining.taken += 1;
        let parts = joining.taken;
        records.iter().for_each(|record| self.state.load_record(record));
        self.report(Message::Took { parts });
    }

    fn renewed(&mut self, asked: u64) {
        let (now, until) = (self.now, Duration::from_micros(asked) + self.config.timing.lease);
        let lease = match &mut self.phase {
            Phase::Joining(joining) => &mut joining.lease,
            Phase::Serving { lease: Some(lease), .. } => lease,
            _ => return,
        };
        if Duration::from_micros(asked) <= now {
            lease.until = lease.until.max(until);
        }
    }

    /// A change was folded while this PU does not serve: perhaps that by which it does.
    pub(super) fn joined(&mut self, entry: &Entry) {
        let Phase::Joining(Joining { lease, incarnation: Some(incarnation), .. }) = self.phase else { return };
        let place = Place { pu: self.config.pu, incarnation };
        if matches!(entry, Entry::Join { place: joined, .. } if *joined == place) {
            self.phase = Phase::Serving { incarnation, lease: Some(lease) };
            self.serials.pid = 0;
            self.serials.end = 0;
            self.out.push(Action::Serve { incarnation });
            self.acks.applied(self.state.seq(), 0, false);
        }
    }

    pub(super) fn member_timers(&mut self) {
        let now = self.now;
        let next = self.lease();
        let asked = self.asked();
        let lease = match &mut self.phase {
            Phase::Joining(joining) => &mut joining.lease,
            Phase::Serving { lease: Some(lease), .. } => lease,
            _ => return,
        };
        if lease.until <= now {
            self.depart();
        } else if lease.renew <= now {
            lease.renew = next.renew;
            self.report(Message::Renew { asked });
        }
    }

    pub(super) fn next_of_member(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Joining(Joining { lease, .. }) | Phase::Serving { lease: Some(lease), .. } => {
                Some(lease.until.min(lease.renew))
            }
            _ => None,
        }
    }
}
