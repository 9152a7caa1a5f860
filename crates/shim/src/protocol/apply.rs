//! Numbered changes, put in force on this PU and acknowledged.
//!
//! A change is acknowledged when everything on this PU that it ends has ended. What has to end first *holds* it: a lane's
//! side here, or a lane of a FIFO whose home this is, which has ended when both its sides have.

use super::member::Phase;
use super::message::{Ack, Entry, Lazy, Message, Seq};
use super::{Node, Place};
use std::collections::BTreeMap;
use xpucall::id::XpuPid;

/// Acknowledgements in one message.
const ACKS: usize = 2048;

/// Changes that are in force but for what holds them, and those that are and have not been acknowledged.
#[derive(Default)]
pub struct Acks {
    held: BTreeMap<Seq, usize>,
    ready: Vec<Ack>,
}

impl Acks {
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// One thing that held each of these has ended.
    pub fn release(&mut self, holds: Vec<Seq>) {
        for seq in holds {
            let Some(count) = self.held.get_mut(&seq) else { continue };
            *count -= 1;
            if *count == 0 {
                self.held.remove(&seq);
                self.ready.push(Ack { seq, absent: false });
            }
        }
    }

    pub fn applied(&mut self, seq: Seq, holds: usize, absent: bool) {
        if holds == 0 {
            self.ready.push(Ack { seq, absent });
        } else {
            self.held.insert(seq, holds);
        }
    }
}

impl Node {
    /// Takes the next change: folds it, and ends here what it ends.
    pub(super) fn apply(&mut self, seq: Seq, entry: &Entry) {
        if self.state.fold(seq, entry).is_err() {
            // A head that leaves changes out is none to follow.
            return self.depart();
        }
        let Some(place) = self.place() else { return self.joined(entry) };
        let (mut holds, mut absent) = (0, false);
        match entry {
            Entry::Create { creator, .. } => _ = self.bury(place, *creator),
            Entry::Grant { to, .. } => absent = self.bury(place, *to),
            Entry::Endow { child, .. } => absent = self.bury(place, *child),
            Entry::Revoke { from, fifo, rights } => holds = self.revoke_at_home(seq, *from, *fifo, *rights),
            Entry::Fence { place: lost } if *lost == place => return self.depart(),
            Entry::Fence { place: lost } => holds = self.lose(seq, *lost),
            Entry::Join { .. } => {}
            Entry::Lazy(_) => return self.home.forget_released(&self.state),
        }
        self.acks.applied(seq, holds, absent);
    }

    /// Whether the process should be here and is not. What the change gave it is given up again: its end may have been
    /// ordered before.
    fn bury(&mut self, place: Place, pid: XpuPid) -> bool {
        let absent = Place::of(pid) == place && !self.processes.contains_key(&pid);
        if absent {
            self.put_off(Lazy::Gone(pid));
        }
        absent
    }

    /// Ends here what lives by a PU that is lost. Returns how many things hold the change.
    fn lose(&mut self, seq: Seq, lost: Place) -> usize {
        self.lose_spawns(lost);
        self.lose_ends(seq, lost) + self.lose_at_home(seq, lost)
    }

    /// Sends what is ready; whether that was anything.
    pub(super) fn acknowledge(&mut self) -> bool {
        let ready = std::mem::take(&mut self.acks.ready);
        let Phase::Serving { incarnation, .. } = self.phase else { return false };
        for acks in ready.chunks(ACKS) {
            self.report(Message::Acknowledge { incarnation, acks: acks.to_vec() });
        }
        !ready.is_empty()
    }
}
