//! A thread that keeps a member connected: it dials, and dials again when it is told that the link has ended.
//!
//! ```text
//!            ╭──────── pause, longer each time ◀────── failed: told, tried again ─╮
//!            ▼                                                                    │
//!   start ─▶ dial ──────────────────────────────────────────────────────────────────┤
//!            ▲                                                                    ├─▶ link: told ─────╮
//!            │                                                                    ╰─▶ refused: told ──┤
//!            ╰──────────────────────────── again ◀───────────────────────────────────────────────────╯
//! ```
//!
//! So whoever uses the links never waits for a name, a handshake or a machine that does not answer.

use super::Tcp;
use super::dial::{self, DialError};
use super::identity::Identity;
use crate::doorbell;
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(5);
/// What nobody has asked about yet; more of it is dropped.
const OUTCOMES_MAX: usize = 4;

/// What came of dialling.
pub enum Dialled {
    Link(Box<Tcp>),
    /// Not this time; it is tried again.
    Failed(DialError),
    /// The head does not want this PU: it is not tried again unless it is asked for.
    Refused(DialError),
}

/// Keeps a member connected for as long as it lives.
pub struct Dialer {
    outcomes: Receiver<Dialled>,
    /// Rung for the owner, and for the thread.
    bell: OwnedFd,
    orders: OwnedFd,
}

struct Thread {
    identity: Identity,
    outcomes: SyncSender<Dialled>,
    bell: OwnedFd,
    orders: OwnedFd,
}

impl Dialer {
    /// Begins to dial. The thread ends by itself, within the time of one attempt, when this is dropped.
    pub fn start(identity: Identity) -> io::Result<Self> {
        let (bell, orders) = (doorbell::event()?, doorbell::event()?);
        let (sender, outcomes) = sync_channel(OUTCOMES_MAX);
        let thread = Thread { identity, outcomes: sender, bell: bell.try_clone()?, orders: orders.try_clone()? };
        std::thread::Builder::new().name("link-dial".into()).spawn(move || thread.run())?;
        Ok(Self { outcomes, bell, orders })
    }

    /// Readable when there may be an outcome.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// The next outcome. Where there is none, the descriptor is quiet until there is.
    pub fn take(&mut self) -> Option<Dialled> {
        doorbell::hush(&self.bell);
        let outcome = self.outcomes.try_recv().ok();
        if outcome.is_some() {
            // There may be more: the descriptor says so until this finds nothing.
            doorbell::ring(&self.bell);
        }
        outcome
    }

    /// The link has ended: another one is wanted.
    pub fn again(&self) {
        doorbell::ring(&self.orders);
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        // It finds that nobody listens.
        doorbell::ring(&self.orders);
    }
}

impl Thread {
    fn run(self) {
        let mut pause = PAUSE_FIRST;
        loop {
            let (outcome, over) = match dial::connect(&self.identity, PATIENCE) {
                Ok(link) => (Dialled::Link(Box::new(link)), true),
                Err(error @ DialError::NoMember) => (Dialled::Refused(error), true),
                Err(error) => (Dialled::Failed(error), false),
            };
            let told = match self.outcomes.try_send(outcome) {
                Ok(()) => true,
                // Nobody has asked about what was before: this is dropped, and tried again later.
                Err(TrySendError::Full(_)) => false,
                Err(TrySendError::Disconnected(_)) => return,
            };
            doorbell::ring(&self.bell);
            if over && told {
                self.wait(None);
                pause = PAUSE_FIRST;
            } else {
                self.wait(Some(pause));
                pause = (pause * 2).min(PAUSE_LAST);
            }
        }
    }

    /// Waits for an order, for so long at most.
    fn wait(&self, most: Option<Duration>) {
        let timeout = most.and_then(|most| most.try_into().ok());
        // Interrupted: it dials once more than it was told to.
        let _ = poll(&mut [PollFd::new(&self.orders, PollFlags::IN)], timeout.as_ref());
        doorbell::hush(&self.orders);
    }
}
