//! A link that is not real: both ends in one process, under a seed and a clock that somebody else turns.
//!
//! ```text
//!   send ──▶ on its way ──(clock reaches its arrival, and the link is not held)──▶ receive
//!             └ in order: nothing arrives before what was sent before it
//! ```
//!
//! A [`Network`] draws every delay from its seed, so that the same calls give the same arrivals each time. A link can be
//! *held* (nothing arrives until it is let go: a partition) and *lost* (what is on its way is gone, and both ends are
//! told). Messages are never dropped one by one: no link does that. Real time plays no part.

use super::{End, Interest, Link, MESSAGE_MAX, SendError, Tier, fits};
use crate::doorbell;
use rustix::io::fcntl_dupfd_cloexec;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes on their way in one direction before [`SendError::Full`], a message counted as [`OVERHEAD`] more than it is.
pub const CAPACITY: usize = 256 * 1024;
const OVERHEAD: usize = 64;

/// One of a network's links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkId(usize);

/// Links that share a seed and a clock.
#[derive(Clone)]
pub struct Network {
    state: Arc<Mutex<State>>,
}

struct State {
    now: Duration,
    random: u64,
    delay: Range<Duration>,
    pipes: Vec<Pipe>,
}

/// Both directions of one link; side `n` receives from `ways[n]`.
struct Pipe {
    held: bool,
    lost: bool,
    ways: [Way; 2],
}

struct Way {
    queue: VecDeque<Packet>,
    bytes: usize,
    bell: OwnedFd,
    /// Whether its receiver still exists.
    open: bool,
}

struct Packet {
    arrives: Duration,
    message: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Network {
    /// A network at time zero, whose messages take times out of `delay`.
    pub fn new(seed: u64, delay: Range<Duration>) -> Self {
        let state = State { now: Duration::ZERO, random: seed, delay, pipes: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A new link: its name, and its ends.
    pub fn link(&self) -> io::Result<(LinkId, Simulated, Simulated)> {
        let bells = [doorbell::event()?, doorbell::event()?];
        let polls = [bells[0].try_clone()?, bells[1].try_clone()?];
        let mut state = lock(&self.state);
        let ways = bells.map(|bell| Way { queue: VecDeque::new(), bytes: 0, bell, open: true });
        state.pipes.push(Pipe { held: false, lost: false, ways });
        let pipe = state.pipes.len() - 1;
        drop(state);
        let [a, b] = polls;
        let end = |side, bell| Simulated { network: self.clone(), pipe, side, bell, refused: None };
        Ok((LinkId(pipe), end(0, a), end(1, b)))
    }

    /// The time.
    pub fn now(&self) -> Duration {
        lock(&self.state).now
    }

    /// When the next message arrives, on any link that is not held.
    pub fn next(&self) -> Option<Duration> {
        let state = lock(&self.state);
        let running = state.pipes.iter().filter(|pipe| !pipe.held);
        let first = running.flat_map(|pipe| &pipe.ways).filter_map(|way| way.queue.iter().map(|p| p.arrives).min());
        first.filter(|&at| at > state.now).min()
    }

    /// Turns the clock to `to`, or leaves it where it is if that is past.
    pub fn advance(&self, to: Duration) {
        let mut state = lock(&self.state);
        state.now = state.now.max(to);
        let now = state.now;
        for pipe in state.pipes.iter().filter(|pipe| !pipe.held) {
            pipe.ways.iter().filter(|way| way.has_arrived(now)).for_each(|way| doorbell::ring(&way.bell));
        }
    }

    /// From now on nothing arrives on this link.
    pub fn hold(&self, link: LinkId) {
        lock(&self.state).pipes[link.0].held = true;
    }

    /// What was held arrives.
    pub fn release(&self, link: LinkId) {
        let mut state = lock(&self.state);
        let pipe = &mut state.pipes[link.0];
        pipe.held = false;
        pipe.ring();
    }

    /// Ends this link; what is on its way is gone.
    pub fn lose(&self, link: LinkId) {
        let mut state = lock(&self.state);
        let now = state.now;
        let pipe = &mut state.pipes[link.0];
        pipe.lost = true;
        pipe.ways.iter_mut().for_each(|way| way.queue.retain(|packet| packet.arrives <= now));
        pipe.ring();
    }
}

impl State {
    /// A delay out of the range, by splitmix64.
    fn draw(&mut self) -> Duration {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let span = self.delay.end.saturating_sub(self.delay.start).as_nanos() as u64;
        self.delay.start + Duration::from_nanos(if span == 0 { 0 } else { z % span })
    }
}

impl Pipe {
    fn ring(&self) {
        self.ways.iter().for_each(|way| doorbell::ring(&way.bell));
    }
}

impl Way {
    fn has_arrived(&self, now: Duration) -> bool {
        self.queue.front().is_some_and(|packet| packet.arrives <= now)
    }

    fn has_room(&self, len: usize) -> bool {
        self.bytes + len + OVERHEAD <= CAPACITY
    }
}

/// One end of a simulated link.
pub struct Simulated {
    network: Network,
    pipe: usize,
    side: usize,
    bell: OwnedFd,
    /// The length of the message that found no room.
    refused: Option<usize>,
}

impl Link for Simulated {
    fn tier(&self) -> Tier {
        Tier::Simulated
    }

    fn send_with(&mut self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        fits(message, descriptors)?;
        let mut state = lock(&self.network.state);
        let arrives = state.now + state.draw();
        let now = state.now;
        let pipe = &mut state.pipes[self.pipe];
        let (held, way) = (pipe.held, &mut pipe.ways[1 - self.side]);
        if pipe.lost || !way.open {
            return Err(End::Gone.into());
        }
        if !way.has_room(message.len()) {
            self.refused = Some(message.len());
            return Err(SendError::Full);
        }
        self.refused = None;
        // Out of descriptors: an end, as on a real link.
        let copies = descriptors.iter().map(|fd| fcntl_dupfd_cloexec(fd, 0)).collect::<Result<_, _>>();
        let descriptors = copies.map_err(|_| End::Gone)?;
        let arrives = way.queue.back().map_or(arrives, |last| last.arrives.max(arrives));
        way.bytes += message.len() + OVERHEAD;
        way.queue.push_back(Packet { arrives, message: message.to_vec(), descriptors });
        if !held && way.has_arrived(now) {
            doorbell::ring(&way.bell);
        }
        Ok(())
    }

    fn receive(&mut self, message: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> Result<bool, End> {
        let mut state = lock(&self.network.state);
        let now = state.now;
        let pipe = &mut state.pipes[self.pipe];
        let over = pipe.lost || !pipe.ways[1 - self.side].open;
        let held = pipe.held && !pipe.lost;
        let [left, right] = &mut pipe.ways;
        let (way, back) = if self.side == 0 { (left, right) } else { (right, left) };
        if held || !way.has_arrived(now) {
            let nothing_comes = over && way.queue.is_empty();
            return if nothing_comes { Err(End::Gone) } else { Ok(false) };
        }
        if let Some(packet) = way.queue.pop_front() {
            let was_full = !way.has_room(MESSAGE_MAX);
            way.bytes -= packet.message.len() + OVERHEAD;
            *message = packet.message;
            descriptors.extend(packet.descriptors);
            if was_full {
                doorbell::ring(&back.bell);
            }
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<bool, End> {
        Ok(true)
    }

    fn arm(&mut self) -> bool {
        doorbell::hush(&self.bell);
        let state = lock(&self.network.state);
        let pipe = &state.pipes[self.pipe];
        let (way, back) = (&pipe.ways[self.side], &pipe.ways[1 - self.side]);
        let arrived = !pipe.held && way.has_arrived(state.now);
        let over = (pipe.lost || !back.open) && way.queue.is_empty();
        // Told once: whether what was refused is sent again is its sender's business.
        let room = self.refused.take_if(|len| back.has_room(*len)).is_some();
        !(arrived || over || room)
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    fn wants(&self) -> Interest {
        Interest::READ
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let mut state = lock(&self.network.state);
        let pipe = &mut state.pipes[self.pipe];
        let way = &mut pipe.ways[self.side];
        way.open = false;
        way.queue.clear();
        pipe.ring();
    }
}

/// Nobody panics while holding the state; and if, the state is as good as before.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
