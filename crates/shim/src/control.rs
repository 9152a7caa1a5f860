//! What a shim's supervisor tells it, and is told: over a seqpacket socket whose hang-up is the end of either.

use crate::protocol::Input;
use crate::shim::Shim;
use interconnect::link::shm::Shm;
use os::seqpacket;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use xpucall::id::PuId;

use crate::poller::{Name, READ};

/// The longest of either.
const MESSAGE_MAX: usize = 256;
/// How long the other end of a link may take to offer it.
const PATIENCE: Duration = Duration::from_secs(1);

/// From the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Be linked to the shim of that PU, by the connected socket that comes with this: a link in memory. One of the two
    /// offers, before the other is told.
    Link { pu: PuId, offer: bool },
    /// The processes of that PU are no more, its shim among them.
    Dead { pu: PuId },
}

/// To the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Processes can attach from now on.
    Serving { incarnation: u32 },
    /// That life of that PU is over: end whatever is left of it.
    Expelled { pu: PuId, incarnation: u32 },
}

/// The supervisor's end.
#[derive(Debug)]
pub struct Supervisor(OwnedFd);

impl Supervisor {
    /// Two ends: the supervisor's, and the one that the shim has as its first descriptor.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = seqpacket::pair()?;
        Ok((Self(ours), theirs))
    }

    /// Has the two shims linked.
    pub fn link(&self, other: &Self, own: PuId, others: PuId) -> io::Result<()> {
        let (one, two) = seqpacket::pair()?;
        say(&self.0, &Order::Link { pu: others, offer: true }, Some(&one))?;
        say(&other.0, &Order::Link { pu: own, offer: false }, Some(&two))
    }

    pub fn dead(&self, pu: PuId) -> io::Result<()> {
        say(&self.0, &Order::Dead { pu }, None)
    }

    /// The next report; blocks unless the descriptor was made not to. Nothing: the shim is gone.
    pub fn hear(&self) -> io::Result<Option<Report>> {
        let mut buffer = [0; MESSAGE_MAX];
        let len = seqpacket::receive(&self.0, &mut buffer, &mut Vec::new())?;
        if len == 0 {
            return Ok(None);
        }
        postcard::from_bytes(&buffer[..len]).map(Some).map_err(io::Error::other)
    }
}

impl AsFd for Supervisor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn say<T: Serialize>(socket: &OwnedFd, message: &T, descriptor: Option<&OwnedFd>) -> io::Result<()> {
    let mut buffer = [0; MESSAGE_MAX];
    let bytes = postcard::to_slice(message, &mut buffer).map_err(io::Error::other)?;
    let descriptors: Vec<_> = descriptor.iter().map(|descriptor| descriptor.as_fd()).collect();
    seqpacket::send(socket, &[IoSlice::new(bytes)], &descriptors)
}

impl Shim {
    /// Obeys the supervisor at the other end of this socket, and ends with it.
    pub fn obey(&mut self, control: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&control, true)?;
        self.poller.add(&control, Name::Control, READ)?;
        self.control = Some(control);
        // What was to be said before there was anybody to say it to.
        if let Some(place) = self.node.place() {
            self.report(&Report::Serving { incarnation: place.incarnation });
        }
        Ok(())
    }

    pub(crate) fn report(&mut self, report: &Report) {
        if let Some(control) = &self.control {
            // A supervisor that does not listen is told by the next one, or not at all.
            let _ = say(control, report, None);
        }
    }

    pub(crate) fn hear_control(&mut self) {
        let Some(control) = &self.control else { return };
        let (mut buffer, mut descriptors) = ([0; MESSAGE_MAX], Vec::new());
        let len = match seqpacket::receive(control, &mut buffer, &mut descriptors) {
            Ok(0) => return self.over = true,
            Ok(len) => len,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            Err(_) => return self.over = true,
        };
        match (postcard::from_bytes(&buffer[..len]), descriptors.pop()) {
            (Ok(Order::Link { pu, offer }), Some(socket)) => {
                let link = if offer { Shm::offer(socket) } else { Shm::accept(socket, PATIENCE) };
                match link {
                    Ok(link) => self.link(pu, Box::new(link)),
                    Err(error) => tracing::error!(%error, pu = pu.0, "no link"),
                }
            }
            (Ok(Order::Dead { pu }), _) => {
                self.drop_link(pu);
                self.step(Input::LinkDown { pu, dead: true });
            }
            _ => tracing::error!("the supervisor speaks another version"),
        }
    }
}
