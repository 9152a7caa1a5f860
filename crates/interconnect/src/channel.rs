//! What a gateway and an instance speak through: a sealed memory file with a ring and two bulk areas each way.
//!
//! The *host* creates a channel and hands its descriptors to the *guest*, who attaches to it. Messages have a kind, a
//! head and a body. A body too long for the ring lies in one of the sender's bulk areas, all of it or its end; the area is free again when the
//! receiver has dropped the message, or the [`Tail`] that it has taken of it without a copy. Only what lies in the first area is lent so: of what
//! lies in the second a tail is a copy. So a conversation of requests and replies never finds both areas taken, however long a tail is kept.

mod message;
#[cfg(test)]
mod tests;

pub use message::{InPlace, Message, Tail};

use crate::doorbell;
use crate::layout::{self, BULKS, Frame, INLINE_MAX, PAGE, RING, RINGS, SECOND};
use crate::region::{self, AttachError, Header};
use crate::ring::{Consumer, PopError, Producer, PushError};
use crate::sync::{AtomicU32, Ordering, fence};
use message::Bulk;
use os::mapping::{Mapping, copy};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Bodies from this length on are given back to the kernel after they were read, rather than kept for the next one, unless
/// the receiver keeps longer ones.
const KEPT_MAX: usize = 64 * 1024;

/// Why a channel could not be had.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("a memory file for the channel could not be had")]
    Memory(#[source] io::Error),
    #[error("a doorbell for the channel could not be had")]
    Doorbell(#[source] io::Error),
    #[error("the region is not a channel of version {}: its header or its size is wrong", layout::VERSION)]
    Foreign,
}

impl From<AttachError> for OpenError {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Memory(error) => Self::Memory(error),
            AttachError::Exposed | AttachError::Foreign => Self::Foreign,
        }
    }
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SendError {
    #[error("a message of {len} bytes is longer than this channel's limit of {limit}")]
    TooLong { len: usize, limit: usize },
    #[error("the receiver has not yet read earlier messages")]
    Busy,
    #[error("the receiver has broken the channel")]
    Broken,
}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReceiveError {
    #[error("the sender has broken the channel")]
    Broken,
}

/// What the guest needs to attach, in the order in which it travels.
#[derive(Debug)]
pub struct Descriptors {
    /// The memory file.
    pub region: OwnedFd,
    /// Rung for the guest: the end of a pipe.
    pub down: OwnedFd,
    /// Rung by the guest: an eventfd.
    pub up: OwnedFd,
}

/// One end of a channel.
pub struct Channel {
    pub sender: Sender,
    pub receiver: Receiver,
}

struct Line {
    producer: usize,
    consumer: usize,
    ring: usize,
    bulks: [usize; BULKS],
}

fn lines(bulk: usize) -> (Line, Line) {
    let (down, up) = (RINGS, RINGS + RING);
    let bulks = |first: usize| [0, 1].map(|area| RINGS + 2 * RING + (first + area) * bulk);
    (
        Line { producer: layout::DOWN_PRODUCER, consumer: layout::DOWN_CONSUMER, ring: down, bulks: bulks(0) },
        Line { producer: layout::UP_PRODUCER, consumer: layout::UP_CONSUMER, ring: up, bulks: bulks(BULKS) },
    )
}

impl Channel {
    /// Creates a channel for bodies of up to `body_max` bytes: the host's end, and what the guest needs.
    pub fn create(body_max: usize) -> Result<(Self, Descriptors), OpenError> {
        assert!(body_max < SECOND as usize, "a length of {body_max} bytes does not fit into a frame");
        let bulk = body_max.next_multiple_of(PAGE).max(PAGE);
        let header = Header { magic: layout::MAGIC, version: layout::VERSION, ring: RING as u32, bulk: bulk as u64 };
        let (region, mapping) =
            region::create("lichen-channel", header, layout::region_bytes(bulk)).map_err(OpenError::Memory)?;
        // The host rings what the guest, which may be hostile, cannot make it wait for; and what it listens at is hushed
        // without waiting.
        let (down, down_bell) = doorbell::pipe().map_err(OpenError::Doorbell)?;
        let up = doorbell::event().map_err(OpenError::Doorbell)?;
        let up_bell = up.try_clone().map_err(OpenError::Doorbell)?;
        let mapping = Arc::new(mapping);
        let (down_line, up_line) = lines(bulk);
        let host = Self {
            sender: Sender::new(mapping.clone(), &down_line, bulk, down_bell),
            receiver: Receiver::new(mapping, &up_line, bulk, up_bell),
        };
        Ok((host, Descriptors { region, down, up }))
    }

    /// Has the pages there that the first messages will lie in, so that nobody waits for them later.
    pub fn furnish(&self) {
        // One that cannot be had now is had when it is touched.
        for ring in [RINGS, RINGS + RING] {
            let _ = self.sender.mapping.populate(ring, PAGE);
        }
    }

    /// Attaches to a channel as its guest. The memory file may be closed afterwards.
    pub fn attach(region: impl AsFd, down: OwnedFd, up: OwnedFd) -> Result<Self, OpenError> {
        let (header, mapping) = region::attach(region, layout::MAGIC, layout::VERSION, whole)?;
        let bulk = header.bulk as usize;
        let mapping = Arc::new(mapping);
        let (down_line, up_line) = lines(bulk);
        Ok(Self {
            receiver: Receiver::new(mapping.clone(), &down_line, bulk, down),
            sender: Sender::new(mapping, &up_line, bulk, up),
        })
    }
}

/// How long a channel's region is whose header says this.
fn whole(header: &Header) -> Option<usize> {
    let bulk = usize::try_from(header.bulk).ok().filter(|bulk| *bulk > 0 && bulk.is_multiple_of(PAGE))?;
    let fits = header.ring as usize == RING && bulk <= SECOND as usize;
    fits.then(|| layout::region_bytes(bulk))
}

/// The word at `offset` of the mapping.
///
/// # Safety
/// The answer must not outlive the mapping, whatever its type says.
unsafe fn word(mapping: &Mapping, offset: usize) -> &'static AtomicU32 {
    // SAFETY: offsets come from `layout`: in bounds and aligned. Shared memory may change at any time, which is what an
    // atomic is for. The lifetime is the caller's care.
    unsafe { &*mapping.at(offset).cast::<AtomicU32>() }
}

/// The sending half. Used by one thread at a time.
pub struct Sender {
    // Declared before the mapping that its references point into, so it is dropped first.
    ring: Producer<'static>,
    sleeping: &'static AtomicU32,
    /// Of each bulk area: messages that were given back, and that were sent.
    released: [&'static AtomicU32; BULKS],
    bulk_sent: [u32; BULKS],
    bulks: [usize; BULKS],
    bulk_max: usize,
    bell: OwnedFd,
    mapping: Arc<Mapping>,
}

impl Sender {
    fn new(mapping: Arc<Mapping>, line: &Line, bulk_max: usize, bell: OwnedFd) -> Self {
        // SAFETY: ring and words lie in the mapping, which this struct keeps; the other end has the other halves.
        let (ring, sleeping, released) = unsafe {
            let (calls, tail) = (word(&mapping, line.producer), word(&mapping, line.consumer));
            let ring = Producer::new(mapping.at(line.ring), RING, calls, tail);
            (ring, word(&mapping, line.consumer + 4), [8, 12].map(|at| word(&mapping, line.consumer + at)))
        };
        Self { ring, sleeping, released, bulk_sent: [0; BULKS], bulks: line.bulks, bulk_max, bell, mapping }
    }

    /// The longest body that this channel takes.
    pub fn body_max(&self) -> usize {
        self.bulk_max
    }

    /// Whether the receiver has taken every message, as far as it says.
    pub fn is_read(&self) -> bool {
        self.ring.is_read()
    }

    /// Whether the receiver has taken every message and given every body's room back, as far as it says: then the next
    /// message is not refused for want of room.
    pub fn is_idle(&self) -> bool {
        self.is_read() && (0..BULKS).all(|area| self.is_free(area))
    }

    fn is_free(&self, area: usize) -> bool {
        self.released[area].load(Ordering::Acquire) == self.bulk_sent[area]
    }

    /// Sends one message and wakes the receiver if it sleeps.
    pub fn send(&mut self, kind: u32, head: &[u8], body: &[u8]) -> Result<(), SendError> {
        self.send_asleep(kind, head, body)?;
        self.wake();
        Ok(())
    }

    /// Sends one message whose body lies in several parts, and wakes the receiver if it sleeps. Nothing puts them together
    /// but the channel. Of a long one the first part goes through the ring if it fits, and the others are the message's tail.
    pub fn send_parts<'p>(
        &mut self,
        kind: u32,
        head: &'p [u8],
        mut body: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> Result<(), SendError> {
        let len: usize = body.clone().map(<[u8]>::len).sum();
        if head.len() + len > INLINE_MAX {
            let mut tail = body.clone();
            let first = tail.next().unwrap_or_default();
            let front = if first.len() < len && head.len() + first.len() <= INLINE_MAX { first } else { &[] };
            if !front.is_empty() {
                body = tail;
            }
            let mut message = self.compose_after(front, len - front.len())?;
            body.for_each(|part| message.put(part));
            return message.send(kind, head);
        }
        let frame = Frame { len: (head.len() + len) as u32, head: head.len() as u32, bulk: 0, kind };
        self.ring.stage(frame, std::iter::once(head).chain(body)).map_err(refused)?;
        self.ring.publish();
        self.wake();
        Ok(())
    }

    /// Sends one message that a sleeping receiver finds when it is woken by something else.
    pub fn send_asleep(&mut self, kind: u32, head: &[u8], body: &[u8]) -> Result<(), SendError> {
        if head.len() > INLINE_MAX {
            return Err(SendError::TooLong { len: head.len(), limit: INLINE_MAX });
        }
        if head.len() + body.len() > INLINE_MAX {
            let mut message = self.compose(body.len())?;
            message.put(body);
            return message.send_asleep(kind, head);
        }
        let frame = Frame { len: (head.len() + body.len()) as u32, head: head.len() as u32, bulk: 0, kind };
        self.ring.push(frame, &[head, body]).map_err(refused)
    }

    /// Sends a message that has nothing but its kind, unless the receiver has yet to read earlier ones: they wake it as
    /// well. For receivers that read by [`Receiver::nudged`].
    pub fn nudge(&mut self, kind: u32) -> Result<(), SendError> {
        // Between what this end has done and the look at what the other has read: see `nudged`.
        fence(Ordering::SeqCst);
        if self.is_read() { self.send(kind, &[], &[]) } else { Ok(()) }
    }

    /// Begins a message whose body, of `len` bytes, is put together where the receiver reads it: for long ones, which would be
    /// copied once more otherwise. One that is dropped was never there.
    pub fn compose(&mut self, len: usize) -> Result<Composed<'_>, SendError> {
        self.compose_after(&[], len)
    }

    /// The same where the body begins with `front`, which goes through the ring with the head: the message's tail, of `len`
    /// bytes, lies alone, from a page's beginning on.
    pub fn compose_after<'a>(&'a mut self, front: &'a [u8], len: usize) -> Result<Composed<'a>, SendError> {
        let whole = front.len() + len;
        if whole > self.bulk_max {
            return Err(SendError::TooLong { len: whole, limit: self.bulk_max });
        }
        let area = (0..BULKS).find(|area| self.is_free(*area)).ok_or(SendError::Busy)?;
        Ok(Composed { sender: self, area, front, len, at: 0 })
    }

    fn wake(&mut self) {
        match doorbell::sleeper(self.sleeping) {
            doorbell::FUTEX => _ = doorbell::wake(self.ring.call()),
            doorbell::EVENT => doorbell::ring(&self.bell),
            _ => {}
        }
    }
}

/// A message that is being put together.
pub struct Composed<'a> {
    sender: &'a mut Sender,
    area: usize,
    front: &'a [u8],
    len: usize,
    at: usize,
}

impl Composed<'_> {
    /// The body's next bytes. Panics beyond the length that was announced.
    pub fn put(&mut self, piece: &[u8]) {
        assert!(piece.len() <= self.len - self.at, "{} bytes more than were announced", piece.len());
        let to = self.sender.mapping.at(self.sender.bulks[self.area] + self.at);
        // SAFETY: the area has bulk_max bytes, of which as many are this message's as its length says; the receiver reads
        // them only after the frame is published.
        unsafe { copy(piece.as_ptr(), to, piece.len()) };
        self.at += piece.len();
    }

    /// Sends it, and wakes the receiver if it sleeps. Panics if bytes are missing, or none were announced.
    pub fn send(mut self, kind: u32, head: &[u8]) -> Result<(), SendError> {
        self.push(kind, head)?;
        self.sender.wake();
        Ok(())
    }

    fn send_asleep(mut self, kind: u32, head: &[u8]) -> Result<(), SendError> {
        self.push(kind, head)
    }

    fn push(&mut self, kind: u32, head: &[u8]) -> Result<(), SendError> {
        assert!(self.at == self.len && self.len > 0, "{} bytes of {} were put", self.at, self.len);
        let len = head.len() + self.front.len();
        if len > INLINE_MAX {
            return Err(SendError::TooLong { len, limit: INLINE_MAX });
        }
        let bulk = self.len as u32 | if self.area == 0 { 0 } else { SECOND };
        let frame = Frame { len: len as u32, head: head.len() as u32, bulk, kind };
        self.sender.ring.push(frame, &[head, self.front]).map_err(refused)?;
        let sent = &mut self.sender.bulk_sent[self.area];
        *sent = sent.wrapping_add(1);
        Ok(())
    }
}

fn refused(error: PushError) -> SendError {
    match error {
        PushError::Full(_) => SendError::Busy,
        PushError::Broken => SendError::Broken,
    }
}

/// The receiving half. Used by one thread at a time.
pub struct Receiver {
    // Declared before the mapping that its references point into, so it is dropped first.
    ring: Consumer<'static>,
    sleeping: &'static AtomicU32,
    /// Of each bulk area: messages that were given back, as the sender is told, and that were taken.
    released: [&'static AtomicU32; BULKS],
    bulk_read: [u32; BULKS],
    bulks: [usize; BULKS],
    bulk_max: usize,
    kept_max: usize,
    bell: OwnedFd,
    payload: Vec<u8>,
    mapping: Arc<Mapping>,
}

impl Receiver {
    fn new(mapping: Arc<Mapping>, line: &Line, bulk_max: usize, bell: OwnedFd) -> Self {
        // SAFETY: ring and words lie in the mapping, which this struct keeps; the other end has the other halves.
        let (ring, sleeping, released) = unsafe {
            let (calls, tail) = (word(&mapping, line.producer), word(&mapping, line.consumer));
            let ring = Consumer::new(mapping.at(line.ring), RING, calls, tail);
            (ring, word(&mapping, line.consumer + 4), [8, 12].map(|at| word(&mapping, line.consumer + at)))
        };
        let (bulks, kept_max, payload) = (line.bulks, KEPT_MAX, Vec::new());
        let bulk_read = [0; BULKS];
        Self { ring, sleeping, released, bulk_read, bulks, bulk_max, kept_max, bell, payload, mapping }
    }

    /// Keeps the pages of bodies up to this length for the next ones: what often come are not cheaper to have anew.
    pub fn keep(&mut self, bytes: usize) {
        self.kept_max = bytes;
    }

    /// The next message, if there is one.
    pub fn receive(&mut self) -> Result<Option<Message<'_>>, ReceiveError> {
        Ok(self.pop()?.map(|(frame, bulk)| Message { frame, bulk, receiver: self }))
    }

    /// The next message of this kind, if there is one; those of other kinds before it are dropped.
    pub fn receive_only(&mut self, kind: u32) -> Result<Option<Message<'_>>, ReceiveError> {
        while let Some((frame, bulk)) = self.pop()? {
            if frame.kind == kind {
                return Ok(Some(Message { frame, bulk, receiver: self }));
            }
            drop(Message { frame, bulk, receiver: self });
        }
        Ok(None)
    }

    /// The kind of the next message that is of one of these kinds, without taking it; those before it are dropped.
    pub fn next_of(&mut self, kinds: &[u32]) -> Result<Option<u32>, ReceiveError> {
        loop {
            let Some(frame) = self.ring.peek().map_err(|PopError::Broken| ReceiveError::Broken)? else {
                return Ok(None);
            };
            if kinds.contains(&frame.kind) {
                return Ok(Some(frame.kind));
            }
            self.receive()?;
        }
    }

    /// Whether there were messages of this kind; all that wait are dropped. What the sender did before a nudge, one that
    /// it left out too, is seen after this, or another nudge comes (Dekker, as in [`doorbell`]).
    pub fn nudged(&mut self, kind: u32) -> Result<bool, ReceiveError> {
        let mut nudged = false;
        while let Some(message) = self.receive()? {
            nudged |= message.kind() == kind;
        }
        fence(Ordering::SeqCst);
        Ok(nudged)
    }

    fn pop(&mut self) -> Result<Option<(Frame, Option<Bulk>)>, ReceiveError> {
        let Some(frame) = self.ring.pop(&mut self.payload).map_err(|PopError::Broken| ReceiveError::Broken)? else {
            return Ok(None);
        };
        let (area, len) = (usize::from(frame.bulk & SECOND != 0), (frame.bulk & !SECOND) as usize);
        if len > self.bulk_max || (len == 0 && area > 0) {
            return Err(ReceiveError::Broken);
        }
        if len == 0 {
            return Ok(Some((frame, None)));
        }
        let read = &mut self.bulk_read[area];
        *read = read.wrapping_add(1);
        let bulk =
            Bulk { at: self.bulks[area], len, kept_max: self.kept_max, released: self.released[area], read: *read };
        Ok(Some((frame, Some(bulk))))
    }

    /// What rings for this receiver once [`Receiver::sleep_by_event`] was called.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// From now on the sender rings the bell for every message, until [`Receiver::wait`] is used. For receivers that
    /// wait for many things. Look at the ring once after this, before waiting for the bell.
    pub fn sleep_by_event(&self) {
        doorbell::announce(self.sleeping, doorbell::EVENT);
    }

    /// From now on the sender rings for nothing: this end looks by itself, until [`Receiver::sleep_by_event`].
    pub fn stay_awake(&self) {
        doorbell::awake(self.sleeping);
    }

    /// What somebody else looks at on behalf of this end, as long as it takes no message.
    pub fn glance(&self) -> Glance {
        Glance { mark: self.ring.next_mark(), sleeping: self.sleeping, _mapping: self.mapping.clone() }
    }

    /// Whether there is something to receive.
    pub fn has_message(&self) -> bool {
        !self.ring.is_empty()
    }

    /// Sleeps until there may be a message, for `timeout` at most, after looking for it during `spin`.
    pub fn wait(&mut self, spin: Duration, timeout: Option<Duration>) {
        if !self.ring.is_empty() || self.spin(spin) {
            return;
        }
        let (calls, seen) = self.ring.calls();
        doorbell::announce(self.sleeping, doorbell::FUTEX);
        if self.ring.is_empty() {
            doorbell::sleep(calls, seen, timeout);
        }
        doorbell::awake(self.sleeping);
    }

    fn spin(&self, budget: Duration) -> bool {
        if budget.is_zero() {
            return false;
        }
        let end = os::monotonic_ns() + budget.as_nanos() as u64;
        while os::monotonic_ns() < end {
            if !self.ring.is_empty() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }
}

/// Whether something has come for a receiver, and how that one is to be woken: for who looks after many.
pub struct Glance {
    mark: *const AtomicU32,
    sleeping: *const AtomicU32,
    _mapping: Arc<Mapping>,
}

// SAFETY: both point into the mapping, which it keeps, and are atomics there.
unsafe impl Send for Glance {}
// SAFETY: as above.
unsafe impl Sync for Glance {}

impl Glance {
    /// From now on the senders ring the bells: see [`Receiver::sleep_by_event`]. To be followed by one more look at each.
    pub fn ask_to_ring<'a>(all: impl Iterator<Item = &'a Self>) {
        doorbell::announce_all(all.map(Self::word), doorbell::EVENT);
    }

    /// From now on the sender rings for nothing.
    pub fn stay_awake(&self) {
        doorbell::awake(self.word());
    }

    /// Whether there is something to receive.
    pub fn is_there(&self) -> bool {
        // SAFETY: it points into the mapping, and is aligned as a frame's first word.
        unsafe { (*self.mark).load(Ordering::Acquire) != 0 }
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: it points into the mapping, at one of the words of its layout.
        unsafe { &*self.sleeping }
    }
}
