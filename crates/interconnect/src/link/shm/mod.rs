//! A link in memory that both ends have mapped, with a Unix socket beside it.
//!
//! ```text
//! 0      64     128    192    256    320       4096            +RING           +RING
//! ├──────┼──────┼──────┼──────┼──────┼─ … ─────┼───────────────┼───────────────┤
//! │header│down  │down  │up    │up    │ unused  │ down: ring    │ up: ring      │     down: from the end that offered
//! │      │prod. │cons. │prod. │cons. │         │               │               │
//! └──────┴──────┴──────┴──────┴──────┴─────────┴───────────────┴───────────────┘
//! ```
//!
//! A producer's line holds its position and its napping word (it waits for room), a consumer's line its tail and its napping
//! word (it waits for messages); each is written by its owner alone. Messages go through the rings. The socket carries
//! the rest: descriptors, one packet of them *before* the frame that says how many; a bell for an end that naps; and its
//! hang-up is the link's end. See [`crate::nap`] for why no wake-up is lost and few are sent twice.
//!
//! How the two ends come by a connected socket is not known here.

use super::{DESCRIPTORS_MAX, End, Interest, Link, MESSAGE_MAX, SendError, Tier, fits};
use crate::layout::{Frame, PAGE};
use crate::nap::{Nap, Waker};
use crate::ring::{Consumer, PopError, Producer, PushError};
use crate::sync::{AtomicU32, Ordering};
use os::mapping::Mapping;
use os::{memfd, seqpacket};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use thiserror::Error;

/// "lichlink", read as a little-endian number.
const MAGIC: u64 = 0x6b6e_696c_6863_696c;
/// Changes with every change of this layout.
const VERSION: u32 = 2;
/// Bytes of one ring: a power of two, and room for a few of the longest messages.
pub const RING: usize = 256 * 1024;
const REGION: usize = PAGE + 2 * RING;
const DOWN: Lines = Lines { producer: 64, consumer: 128, ring: PAGE };
const UP: Lines = Lines { producer: 192, consumer: 256, ring: PAGE + RING };

/// What a packet on the socket says.
const BELL: u8 = b'b';
const PACKET: u8 = b'd';
const REGION_HERE: u8 = b'r';
/// Packets of descriptors taken off the socket before their frames are.
const PACKETS_MAX: usize = 32;
/// Calls of `receive` that find nothing, from one look at the socket to the next.
const LOOK_EVERY: u32 = 64;

const _: () =
    assert!(crate::ring::padded(MESSAGE_MAX) + crate::layout::LINE <= RING / 2, "what waits fits into half a ring");

/// The first bytes of the region.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    magic: u64,
    version: u32,
    ring: u32,
}

const _: () = assert!(size_of::<Header>() == 16 && align_of::<Header>() == 8, "the header is part of the ABI");
const HEADER: Header = Header { magic: MAGIC, version: VERSION, ring: RING as u32 };

struct Lines {
    producer: usize,
    consumer: usize,
    ring: usize,
}

/// Why two ends did not come together.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("cannot make or map a link's memory")]
    Memory(#[source] io::Error),
    #[error("the socket between two shims fails")]
    Socket(#[source] io::Error),
    #[error("nothing was offered within {0:?}")]
    Late(Duration),
    #[error("what was offered is no link of this version: both shims must be of one build")]
    Foreign,
}

/// One end of a link in memory.
pub struct Shm {
    // Declared before the mapping that their references point into, so they are dropped first.
    producer: Producer<'static>,
    consumer: Consumer<'static>,
    /// How far this end has written, and the other.
    sent: &'static AtomicU32,
    arrived: &'static AtomicU32,
    /// This end, waiting for messages and for room.
    messages: Nap<'static>,
    room: Nap<'static>,
    /// The other end, waiting for messages and for room.
    reader: Waker<'static>,
    writer: Waker<'static>,
    socket: OwnedFd,
    packets: VecDeque<Vec<OwnedFd>>,
    /// The length of the message that found no room in the ring.
    refused: Option<usize>,
    /// Whether a packet found no room on the socket.
    crowded: bool,
    idle_looks: u32,
    ended: Option<End>,
    _mapping: Mapping,
}

impl Shm {
    /// Makes a link over a connected seqpacket socket whose other end calls [`Shm::accept`]. Does not block.
    pub fn offer(socket: OwnedFd) -> Result<Self, OpenError> {
        let region = memfd::sealed("lichen-link", REGION as u64).map_err(OpenError::Memory)?;
        let mapping = Mapping::shared(&region, REGION).map_err(OpenError::Memory)?;
        // SAFETY: the mapping begins with room for a header, page-aligned; nobody else has the file yet.
        unsafe { mapping.at(0).cast::<Header>().write(HEADER) };
        rustix::io::ioctl_fionbio(&socket, true).map_err(|error| OpenError::Socket(error.into()))?;
        seqpacket::send(&socket, &[IoSlice::new(&[REGION_HERE])], &[region.as_fd()]).map_err(OpenError::Socket)?;
        Ok(Self::new(mapping, &DOWN, &UP, socket))
    }

    /// Takes the link that the other end of this socket offers, within `patience`.
    pub fn accept(socket: OwnedFd, patience: Duration) -> Result<Self, OpenError> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(|error| OpenError::Socket(error.into()))?;
        let limit = patience.try_into().map_err(|_| OpenError::Late(patience))?;
        let ready = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&limit));
        if ready.map_err(|error| OpenError::Socket(error.into()))? == 0 {
            return Err(OpenError::Late(patience));
        }
        let (mut byte, mut descriptors) = ([0; 1], Vec::new());
        let len = seqpacket::receive(&socket, &mut byte, &mut descriptors).map_err(OpenError::Socket)?;
        let (1, [REGION_HERE], [region]) = (len, byte, &descriptors[..]) else {
            return Err(OpenError::Foreign);
        };
        if memfd::sealed_len(region).map_err(OpenError::Memory)? != REGION as u64 {
            return Err(OpenError::Foreign);
        }
        let mapping = Mapping::shared(region, REGION).map_err(OpenError::Memory)?;
        // SAFETY: the mapping is longer than a header, and page-aligned.
        if unsafe { mapping.at(0).cast::<Header>().read_volatile() } != HEADER {
            return Err(OpenError::Foreign);
        }
        Ok(Self::new(mapping, &UP, &DOWN, socket))
    }

    fn new(mapping: Mapping, out: &Lines, inward: &Lines, socket: OwnedFd) -> Self {
        // SAFETY: rings and words lie in the mapping, which this struct keeps and drops last; the other end has the
        // other halves, and whatever it writes is checked by the ring and the naps.
        unsafe {
            let at = |offset| word(&mapping, offset);
            Self {
                producer: Producer::new(mapping.at(out.ring), RING, at(out.producer), at(out.consumer)),
                consumer: Consumer::new(mapping.at(inward.ring), RING, at(inward.producer), at(inward.consumer)),
                sent: at(out.producer),
                arrived: at(inward.producer),
                messages: Nap::new(at(inward.consumer + 4)),
                room: Nap::new(at(out.producer + 4)),
                reader: Waker::new(at(out.consumer + 4)),
                writer: Waker::new(at(inward.producer + 4)),
                socket,
                packets: VecDeque::new(),
                refused: None,
                crowded: false,
                idle_looks: 0,
                ended: None,
                _mapping: mapping,
            }
        }
    }

    fn end(&mut self, end: End) -> End {
        *self.ended.get_or_insert(end)
    }

    /// Sends one packet. False: the socket is full of what the other end has not read.
    fn packet(&mut self, kind: u8, descriptors: &[BorrowedFd<'_>]) -> Result<bool, End> {
        match seqpacket::send(&self.socket, &[IoSlice::new(&[kind])], descriptors) {
            Err(error) if is_full(&error) => {
                self.crowded = true;
                Ok(false)
            }
            Ok(()) => {
                self.crowded = false;
                Ok(true)
            }
            // Not yet this end's end: what the other one had sent before it went is still to be read.
            Err(_) => Err(End::Gone),
        }
    }

    /// Rings for the other end. A socket that has no room for a bell wakes it already.
    fn ring(&mut self) {
        // That it is gone is told once what it had sent is read.
        let _ = seqpacket::send(&self.socket, &[IoSlice::new(&[BELL])], &[]);
    }

    /// Takes what is on the socket: forgets bells, keeps packets, notices the end.
    fn look(&mut self) {
        for _ in 0..PACKETS_MAX {
            if self.ended.is_some() || self.packets.len() >= PACKETS_MAX {
                return;
            }
            let (mut byte, mut descriptors) = ([0; 1], Vec::new());
            match seqpacket::receive(&self.socket, &mut byte, &mut descriptors) {
                Ok(0) => self.ended = Some(End::Gone),
                Ok(_) if byte == [BELL] && descriptors.is_empty() => {}
                Ok(_) if byte == [PACKET] && (1..=DESCRIPTORS_MAX).contains(&descriptors.len()) => {
                    self.packets.push_back(descriptors);
                }
                Ok(_) => self.ended = Some(End::Broken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => self.ended = Some(End::Broken),
                Err(_) => self.ended = Some(End::Gone),
            }
        }
    }

    /// The next frame. Where there is none, the socket is looked at now and then, and at once after a nap.
    fn next(&mut self, message: &mut Vec<u8>) -> Result<Option<Frame>, End> {
        let napped = self.messages.end();
        if let Some(frame) = self.pop(message)? {
            return Ok(Some(frame));
        }
        self.idle_looks += 1;
        if napped || self.idle_looks >= LOOK_EVERY {
            self.idle_looks = 0;
            self.look();
        }
        match self.ended {
            // What it had sent before it went is in the ring: one more look after its end.
            Some(end) => self.pop(message)?.map(Some).ok_or(end),
            None => Ok(None),
        }
    }

    fn pop(&mut self, message: &mut Vec<u8>) -> Result<Option<Frame>, End> {
        if self.ended == Some(End::Broken) {
            return Err(End::Broken);
        }
        match self.consumer.pop(message) {
            Ok(Some(frame)) if !is_sound(&frame) => Err(self.end(End::Broken)),
            Ok(frame) => Ok(frame),
            Err(PopError::Broken) => Err(self.end(End::Broken)),
        }
    }

    /// The packet of descriptors that was sent before a frame that speaks of `count`.
    fn unpack(&mut self, count: usize, descriptors: &mut Vec<OwnedFd>) -> Result<(), End> {
        if self.packets.is_empty() {
            self.look();
        }
        match self.packets.pop_front() {
            Some(packet) if packet.len() == count => {
                descriptors.extend(packet);
                Ok(())
            }
            _ => {
                self.ended = Some(End::Broken);
                Err(End::Broken)
            }
        }
    }

    /// Wakes the other end if it waits for room and there is plenty: whatever it wants to send fits into half a ring.
    fn give_room(&mut self) {
        let used = self.arrived.load(Ordering::Relaxed).wrapping_sub(self.consumer.position());
        if used as usize <= RING / 2 && self.writer.is_due() {
            self.ring();
        }
    }

    fn has_room(&mut self, len: usize) -> Result<bool, End> {
        self.producer.has_room(len).map_err(|_| self.end(End::Broken))
    }

    /// Whether there is room; if not, this end is woken when there is.
    fn make_room(&mut self, len: usize) -> Result<bool, End> {
        if !self.has_room(len)? {
            self.refused = Some(len);
            self.room.begin();
            if !self.has_room(len)? {
                return Ok(false);
            }
        }
        self.refused = None;
        self.room.end();
        Ok(true)
    }

    /// Whether what was refused has room by now. Said once: whether it is sent again is its sender's business.
    fn has_made_room(&mut self) -> bool {
        let Some(len) = self.refused else {
            return false;
        };
        // A broken ring is something to look at as well.
        self.has_room(len) != Ok(false) && {
            self.refused = None;
            self.room.end();
            true
        }
    }
}

impl Link for Shm {
    fn tier(&self) -> Tier {
        Tier::Shared
    }

    fn send_with(&mut self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        fits(message, descriptors)?;
        if let Some(end) = self.ended {
            return Err(end.into());
        }
        if !self.make_room(message.len())? || !(descriptors.is_empty() || self.packet(PACKET, descriptors)?) {
            return Err(SendError::Full);
        }
        let frame =
            Frame { len: message.len() as u32, head: message.len() as u32, bulk: 0, kind: descriptors.len() as u32 };
        self.producer.push(frame, &[message]).map_err(|error| match error {
            PushError::Full(_) => SendError::Full,
            PushError::Broken => self.end(End::Broken).into(),
        })?;
        self.sent.store(self.producer.position(), Ordering::Relaxed);
        if self.reader.is_due() {
            self.ring();
        }
        Ok(())
    }

    fn receive(&mut self, message: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> Result<bool, End> {
        let Some(frame) = self.next(message)? else {
            return Ok(false);
        };
        if frame.kind > 0 {
            self.unpack(frame.kind as usize, descriptors)?;
        }
        self.idle_looks = 0;
        self.give_room();
        Ok(true)
    }

    fn flush(&mut self) -> Result<bool, End> {
        Ok(true)
    }

    fn arm(&mut self) -> bool {
        self.messages.begin();
        self.look();
        let idle = self.ended.is_none() && self.consumer.is_empty();
        // Of a packet that came before its frame there is one at most.
        if idle && self.packets.len() > 1 {
            self.ended = Some(End::Broken);
        }
        let rests = idle && self.ended.is_none() && !self.has_made_room();
        if !rests {
            self.messages.end();
        }
        rests
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn wants(&self) -> Interest {
        if self.crowded { Interest::BOTH } else { Interest::READ }
    }
}

/// Nothing but a length and how many descriptors go with it.
fn is_sound(frame: &Frame) -> bool {
    frame.len as usize <= MESSAGE_MAX
        && frame.head == frame.len
        && frame.bulk == 0
        && frame.kind as usize <= DESCRIPTORS_MAX
}

fn is_full(error: &io::Error) -> bool {
    let full = [Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM, Errno::TOOMANYREFS];
    full.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The word at `offset` of the mapping.
///
/// # Safety
/// The answer must not outlive the mapping, whatever its type says.
unsafe fn word(mapping: &Mapping, offset: usize) -> &'static AtomicU32 {
    // SAFETY: offsets are those of the drawing: in bounds and aligned. Shared memory may change at any time, which is
    // what an atomic is for. The lifetime is the caller's care.
    unsafe { &*mapping.at(offset).cast::<AtomicU32>() }
}

#[cfg(test)]
mod tests;
