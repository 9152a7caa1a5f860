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
//! Not done here: sending and receiving over TCP, and waiting.

use crate::memory::{Memory, Part, RING, TURNS};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, fence};
use thiserror::Error;

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

/// What a receiver that has left says instead of its nap: whoever sends to it is to find that out from TCP.
const GONE: u32 = u32::MAX;

/// A direction, at its sender.
#[derive(Debug)]
pub struct Outgoing {
    memory: Memory,
    tail: u64,
    turn: u32,
    /// Bytes ever given to TCP, bells included.
    tcp: u64,
    /// The nap for which a bell was rung last.
    rung: u32,
    /// Calls in the kernel that are sending, each an unknown number of bytes.
    flying: u32,
    pinned: bool,
}

impl Outgoing {
    /// A direction that has sent `tcp` bytes.
    pub fn new(memory: Memory, tcp: u64) -> Self {
        Self { memory, tail: 0, turn: 0, tcp, rung: 0, flying: 0, pinned: false }
    }

    pub fn in_memory(&self) -> bool {
        self.turn & 1 == 1
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
        let memory = self.memory;
        let theirs = memory.receiver(true);
        let can = !self.pinned && self.flying == 0 && theirs.recall.load(Relaxed) == 0;
        // Then it has left the last stretch in memory, and there is room to write down more ends.
        if !can || theirs.turn.load(Acquire) != self.turn {
            return false;
        }
        self.end(self.tcp, 0);
        // Either this sees a recall, or who recalls sees that this stretch has begun, and waits for its end.
        fence(SeqCst);
        if theirs.recall.load(Relaxed) != 0 {
            self.pin();
            return false;
        }
        true
    }

    /// From the next byte on over TCP.
    pub fn sink(&mut self) {
        if self.in_memory() {
            self.end(self.tail, self.tcp);
        }
    }

    /// From the next byte on over TCP, for ever.
    pub fn pin(&mut self) {
        self.sink();
        self.pinned = true;
    }

    fn end(&mut self, end: u64, tcp: u64) {
        let words = self.memory.sender(true);
        let turn = &words.turns[self.turn as usize & (TURNS - 1)];
        turn.end.store(end, Relaxed);
        turn.tcp.store(tcp, Relaxed);
        self.turn = self.turn.wrapping_add(1);
        words.turn.store(self.turn, Release);
    }

    /// Puts what lies behind the first `skip` bytes of `parts` into memory: how many bytes; 0 if it is full, or broken.
    ///
    /// # Safety
    /// The parts can be read.
    pub unsafe fn put(&mut self, parts: &[Part], skip: usize) -> usize {
        let used = self.tail.wrapping_sub(self.memory.receiver(true).head.load(Acquire));
        if !self.in_memory() || used > RING as u64 {
            return 0;
        }
        // SAFETY: the caller's.
        let put = unsafe { self.memory.put(self.tail, RING - used as usize, parts, skip) };
        if put > 0 {
            self.tail = self.tail.wrapping_add(put as u64);
            self.memory.sender(true).tail.store(self.tail, Release);
        }
        put
    }

    /// Whether the receiver has taken all that is in memory.
    pub fn is_drained(&self) -> bool {
        self.memory.receiver(true).head.load(Acquire) == self.tail
    }

    /// Bytes that fit into memory.
    pub fn room(&self) -> usize {
        let used = self.tail.wrapping_sub(self.memory.receiver(true).head.load(Acquire));
        (RING as u64).saturating_sub(used) as usize
    }

    /// Asked after something was put, or turned: whether to ring now. True once for each nap.
    pub fn owes_bell(&mut self) -> bool {
        let nap = published_then(&self.memory.receiver(true).nap);
        let owed = nap & 1 == 1 && (nap != self.rung || nap == GONE);
        if owed {
            self.rung = nap;
        }
        owed
    }

    /// A bell goes out now, unless it cannot: then [`Outgoing::unring`] is called.
    pub fn ring(&mut self) {
        self.tcp = self.tcp.wrapping_add(1);
        self.memory.sender(true).bells.store(self.tcp, Release);
    }

    /// The bell could not go out: TCP has no room for it, and so has something for the receiver to wake for.
    pub fn unring(&mut self) {
        self.tcp = self.tcp.wrapping_sub(1);
        self.memory.sender(true).bells.store(self.tcp, Release);
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

    /// What the receiver wants to have over TCP, if it wants all of it there: it has stopped taking from memory, and what it
    /// did not take is `len` bytes from `from` ([`Memory::take_back`]). From then on this direction is pinned.
    pub fn withdraw(&mut self) -> Option<(u64, usize)> {
        let theirs = self.memory.receiver(true);
        if self.pinned || theirs.recall.load(Acquire) == 0 {
            return None;
        }
        self.pinned = true;
        if !self.in_memory() {
            return Some((self.tail, 0));
        }
        let head = theirs.head.load(Acquire);
        let left = self.tail.wrapping_sub(head);
        // A receiver whose words cannot be gets nothing more through memory.
        let (head, left) = if left > RING as u64 { (self.tail, 0) } else { (head, left as usize) };
        self.end(head, self.tcp);
        Some((head, left))
    }

    /// Says on which processor this side runs, and asks where the other does: whether they are the same.
    pub fn shares_processor(&self, own: u32) -> bool {
        self.memory.sender(true).cpu.store(own + 1, Relaxed);
        self.memory.receiver(true).cpu.load(Relaxed) == own + 1
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
#[derive(Debug)]
pub struct Incoming {
    memory: Memory,
    head: u64,
    turn: u32,
    /// Bytes ever taken from TCP, bells included.
    tcp: u64,
    nap: u32,
}

impl Incoming {
    /// A direction from which `tcp` bytes have been received. Its receiver may be asleep.
    pub fn new(memory: Memory, tcp: u64) -> Self {
        let mut new = Self { memory, head: 0, turn: 0, tcp, nap: 0 };
        new.nap();
        new
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
        self.memory.receiver(false).turn.store(self.turn, Release);
    }

    fn here(&self) -> Result<Stretch, Broken> {
        let words = self.memory.sender(false);
        let ahead = words.turn.load(Acquire).wrapping_sub(self.turn);
        if ahead as usize >= TURNS {
            return Err(Broken);
        }
        let known = (ahead > 0).then(|| {
            let turn = &words.turns[self.turn as usize & (TURNS - 1)];
            (turn.end.load(Relaxed), turn.tcp.load(Relaxed))
        });
        if self.turn & 1 == 0 {
            let left = known.map(|(end, _)| end.wrapping_sub(self.tcp));
            return if left.is_some_and(|left| left > i64::MAX as u64) {
                Err(Broken)
            } else {
                Ok(Stretch::Tcp { left })
            };
        }
        let end = known.map_or_else(|| words.tail.load(Acquire), |(end, _)| end);
        let then = known.map(|(_, tcp)| tcp);
        let (ready, bells) = (end.wrapping_sub(self.head), then.map_or(0, |tcp| tcp.wrapping_sub(self.tcp)));
        if ready > RING as u64 || bells > i64::MAX as u64 {
            return Err(Broken);
        }
        Ok(Stretch::Memory { ready: ready as usize, then })
    }

    /// Bytes at the front of TCP that are bells.
    pub fn bells(&self) -> u64 {
        // Before the look: if that finds the stretch not to have ended, these are of this one.
        let rung = self.memory.sender(false).bells.load(Acquire);
        let until = match self.here() {
            Ok(Stretch::Memory { then, .. }) => then.unwrap_or(rung),
            _ => return 0,
        };
        let bells = until.wrapping_sub(self.tcp);
        // None since the last stretch over TCP, or the words of a liar.
        if bells > i64::MAX as u64 { 0 } else { bells }
    }

    /// Bytes that ever came through memory, as the sender says: for those who ask whether some have come since.
    pub fn arrived(&self) -> u64 {
        self.memory.sender(false).tail.load(Acquire)
    }

    /// Bytes in memory behind a stretch over TCP that has ended: for those who look ahead.
    pub fn beyond(&self) -> usize {
        let words = self.memory.sender(false);
        let end = match words.turn.load(Acquire).wrapping_sub(self.turn) {
            1 => words.tail.load(Acquire),
            2 => words.turns[self.turn.wrapping_add(1) as usize & (TURNS - 1)].end.load(Relaxed),
            _ => self.head,
        };
        let ready = end.wrapping_sub(self.head);
        if ready > RING as u64 { 0 } else { ready as usize }
    }

    /// Whether something lies in memory that can be taken now: one look, for those who wait.
    pub fn has_bytes(&mut self) -> bool {
        matches!(self.look(), Ok(Stretch::Memory { ready: 1.., .. }) | Err(Broken))
    }

    /// Takes up to `ready` bytes from memory, or only looks at them: how many.
    ///
    /// # Safety
    /// The parts can be written.
    pub unsafe fn take(&mut self, ready: usize, parts: &[Part], skip: usize, peek: bool) -> usize {
        // SAFETY: the caller's.
        let took = unsafe { self.memory.take(self.head, ready, parts, skip) };
        if !peek && took > 0 {
            self.head = self.head.wrapping_add(took as u64);
            self.memory.receiver(false).head.store(self.head, Release);
        }
        took
    }

    /// So many bytes were taken from TCP.
    pub fn took(&mut self, bytes: u64) {
        self.tcp = self.tcp.wrapping_add(bytes);
    }

    /// Says that whoever receives may sleep from now on, and is to be rung for; to be followed by one more look. A nap that has
    /// begun goes on, and is rung for once.
    pub fn nap(&mut self) {
        self.nap |= 1;
        announce(&self.memory.receiver(false).nap, self.nap);
    }

    /// A bell has come, or is not wanted any more.
    pub fn wake(&mut self) {
        if self.nap & 1 == 1 {
            self.nap = self.nap.wrapping_add(1);
            self.memory.receiver(false).nap.store(self.nap, Relaxed);
        }
    }

    pub fn naps(&self) -> bool {
        self.nap & 1 == 1
    }

    /// Says that nobody receives any more.
    pub fn leave(&mut self) {
        self.nap = GONE;
        announce(&self.memory.receiver(false).nap, GONE);
    }

    /// Asks the sender to have all that follows over TCP. Nothing may be taken from memory afterwards.
    pub fn recall(&mut self) {
        self.memory.receiver(false).recall.store(1, Release);
        fence(SeqCst);
    }

    /// Says on which processor this side runs, and asks where the other does: whether they are the same.
    pub fn shares_processor(&self, own: u32) -> bool {
        self.memory.receiver(false).cpu.store(own + 1, Relaxed);
        self.memory.sender(false).cpu.load(Relaxed) == own + 1
    }
}

#[cfg(test)]
mod tests;
