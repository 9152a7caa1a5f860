//! The shim's state, and how something that happened goes through the protocol: one input after the other, each one's
//! actions carried out before the next.
//!
//! ```text
//!   sockets, call regions, links, children ──▶ Input ──▶ Node::step ──▶ Actions ──▶ (act) sockets, pages, lanes, links
//!                                                ▲                                   │ made, ended, started, fenced
//!                                                ╰───────────────────────────────────╯
//! ```
//!
//! What is allowed is the node's to say; what it costs, and what processes share with the shim, is this one's.

use crate::admission::{Admission, Identity, Usage};
use crate::config::Config;
use crate::lanes::Lanes;
use crate::links::Links;
use crate::poller::Poller;
use crate::process::{About, Flight, Process, Way};
use crate::protocol::{Action, CallId, EndId, Input, Node};
use crate::relay::Relay;
use crate::remote::Remote;
use std::collections::{HashMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use xpucall::abi::{Reply, ended};
use xpucall::id::XpuPid;
use xpucall::wire::Transport;

/// One PU's shim.
pub struct Shim {
    pub(crate) config: Config,
    pub(crate) poller: Poller,
    pub(crate) node: Node,
    /// The last number given to anything.
    pub(crate) numbers: u64,
    pub(crate) admission: Admission,
    pub(crate) listener: OwnedFd,
    pub(crate) spare: Option<OwnedFd>,
    pub(crate) strangers: VecDeque<Stranger>,
    pub(crate) arriving: Option<Arriving>,
    pub(crate) processes: HashMap<u64, Process>,
    pub(crate) by_pid: HashMap<XpuPid, u64>,
    /// Whose call regions are looked at.
    pub(crate) hot: Vec<u64>,
    /// How many poll without end.
    pub(crate) polled: usize,
    /// Whose call waits for which answer.
    pub(crate) calls: HashMap<CallId, u64>,
    /// The readers here: process and slot. By the names of their news: the same.
    pub(crate) readers: HashMap<EndId, (u64, u32)>,
    pub(crate) news: HashMap<u64, (u64, u32)>,
    pub(crate) lanes: Lanes,
    /// Lanes from which on no bells are kept.
    pub(crate) bells_max: usize,
    pub(crate) links: Links,
    pub(crate) remote: Remote,
    /// Lanes of which this shim is an end; by their names in the epoll; which have more to do.
    pub(crate) relays: HashMap<EndId, Relay>,
    pub(crate) pumped: HashMap<u64, EndId>,
    pub(crate) again: Vec<u64>,
    pub(crate) children: HashMap<u64, Child>,
    pub(crate) control: Option<OwnedFd>,
    pub(crate) inputs: VecDeque<Input>,
    pub(crate) actions: Vec<Action>,
    pub(crate) settling: bool,
    /// When the node wants to be told of the time.
    pub(crate) wake: Option<Duration>,
    /// A sleep that nobody is known to have ended yet.
    pub(crate) sleep: Option<interconnect::waking::Sleep>,
    pub(crate) over: bool,
    /// For packets of processes.
    pub(crate) buffer: Vec<u8>,
}

/// A connection that has not said hello.
pub(crate) struct Stranger {
    pub(crate) number: u64,
    pub(crate) socket: OwnedFd,
    pub(crate) since: Instant,
    /// Of a program that this shim has started: who it is already.
    pub(crate) child: Option<XpuPid>,
}

/// One that has said hello, while the node is asked for its id.
pub(crate) struct Arriving {
    pub(crate) socket: OwnedFd,
    pub(crate) identity: Identity,
    pub(crate) transport: Transport,
    pub(crate) death: Option<OwnedFd>,
    pub(crate) usage: Usage,
    pub(crate) number: i32,
}

/// A program that this shim has started.
pub(crate) struct Child {
    pub(crate) pid: XpuPid,
    /// For whom.
    pub(crate) by: XpuPid,
    pub(crate) process: std::process::Child,
    pub(crate) death: OwnedFd,
}

impl Shim {
    /// A number that nothing else has, or had.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Tells the node what happened, and does what it wants done.
    pub(crate) fn step(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.settle();
    }

    /// Tells the node everything that waits to be told. What happens while its actions are carried out waits for their end.
    pub(crate) fn settle(&mut self) {
        if std::mem::replace(&mut self.settling, true) {
            return;
        }
        while let Some(input) = self.inputs.pop_front() {
            let mut actions = std::mem::take(&mut self.actions);
            self.node.step(os::boottime(), input, &mut actions);
            for action in actions.drain(..) {
                self.act(action);
            }
            self.actions = actions;
            self.links.forget_carried();
        }
        self.settling = false;
    }

    /// Answers a process's call.
    pub(crate) fn reply(&mut self, key: u64, number: u32, way: Way, reply: Reply, descriptors: &[BorrowedFd<'_>]) {
        let Some(process) = self.processes.get(&key) else { return };
        if process.answer(number, way, reply, descriptors).is_err() {
            self.detach(key, ended::MISBEHAVED);
        }
    }

    /// Hands a call to the node, whose answer comes by [`Action::Answer`].
    pub(crate) fn ask(&mut self, key: u64, flight: Flight, call: crate::protocol::Call) {
        let id = CallId(self.number());
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.flight = Some(flight);
        let by = process.pid;
        self.calls.insert(id, key);
        self.step(Input::Call { id, by, call });
    }

    /// The call of which an answer has come: whose it was.
    pub(crate) fn land(&mut self, id: CallId) -> Option<(u64, Flight)> {
        let key = self.calls.remove(&id)?;
        let flight = self.processes.get_mut(&key)?.flight.take()?;
        Some((key, flight))
    }

    /// Ends an attachment: its process is told why, its lanes are nobody's any more, and the node is told.
    pub(crate) fn detach(&mut self, key: u64, why: u32) {
        let Some(pid) = self.release(key, why) else { return };
        self.inputs.push_back(Input::Gone { pid });
    }

    /// Takes an attachment away from everything that knows it.
    pub(crate) fn release(&mut self, key: u64, why: u32) -> Option<XpuPid> {
        let mut process = self.processes.remove(&key)?;
        process.notices.end(why);
        self.by_pid.remove(&process.pid);
        self.polled -= usize::from(process.is_polled());
        self.hot.retain(|hot| *hot != key);
        self.calls.retain(|_, caller| *caller != key);
        self.poller.remove(&process.socket);
        self.poller.remove(&process.doorbell);
        if let Some(death) = &process.death {
            self.poller.remove(death);
        }
        let slots: Vec<_> = process.slots.drain().collect();
        for (slot, what) in slots {
            self.vacate(&process.notices, slot, what);
        }
        self.admission.leave(&process.identity, &mut process.usage);
        Some(process.pid)
    }

    /// Puts right what the quota was charged for.
    pub(crate) fn refund(&mut self, key: u64, about: About) {
        use crate::admission::Kind;
        let kind = match about {
            About::Create | About::Release => Kind::Fifo,
            About::Connect | About::Close(_) => Kind::End,
            About::Nothing => return,
        };
        if let Some(process) = self.processes.get_mut(&key) {
            self.admission.give(&process.identity, &mut process.usage, kind, 1);
        }
    }
}
