//! What is known of epoll sets: their members, their descriptors, their bells.
//!
//! A member is said to sleep, to who sends to it, when its set is first waited for, and goes on to sleep, awake as the set may be,
//! until something comes, of which its sender tells on a board ([`socket::calls`]): so a wait costs what has come since the last one,
//! and a load for each process that sends to members, whatever the number of the others.

mod board;
mod late;
mod looks;

use super::member::{ANY_ONCE, Member};
use super::{ONCE, READ};
use crate::bell::Bell;
use crate::{kernel, send, slot};
use board::Board;
use socket::{bells, migration};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

/// Members that are asked in each wait what need not be known at once.
const ASKED: usize = 4;

/// Members of a set that is looked through twice: more of them cost more than it is worth.
const ORDERED: usize = 64;

/// Waits that do not stay, one after the other, after which whoever waits may do so in ways that are not seen.
const DOUBTS: u32 = 1024;

/// How a member is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It has no memory, or is not to be read: the kernel tells of it.
    Kernel,
    /// In each wait.
    Awake,
    /// When its sender says so.
    Called,
}

#[derive(Default)]
pub struct Set {
    /// By their places, of which some are free.
    members: Vec<Option<(Place, Member)>>,
    free: Vec<usize>,
    descriptors_of: BTreeMap<RawFd, usize>,
    data: BTreeSet<(u64, usize)>,
    /// Places of those that are awake.
    awake: Vec<usize>,
    /// Of those with memory that are waited for to have room.
    writers: Vec<usize>,
    /// Members that the kernel is to hear of ([`late`]), and what it has been told of some that are none any more.
    late: BTreeSet<RawFd>,
    removed: BTreeMap<RawFd, late::Said>,
    /// Others may wait for it by descriptors of their own.
    shared: bool,
    boards: Vec<Board>,
    /// Members that have memory.
    having: usize,
    /// Of how many connections memory had been given to when the members without were last looked at, and how many waits ago.
    given: u32,
    since: u32,
    /// One of those may get some yet.
    young: bool,
    /// As it was last found.
    together: bool,
    /// Descriptors of it.
    descriptors: u32,
    /// Where the next look begins, and the next to be asked, and to be seen to rest; and how many waits there were.
    turn: usize,
    first: usize,
    asked: usize,
    resting: usize,
    waits: u32,
    /// What the last look has found: when it was sent, and to which member.
    due: Vec<(u64, usize)>,
    /// Somebody was seen to wait for it: then he does not find its bell among his events.
    waited: bool,
    /// It is among what another call waits for, which does not look into it: it is always rung for.
    hidden: bool,
    /// Who waits for it has not stayed for long, or never: he may sleep in ways that are not seen.
    unsure: bool,
    stayed: bool,
    doubts: u32,
    /// Threads that wait for it in the kernel.
    sleepers: u32,
    /// By which number its last sleep is known to who rings.
    slept: u64,
    /// By what others wake who waits for it, and the number that they were last told.
    pub bell: Option<Bell>,
    told: u64,
}

/// What there is to know before a wait.
#[derive(Clone, Copy)]
pub struct Attended {
    /// Members that have memory.
    pub memory: usize,
    /// What there is to look at.
    pub looked: usize,
    /// Looking is of no use: whoever sends to one runs on this processor, or what is waited for comes by TCP.
    pub together: bool,
    /// Some others may get memory yet: what they were sent came before what is in memory now, for all that is known.
    pub young: bool,
}

/// Waits after which members without memory are looked at in any case.
const SELDOM: u32 = 64;

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

    pub fn put(&mut self, set: RawFd, member: Member) {
        if self.hidden
            && let Some(entry) = slot::entry(member.fd)
        {
            super::unwatch(&entry);
        }
        let at = self.free.pop().unwrap_or(self.members.len());
        if at == self.members.len() {
            self.members.push(None);
        }
        self.descriptors_of.insert(member.fd, at);
        self.data.insert((member.data, at));
        self.members[at] = Some((Place::Kernel, member));
        self.receive(set, at);
        // Looked at with the others before the next wait.
        self.since = SELDOM;
        if self.sleepers > 0 {
            self.say_asleep();
            if self.lie_down(at) {
                self.ring();
            }
        }
    }

    /// A member that has memory by now is looked for there.
    fn receive(&mut self, set: RawFd, at: usize) {
        let Some((place @ Place::Kernel, member)) = &mut self.members[at] else { return };
        let Some(slot) = member.slot() else { return };
        if member.memory {
            return;
        }
        (member.memory, member.seen_at) = (true, self.waits);
        member.spoken = member.events & ONCE != 0 && kernel::has_spoken(set, member.fd);
        self.having += 1;
        if member.tells_of_room() {
            self.writers.push(at);
        }
        if member.events & READ == 0 {
            return;
        }
        *place = Place::Awake;
        self.awake.push(at);
        slot.watched.store(true, Relaxed);
        let Some(of) = slot.board() else { return };
        member.way = Some(of.way);
        let known = self.boards.iter().position(|board| std::ptr::eq(board.of.theirs, of.theirs));
        let board = known.unwrap_or_else(|| {
            self.boards.push(Board::new(of));
            if self.hidden || self.unsure || self.sleepers > 0 {
                self.say_asleep();
            }
            self.boards.len() - 1
        });
        self.boards[board].put(of.way, at);
    }

    pub fn remove(&mut self, fd: RawFd) {
        let Some(at) = self.descriptors_of.remove(&fd) else { return };
        let Some((place, mut member)) = self.members[at].take() else { return };
        member.rise();
        self.free.push(at);
        self.data.remove(&(member.data, at));
        self.having -= usize::from(member.memory);
        if place == Place::Awake {
            self.awake.retain(|other| *other != at);
        }
        self.writers.retain(|other| *other != at);
        if let Some(way) = member.way {
            self.boards.retain_mut(|board| {
                board.remove(way, at);
                !board.is_empty()
            });
        }
    }

    fn member(&mut self, at: usize) -> Option<&mut Member> {
        self.members.get_mut(at)?.as_mut().map(|(_, member)| member)
    }

    /// The first member with memory of which the program has said this: the kernel has something to say of it. It is looked at from
    /// now on.
    pub fn told_by(&mut self, set: RawFd, data: u64) -> Option<&mut Member> {
        let mut first = None;
        for (_, at) in self.data.range((data, 0)..=(data, usize::MAX)) {
            if let Some(slot) = self.members[*at].as_ref().and_then(|(_, member)| member.slot()) {
                // The next call that finds nothing asks what it is.
                slot.eventful.store(true, Relaxed);
                first = first.or(Some(*at));
            }
        }
        let at = first?;
        self.receive(set, at);
        self.awaken(at);
        self.member(at)
    }

    /// The member of which the program has said this, and that it is to be told of it once; not if it has said so of several.
    pub fn once(&mut self, data: u64) -> Option<&mut Member> {
        if !ANY_ONCE.load(Relaxed) {
            return None;
        }
        let mut alike = self.data.range((data, 0)..=(data, usize::MAX));
        let (Some(&(_, at)), None) = (alike.next(), alike.next()) else { return None };
        self.member(at).filter(|member| member.events & ONCE != 0 && member.slot().is_some())
    }

    fn awaken(&mut self, at: usize) {
        if let Some(Some((place @ Place::Called, member))) = self.members.get_mut(at) {
            *place = Place::Awake;
            member.seen_at = self.waits;
            self.awake.push(at);
        }
    }

    /// Its sender has called, and does so once for each nap: what it called for may have been found before, so another nap begins
    /// with the next sleep in any case.
    fn was_called(&mut self, at: usize) {
        self.awaken(at);
        if let Some(member) = self.member(at) {
            member.rise();
        }
    }

    fn awaken_all(&mut self) {
        (0..self.members.len()).for_each(|at| self.awaken(at));
    }

    /// Whoever waits for it is not seen, from now on: what comes makes the kernel's set ready, and what is there already does.
    pub fn hide(&mut self, set: RawFd) {
        if std::mem::replace(&mut self.hidden, true) {
            return;
        }
        self.settle(set);
        self.waited = true;
        self.bell(set);
        self.say_asleep();
        let entries = self.members.iter().flatten().filter_map(|(_, member)| slot::entry(member.fd));
        let there = entries.fold(false, |any, entry| {
            super::unwatch(&entry);
            any | entry.has_bytes()
        });
        if there {
            self.ring();
        }
    }

    /// Whoever waits `stays` until something comes; then he comes back here before he sleeps, and need not be rung for. Else he may
    /// sleep in ways that are not seen, unless he has been seen to stay: those who have other things to do as well ask now and then.
    fn stays(&mut self, stays: bool) {
        self.doubts = if stays { 0 } else { self.doubts.saturating_add(1) };
        self.stayed |= stays;
        let unsure = !stays && (self.shared || !self.stayed || self.doubts > DOUBTS);
        if std::mem::replace(&mut self.unsure, unsure) == unsure {
            return;
        }
        if unsure {
            self.say_asleep();
        } else {
            self.say_awake();
        }
    }

    /// Says that who waits is to be rung for: once from now on, or each time where he is not seen to get up.
    fn say_asleep(&mut self) {
        // No other process has had the same number, nor this one.
        self.slept = kernel::now().max(self.slept + 1);
        let which = if self.hidden || self.unsure { 0 } else { self.slept };
        let (set, processor) = (migration::set_of(self.number()), kernel::processor());
        self.boards.iter().for_each(|board| board.own().lie(set, processor, which));
    }

    /// Says that nobody need ring, if nobody sleeps, nor may do so unseen.
    fn say_awake(&self) {
        let set = migration::set_of(self.number());
        if self.sleepers == 0 && !self.hidden && !self.unsure && set != 0 {
            self.boards.iter().for_each(|board| board.own().rise(set));
        }
    }

    /// Whether something was written down that nobody has looked at yet.
    fn is_called(&self) -> bool {
        self.boards.iter().any(|board| board.theirs().written() != board.read)
    }

    /// A bell was heard by who is not to look at what it has rung for before the program has seen to something else: others who sleep are to do that.
    pub fn pass_on(&mut self) {
        if self.sleepers > 0 {
            self.say_asleep();
            if self.is_called() {
                self.ring();
            }
        }
    }

    /// Looks who was called.
    fn harvest(&mut self) {
        for index in 0..self.boards.len() {
            let board = &self.boards[index];
            if board.theirs().written() == board.read {
                continue;
            }
            let mut called = Vec::new();
            let read = board.theirs().read(board.read, |way| called.extend(board.place(way)));
            match read {
                Ok(read) => {
                    self.boards[index].read = read;
                    called.into_iter().for_each(|at| self.was_called(at));
                }
                // It has not kept all of them.
                Err(read) => {
                    self.boards[index].read = read;
                    (0..self.members.len()).for_each(|at| self.was_called(at));
                }
            }
        }
    }

    /// Somebody begins to wait. If he `stays`, he will come back, and it need not be rung for before.
    pub fn attend(&mut self, set: RawFd, stays: bool) -> Attended {
        self.waited = true;
        self.stays(stays);
        if self.unsure {
            self.settle(set);
        }
        let mut attended = Attended { memory: 0, looked: 0, together: false, young: false };
        if !slot::any_attached() {
            return attended;
        }
        self.since += 1;
        let given = slot::given();
        if self.given != given || self.since >= SELDOM {
            (self.given, self.since) = (given, 0);
            (0..self.members.len()).for_each(|at| self.receive(set, at));
            let members = self.members.iter().flatten();
            self.young = members.into_iter().any(|(_, member)| !member.memory && slot::is_young(member.fd));
        }
        self.harvest();
        self.rest();
        let len = self.awake.len();
        for turn in 0..len.min(ORDERED) {
            let at = self.awake[self.asked.wrapping_add(turn) % len];
            let Some(member) = self.member(at) else { continue };
            let Some(slot) = member.slot() else { continue };
            slot.meets();
            if turn < ASKED {
                send::serve_recall(slot, member.fd);
                slot.shares_processor();
            }
            attended.together |= slot.together.load(Relaxed);
        }
        if self.awake.is_empty() {
            attended.together = self.together;
        }
        self.together = attended.together;
        self.asked = self.asked.wrapping_add(ASKED);
        self.glimpse();
        (attended.memory, attended.looked) = (self.having, self.awake.len() + self.boards.len());
        attended.young = self.young;
        attended
    }

    /// Looks at one of those that are not looked at: what its sender may want of it, and does not call for.
    fn glimpse(&mut self) {
        let at = self.turn.checked_rem(self.members.len()).unwrap_or(0);
        let Some(Some((Place::Called, member))) = self.members.get_mut(at) else { return };
        let Some(slot) = member.slot() else { return };
        send::serve_recall(slot, member.fd);
        if !member.rests() {
            self.awaken(at);
        }
    }

    /// Whether others wait for it, and sleep.
    pub fn has_sleepers(&self) -> bool {
        self.sleepers > 0
    }

    /// Whoever has found what the last look has may be at work on it for long: for what comes then, also to the same members, those who sleep are
    /// rung for; and now, if there may be `more` than he has room for. A member of which something is said once is put back first.
    pub fn leave_to_others(&mut self, more: bool) {
        for at in 0..self.due.len() {
            let (_, at) = self.due[at];
            if self.member(at).is_some_and(|member| member.events & ONCE == 0) {
                self.lie_down(at);
            }
        }
        if more {
            self.ring();
        }
    }

    pub fn any_due(&mut self) -> bool {
        self.harvest();
        (0..self.awake.len()).any(|at| {
            let at = self.awake[at];
            self.member(at).is_some_and(Member::is_due)
        })
    }

    fn lie_down(&mut self, at: usize) -> bool {
        let bell = self.number();
        let anew = self.told != bell;
        self.member(at).is_some_and(|member| member.lie(bell, anew))
    }

    /// Says that members are to be rung for, all of them unless there is something to say of one: then that is so. Else somebody
    /// sleeps, until [`Set::rise`].
    pub fn lie(&mut self, set: RawFd) -> bool {
        self.settle(set);
        let bell = self.number();
        if self.told != bell {
            self.awaken_all();
        }
        self.harvest();
        if (0..self.awake.len()).any(|turn| self.lie_down(self.awake[turn])) {
            return true;
        }
        self.told = bell;
        self.sleepers += 1;
        let mut awake = std::mem::take(&mut self.awake);
        awake.retain(|at| !self.take_to_rest(*at));
        self.awake = awake;
        self.say_asleep();
        let called = self.is_called();
        if called {
            self.rise();
        }
        called
    }

    /// Who has slept does no more.
    pub fn rise(&mut self) {
        self.sleepers = self.sleepers.saturating_sub(1);
        if self.sleepers == 0 {
            self.say_awake();
        } else {
            // What has woken this one does not wake the others.
            self.say_asleep();
        }
    }

    /// Wakes who sleeps.
    fn ring(&self) {
        if let Some(bell) = self.bell.as_ref().filter(|bell| bell.is_own()) {
            bells::ring(bell.pipe());
        }
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
            of.members.iter_mut().flatten().for_each(|(_, member)| member.rise());
            self.all.remove(&number);
        }
    }

    /// A socket's descriptor is no more.
    pub fn leave(&mut self, fd: RawFd) {
        self.settle_before(fd);
        self.all.values_mut().for_each(|set| set.remove(fd));
    }

    /// In a child of a fork: those who sleep are its parent's.
    pub fn forked(&mut self) {
        for set in self.all.values_mut() {
            set.members.iter_mut().flatten().for_each(|(_, member)| member.lain = None);
            (set.sleepers, set.shared) = (0, true);
            set.awaken_all();
        }
    }
}
