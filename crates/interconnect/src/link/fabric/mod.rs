//! A link over a fabric, by libfabric: RDMA where there is hardware for it, the same code over TCP and shared memory
//! where there is none.
//!
//! ```text
//!   owner's thread            the link's own thread                                      the other machine
//!   ──────────────            ─────────────────────                                      ─────────────────
//!   send ──▶ outgoing ──────▶ slot ──▶ endpoint ═══════════ fabric: messages ══════════▶ slot ──▶ incoming ──▶ receive
//!   receive ◀── incoming ◀─── slot ◀── endpoint
//!                             words ◀───────── a link over TCP: hello, room, naps, bells ─────────▶ words
//! ```
//!
//! Providers make progress only while somebody calls them, and most cannot be waited for: so a thread does nothing else,
//! and sleeps when there is nothing to expect. Before it sleeps it says so over a second, ordinary link, and is rung by it.
//! That link was there first: it proves who the peer is, carries the endpoints' names, and its end is this link's end. At
//! most [`WINDOW`] messages are on their way or unread, so every message finds memory waiting for it.
//!
//! What travels on the fabric is neither encrypted nor authenticated beyond a tag that both ends have from the other
//! link: a fabric is a network of its own, which nobody else is on. Where that is not so, use [`super::tcp`].

mod bindings;
mod endpoint;
mod engine;
mod library;
mod word;

pub use self::endpoint::FabricError;
pub use self::library::LibraryError;

use self::endpoint::Endpoint;
use self::engine::Engine;
use super::{End, Interest, Link, SendError, Tier, fits};
use crate::doorbell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Messages in one direction that are on their way or unread.
pub const WINDOW: usize = 16;

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Sockets: for fabrics that are none, and for tests.
    Tcp,
    /// Shared memory under one kernel: for tests. Leaves files in /dev/shm when killed; [`super::shm`] does not.
    Shm,
    /// InfiniBand and RoCE.
    Verbs,
    /// AWS's Elastic Fabric Adapter.
    Efa,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Shm, Self::Verbs, Self::Efa];

    /// The one of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// Its name in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Shm => "shm",
            Self::Verbs => "verbs",
            Self::Efa => "efa",
        }
    }

    /// Its name in libfabric. The layer that makes datagrams or connections into messages is part of it.
    fn libfabric(self) -> &'static str {
        match self {
            Self::Tcp => "tcp;ofi_rxm",
            Self::Shm => "shm",
            Self::Verbs => "verbs;ofi_rxm",
            Self::Efa => "efa",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Tcp => 1,
            Self::Shm => 2,
            Self::Verbs => 3,
            Self::Efa => 4,
        }
    }

    /// Whether its endpoints have a device's address.
    fn has_address(self) -> bool {
        matches!(self, Self::Tcp | Self::Verbs)
    }
}

/// One end of a link over a fabric.
pub struct Fabric {
    provider: Provider,
    shared: Arc<Shared>,
}

/// What the owner's thread and the link's have in common.
struct Shared {
    state: Mutex<State>,
    /// Rung for the owner.
    ready: OwnedFd,
    /// Rung for the link's thread.
    work: OwnedFd,
}

#[derive(Default)]
struct State {
    outgoing: VecDeque<Vec<u8>>,
    incoming: VecDeque<Vec<u8>>,
    /// Messages that the owner has taken, and how many of them the peer was told of.
    read: u64,
    told: u64,
    ended: Option<End>,
    /// The owner: was refused a message; waits to be rung; is gone.
    refused: bool,
    armed: bool,
    gone: bool,
    /// The link's thread sleeps.
    asleep: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it; and if, the queues are as good as before.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the owner if it waits.
    fn tell_owner(&self, state: &mut State) {
        if std::mem::take(&mut state.armed) {
            doorbell::ring(&self.ready);
        }
    }

    /// Wakes the link's thread if it sleeps.
    fn tell_engine(&self, state: &mut State) {
        if std::mem::take(&mut state.asleep) {
            doorbell::ring(&self.work);
        }
    }
}

impl Fabric {
    /// A link over a fabric between the ends of `words`, which both call this with the same provider. `address` is that of
    /// the device here, for providers that have addresses. Takes the milliseconds that finding a device takes.
    pub fn over(words: Box<dyn Link>, provider: Provider, address: Option<IpAddr>) -> Result<Self, FabricError> {
        let endpoint = Endpoint::open(provider, address.filter(|_| provider.has_address()))?;
        let event = || doorbell::event().map_err(FabricError::Thread);
        let shared = Arc::new(Shared { state: Mutex::default(), ready: event()?, work: event()? });
        let engine = Engine::new(endpoint, words, provider, shared.clone())?;
        let thread = std::thread::Builder::new().name("link-fabric".into()).spawn(move || engine.run());
        // It is not waited for: it ends by itself when its owner or its peer is gone.
        drop(thread.map_err(FabricError::Thread)?);
        Ok(Self { provider, shared })
    }
}

impl Link for Fabric {
    fn tier(&self) -> Tier {
        Tier::Fabric(self.provider.name())
    }

    fn send_with(&mut self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        fits(message, descriptors)?;
        if !descriptors.is_empty() {
            return Err(SendError::NotShared);
        }
        let mut state = self.shared.lock();
        if let Some(end) = state.ended {
            return Err(end.into());
        }
        if state.outgoing.len() >= WINDOW {
            state.refused = true;
            return Err(SendError::Full);
        }
        state.refused = false;
        state.outgoing.push_back(message.to_vec());
        self.shared.tell_engine(&mut state);
        Ok(())
    }

    fn receive(&mut self, message: &mut Vec<u8>, _descriptors: &mut Vec<OwnedFd>) -> Result<bool, End> {
        let mut state = self.shared.lock();
        let Some(next) = state.incoming.pop_front() else {
            return state.ended.map_or(Ok(false), Err);
        };
        *message = next;
        state.read += 1;
        if state.read - state.told >= WINDOW as u64 / 2 {
            self.shared.tell_engine(&mut state);
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<bool, End> {
        // The link's thread passes everything on by itself.
        Ok(self.shared.lock().outgoing.is_empty())
    }

    fn arm(&mut self) -> bool {
        doorbell::hush(&self.shared.ready);
        let mut state = self.shared.lock();
        let room = state.refused && state.outgoing.len() < WINDOW;
        if room {
            // Told once: whether it is sent again is its sender's business.
            state.refused = false;
        }
        state.armed = state.incoming.is_empty() && state.ended.is_none() && !room;
        state.armed
    }

    fn poll_fd(&self) -> BorrowedFd<'_> {
        self.shared.ready.as_fd()
    }

    fn wants(&self) -> Interest {
        Interest::READ
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.gone = true;
        state.incoming.clear();
        self.shared.tell_engine(&mut state);
    }
}

#[cfg(test)]
mod tests;
