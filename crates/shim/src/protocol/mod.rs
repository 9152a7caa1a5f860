//! The protocol between shims: pure, without I/O, clock or chance.
//!
//! ```text
//!                  ┌──────── Node ────────────────────────────────────┐
//!   Input ──step──▶│ calls ─▶ order ─▶ head: number ─▶ apply ─▶ ack   │──▶ Action
//!                  │ connect ─▶ home of the FIFO ─▶ ends on both PUs  │
//!                  │ member: join, lease, fence                       │
//!                  └──────────────────────────────────────────────────┘
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`call`] | what processes ask, and are told |
//! | [`step`] | what happens to a node, and what it wants done |
//! | [`message`] | what shims say to each other |
//! | [`limits`] | how long things may take, and how much may be kept |
//! | [`state`] | what all agree on |
//! | `calls`, `spawn` | processes of this PU and their calls |
//! | `apply` | changes put in force on this PU, and acknowledged |
//! | `ends` | ends that are held on this PU |
//! | `home` | FIFOs whose creator is on this PU: who reads them, and their lanes |
//! | `member` | joining, the lease, fencing itself |
//! | `head`, `ledger` | PU 0: members and their leases; numbering changes, and who has acknowledged them |
//!
//! The head is a member of itself: what a node says to itself goes the same way as what comes over a link, and is heard
//! before the step ends.

mod apply;
pub mod call;
mod calls;
mod ends;
mod head;
mod home;
mod ledger;
pub mod limits;
mod member;
pub mod message;
mod relay;
mod spawn;
pub mod state;
pub mod step;

pub use call::{Answer, Call, CallId, Cause, EndId, FifoLimits, Program, Quota, Side};
pub use limits::{Limits, Timing};
pub use message::{Message, Place, Seq};
pub use state::State;
pub use step::{Action, Attachment, Carried, Input, Source};

use apply::Acks;
use calls::{Process, Request};
use ends::{Ending, Ends};
use head::Head;
use home::Home;
use member::Phase;
use message::{Body, Lazy};
use spawn::Spawn;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    /// No incarnation up to this one is given again. At least the seconds since 2026-01-01, in case nothing was written.
    pub incarnation: u32,
    /// PUs that may still serve under that life.
    pub members: BTreeSet<PuId>,
}

/// How many things a node keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub processes: usize,
    pub fifos: usize,
    pub capabilities: usize,
    /// Ends of lanes, and readers, on this PU.
    pub ends: usize,
    /// Lanes that readers on this PU were promised, and have not been handed.
    pub expected: usize,
    /// Lanes of FIFOs whose home this PU is.
    pub lanes: usize,
    /// Calls that wait for an answer.
    pub calls: usize,
    /// Changes that wait to be acknowledged, by this PU or to its head.
    pub changes: usize,
    /// Members that are taking the state.
    pub joiners: usize,
}

/// One shim's part in the protocol.
pub struct Node {
    config: Config,
    now: Duration,
    /// The actions of this step, in order.
    out: Vec<Action>,
    /// What this node has said to itself.
    inbox: VecDeque<(Message, Option<Attachment>)>,
    wake: Option<Duration>,
    /// Whether the link to the head stands.
    linked: bool,
    phase: Phase,
    state: State,
    processes: BTreeMap<XpuPid, Process>,
    requests: BTreeMap<u64, Request>,
    spawns: BTreeMap<u64, Spawn>,
    ends: Ends,
    home: Home,
    acks: Acks,
    lazy: Vec<Lazy>,
    lazy_due: Option<Duration>,
    serials: Serials,
    head: Option<Box<Head>>,
}

/// The last numbers given; none comes back within an incarnation.
#[derive(Default)]
struct Serials {
    pid: u32,
    fifo: u32,
    end: u64,
    request: u64,
}

impl Node {
    /// The shim of PU 0. Its first input is [`Input::Tick`].
    pub fn head(config: Config, former: Former) -> Self {
        let head = Head::new(former, config.timing);
        Self { head: Some(Box::new(head)), ..Self::member(Config { pu: PuId::HEAD, ..config }) }
    }

    /// The shim of any other PU. Its first input is [`Input::LinkUp`].
    pub fn member(config: Config) -> Self {
        Self {
            config,
            now: Duration::ZERO,
            out: Vec::new(),
            inbox: VecDeque::new(),
            wake: None,
            linked: false,
            phase: Phase::Apart,
            state: State::default(),
            processes: BTreeMap::new(),
            requests: BTreeMap::new(),
            spawns: BTreeMap::new(),
            ends: Ends::default(),
            home: Home::default(),
            acks: Acks::default(),
            lazy: Vec::new(),
            lazy_due: None,
            serials: Serials::default(),
            head: None,
        }
    }

    /// Takes what has happened at `now` (since any moment, never less than before), and says what is to be done.
    pub fn step(&mut self, now: Duration, input: Input, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        if self.head.is_some() && matches!(self.phase, Phase::Apart) {
            self.begin_term();
        }
        if matches!(input, Input::Tick) {
            // Whatever is wanted next is said again.
            self.wake = None;
        }
        // Before anything else: a lease that is over must not serve one more call. A link that is gone carries nothing.
        if !matches!(input, Input::LinkDown { .. }) {
            self.timers();
        }
        self.input(input);
        self.timers();
        self.settle();
        let wake = self.next_wake();
        if wake != self.wake {
            self.wake = wake;
            self.out.push(Action::Wake { at: wake });
        }
        out.append(&mut self.out);
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Attach { token, quota } => self.attach(token, quota),
            Input::Call { id, by, call } => self.call(id, by, call),
            Input::Gone { pid } => self.gone(pid),
            Input::Message { from, message, carried } => self.receive(from, message, carried.map(Attachment::Carried)),
            Input::LinkUp { pu, shares } => self.link_up(pu, shares),
            Input::LinkDown { pu, dead } => self.link_down(pu, dead),
            Input::Made { lane, made } => self.made(lane, made),
            Input::Ended { lane, side } => self.side_ended(lane, side),
            Input::Started { pid, result } => self.started(pid, result),
            Input::Frame { lane, bytes } => self.frame_out(lane, bytes),
            Input::Taken { lane, bytes } => self.taken(lane, bytes),
            Input::Fenced => self.fenced_itself(),
            Input::Tick => {}
        }
    }

    /// Hears what this node has said to itself, and acknowledges what is in force, until there is nothing of either.
    fn settle(&mut self) {
        loop {
            while let Some((message, with)) = self.inbox.pop_front() {
                self.receive(self.config.pu, message, with);
            }
            if !self.acknowledge() {
                return;
            }
        }
    }

    /// `from`: the PU at the other end of the link, or this one.
    fn receive(&mut self, from: PuId, message: Message, with: Option<Attachment>) {
        match message {
            Message::Routed { from: origin, to, body } => self.route(from, origin, to, body, with),
            Message::Join { asked } => self.join_asked(from, asked),
            Message::Took { parts } => self.part_taken(from, parts),
            Message::Renew { asked } => self.renew_asked(from, asked),
            Message::Request { id, order } => self.requested(from, id, order),
            Message::Acknowledge { incarnation, acks } => self.acknowledged(from, incarnation, &acks),
            Message::Lazy { items } => self.lazy_told(from, items),
            Message::Blame { place } => self.blamed(from, place),
            message if from == PuId::HEAD => self.told_by_head(message),
            _ => {}
        }
    }

    fn route(&mut self, from: PuId, origin: Place, to: Place, body: Body, with: Option<Attachment>) {
        if self.head.is_some() {
            // Nobody speaks for another, and nobody to or from a life that is over.
            if from != origin.pu || !self.state.current(origin) || !self.state.current(to) {
                return;
            }
            if to.pu != self.config.pu {
                return self.send(to.pu, Message::Routed { from: origin, to, body }, with);
            }
        }
        if self.place() == Some(to) {
            self.hear(origin, body, with);
        }
    }

    fn hear(&mut self, from: Place, body: Body, with: Option<Attachment>) {
        match body {
            Body::Connect { end, by, fifo, side } => self.connect_at_home(from, end, by, fifo, side),
            Body::Left { end, cause } => self.left(from, end, cause),
            Body::Leaving { end, cause } => self.leaving(from, end, cause),
            Body::Ended { lane, side } => self.ended_elsewhere(from, lane, side),
            Body::Connected { end, result } => self.connected(from, end, result),
            Body::Meet { lane, reader } => self.meet(from, lane, reader),
            Body::Expect { lane, reader, writer, limits } => self.expect(from, lane, reader, writer, limits),
            Body::Cut { lane, side, cause, drain } => self.cut_by_home(from, lane, side, Ending { cause, drain }),
            Body::Dismiss { reader, cause } => self.dismissed(from, reader, cause),
            Body::Offer { lane, relayed } => self.offered(from, lane, relayed, with),
            Body::Frame { lane, bytes } => self.frame_in(from, lane, bytes),
            Body::Credit { lane, bytes } => self.credit(from, lane, bytes),
            Body::Reserve { id, by } => self.reserve(from, id, by),
            Body::Reserved { id, child } => self.reserved(from, id, child),
            Body::Start { child, program } => self.start(from, child, program),
            Body::Started { child, result } => self.started_elsewhere(from, child, result),
            Body::Abandon { child } => self.abandon(from, child),
        }
    }

    /// Over a link, if it stands. What is lost because it does not is made good by a fence.
    fn send(&mut self, to: PuId, message: Message, with: Option<Attachment>) {
        let stands = match &self.head {
            Some(head) => head.is_linked(to),
            None => self.linked && to == PuId::HEAD,
        };
        if stands {
            self.out.push(Action::Send { to, message, with });
        }
    }

    fn report(&mut self, message: Message) {
        if self.head.is_some() {
            self.inbox.push_back((message, None));
        } else {
            self.send(PuId::HEAD, message, None);
        }
    }

    fn tell(&mut self, to: Place, body: Body) {
        self.tell_with(to, body, None);
    }

    fn tell_with(&mut self, to: Place, body: Body, with: Option<Attachment>) {
        let Some(from) = self.place() else { return };
        let message = Message::Routed { from, to, body };
        if to == from {
            self.inbox.push_back((message, with));
        } else if self.head.is_none() {
            self.send(PuId::HEAD, message, with);
        } else if self.state.current(to) {
            self.send(to.pu, message, with);
        }
    }

    /// Puts off until company comes what nobody waits for.
    fn put_off(&mut self, item: Lazy) {
        self.lazy.push(item);
        if self.lazy.len() >= self.config.limits.batch {
            self.flush_lazy();
        } else {
            self.lazy_due.get_or_insert(self.now + self.config.timing.batch);
        }
    }

    fn flush_lazy(&mut self) {
        self.lazy_due = None;
        let items = std::mem::take(&mut self.lazy);
        if !items.is_empty() {
            self.report(Message::Lazy { items });
        }
    }

    fn timers(&mut self) {
        if self.lazy_due.is_some_and(|due| due <= self.now) {
            self.flush_lazy();
        }
        self.blame_late();
        self.member_timers();
        self.head_timers();
    }

    fn next_wake(&self) -> Option<Duration> {
        let times = [self.lazy_due, self.next_blame(), self.next_of_member(), self.next_of_head()];
        times.into_iter().flatten().min()
    }

    /// Whether a process of this PU has these rights, and is there.
    pub fn may(&self, pid: XpuPid, fifo: FifoId, rights: Rights) -> bool {
        self.processes.contains_key(&pid) && self.state.rights(pid, fifo).contain(rights)
    }

    /// Which life of which PU this is, while it serves.
    pub fn place(&self) -> Option<Place> {
        match self.phase {
            Phase::Serving { incarnation, .. } => Some(Place { pu: self.config.pu, incarnation }),
            _ => None,
        }
    }

    /// What this PU knows that all agree on.
    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn census(&self) -> Census {
        Census {
            processes: self.processes.len(),
            fifos: self.state.fifos().len(),
            capabilities: self.state.capabilities(),
            ends: self.ends.count(),
            expected: self.ends.expected(),
            lanes: self.home.lanes(),
            calls: self.requests.len() + self.spawns.len() + self.ends.asking(),
            changes: self.acks.held() + self.lazy.len() + self.head.as_ref().map_or(0, |head| head.pending()),
            joiners: self.head.as_ref().map_or(0, |head| head.joiners()),
        }
    }
}
