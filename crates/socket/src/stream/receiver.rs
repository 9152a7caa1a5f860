//! The receiving end of a stream.
//!
//! The sender's words are read once, checked, and used: how far it is, how many parts it has begun, and each part's word.
//! What they can be at worst is a stream of other bytes from the memory of the pair.

use super::{Board, Fault, Memory, PIECE, Place, Spot};
use crate::layout::{ECHO, GONE, LOCAL, MOST, RECORD, Rest, SEGMENTS, Way};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use std::io::IoSliceMut;

/// Where the receiver is, and what it knows of what follows.
#[derive(Clone, Copy)]
struct Cursor {
    tail: u64,
    start: u64,
    place: Place,
    next: Option<(u64, Place)>,
    /// Parts whose words were read.
    taken: u32,
}

/// What stands at a cursor.
enum Step {
    Bytes(Spot, usize),
    Mark(u8),
    Nothing,
}

/// Where a sender says how far it is, and a receiver whether it sleeps, for who looks at nothing else while he waits.
#[derive(Clone, Copy)]
pub struct News {
    head: *const AtomicU64,
    sent_at: *const AtomicU64,
    sleep: *const AtomicU32,
    known: u64,
}

// SAFETY: both are of atomics that any thread may look at, while they are there.
unsafe impl Send for News {}

impl News {
    /// Whether more was sent than was known.
    ///
    /// # Safety
    /// The memory beneath the receiver that it came from is still there.
    #[inline]
    pub unsafe fn is_there(&self) -> bool {
        // SAFETY: the caller's.
        unsafe { self.number() != self.known }
    }

    /// A number that changes when something is sent, as the sender says.
    ///
    /// # Safety
    /// As [`News::is_there`]'s.
    #[inline]
    pub unsafe fn number(&self) -> u64 {
        // SAFETY: the caller's.
        unsafe { &*self.head }.load(Ordering::Relaxed)
    }

    /// When the sender last sent something, as it says: to be compared with what others say.
    ///
    /// # Safety
    /// As [`News::is_there`]'s.
    #[inline]
    pub unsafe fn sent_at(&self) -> u64 {
        // SAFETY: the caller's.
        unsafe { &*self.sent_at }.load(Ordering::Relaxed)
    }

    /// What the receiver says of its sleep.
    ///
    /// # Safety
    /// As [`News::is_there`]'s.
    #[inline]
    pub unsafe fn nap(&self) -> u32 {
        // SAFETY: the caller's.
        unsafe { &*self.sleep }.load(Ordering::Relaxed)
    }

    /// The sender's number when the receiver last looked.
    pub fn known(&self) -> u64 {
        self.known
    }
}

/// The receiving end.
pub struct Receiver<M: Memory> {
    memory: M,
    cursor: Cursor,
    base: u64,
    marks: u64,
    /// The sender's words, as last looked up.
    head: u64,
    segments: u32,
    fault: Option<Fault>,
    /// What was received last lay beside the sender's words.
    brief: bool,
}

impl<M: Memory> Receiver<M> {
    pub(crate) fn new(memory: M) -> Self {
        let way = memory.way();
        let base = way.sender.base.load(Ordering::Relaxed) & !GONE;
        let taken = way.sender.base_segments.load(Ordering::Relaxed);
        way.receiver.open.store(1, Ordering::Relaxed);
        way.receiver.tail.store(base, Ordering::Release);
        let cursor = Cursor { tail: base, start: base, place: Place::Local(0), next: None, taken };
        Self { memory, cursor, base, marks: 0, head: base, segments: taken, fault: None, brief: false }
    }

    /// Receives into `parts`, one after the other, what is there, up to the next mark: how many bytes. 0: nothing now, or a
    /// mark. To `peek` is to receive the same again later.
    pub fn read(&mut self, parts: &mut [IoSliceMut<'_>], peek: bool) -> Result<usize, Fault> {
        let mut left = parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len()));
        let whole = left;
        let (mut sink, mut cursor) = (Sink { parts, part: 0, at: 0 }, self.cursor);
        if ((self.head - cursor.tail) as usize) < left {
            self.look();
        }
        if let Some((bytes, len)) = self.echoed(left) {
            sink.give(len, |at, to| to.copy_from_slice(&bytes[at..at + to.len()]));
            if !peek {
                cursor.tail += len as u64;
                self.go(cursor);
            }
            return Ok(len);
        }
        while left > 0 {
            match self.step(&mut cursor) {
                Step::Bytes(spot, len) => {
                    let len = len.min(left).min(PIECE);
                    self.copy(spot, len, &mut sink);
                    cursor.tail += len as u64;
                    left -= len;
                    if !peek {
                        self.go(cursor);
                    }
                }
                Step::Nothing if self.look() => {}
                Step::Nothing | Step::Mark(_) => break,
            }
        }
        match self.fault {
            Some(fault) if left == whole && whole > 0 => Err(fault),
            _ => Ok(whole - left),
        }
    }

    /// All that is there to be received, where it lies beside the sender's words, and is no more than `most` bytes.
    fn echoed(&mut self, most: usize) -> Option<([u8; ECHO.next_multiple_of(8)], usize)> {
        let Cursor { tail, place, next, taken, .. } = self.cursor;
        let len = (self.head - tail) as usize;
        // Parts are gone through as they come; so one that is not known of yet is.
        let here = next.is_none() && taken == self.segments && matches!(place, Place::Local(_));
        self.brief = here && len <= ECHO;
        if len == 0 || len > most || !self.brief || self.fault.is_some() {
            return None;
        }
        let line = &self.way().sender;
        let mut bytes = [0; ECHO.next_multiple_of(8)];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(&line.last).take(len.div_ceil(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        // Had any of them been written for others, so had this.
        fence(Ordering::Acquire);
        self.brief = line.echo.load(Ordering::Relaxed) == self.head << 8 | len as u64;
        self.brief.then_some((bytes, len))
    }

    /// The mark that stands here, if one does.
    pub fn mark(&mut self) -> Result<Option<u8>, Fault> {
        let mut cursor = self.cursor;
        self.look();
        match self.step(&mut cursor) {
            Step::Mark(mark) => Ok(Some(mark)),
            _ => self.fault.map_or(Ok(None), Err),
        }
    }

    /// Goes on behind the mark that stands here.
    pub fn pass(&mut self) {
        let mut cursor = self.cursor;
        if let Step::Mark(_) = self.step(&mut cursor) {
            cursor.tail += 1;
            self.marks += 1;
            self.go(cursor);
        }
    }

    /// Bytes that were received on this connection.
    pub fn received(&self) -> u64 {
        self.cursor.tail - self.base - self.marks
    }

    /// Bytes and marks that are there to be received, by a fresh look.
    pub fn unread(&mut self) -> Result<usize, Fault> {
        self.look();
        self.fault.map_or(Ok((self.head - self.cursor.tail) as usize), Err)
    }

    /// Has the processor fetch where the next bytes will probably be, beside the word that says that they are: else they are fetched
    /// one after the other.
    pub fn expect(&self) {
        let Cursor { tail, start, place, .. } = self.cursor;
        if let (Place::Local(begin), false) = (place, self.brief) {
            self.memory.expect(Spot::Local((begin + (tail - start) as usize) % LOCAL));
        }
    }

    /// A number that changes when something is sent, as the sender says.
    pub fn arrived(&self) -> u64 {
        self.way().sender.head.load(Ordering::Acquire)
    }

    /// What is to be waited for when nothing was found.
    pub fn news(&self) -> News {
        let way = self.way();
        let (line, sleep) = (&way.sender, &raw const way.receiver_rest.sleep);
        News { head: &raw const line.head, sent_at: &raw const line.sent_at, sleep, known: self.head }
    }

    /// Where it is told of by those who look at nothing else.
    pub fn board(&self) -> Option<Board> {
        self.memory.board()
    }

    /// What this end says while it does not work.
    pub fn own_rest(&self) -> &Rest {
        &self.way().receiver_rest
    }

    /// What the sender says so. Not to be believed.
    pub fn peer_rest(&self) -> &Rest {
        &self.way().sender_rest
    }

    fn way(&self) -> &Way {
        self.memory.way()
    }

    /// Goes on from `cursor`: what lies before it is the sender's again.
    fn go(&mut self, cursor: Cursor) {
        self.cursor = cursor;
        self.way().receiver.tail.store(cursor.tail, Ordering::Release);
    }

    /// Looks what the sender has sent. Whether that is more than was known.
    fn look(&mut self) -> bool {
        let line = &self.way().sender;
        let head = line.head.load(Ordering::Acquire);
        // Parts are told of before what lies in them is.
        let segments = line.segments.load(Ordering::Acquire);
        let (more, ahead) = (head != self.head, head.wrapping_sub(self.cursor.tail));
        let parts = |segments: u32| segments.wrapping_sub(self.cursor.taken) as usize;
        let backwards = head < self.head || parts(segments) < parts(self.segments);
        if ahead > MOST || parts(segments) > SEGMENTS || backwards {
            self.fault = Some(Fault::Broken);
            return false;
        }
        (self.head, self.segments) = (head, segments);
        more
    }

    /// What stands at `cursor`, which goes on to the next part where one has ended. Each turn reads a part's word, of which
    /// there are as many as were looked up.
    fn step(&mut self, cursor: &mut Cursor) -> Step {
        loop {
            if cursor.next.is_none() && cursor.taken != self.segments && !self.take_part(cursor) {
                return Step::Nothing;
            }
            match cursor.next {
                Some((start, place)) if start == cursor.tail => {
                    (cursor.start, cursor.place, cursor.next) = (start, place, None);
                }
                _ => return self.here(cursor),
            }
        }
    }

    fn take_part(&mut self, cursor: &mut Cursor) -> bool {
        let word = self.way().segments[cursor.taken as usize % SEGMENTS].load(Ordering::Relaxed);
        let ahead = (word as u32).wrapping_sub(cursor.tail as u32);
        let Some(place) = Place::of(word, &self.memory).filter(|_| u64::from(ahead) <= MOST) else {
            self.fault = Some(Fault::Broken);
            return false;
        };
        cursor.taken = cursor.taken.wrapping_add(1);
        cursor.next = Some((cursor.tail + u64::from(ahead), place));
        true
    }

    fn here(&mut self, cursor: &Cursor) -> Step {
        let end = cursor.next.map_or(self.head, |(start, _)| start.min(self.head));
        let len = (end - cursor.tail) as usize;
        let offset = cursor.tail - cursor.start;
        if self.fault.is_some() || len == 0 {
            return Step::Nothing;
        }
        match cursor.place {
            Place::Local(begin) => Step::Bytes(Spot::Local((begin + offset as usize) % LOCAL), len.min(LOCAL)),
            Place::Record(record) if offset < RECORD as u64 => {
                Step::Bytes(Spot::Record(record, offset as usize), len.min(RECORD - offset as usize))
            }
            Place::Mark(mark) if offset == 0 => Step::Mark(mark),
            // A part that goes on beyond its record.
            _ => {
                self.fault = Some(Fault::Broken);
                Step::Nothing
            }
        }
    }

    fn copy(&self, spot: Spot, len: usize, sink: &mut Sink<'_, '_>) {
        sink.give(len, |at, bytes| match spot {
            Spot::Local(begin) => self.memory.get(Spot::Local((begin + at) % LOCAL), bytes),
            Spot::Record(record, begin) => self.memory.get(Spot::Record(record, begin + at), bytes),
        });
    }
}

impl<M: Memory> Drop for Receiver<M> {
    /// What was not received is lost: the sender may have its memory back.
    fn drop(&mut self) {
        let line = &self.way().receiver;
        let head = self.way().sender.head.load(Ordering::Acquire) & !GONE;
        line.tail.store(GONE | head.max(self.cursor.tail), Ordering::Release);
        line.open.store(0, Ordering::Release);
    }
}

/// Where what is received goes.
struct Sink<'a, 'b> {
    parts: &'a mut [IoSliceMut<'b>],
    part: usize,
    /// Bytes of that part that are filled.
    at: usize,
}

impl Sink<'_, '_> {
    /// Fills the next `len` bytes, for which there is room: has each run of them filled by `get`, with its offset.
    fn give(&mut self, len: usize, mut get: impl FnMut(usize, &mut [u8])) {
        let mut done = 0;
        while done < len {
            let Some(part) = self.parts.get_mut(self.part) else { return };
            let run = (part.len() - self.at).min(len - done);
            get(done, &mut part[self.at..self.at + run]);
            done += run;
            self.at += run;
            if self.at == part.len() {
                (self.part, self.at) = (self.part + 1, 0);
            }
        }
    }
}
