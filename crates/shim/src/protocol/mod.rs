//! The protocol between shims: pure, without I/O, clock or chance.
//!
//! | module | what it is |
//! |---|---|
//! | [`call`] | what processes ask, and are told |
//! | [`step`] | what happens to a node, and what it wants done |
//! | [`message`] | what shims say to each other |
//! | [`limits`] | how long things may take, and how much may be kept |

pub mod call;
pub mod limits;
pub mod message;
pub mod step;

pub use call::{Answer, Call, CallId, Cause, EndId, FifoLimits, Program, Quota, Side};
pub use limits::{Limits, Timing};
pub use message::{Message, Place, Seq};
pub use step::{Action, Attachment, Carried, Input, Source};

use std::collections::BTreeSet;
use std::time::Duration;
use xpucall::id::{FifoId, PuId, Rights, XpuPid};

/// What a node is told once.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub pu: PuId,
    pub timing: Timing,
    pub limits: Limits,
}

/// What the head's last life wrote down ([`Action::Persist`]).
#[derive(Clone, Debug, Default)]
pub struct Former {
    /// No incarnation up to this one is given again. Where nothing was written: seconds since 2026-01-01.
    pub incarnation: u32,
    /// PUs that may still serve under that life.
    pub members: BTreeSet<PuId>,
}

/// One shim's part in the protocol.
pub struct Node {
    place: Place,
    attached: BTreeSet<XpuPid>,
}

impl Node {
    /// The shim of PU 0. Its first input is [`Input::Tick`].
    pub fn head(config: Config, former: &Former) -> Self {
        let place = Place { pu: config.pu, incarnation: former.incarnation + 1 };
        Self { place, attached: BTreeSet::new() }
    }

    /// The shim of any other PU. Its first input is [`Input::Tick`].
    pub fn member(config: Config) -> Self {
        Self { place: Place { pu: config.pu, incarnation: 0 }, attached: BTreeSet::new() }
    }

    /// Takes what has happened at `now` (since any moment, never less than before), and says what is to be done.
    pub fn step(&mut self, _now: Duration, input: Input, out: &mut Vec<Action>) {
        match input {
            Input::Attach { token, .. } => {
                let pid = XpuPid::new(self.place.pu, self.place.incarnation, self.attached.len() as u32 + 1);
                self.attached.insert(pid);
                out.push(Action::Attached { token, result: Ok(pid) });
            }
            Input::Tick => out.push(Action::Serve { incarnation: self.place.incarnation }),
            _ => {}
        }
    }

    /// Whether a process has these rights, as far as this PU knows.
    pub fn may(&self, pid: XpuPid, _fifo: FifoId, _rights: Rights) -> bool {
        self.attached.contains(&pid)
    }

    /// Which life of which PU this is, while it serves.
    pub fn place(&self) -> Option<Place> {
        (self.place.incarnation != 0).then_some(self.place)
    }
}
