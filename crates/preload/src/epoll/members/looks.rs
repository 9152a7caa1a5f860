//! Looks at members that are awake, and who of them need not be looked at any more.

use super::super::READ;
use super::super::member::Member;
use super::{ORDERED, Place, Set};
use crate::slot::Slot;

/// Where more are awake, so many of them are looked at in each wait, and sleep on if nothing has come for so many waits: to be called then
/// costs what some looks do.
const RESTED: usize = 16;
const QUIET: u32 = 16;

impl Set {
    /// Of many that are awake, those to which nothing comes are called when something does, though nobody sleeps: else each look would cost
    /// what the set has, and not what has come.
    pub(super) fn rest(&mut self) {
        self.waits = self.waits.wrapping_add(1);
        let can = self.sleepers == 0 && self.is_seen() && self.told == self.number() && self.told != 0;
        for _ in 0..RESTED {
            if !can || self.awake.len() <= ORDERED {
                return;
            }
            self.resting = self.resting.checked_rem(self.awake.len()).unwrap_or(0);
            let (waits, at) = (self.waits, self.awake[self.resting]);
            let quiet = self.member(at).is_some_and(|member| waits.wrapping_sub(member.seen_at) > QUIET);
            if quiet && !self.lie_down(at) && self.take_to_rest(at) {
                self.awake.swap_remove(self.resting);
            } else {
                self.resting += 1;
            }
        }
    }

    /// Whether a member that was said to sleep does, and is looked at when it is called.
    pub(super) fn take_to_rest(&mut self, at: usize) -> bool {
        let Some(Some((place, member))) = self.members.get_mut(at) else { return true };
        let rests = member.rests();
        if rests {
            *place = Place::Called;
        }
        rests
    }

    /// Finds the members of which there is something to say, `most` at most, in the order in which it was sent: how many. They take turns.
    pub fn look(&mut self, most: usize) -> usize {
        self.harvest();
        let mut due = std::mem::take(&mut self.due);
        for (_, at) in due.drain(..) {
            if let Some(member) = self.member(at) {
                (member.found, member.roomy) = (false, false);
            }
        }
        self.due = due;
        // What was sent before something that was found is found, if not in the first round, in the second.
        if self.look_round(most) > 0 && self.awake.len() <= ORDERED {
            self.look_round(most);
        }
        self.turn = self.turn.wrapping_add(1);
        self.first = self.first.wrapping_add(1);
        // Who is not seen to wait finds that in the kernel's set, and is to find it there.
        let told = if self.is_seen() { self.writers.len() } else { 0 };
        for at in 0..told {
            let at = self.writers[at];
            let full = self.due.len() >= most;
            let Some(member) = self.member(at) else { continue };
            // What was found is said once, with all that there is to say of it.
            let said = member.found && member.events & READ != 0;
            member.roomy = (said || !full) && member.slot().is_some_and(Slot::is_roomy);
            if member.roomy && !said {
                self.due.push((u64::MAX, at));
            }
        }
        self.due.sort_unstable();
        self.due.len()
    }

    /// Looks at those that are awake, once, where the last look has ended if there was no room for more: how many were found until now.
    fn look_round(&mut self, most: usize) -> usize {
        let (len, waits) = (self.awake.len(), self.waits);
        for step in 0..len {
            let at = self.awake[self.first.wrapping_add(step) % len];
            let Some(member) = self.member(at) else { continue };
            if !member.found && member.is_due() {
                (member.found, member.seen_at) = (true, waits);
                let sent_at = member.sent_at();
                self.due.push((sent_at, at));
            }
            if self.due.len() >= most {
                self.first = self.first.wrapping_add(step);
                break;
            }
        }
        self.due.len()
    }

    /// What the last look has found, by its place.
    pub fn found(&mut self, at: usize) -> Option<&mut Member> {
        let (_, at) = *self.due.get(at)?;
        self.member(at)
    }
}
