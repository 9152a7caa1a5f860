//! The sending end of a stream.
//!
//! All that it decides by it keeps in its own memory; of the receiver it believes one word, its position, and only within
//! what was sent. Whether and how to wait where there is no room is decided above.

use super::{Fault, Memory, PIECE, Place, Spot, received};
use crate::calls::Sleep;
use crate::layout::{ECHO, GONE, LOCAL, MOST, RECORD, Rest, SEGMENTS, Way};
use crate::sync::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use interconnect::waking::ticks;
use std::io::IoSlice;

/// Room in the local record that is worth going on in it.
const WORTH: usize = LOCAL / 4;
/// Bytes after which a local record whose reader keeps up is used from its beginning again: a connection of short
/// messages stays in few pages.
const WARM: u64 = if cfg!(loom) { LOCAL as u64 } else { LOCAL as u64 / 4 };
/// Bytes sent since something came back after which records are the better place: sender and receiver are at work at once, and would
/// take the few lines of the local record from each other's cache.
const BULK: u64 = 2 * LOCAL as u64;
/// Ticks of the processor (some 50 us) without a write after which nobody is taken to be at work on what was sent: it was received, or
/// its receiver has others to see to.
const PAUSE: u64 = 1 << 17;
/// Bytes of a write that is worth it.
const LONG: usize = if cfg!(loom) { 2 } else { 512 };

/// Bytes that a process may have sent, over all of its streams, and nobody received, before [`Sender::write_paced`] holds back the streams
/// that have more of it than others: more than one stream can have alone, and less than stays in a processor's cache.
pub(crate) const AHEAD: u64 = 5 << 20;
/// What a stream may have sent in the middle of a write all the same: sender and receiver are at work at once.
const GOING: u64 = 2 * LOCAL as u64;
/// Changes of what is ahead that are counted.
const COUNTED: u64 = 4096;

/// There is no time in a model.
#[cfg(loom)]
fn ticks() -> u64 {
    0
}

/// A part that the receiver may not be through with.
#[derive(Clone, Copy)]
struct Part {
    start: u64,
    /// `u64::MAX` while it is being filled.
    end: u64,
    place: Place,
}

/// The parts in order, in this very place: a sender that lies in memory which processes share is whole there.
struct Parts {
    all: [Part; SEGMENTS],
    first: usize,
    len: usize,
}

impl Parts {
    fn new(part: Part) -> Self {
        Self { all: [part; SEGMENTS], first: 0, len: 1 }
    }

    fn at(&self, index: usize) -> usize {
        (self.first + index) % SEGMENTS
    }

    fn iter(&self) -> impl Iterator<Item = &Part> {
        (0..self.len).map(|index| &self.all[self.at(index)])
    }

    fn front(&self) -> Option<&Part> {
        (self.len > 0).then(|| &self.all[self.first])
    }

    fn back(&self) -> Option<&Part> {
        (self.len > 0).then(|| &self.all[self.at(self.len - 1)])
    }

    fn back_mut(&mut self) -> Option<&mut Part> {
        let last = self.at(self.len.checked_sub(1)?);
        Some(&mut self.all[last])
    }

    /// One more, for which there is room.
    fn push_back(&mut self, part: Part) {
        let next = self.at(self.len);
        self.all[next] = part;
        self.len += 1;
    }

    fn pop_front(&mut self) {
        (self.first, self.len) = (self.at(1), self.len - 1);
    }
}

/// Where a receiver says how much it has taken, for who waits for what comes of it.
#[derive(Clone, Copy)]
pub struct Taken(*const AtomicU64);

impl Taken {
    /// A number that changes when something is taken, as the receiver says.
    ///
    /// # Safety
    /// The memory beneath the sender that it came from is still there.
    pub unsafe fn number(&self) -> u64 {
        // SAFETY: the caller's.
        unsafe { &*self.0 }.load(Ordering::Relaxed)
    }
}

/// The sending end.
pub struct Sender<M: Memory> {
    memory: M,
    head: u64,
    base: u64,
    segments: u32,
    marks: u64,
    parts: Parts,
    /// The receiver's position as last looked up.
    seen: u64,
    /// Where the parts are accounted for up to.
    settled: u64,
    /// Bytes that went into the local record, and that came out, since it was last begun anew.
    local_head: u64,
    local_tail: u64,
    /// Where the receiver's keeping up is next looked for.
    warm: u64,
    /// What was sent when something was last seen to have come back.
    answered: u64,
    /// When something was last sent, in ticks.
    sent_at: u64,
    /// Bytes that are counted as sent and not received.
    ahead: u64,
    fault: Option<Fault>,
    hand: bool,
}

impl<M: Memory> Sender<M> {
    pub(crate) fn new(memory: M) -> Self {
        let line = &memory.way().sender;
        // This side's own words, which a hostile peer can have changed: room is left for all that will ever be sent.
        let head = line.base.load(Ordering::Relaxed) & !GONE;
        let segments = line.base_segments.load(Ordering::Relaxed);
        line.open.store(1, Ordering::Relaxed);
        let parts = Parts::new(Part { start: head, end: u64::MAX, place: Place::Local(0) });
        Self {
            head,
            base: head,
            segments,
            marks: 0,
            parts,
            seen: head,
            settled: head,
            local_head: 0,
            local_tail: 0,
            warm: WARM,
            answered: head,
            sent_at: 0,
            ahead: 0,
            fault: None,
            hand: false,
            memory,
        }
    }

    /// Sends as much of `parts`, one after the other, as there is room for: how many bytes. 0: no room now.
    pub fn write(&mut self, parts: &[IoSlice<'_>]) -> Result<usize, Fault> {
        self.write_from(parts, 0)
    }

    /// As [`Sender::write`], of what lies behind the first `skip` bytes.
    pub fn write_from(&mut self, parts: &[IoSlice<'_>], skip: usize) -> Result<usize, Fault> {
        self.send(parts, skip, false)
    }

    /// As [`Sender::write`], but takes less, or nothing, where this process has sent more than receivers keep up with, and of this stream
    /// more than its share ([`Sender::is_far`]): what they receive is to come from the cache.
    pub fn write_paced(&mut self, parts: &[IoSlice<'_>]) -> Result<usize, Fault> {
        self.send(parts, 0, true)
    }

    fn send(&mut self, parts: &[IoSlice<'_>], skip: usize, paced: bool) -> Result<usize, Fault> {
        if let ([part], 0) = (parts, skip)
            && self.write_briefly(part)
        {
            return Ok(part.len());
        }
        let whole = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len())).saturating_sub(skip);
        let mut left = whole;
        let mut source = Source::new(parts, skip);
        if self.is_bulk(whole) && ticks().wrapping_sub(self.sent_at) > PAUSE {
            self.answered();
        }
        while left > 0 {
            if paced && self.is_beyond(if left == whole { 1 } else { GOING }) {
                break;
            }
            let room = self.room(left).min(left).min(PIECE);
            if room == 0 {
                break;
            }
            self.copy(&mut source, room);
            left -= room;
            self.count_ahead();
        }
        self.rest();
        match self.fault {
            Some(fault) if left == whole && whole > 0 => Err(fault),
            _ => Ok(whole - left),
        }
    }

    /// Whether this process has sent so much that nobody has received yet, by a fresh look at this stream, that what comes next on
    /// it is better sent when more was.
    pub fn is_far(&mut self) -> bool {
        self.is_beyond(1)
    }

    /// The same, where this stream may have so much.
    fn is_beyond(&mut self, least: u64) -> bool {
        let (ahead, streams) = self.memory.ahead();
        let share = (AHEAD / streams.max(1)).max(least);
        if ahead <= AHEAD || self.head - self.seen < share {
            return false;
        }
        self.look();
        self.count_ahead();
        self.fault.is_none() && self.head - self.seen >= share
    }

    fn count_ahead(&mut self) {
        let now = self.head - self.seen;
        if now.abs_diff(self.ahead) >= COUNTED || now == 0 && self.ahead > 0 {
            self.memory.count_ahead(self.ahead, now);
            self.ahead = now;
        }
    }

    /// Sends a few bytes that go behind others in the local record, where they take no more than room: both there, where they lie until
    /// they are received, and beside the word that says so. False: nothing was done.
    fn write_briefly(&mut self, bytes: &[u8]) -> bool {
        let len = bytes.len();
        let Some(&Part { start, end: u64::MAX, place: Place::Local(begin) }) = self.parts.back() else { return false };
        let has_room = self.local_free() >= len && self.local_head < self.warm && !self.is_bulk(len);
        if len == 0 || len > ECHO || !has_room || self.fault.is_some() {
            return false;
        }
        self.memory.put(Spot::Local((begin + (self.head - start) as usize) % LOCAL), bytes);
        self.head += len as u64;
        self.local_head += len as u64;
        let line = &self.memory.way().sender;
        line.echo.store(self.head << 8 | len as u64, Ordering::Relaxed);
        // Whoever sees any of the words sees that they are these.
        fence(Ordering::Release);
        let mut words = [0u8; ECHO.next_multiple_of(8)];
        words[..len].copy_from_slice(bytes);
        for (word, bytes) in line.last.iter().zip(words.chunks_exact(8)).take(len.div_ceil(8)) {
            word.store(bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)), Ordering::Relaxed);
        }
        self.publish();
        true
    }

    /// Something has come from the other end, which so has what it is about.
    pub fn answered(&mut self) {
        self.answered = self.head;
    }

    /// Puts a mark behind what was sent. False: no room for it now.
    pub fn mark(&mut self, mark: u8) -> Result<bool, Fault> {
        if !self.has_part() {
            return self.fault.map_or(Ok(false), Err);
        }
        self.begin(Place::Mark(mark));
        self.head += 1;
        self.marks += 1;
        self.finish();
        self.publish();
        Ok(true)
    }

    /// Copies of what was sent, as far as it is not known to be received, what lies behind the first `skip` bytes: how many.
    /// For who is to send them another way. A hostile receiver can have changed them.
    pub fn take_back(&self, mut skip: usize, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for part in self.parts.iter().filter(|part| !matches!(part.place, Place::Mark(_))) {
            let (from, end) = (part.start.max(self.seen), part.end.min(self.head));
            let len = end.saturating_sub(from) as usize;
            let begin = skip.min(len);
            skip -= begin;
            let run = (len - begin).min(bytes.len() - done);
            let offset = (from - part.start) as usize + begin;
            let to = &mut bytes[done..done + run];
            match part.place {
                Place::Local(at) => self.memory.get(Spot::Local((at + offset) % LOCAL), to),
                Place::Record(record) => self.memory.get(Spot::Record(record, offset), to),
                Place::Mark(_) => {}
            }
            done += run;
        }
        done
    }

    /// Bytes that were sent on this connection.
    pub fn sent(&self) -> u64 {
        self.head - self.base - self.marks
    }

    /// Bytes and marks that the receiver was not seen to take, as of the last look.
    pub fn unreceived(&self) -> u64 {
        self.head - self.seen
    }

    /// Bytes of room in the local record, by a fresh look: what is to be had without asking for a record.
    pub fn local_room(&mut self) -> usize {
        self.look();
        if self.fault.is_none() && self.has_part() { self.local_free() } else { 0 }
    }

    /// The same, as of the last look.
    pub fn known_room(&self) -> usize {
        let can = self.fault.is_none() && self.parts.len < SEGMENTS;
        if can { self.local_free() } else { 0 }
    }

    /// Whether the receiver has taken everything, by a fresh look.
    pub fn is_received(&mut self) -> Result<bool, Fault> {
        self.look();
        self.fault.map_or(Ok(self.seen == self.head), Err)
    }

    /// Whether there is room in what this end has, by a fresh look.
    pub fn has_room(&mut self) -> Result<bool, Fault> {
        self.look();
        let filling = matches!(self.parts.back(), Some(Part { end: u64::MAX, place: Place::Record(_), .. }));
        let room = filling || self.local_free() > 0 && self.has_part();
        self.fault.map_or(Ok(room), Err)
    }

    /// Where the receiver says how much it has taken.
    pub fn taken(&self) -> Taken {
        Taken(&raw const self.way().receiver.tail)
    }

    /// The receiver was asleep, and is told: whether who waits by this set sleeps, and is to be rung for, and how ([`Memory::call`]).
    pub fn call(&self, set: usize) -> Option<Sleep> {
        self.memory.call(set)
    }

    /// He was.
    pub fn rang(&self, set: usize, sleep: Sleep) {
        self.memory.rang(set, sleep);
    }

    /// What this end says while it does not work.
    pub fn own_rest(&self) -> &Rest {
        &self.way().sender_rest
    }

    /// What the receiver says so. Not to be believed.
    pub fn peer_rest(&self) -> &Rest {
        &self.way().receiver_rest
    }

    fn way(&self) -> &Way {
        self.memory.way()
    }

    /// Bytes of room where the stream goes on, for up to `want`: in the record that is being filled, in the local one, or
    /// in a new one. 0 where there is none, or a fault.
    fn room(&mut self, want: usize) -> usize {
        if let Some(Part { start, end: u64::MAX, place: Place::Record(_) }) = self.parts.back() {
            let start = *start;
            // A record that is full was finished.
            if self.enter() {
                return RECORD - (self.head - start) as usize;
            }
            self.finish();
        }
        let worth = want.min(WORTH);
        if self.local_free() < worth || self.local_head >= self.warm || self.is_bulk(want) {
            self.look();
            self.keep_warm();
        }
        if (self.local_free() < worth || self.is_bulk(want))
            && self.has_part()
            && self.enter()
            && let Some(record) = self.memory.take(self.head)
        {
            self.begin(Place::Record(record));
            return RECORD;
        }
        let free = if self.fault.is_some() { 0 } else { self.local_free() };
        let goes_on = matches!(self.parts.back(), Some(Part { end: u64::MAX, place: Place::Local(_), .. }));
        if free > 0 && !goes_on {
            if !self.has_part() {
                return 0;
            }
            self.begin(Place::Local(self.local_head as usize % LOCAL));
        }
        free
    }

    fn is_bulk(&self, want: usize) -> bool {
        want > LOCAL / 2 || want >= LONG && self.head - self.answered >= BULK
    }

    fn local_free(&self) -> usize {
        LOCAL - (self.local_head - self.local_tail) as usize
    }

    /// Uses the local record from its beginning again, if nothing in it is unread.
    fn keep_warm(&mut self) {
        if self.local_head < self.warm {
            return;
        }
        self.warm = self.local_head + WARM;
        if self.seen == self.head && self.fault.is_none() && self.has_part() {
            self.finish();
            self.settle();
            (self.local_head, self.local_tail, self.warm) = (0, 0, WARM);
        }
    }

    /// Whether one more part can be described: the receiver has read the word that its own takes the place of.
    fn has_part(&mut self) -> bool {
        if self.parts.len >= SEGMENTS {
            self.look();
        }
        self.parts.len < SEGMENTS && self.fault.is_none()
    }

    fn enter(&mut self) -> bool {
        self.hand = self.hand || self.memory.enter();
        self.hand
    }

    fn rest(&mut self) {
        if self.hand {
            crate::freeze::leave(&self.way().sender.hand);
            self.hand = false;
        }
    }

    fn copy(&mut self, source: &mut Source<'_>, len: usize) {
        let Some(part) = self.parts.back() else { return };
        let (start, place) = (part.start, part.place);
        let offset = (self.head - start) as usize;
        source.take(len, |at, bytes| match place {
            Place::Local(begin) => self.memory.put(Spot::Local((begin + offset + at) % LOCAL), bytes),
            Place::Record(record) => self.memory.put(Spot::Record(record, offset + at), bytes),
            Place::Mark(_) => {}
        });
        self.head += len as u64;
        match place {
            Place::Local(_) => self.local_head += len as u64,
            _ if self.head - start == RECORD as u64 => self.finish(),
            _ => {}
        }
        self.publish();
    }

    fn publish(&mut self) {
        self.sent_at = ticks();
        let line = &self.memory.way().sender;
        #[cfg(not(loom))]
        line.sent_at.store(self.sent_at, Ordering::Relaxed);
        line.head.store(self.head, Ordering::Release);
    }

    /// Begins a part here.
    fn begin(&mut self, place: Place) {
        self.finish();
        let way = self.memory.way();
        way.segments[self.segments as usize % SEGMENTS].store(place.word(self.head), Ordering::Relaxed);
        self.segments = self.segments.wrapping_add(1);
        way.sender.segments.store(self.segments, Ordering::Release);
        self.parts.push_back(Part { start: self.head, end: u64::MAX, place });
    }

    /// Ends the part that is being filled, if there is one.
    fn finish(&mut self) {
        let Some(part) = self.parts.back_mut().filter(|part| part.end == u64::MAX) else { return };
        part.end = self.head;
        if let Place::Record(record) = part.place {
            self.memory.close(record, part.start, self.head);
        }
    }

    /// Looks where the receiver is.
    fn look(&mut self) {
        let (tail, gone) = received(self.way().receiver.tail.load(Ordering::Acquire), self.base);
        if tail < self.seen || tail > self.head || self.head - tail > MOST {
            self.fault = Some(Fault::Broken);
            return;
        }
        self.seen = tail;
        if gone {
            self.fault = Some(Fault::Gone);
        }
        // Whatever is in a record that was not filled, nobody needs it.
        if tail == self.head && matches!(self.parts.back(), Some(Part { place: Place::Record(_), .. })) {
            self.finish();
        }
        self.settle();
    }

    /// Gives back what the receiver is through with.
    fn settle(&mut self) {
        while let Some(&part) = self.parts.front() {
            let upto = part.end.min(self.seen);
            match part.place {
                Place::Local(_) => self.local_tail += upto - self.settled,
                Place::Record(record) if part.end <= self.seen => self.memory.give_back(record, part.start),
                _ => {}
            }
            self.settled = upto;
            if part.end > self.seen {
                return;
            }
            self.parts.pop_front();
        }
    }
}

impl<M: Memory> Drop for Sender<M> {
    /// What was sent can still be received: its records come back when it was.
    fn drop(&mut self) {
        self.finish();
        self.rest();
        self.look();
        if self.fault == Some(Fault::Gone) {
            self.seen = self.head;
            self.settle();
        }
        self.memory.count_ahead(self.ahead, 0);
        let line = &self.way().sender;
        line.base.store(self.head, Ordering::Relaxed);
        line.base_segments.store(self.segments, Ordering::Relaxed);
        line.open.store(0, Ordering::Release);
    }
}

/// What is being sent.
struct Source<'a> {
    parts: &'a [IoSlice<'a>],
    /// Bytes of the first part that were taken.
    at: usize,
}

impl<'a> Source<'a> {
    fn new(mut parts: &'a [IoSlice<'a>], skip: usize) -> Self {
        let mut at = skip;
        while let Some((part, rest)) = parts.split_first().filter(|(part, _)| at >= part.len()) {
            (parts, at) = (rest, at - part.len());
        }
        Self { parts, at }
    }

    /// Takes the next `len` bytes, which there are: hands each run of them to `put`, with its offset.
    fn take(&mut self, len: usize, mut put: impl FnMut(usize, &[u8])) {
        let mut done = 0;
        while done < len {
            let Some((part, rest)) = self.parts.split_first() else { return };
            let run = (part.len() - self.at).min(len - done);
            put(done, &part[self.at..self.at + run]);
            done += run;
            self.at += run;
            if self.at == part.len() {
                (self.parts, self.at) = (rest, 0);
            }
        }
    }
}
