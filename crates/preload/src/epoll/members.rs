//! What is known of epoll sets: their members, their descriptors, their bells.
//!
//! A member is said to sleep, to who sends to it, when its set is first waited for, and goes on to sleep, awake as the set may be,
//! until something comes: so a wait costs what has come since the last one, and a load or two for each of the others.

use super::{EDGE, ONCE, READ};
use crate::bell::Bell;
use crate::slot::{self, Found, Slot};
use crate::{receive, send};
use socket::stream::News;
use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

/// Members that are asked in each wait what need not be known at once.
const ASKED: usize = 16;

/// Members of a set that is looked through twice: more of them cost more than it is worth.
const ORDERED: usize = 64;

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
    /// The last look has found something of it.
    found: bool,
    /// What its sender had said, and for which nap it is to be rung, when it was said to sleep. Who sleeps counts as one of its sleepers.
    lain: Option<(u64, u32)>,
}

impl Member {
    pub fn new(fd: RawFd, events: u32, data: u64) -> Self {
        Self { fd, events, data, told: None, news: None, quiet: None, found: false, lain: None }
    }

    /// The socket, if it has memory.
    pub fn slot(&self) -> Option<&'static Slot> {
        slot::seen(self.fd)
    }

    /// What its sender says, and its nap.
    fn said(&mut self, slot: &Slot) -> Option<(u64, u32)> {
        self.news = self.news.or_else(|| slot.news());
        // SAFETY: whoever has this member has all sets, which a descriptor leaves before it is closed; until then its memory is there.
        self.news.map(|news| unsafe { (news.number(), news.nap()) })
    }

    /// When something was last sent to it, to be compared with other members'.
    pub fn sent_at(&self) -> u64 {
        // SAFETY: as in `said`.
        self.news.map_or(0, |news| unsafe { news.sent_at() })
    }

    /// Whether there is something to say of it.
    pub fn is_due(&mut self) -> bool {
        let Some(slot) = self.slot().filter(|_| self.events & READ != 0) else { return false };
        let Some((number, _)) = self.said(slot).filter(|(number, _)| self.quiet != Some(*number)) else { return false };
        match (slot.found(), self.told) {
            (Found::Nothing(number), _) => {
                self.quiet = Some(number);
                false
            }
            (Found::Unknown, _) => false,
            (Found::Bytes, Some(_)) if self.events & ONCE != 0 => false,
            (Found::Bytes, Some(told)) if self.events & EDGE != 0 => told != number,
            (Found::Bytes, _) => true,
        }
    }

    /// Has it rung for by this bell when something comes: whether something is there already. One of which an edge was told is to be
    /// rung for anew.
    fn lie(&mut self, bell: u64, anew: bool) -> bool {
        let Some(slot) = self.slot().filter(|_| self.events & READ != 0) else { return false };
        let said = self.said(slot);
        if said.is_none() || self.lain == said && !anew {
            return false;
        }
        if self.events & EDGE != 0
            && slot.has_bytes()
            && let Some(incoming) = slot.receiving.lock().as_mut()
        {
            receive::strip(self.fd, incoming);
            incoming.wake();
        }
        self.rise();
        slot.lie(bell);
        let naps = self.said(slot);
        self.lain = said.zip(naps).map(|((number, _), (_, nap))| (number, nap));
        self.is_due()
    }

    /// It sleeps no more, or is no member any more.
    fn rise(&mut self) {
        if let (Some(_), Some(slot)) = (self.lain.take(), self.slot()) {
            slot.woke();
        }
    }
}

#[derive(Default)]
pub struct Set {
    pub members: Vec<Member>,
    /// Descriptors of it.
    descriptors: u32,
    /// Where the next look begins, and the next to be asked.
    turn: usize,
    asked: usize,
    /// What the last look has found: when it was sent, and to which member.
    due: Vec<(u64, usize)>,
    /// Somebody was seen to wait for it: then he does not find its bell among his events.
    waited: bool,
    /// It is in another set, which is waited for in ways that do not look into it.
    hidden: bool,
    /// By what others wake who waits for it, and the number that they were last told.
    pub bell: Option<Bell>,
    told: u64,
}

/// What there is to know before a wait.
#[derive(Clone, Copy)]
pub struct Attended {
    /// Members that have memory.
    pub memory: usize,
    /// Whoever sends to one runs on this processor.
    pub together: bool,
    /// Some others may get memory yet: what they were sent came before what is in memory now, for all that is known.
    pub young: bool,
}

impl Set {
    /// The number of its bell; 0: there is none that is this process's.
    fn number(&self) -> u64 {
        self.bell.as_ref().filter(|bell| bell.is_own()).map_or(0, Bell::number)
    }

    /// Its bell, where somebody waits for it who does not find that among his events.
    pub fn bell(&mut self, set: RawFd) -> Option<&Bell> {
        if self.bell.is_none() && self.waited {
            self.bell = Bell::in_set(set);
        }
        self.bell.as_ref().filter(|bell| bell.is_own())
    }

    pub fn put(&mut self, member: Member) {
        if self.hidden
            && let Some(entry) = slot::entry(member.fd)
        {
            super::unwatch(&entry);
        }
        self.members.push(member);
    }

    pub fn remove(&mut self, fd: RawFd) {
        self.members.iter_mut().filter(|member| member.fd == fd).for_each(Member::rise);
        self.members.retain(|member| member.fd != fd);
    }

    /// Whoever waits for it is not seen.
    pub fn hide(&mut self) {
        self.hidden = true;
        self.members.iter().filter_map(|member| slot::entry(member.fd)).for_each(|entry| super::unwatch(&entry));
    }

    /// Somebody begins to wait.
    pub fn attend(&mut self) -> Attended {
        self.waited = true;
        let mut attended = Attended { memory: 0, together: false, young: false };
        if !slot::any_attached() {
            return attended;
        }
        let len = self.members.len();
        self.asked = if self.asked < len { self.asked } else { 0 };
        for (at, member) in self.members.iter().enumerate() {
            let Some(slot) = member.slot() else {
                attended.young = attended.young || slot::is_young(member.fd);
                continue;
            };
            attended.memory += 1;
            if member.events & READ == 0 {
                continue;
            }
            if !slot.watched.load(Relaxed) {
                slot.watched.store(true, Relaxed);
            }
            slot.meets();
            if (at + len - self.asked) % len < ASKED {
                send::serve_recall(slot, member.fd);
                slot.shares_processor();
            }
            attended.together |= slot.together.load(Relaxed);
        }
        self.asked += ASKED;
        attended
    }

    /// Finds the members of which there is something to say, `most` at most, in the order in which it was sent: how many. They take turns.
    pub fn look(&mut self, most: usize) -> usize {
        let (len, first) = (self.members.len(), self.turn);
        self.due.clear();
        self.members.iter_mut().for_each(|member| member.found = false);
        // What was sent before something that was found is found, if not in the first round, in the second.
        for _ in 0..if len <= ORDERED { 2 } else { 1 } {
            for at in (0..len).map(|step| (first + step) % len) {
                let member = &mut self.members[at];
                if self.due.len() < most && !member.found && member.is_due() {
                    member.found = true;
                    self.due.push((member.sent_at(), at));
                }
            }
            if self.due.is_empty() {
                break;
            }
        }
        self.turn = self.turn.wrapping_add(1) % len.max(1);
        self.due.sort_unstable();
        self.due.len()
    }

    /// What the last look has found, by its place.
    pub fn found(&mut self, at: usize) -> &mut Member {
        &mut self.members[self.due[at].1]
    }

    pub fn any_due(&mut self) -> bool {
        self.members.iter_mut().any(Member::is_due)
    }

    /// Says that members are to be rung for, all of them unless there is something to say of one.
    pub fn lie(&mut self) -> bool {
        let bell = self.number();
        let anew = self.told != bell;
        let any = self.members.iter_mut().any(|member| member.lie(bell, anew));
        if !any {
            self.told = bell;
        }
        any
    }
}

/// All sets, by which descriptors they have.
pub struct Sets {
    descriptors: BTreeMap<RawFd, u32>,
    all: BTreeMap<u32, Set>,
    next: u32,
}

impl Sets {
    pub const fn new() -> Self {
        Self { descriptors: BTreeMap::new(), all: BTreeMap::new(), next: 0 }
    }

    pub fn get(&mut self, set: RawFd) -> Option<&mut Set> {
        self.all.get_mut(self.descriptors.get(&set)?)
    }

    pub fn has(&self, set: RawFd) -> bool {
        self.descriptors.contains_key(&set)
    }

    /// The set of this descriptor, which may be a new one.
    pub fn of(&mut self, set: RawFd) -> &mut Set {
        let number = *self.descriptors.entry(set).or_insert_with(|| {
            self.next = self.next.wrapping_add(1);
            self.next
        });
        let of = self.all.entry(number).or_default();
        of.descriptors = of.descriptors.max(1);
        of
    }

    /// Another descriptor of a set.
    pub fn double(&mut self, set: RawFd, new: RawFd) {
        if let Some(&number) = self.descriptors.get(&set) {
            self.descriptors.insert(new, number);
            self.of(new).descriptors += 1;
        }
    }

    /// A descriptor of a set is no more.
    pub fn close(&mut self, set: RawFd) {
        let Some(number) = self.descriptors.remove(&set) else { return };
        let Some(of) = self.all.get_mut(&number) else { return };
        of.descriptors -= 1;
        if of.descriptors == 0 {
            of.members.iter_mut().for_each(Member::rise);
            self.all.remove(&number);
        }
    }

    /// A socket's descriptor is no more.
    pub fn leave(&mut self, fd: RawFd) {
        self.all.values_mut().for_each(|set| set.remove(fd));
    }

    /// In a child of a fork: those who sleep are its parent's.
    pub fn forked(&mut self) {
        self.all.values_mut().flat_map(|set| &mut set.members).for_each(|member| member.lain = None);
    }
}
