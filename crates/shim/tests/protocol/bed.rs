//! Nodes whose messages arrive when a test says so, and whose daemons do at once what they are told.

use shim::protocol::{
    Action, Answer, Attachment, Call, CallId, Carried, Config, EndId, FifoLimits, Former, Input, Limits, Message, Node,
    Quota, Side, Timing,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use xpucall::id::{PuId, XpuPid};

pub const LIMITS: FifoLimits = FifoLimits { ring: 4096, message_max: 4096, lanes: 4, capabilities: 4 };
/// The last incarnation of the time before.
pub const INCARNATION: u32 = 100;

struct Letter {
    from: usize,
    to: usize,
    message: Message,
    carried: bool,
}

pub struct Bed {
    pub nodes: Vec<Node>,
    pub now: Duration,
    letters: VecDeque<Letter>,
    /// PUs whose letters, to and from them, wait.
    pub held: BTreeSet<usize>,
    /// Sides of lanes on those PUs do not end.
    pub stuck: BTreeSet<usize>,
    pub answers: BTreeMap<u64, Answer>,
    /// What was done besides, and where.
    pub done: Vec<(usize, Action)>,
    /// The first process of each PU.
    pub pids: Vec<XpuPid>,
    calls: u64,
}

pub fn config(pu: usize) -> Config {
    Config { pu: PuId(pu as u8), timing: Timing::default(), limits: Limits::default() }
}

impl Bed {
    /// A head and members, all with one kernel, linked, and with a process on each.
    pub fn new(count: usize) -> Self {
        Self::with(count, true)
    }

    pub fn with(count: usize, shares: bool) -> Self {
        let former = Former { incarnation: INCARNATION, ..Former::default() };
        let mut nodes = vec![Node::head(config(0), former)];
        nodes.extend((1..count).map(|pu| Node::member(config(pu))));
        let mut bed = Self {
            nodes,
            now: Duration::ZERO,
            letters: VecDeque::new(),
            held: BTreeSet::new(),
            stuck: BTreeSet::new(),
            answers: BTreeMap::new(),
            done: Vec::new(),
            pids: Vec::new(),
            calls: 0,
        };
        bed.step(0, Input::Tick);
        for pu in 1..count {
            bed.link(pu, shares);
        }
        for host in 0..count {
            let pid = bed.attach(host);
            bed.pids.push(pid);
        }
        bed
    }

    pub fn link(&mut self, pu: usize, shares: bool) {
        self.step(0, Input::LinkUp { pu: PuId(pu as u8), shares });
        self.step(pu, Input::LinkUp { pu: PuId::HEAD, shares });
        self.settle();
    }

    pub fn attach(&mut self, host: usize) -> XpuPid {
        self.step(host, Input::Attach { token: 0, quota: Quota { fifos: 9, ends: 9 } });
        match self.done.pop() {
            Some((_, Action::Attached { result, .. })) => result.expect("the PU serves"),
            other => panic!("an answer to an attachment, not {other:?}"),
        }
    }

    pub fn step(&mut self, host: usize, input: Input) {
        let mut actions = Vec::new();
        self.nodes[host].step(self.now, input, &mut actions);
        let mut inputs = Vec::new();
        for action in actions {
            match action {
                Action::Send { to, message, with } => {
                    let carried = matches!(with, Some(Attachment::Lane(_) | Attachment::Carried(_)));
                    self.letters.push_back(Letter { from: host, to: to.0 as usize, message, carried });
                }
                Action::Answer { id, answer, .. } => _ = self.answers.insert(id.0, answer),
                Action::Make { lane, .. } => inputs.push(Input::Made { lane, made: true }),
                Action::Cut { lane, side, .. } if !self.stuck.contains(&host) => {
                    self.done.push((host, action));
                    inputs.push(Input::Ended { lane, side });
                }
                Action::Fence => inputs.push(Input::Fenced),
                Action::Drop { pu } => {
                    let side = if host == 0 { pu.0 as usize } else { host };
                    self.letters.retain(|letter| letter.from != side && letter.to != side);
                    self.done.push((host, action));
                }
                Action::Wake { .. } | Action::Persist { .. } => {}
                action => self.done.push((host, action)),
            }
        }
        inputs.into_iter().for_each(|input| self.step(host, input));
    }

    /// Everything arrives that is not held.
    pub fn settle(&mut self) {
        loop {
            let held = &self.held;
            let free = |letter: &Letter| !held.contains(&letter.from) && !held.contains(&letter.to);
            let Some(next) = self.letters.iter().position(free) else { return };
            let Some(Letter { from, to, message, carried }) = self.letters.remove(next) else { return };
            let carried = carried.then_some(Carried(1));
            self.step(to, Input::Message { from: PuId(from as u8), message, carried });
        }
    }

    /// What is held arrives as well.
    pub fn release(&mut self) {
        self.held.clear();
        self.settle();
    }

    /// A message that no node has sent.
    pub fn say(&mut self, from: usize, to: usize, message: Message) {
        self.step(to, Input::Message { from: PuId(from as u8), message, carried: None });
    }

    pub fn forget_messages(&mut self) {
        self.letters.clear();
    }

    /// Time passes in small steps for all whose letters are not held, and for them too.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(50).min(end - self.now);
            (0..self.nodes.len()).for_each(|host| self.step(host, Input::Tick));
            self.settle();
        }
    }

    pub fn begin(&mut self, by: XpuPid, call: Call) -> u64 {
        self.calls += 1;
        self.step(by.pu().0 as usize, Input::Call { id: CallId(self.calls), by, call });
        self.calls
    }

    pub fn call(&mut self, by: XpuPid, call: Call) -> Answer {
        let id = self.begin(by, call);
        self.settle();
        self.answers.remove(&id).expect("a call is answered when everything has arrived")
    }

    pub fn connect(&mut self, by: XpuPid, fifo: xpucall::id::FifoId, side: Side) -> EndId {
        match self.call(by, Call::Connect { fifo, side }) {
            Answer::Connected(Ok(end)) => end,
            other => panic!("{by} is connected to {fifo}, not {other:?}"),
        }
    }

    /// Whether that was done there.
    pub fn has(&self, host: usize, what: impl Fn(&Action) -> bool) -> bool {
        self.done.iter().any(|(at, action)| *at == host && what(action))
    }

    /// Nobody waits, and nobody was promised anything.
    pub fn check_rest(&self) {
        for node in &self.nodes {
            let census = node.census();
            assert_eq!((census.calls, census.changes, census.expected), (0, 0, 0), "{:?}: {census:?}", node.place());
            assert_eq!(node.state(), self.nodes[0].state());
        }
    }
}
