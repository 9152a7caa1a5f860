//! One direction of a connection: a stream whose stretches go over TCP and through memory in turns.
//!
//! ```text
//!   stretch 0       stretch 1            stretch 2          stretch 3
//!   TCP             memory               TCP                memory …
//!   ├───────────────┼────────────────────┼──────────────────┼───────
//!   0               end 0: TCP byte E    end 1: memory byte  end 2: TCP byte G
//!                                        M, TCP byte F
//! ```
//!
//! Only the sender begins a stretch, by writing down where the last one ended; it asks nobody. Memory that is full is no
//! reason to wait: the stream goes on over TCP, whose buffers, back-pressure, time-outs and readiness are the kernel's own,
//! and comes back when the receiver has caught up. What arrives over TCP while a stretch goes through memory (bytes
//! E to F) is *bells*: they wake whoever waits for the socket in the kernel, by whatever call, and are thrown away.
//!
//! A receiver never takes more from TCP than it knows to be of this stretch: it first asks the kernel how much there is,
//! then looks whether the stretch has ended, then reads that much. The sender writes down an end before it sends anything that
//! is behind it, so what was there before the look is of the stretch, or behind an end that the look sees.
//!
//! Memory is a [stream](crate::stream) of a pair, whose words have room for those of this one:
//!
//! | note | sender's rest | receiver's rest |
//! |---|---|---|
//! | 0 | the meeting's number, once it is there | the same |
//! | 1 | stretches that have ended | stretches that it has left behind |
//! | 2 | bytes ever given to TCP when the last bell was rung, that one included | not 0: all is to go over TCP |
//! | 3 … | where stretches have ended: bytes ever in memory or over TCP, whichever it was; and bytes over TCP with which the next begins | 3: the number of the bell that wakes it; 0: a byte over TCP |
//!
//! A meeting has a number that is never used again. An end that does not find it at the other end has not met anybody: a
//! connection's memory may have been another's before.
//!
//! Not done here: sending and receiving over TCP, and waiting.

use crate::calls::Sleep;
use crate::layout::{LOCAL, MOST, Rest, SETS};
use crate::parts::{self, Part};
use crate::region::{KeptReceiver, KeptSender};
use crate::stream::{Board, News, Taken};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};
use thiserror::Error;

/// Changes between TCP and memory that a receiver may lag behind. A power of two.
const TURNS: usize = 4;
/// Of the notes of a rest: whom its owner has met.
pub(crate) const MEETING: usize = 0;
/// Stretches that have ended: the next goes through memory if that is odd.
pub(crate) const TURN: usize = 1;
const BELLS: usize = 2;
const RECALL: usize = 2;
/// By which bell its receiver is woken.
const BELL: usize = 3;
const ENDS: usize = 3;
const _: () = assert!(ENDS + 2 * TURNS <= 15 && TURNS.is_power_of_two());

/// Where a sender writes down the end of a stretch, and the byte of TCP with which the next begins.
fn end_of(rest: &Rest, turn: u32) -> (&AtomicU64, &AtomicU64) {
    let at = ENDS + 2 * (turn as usize & (TURNS - 1));
    (&rest.notes[at], &rest.notes[at + 1])
}

/// Says which processor its owner runs on, and asks where the other does: whether they are the same.
fn shares_processor(own: &Rest, peer: &Rest, number: u32) -> bool {
    if own.cpu.load(Relaxed) != number + 1 {
        own.cpu.store(number + 1, Relaxed);
    }
    peer.cpu.load(Relaxed) == number + 1
}

/// The other end has written something into shared memory that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the peer's words of this connection contradict each other")]
pub struct Broken;

/// What a sleeping word holds, read after something was published: whoever wrote it sees that, or this sees what he wrote.
fn published_then(word: &AtomicU32) -> u32 {
    fence(SeqCst);
    word.load(Relaxed)
}

/// Writes a sleeping word, to be followed by a look at what is published.
fn announce(word: &AtomicU32, value: u32) {
    word.store(value, Relaxed);
    fence(SeqCst);
}

/// The set that is meant by a bell's number: 0 for what is always rung.
pub fn set_of(bell: u64) -> usize {
    bell as usize % SETS
}

/// What a receiver that has left says instead of its nap: whoever sends to it is to find that out from TCP.
const GONE: u32 = u32::MAX;

/// A direction, at its sender.
pub struct Outgoing {
    sender: KeptSender,
    meeting: u64,
    met: bool,
    turn: u32,
    /// Bytes ever given to TCP, bells included.
    tcp: u64,
    /// The nap for which a bell was rung last.
    rung: u32,
    /// By which set, and how, who is to be rung for sleeps.
    sleep: (usize, Sleep),
    /// Calls in the kernel that are sending, each an unknown number of bytes.
    flying: u32,
    pinned: bool,
}

impl Outgoing {
    /// A direction that has sent `tcp` bytes. Nobody is told of it before [`Outgoing::tell`].
    pub fn new(sender: KeptSender, meeting: u64, tcp: u64) -> Self {
        sender.own_rest().notes[MEETING].store(0, Relaxed);
        sender.own_rest().notes[TURN].store(0, Relaxed);
        sender.own_rest().notes[BELLS].store(tcp, Relaxed);
        Self {
            sender,
            meeting,
            met: false,
            turn: 0,
            tcp,
            rung: 0,
            sleep: (0, Sleep::UNKNOWN),
            flying: 0,
            pinned: false,
        }
    }

    /// Says that this end is there.
    pub fn tell(&self) {
        self.sender.own_rest().notes[MEETING].store(self.meeting, Release);
    }

    /// Whether the other end is there.
    pub fn meets(&mut self) -> bool {
        self.met = self.met || self.sender.peer_rest().notes[MEETING].load(Acquire) == self.meeting;
        self.met
    }

    pub fn in_memory(&self) -> bool {
        self.turn & 1 == 1
    }

    /// How often it has changed between TCP and memory.
    pub fn turns(&self) -> u32 {
        self.turn
    }

    /// Whether it will never go through memory again.
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// From the next byte on through memory, if that can be now.
    pub fn rise(&mut self) -> bool {
        if self.in_memory() {
            return true;
        }
        let can = self.meets() && !self.pinned && self.flying == 0 && self.theirs(RECALL).load(Relaxed) == 0;
        // Then it has left the last stretch in memory, and there is room to write down more ends.
        if !can || self.theirs(TURN).load(Acquire) as u32 != self.turn {
            return false;
        }
        self.end(self.tcp, 0);
        // Either this sees a recall, or who recalls sees that this stretch has begun, and waits for its end.
        fence(SeqCst);
        if self.theirs(RECALL).load(Relaxed) != 0 {
            self.pin();
            return false;
        }
        true
    }

    fn theirs(&self, note: usize) -> &AtomicU64 {
        &self.sender.peer_rest().notes[note]
    }

    /// From the next byte on over TCP.
    pub fn sink(&mut self) {
        if self.in_memory() {
            self.end(self.sender.sent(), self.tcp);
        }
    }

    /// From the next byte on over TCP, for ever.
    pub fn pin(&mut self) {
        self.sink();
        self.pinned = true;
    }

    fn end(&mut self, end: u64, tcp: u64) {
        let words = self.sender.own_rest();
        let (at, then) = end_of(words, self.turn);
        at.store(end, Relaxed);
        then.store(tcp, Relaxed);
        self.turn = self.turn.wrapping_add(1);
        words.notes[TURN].store(self.turn.into(), Release);
    }

    /// Puts what lies behind the first `skip` bytes of `parts` into memory: how many bytes; 0 if it is full, or broken.
    ///
    /// # Safety
    /// The parts can be read.
    pub unsafe fn put(&mut self, parts: &[Part], skip: usize) -> usize {
        if !self.in_memory() {
            return 0;
        }
        // SAFETY: the caller's.
        unsafe { parts::read(parts, skip, |bytes| self.sender.write(bytes).unwrap_or(0)) }
    }

    /// As [`Outgoing::put`], but less where receivers are behind ([`Outgoing::is_far`]).
    ///
    /// # Safety
    /// As [`Outgoing::put`]'s.
    pub unsafe fn put_paced(&mut self, parts: &[Part], skip: usize) -> usize {
        if !self.in_memory() {
            return 0;
        }
        // SAFETY: the caller's.
        unsafe { parts::read(parts, skip, |bytes| self.sender.write_paced(bytes).unwrap_or(0)) }
    }

    /// Whether this process has sent so much that nobody has received, and of this stream so much, that more is better sent later.
    pub fn is_far(&mut self) -> bool {
        self.in_memory() && self.sender.is_far()
    }

    /// Bytes of room that memory has at once.
    pub fn room(&mut self) -> usize {
        self.sender.local_room()
    }

    /// Whether so much room is there that a program is better told of it.
    pub fn is_roomy(&mut self) -> bool {
        const ENOUGH: usize = LOCAL / 4;
        let can = self.in_memory() && !self.pinned && !self.is_recalled();
        can && (self.sender.known_room() >= ENOUGH || self.room() >= ENOUGH)
    }

    /// Something was received from the other end.
    pub fn answered(&mut self) {
        self.sender.answered();
    }

    /// Whether so much lies in memory that its receiver will be at work on it for a while.
    pub fn is_long(&mut self) -> bool {
        self.in_memory() && self.sender.is_received() == Ok(false) && self.sender.unreceived() >= LOCAL as u64 / 2
    }

    /// Where its receiver says how much it has taken.
    pub fn taken(&self) -> Taken {
        self.sender.taken()
    }

    /// Asked after something was put, or turned: whether to ring now, and by which bell; 0: by a byte over TCP. Once for each nap.
    pub fn owes_bell(&mut self) -> Option<u64> {
        let nap = published_then(&self.sender.peer_rest().sleep);
        if nap & 1 == 0 || nap == self.rung && nap != GONE {
            return None;
        }
        self.rung = nap;
        let bell = self.bell();
        let set = set_of(bell);
        self.sleep = (set, self.sender.call(set)?);
        Some(bell)
    }

    /// On which processor who is to be rung for sleeps, as he said.
    pub fn sleeper(&self) -> Option<u32> {
        let by_end = || self.sender.peer_rest().cpu.load(Relaxed).checked_sub(1);
        self.sleep.1.processor().or_else(by_end)
    }

    /// The bell of that number was heard: nobody need ring it again for this sleep.
    pub fn rang(&self) {
        let (set, sleep) = self.sleep;
        self.sender.rang(set, sleep);
    }

    /// The number of the bell that wakes the receiver; 0: none but a byte over TCP.
    fn bell(&self) -> u64 {
        self.theirs(BELL).load(Relaxed)
    }

    /// A bell goes out now, unless it cannot: then [`Outgoing::unring`] is called.
    pub fn ring(&mut self) {
        self.tcp = self.tcp.wrapping_add(1);
        self.sender.own_rest().notes[BELLS].store(self.tcp, Release);
    }

    /// The bell could not go out: TCP has no room for it, and so has something for the receiver to wake for.
    pub fn unring(&mut self) {
        self.tcp = self.tcp.wrapping_sub(1);
        self.sender.own_rest().notes[BELLS].store(self.tcp, Release);
    }

    /// A call begins that sends over TCP.
    pub fn fly(&mut self) {
        self.flying += 1;
    }

    /// It has ended, and has sent `bytes`.
    pub fn land(&mut self, bytes: usize) {
        self.flying -= 1;
        self.tcp = self.tcp.wrapping_add(bytes as u64);
    }

    /// How much the receiver wants to have over TCP, if it wants all of it there: it has stopped taking from memory, and did
    /// not take so many bytes ([`Outgoing::take_back`]). From then on this direction is pinned.
    pub fn withdraw(&mut self) -> Option<usize> {
        if self.pinned || !self.meets() || self.theirs(RECALL).load(Acquire) == 0 {
            return None;
        }
        self.pinned = true;
        if !self.in_memory() {
            return Some(0);
        }
        // A receiver whose words cannot be gets nothing more through memory.
        let left = self.sender.is_received().map_or(0, |_| self.sender.unreceived());
        self.end(self.sender.sent() - left, self.tcp);
        Some(left as usize)
    }

    /// Whether the receiver wants all over TCP, and has not got it yet ([`Outgoing::withdraw`]).
    pub fn is_recalled(&self) -> bool {
        self.met && !self.pinned && self.theirs(RECALL).load(Relaxed) != 0
    }

    /// Copies what was withdrawn, from behind its first `skip` bytes on: how many bytes.
    pub fn take_back(&self, skip: usize, bytes: &mut [u8]) -> usize {
        self.sender.take_back(skip, bytes)
    }

    /// Says on which processor this side runs, and asks where the other does: whether they are the same.
    pub fn shares_processor(&self, own: u32) -> bool {
        shares_processor(self.sender.own_rest(), self.sender.peer_rest(), own)
    }
}

/// Where the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// In memory: so many are there. Then, if that is known, the stretch over TCP begins with this byte of TCP.
    Memory { ready: usize, then: Option<u64> },
    /// On TCP: so many are left, if that is known.
    Tcp { left: Option<u64> },
}

/// A direction, at its receiver.
pub struct Incoming {
    receiver: KeptReceiver,
    meeting: u64,
    met: bool,
    turn: u32,
    /// Bytes ever taken from TCP, bells included.
    tcp: u64,
    nap: u32,
    /// Stretch and position in memory from which on nothing is received any more.
    until: Option<(u32, u64)>,
}

impl Incoming {
    /// A direction from which `tcp` bytes have been received. Its receiver may be asleep. Nobody is told of it before
    /// [`Incoming::tell`].
    pub fn new(receiver: KeptReceiver, meeting: u64, tcp: u64) -> Self {
        for note in [MEETING, TURN, RECALL, BELL] {
            receiver.own_rest().notes[note].store(0, Relaxed);
        }
        let mut new = Self { receiver, meeting, met: false, turn: 0, tcp, nap: 0, until: None };
        new.nap();
        new
    }

    /// Says that this end is there.
    pub fn tell(&self) {
        self.receiver.own_rest().notes[MEETING].store(self.meeting, Release);
    }

    /// Whether the other end is there: until then what it has said is of others.
    fn meets(&mut self) -> bool {
        self.met = self.met || self.receiver.peer_rest().notes[MEETING].load(Acquire) == self.meeting;
        self.met
    }

    /// Where the next bytes are. A stretch that is over is left behind first.
    pub fn look(&mut self) -> Result<Stretch, Broken> {
        // A sender that is honest cannot end more of them meanwhile.
        for _ in 0..TURNS {
            let stretch = self.here()?;
            match stretch {
                Stretch::Tcp { left: Some(0) } => self.turn(),
                Stretch::Memory { ready: 0, then: Some(tcp) } if tcp == self.tcp => self.turn(),
                _ => return Ok(stretch),
            }
        }
        Err(Broken)
    }

    fn turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.receiver.own_rest().notes[TURN].store(self.turn.into(), Release);
    }

    fn here(&mut self) -> Result<Stretch, Broken> {
        if !self.meets() {
            return Ok(Stretch::Tcp { left: None });
        }
        let words = self.receiver.peer_rest();
        let ahead = (words.notes[TURN].load(Acquire) as u32).wrapping_sub(self.turn);
        if ahead as usize >= TURNS {
            return Err(Broken);
        }
        let known = (ahead > 0).then(|| {
            let (end, then) = end_of(words, self.turn);
            (end.load(Relaxed), then.load(Relaxed))
        });
        let shut = self.until.filter(|(last, _)| self.turn.wrapping_sub(*last) as i32 >= 0);
        if self.turn & 1 == 0 {
            // What was sent over TCP to a side that was shut does not come.
            let left = known.filter(|_| shut.is_none()).map(|(end, _)| end.wrapping_sub(self.tcp));
            let broken = left.is_some_and(|left| left > i64::MAX as u64);
            return if broken { Err(Broken) } else { Ok(Stretch::Tcp { left }) };
        }
        // What is there was put there before the end that was read, if one was.
        let there = self.receiver.unread().map_err(|_| Broken)? as u64;
        let ready = known.map_or(there, |(end, _)| end.wrapping_sub(self.receiver.received()));
        let then = known.map(|(_, tcp)| tcp);
        let bells = then.map_or(0, |tcp| tcp.wrapping_sub(self.tcp));
        if ready > there || bells > i64::MAX as u64 {
            return Err(Broken);
        }
        Ok(match shut {
            None => Stretch::Memory { ready: ready as usize, then },
            Some((last, end)) => {
                let left = if self.turn == last { end.saturating_sub(self.receiver.received()) } else { 0 };
                Stretch::Memory { ready: ready.min(left) as usize, then: None }
            }
        })
    }

    /// Nothing that is sent from now on is received. Whoever sends finds that out from TCP, as of a receiver that has left.
    pub fn shut(&mut self) {
        if self.until.is_some() {
            return;
        }
        // Either the sender sees this, or what it has put into memory is before the end.
        self.leave();
        let last = if self.meets() { self.receiver.peer_rest().notes[TURN].load(Acquire) as u32 } else { 0 };
        let there = self.receiver.unread().unwrap_or(0) as u64;
        self.until = Some((last, self.receiver.received() + there));
    }

    /// Bytes at the front of TCP that are bells.
    pub fn bells(&mut self) -> u64 {
        // Before the look: if that finds the stretch not to have ended, these are of this one.
        let rung = self.receiver.peer_rest().notes[BELLS].load(Acquire);
        let until = match self.here() {
            Ok(Stretch::Memory { then, .. }) => then.unwrap_or(rung),
            _ => return 0,
        };
        let bells = until.wrapping_sub(self.tcp);
        // None since the last stretch over TCP, or the words of a liar.
        if bells > i64::MAX as u64 { 0 } else { bells }
    }

    /// A number that changes when something comes through memory, as the sender says: for those who ask whether something has.
    pub fn arrived(&self) -> u64 {
        self.receiver.arrived()
    }

    /// Bytes in memory behind a stretch over TCP that has ended: for those who look ahead.
    pub fn beyond(&mut self) -> usize {
        let ahead = (self.receiver.peer_rest().notes[TURN].load(Acquire) as u32).wrapping_sub(self.turn);
        let there = self.receiver.unread().unwrap_or(0) as u64;
        let ready = match ahead {
            1 => there,
            2 => {
                let end = end_of(self.receiver.peer_rest(), self.turn.wrapping_add(1)).0.load(Relaxed);
                end.wrapping_sub(self.receiver.received())
            }
            _ => 0,
        };
        if ready > there || ready > MOST { 0 } else { ready as usize }
    }

    /// What is to be waited for when nothing was found in memory.
    pub fn news(&self) -> News {
        self.receiver.news()
    }

    /// Where it is said that something has come for a sleeper.
    pub fn board(&self) -> Option<Board> {
        self.receiver.board()
    }

    /// Whether something lies in memory that can be taken now: one look, for those who wait.
    pub fn has_bytes(&mut self) -> bool {
        self.receiver.expect();
        matches!(self.look(), Ok(Stretch::Memory { ready: 1.., .. }) | Err(Broken))
    }

    /// Takes up to `ready` bytes from memory, or only looks at them: how many.
    ///
    /// # Safety
    /// The parts can be written.
    pub unsafe fn take(&mut self, ready: usize, parts: &[Part], skip: usize, peek: bool) -> usize {
        let receive = |room: &mut [std::io::IoSliceMut<'_>]| self.receiver.read(room, peek).unwrap_or(0);
        // SAFETY: the caller's. To look again would find the same.
        unsafe { parts::write(parts, skip, ready, peek, receive) }
    }

    /// So many bytes were taken from TCP.
    pub fn took(&mut self, bytes: u64) {
        self.tcp = self.tcp.wrapping_add(bytes);
    }

    /// Says that whoever receives may sleep from now on, and is to be rung for; to be followed by one more look. A nap that has
    /// begun goes on, and is rung for once.
    pub fn nap(&mut self) {
        self.nap |= 1;
        announce(&self.receiver.own_rest().sleep, self.nap);
    }

    /// The number of the bell that wakes whoever receives.
    pub fn bell(&self) -> u64 {
        self.receiver.own_rest().notes[BELL].load(Relaxed)
    }

    /// Says so; to be followed by [`Incoming::nap`].
    pub fn set_bell(&mut self, bell: u64) {
        if self.bell() != bell && self.nap != GONE {
            self.receiver.own_rest().notes[BELL].store(bell, Relaxed);
        }
    }

    /// A bell has come, or is not wanted any more.
    pub fn wake(&mut self) {
        if self.nap & 1 == 1 && self.nap != GONE {
            self.nap = self.nap.wrapping_add(1);
            self.receiver.own_rest().sleep.store(self.nap, Relaxed);
        }
    }

    /// A bell has come, and others sleep on: they are to be rung for anew.
    pub fn nap_again(&mut self) {
        if self.nap & 1 == 1 && self.nap != GONE {
            self.nap = self.nap.wrapping_add(2);
            announce(&self.receiver.own_rest().sleep, self.nap);
        }
    }

    pub fn naps(&self) -> bool {
        self.nap & 1 == 1
    }

    /// Says that nobody receives any more.
    pub fn leave(&mut self) {
        self.set_bell(0);
        self.nap = GONE;
        announce(&self.receiver.own_rest().sleep, GONE);
    }

    /// Asks the sender to have all that follows over TCP. Nothing may be taken from memory afterwards.
    pub fn recall(&mut self) {
        self.receiver.own_rest().notes[RECALL].store(1, Release);
        fence(SeqCst);
    }

    /// Says on which processor this side runs, and asks where the other does: whether they are the same.
    pub fn shares_processor(&self, own: u32) -> bool {
        shares_processor(self.receiver.own_rest(), self.receiver.peer_rest(), own)
    }
}

#[cfg(test)]
mod tests;
