//! Lanes between PUs that share no memory: this shim is one end, and the bytes go over links as frames with credit.
//!
//! ```text
//!   writer ──lane──▶ shim (Out) ══ length │ message │ length │ … ══▶ shim (In) ──lane──▶ reader
//!                        ◀══════════════ taken ═══════════════
//! ```
//!
//! Out sends no more than it has credit for; In gives credit for what it has put together, or written. A message is
//! written to the reader's lane whole or not at all. Both ends may be hostile: so is what comes over the link checked.

use crate::lanes::Occupant;
use crate::poller::{Name, RINGS};
use crate::protocol::message::FRAME_MAX;
use crate::protocol::{Cause, EndId, Input, Side};
use crate::shim::Shim;
use interconnect::lane::{self, Guard, Word};
use std::collections::VecDeque;
use std::io;

/// Bytes that say how long a message is.
const LENGTH: usize = 4;
/// Frames that one look takes.
const TURN: usize = 32;

/// One end of a lane that this shim is.
pub(crate) struct Relay {
    /// Its name in the epoll.
    number: u64,
    way: Way,
    /// The side that is to end, and why, when everything has passed.
    last: Option<(Side, Cause)>,
}

enum Way {
    Out(Out),
    In(In),
}

/// Reads what a writer here writes.
struct Out {
    lane: lane::Reader,
    credit: usize,
    /// The message that is being sent, with its length before it, and how much of that was.
    message: Vec<u8>,
    sent: usize,
    buffer: Vec<u8>,
    over: bool,
}

/// Writes to a reader here.
struct In {
    lane: lane::Writer,
    /// What has come and was not put together.
    waiting: VecDeque<u8>,
    message: Vec<u8>,
    /// How long `message` is to be.
    whole: Option<usize>,
    over: bool,
}

/// What a look at a relay has led to.
#[derive(Default)]
struct Progress {
    frames: Vec<Vec<u8>>,
    taken: u32,
    /// Whether nothing waits in it.
    empty: bool,
    /// Whether there is more to do at once.
    more: bool,
}

impl Out {
    fn pump(&mut self) -> Progress {
        let mut progress = Progress::default();
        for _ in 0..TURN {
            if self.sent == self.message.len() && !self.next() {
                // Nothing now; asked to be woken, unless something came meanwhile.
                progress.empty = self.over || self.lane.arm();
                progress.more = !progress.empty;
                return progress;
            }
            let len = FRAME_MAX.min(self.credit).min(self.message.len() - self.sent);
            if len == 0 {
                return progress;
            }
            progress.frames.push(self.message[self.sent..self.sent + len].to_vec());
            self.sent += len;
            self.credit -= len;
        }
        progress.more = true;
        progress
    }

    /// Reads the next message: whether there is one.
    fn next(&mut self) -> bool {
        self.lane.disarm();
        match self.lane.try_read(&mut self.buffer) {
            Ok(true) => {
                self.message.clear();
                self.message.extend_from_slice(&(self.buffer.len() as u32).to_le_bytes());
                self.message.extend_from_slice(&self.buffer);
                self.sent = 0;
                true
            }
            Ok(false) => false,
            Err(_) => {
                self.over = true;
                false
            }
        }
    }
}

impl In {
    fn pump(&mut self) -> Progress {
        let mut progress = Progress::default();
        while !self.over {
            progress.taken += self.put_together();
            if self.whole != Some(self.message.len()) {
                break;
            }
            self.lane.disarm();
            match self.lane.try_write(&[&self.message]) {
                Ok(()) => {
                    self.message.clear();
                    self.whole = None;
                }
                Err(lane::WriteError::Full) => {
                    progress.more = !self.lane.arm();
                    return progress;
                }
                Err(_) => self.over = true,
            }
        }
        if self.over {
            progress.taken += self.waiting.len() as u32;
            self.waiting.clear();
        }
        progress.empty = self.over || (self.waiting.is_empty() && self.message.is_empty());
        progress
    }

    /// Takes what has come into the message, up to its end: how many bytes.
    fn put_together(&mut self) -> u32 {
        let before = self.waiting.len();
        if self.whole.is_none() && self.waiting.len() >= LENGTH {
            let mut length = [0; LENGTH];
            self.waiting.drain(..LENGTH).zip(&mut length).for_each(|(byte, to)| *to = byte);
            let length = u32::from_le_bytes(length) as usize;
            // A shim that says otherwise is broken: nothing of this lane is believed any more.
            self.over = length > self.lane.message_max();
            self.whole = Some(length);
        }
        if let (Some(whole), false) = (self.whole, self.over) {
            let len = self.waiting.len().min(whole - self.message.len());
            self.message.extend(self.waiting.drain(..len));
        }
        (before - self.waiting.len()) as u32
    }
}

impl Shim {
    /// Is the reader of a lane that was made here, for one elsewhere.
    pub(crate) fn relay_out(&mut self, lane: EndId, credit: u32) {
        let number = self.number();
        let made = self.lanes.all.get_mut(&lane).map(|here| {
            let (region, bell) = here.for_reader()?;
            self.poller.add(&bell, Name::Relay(number), RINGS)?;
            here.reader = Occupant::Relay;
            lane::Reader::attach(region, bell, Guard::none()).map_err(io::Error::other)
        });
        let Some(Ok(end)) = made else { return tracing::error!(%lane, "a lane cannot be relayed") };
        let (message, buffer) = (Vec::new(), Vec::new());
        let out = Out { lane: end, credit: credit as usize, message, sent: 0, buffer, over: false };
        self.relays.insert(lane, Relay { number, way: Way::Out(out), last: None });
        self.pumped.insert(number, lane);
        self.pump(number);
    }

    /// Is the writer of a lane, for one elsewhere.
    pub(crate) fn relay_in(&mut self, lane: EndId) -> io::Result<()> {
        let number = self.number();
        let here = self.lanes.all.get_mut(&lane).ok_or(io::ErrorKind::NotFound)?;
        let bell = here.writer_bell.as_ref().ok_or(io::ErrorKind::NotFound)?.try_clone()?;
        self.poller.add(&bell, Name::Relay(number), RINGS)?;
        let end = lane::Writer::attach(
            here.region.as_ref().ok_or(io::ErrorKind::NotFound)?,
            bell,
            Guard::none(),
            Word::own(),
        )
        .map_err(io::Error::other)?;
        let (waiting, message) = (VecDeque::new(), Vec::new());
        let inward = In { lane: end, waiting, message, whole: None, over: false };
        self.relays.insert(lane, Relay { number, way: Way::In(inward), last: None });
        self.pumped.insert(number, lane);
        Ok(())
    }

    /// Bytes have come for a reader here.
    pub(crate) fn relay_frame(&mut self, lane: EndId, bytes: Vec<u8>) {
        if let Some(Relay { way: Way::In(inward), number, .. }) = self.relays.get_mut(&lane) {
            inward.waiting.extend(bytes);
            let number = *number;
            self.pump(number);
        }
    }

    /// More may be sent for a writer here.
    pub(crate) fn relay_credit(&mut self, lane: EndId, bytes: u32) {
        if let Some(Relay { way: Way::Out(out), number, .. }) = self.relays.get_mut(&lane) {
            out.credit = out.credit.saturating_add(bytes as usize);
            let number = *number;
            self.pump(number);
        }
    }

    /// Passes on what can be passed on.
    pub(crate) fn pump(&mut self, number: u64) {
        let Some(&lane) = self.pumped.get(&number) else { return };
        let Some(relay) = self.relays.get_mut(&lane) else { return };
        let progress = match &mut relay.way {
            Way::Out(out) => out.pump(),
            Way::In(inward) => inward.pump(),
        };
        let done = relay.last.filter(|_| progress.empty);
        self.inputs.extend(progress.frames.into_iter().map(|bytes| Input::Frame { lane, bytes }));
        if progress.taken > 0 {
            self.inputs.push_back(Input::Taken { lane, bytes: progress.taken });
        }
        if progress.more {
            self.again.push(number);
        }
        if let Some((side, cause)) = done {
            self.end_relay(lane);
            self.cut(lane, side, cause, side == Side::Reader);
        }
    }

    /// Passes on what a turn was too short for: whether there was something.
    pub(crate) fn pump_again(&mut self) -> bool {
        let again = std::mem::take(&mut self.again);
        let something = !again.is_empty();
        again.into_iter().for_each(|number| self.pump(number));
        something
    }

    /// Ends a side of a lane of which this shim is the other one, once everything has passed: whether that is to be waited for.
    pub(crate) fn drain_relay(&mut self, lane: EndId, side: Side, cause: Cause) -> bool {
        let Some(relay) = self.relays.get_mut(&lane) else { return false };
        relay.last = Some((side, cause));
        let number = relay.number;
        self.pump(number);
        true
    }

    /// This shim is no end of that lane any more.
    pub(crate) fn end_relay(&mut self, lane: EndId) {
        let Some(relay) = self.relays.remove(&lane) else { return };
        self.pumped.remove(&relay.number);
        match relay.way {
            Way::Out(out) => self.poller.remove(out.lane.bell()),
            Way::In(inward) => self.poller.remove(inward.lane.bell()),
        }
        if let Some(here) = self.lanes.all.get_mut(&lane) {
            for side in [Side::Writer, Side::Reader] {
                if *here.occupant(side) == Occupant::Relay {
                    *here.occupant(side) = Occupant::Over;
                }
            }
        }
    }

    pub(crate) fn end_relays(&mut self) {
        let all: Vec<EndId> = self.relays.keys().copied().collect();
        all.into_iter().for_each(|lane| self.end_relay(lane));
    }
}
