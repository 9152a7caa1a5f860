//! Hosts, links and time: everything that is around the nodes, and goes wrong.
//!
//! A host is a PU: its shim's node, a clock of its own that drifts, and processes. A link delays what it carries, keeps its
//! order, is held (a partition) or breaks; each side hears of its end in its own time, or never. What a daemon would do with
//! an action is done here.

use super::net::Link;
use super::oracle::Oracle;
use super::plane::{Course, Plane};
use super::random::Random;
use shim::protocol::message::FRAME_MAX;
use shim::protocol::{Action, Answer, Call, Carried, EndId, Former, Input, Limits, Node, Quota, Side, Source, Timing};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use xpucall::id::{FifoId, PuId, XpuPid};

pub const TIMING: Timing = Timing {
    lease: Duration::from_millis(200),
    margin: Duration::from_millis(50),
    renewal: Duration::from_millis(50),
    batch: Duration::from_millis(5),
    patience: Duration::from_millis(150),
};
pub const LIMITS: Limits =
    Limits { fifos: 100, capabilities: 1_000, orders: 100, children: 100, backlog: 200, batch: 256 };
pub const QUOTA: Quota = Quota { fifos: 6, ends: 12 };

#[derive(Debug)]
pub enum Event {
    Deliver {
        link: usize,
        up: bool,
        life: u64,
        bytes: Vec<u8>,
        carried: Option<EndId>,
    },
    /// A side of a link hears that it has ended.
    Hear {
        link: usize,
        side: usize,
        life: u64,
        dead: bool,
    },
    Reconnect {
        link: usize,
    },
    Tick {
        host: usize,
        life: u64,
        wake: u64,
    },
    Feed {
        host: usize,
        life: u64,
        input: Input,
    },
    Attach {
        host: usize,
    },
    Restart {
        host: usize,
    },
    /// A shim looks at a lane that it relays.
    Pump {
        host: usize,
        lane: EndId,
    },
    Act {
        pid: XpuPid,
    },
    Scribble {
        lane: EndId,
        times: u32,
    },
    /// Processes elsewhere notice that something is wrong with that PU.
    Panic {
        host: usize,
    },
    /// A process connects to that FIFO.
    Use {
        pid: XpuPid,
        fifo: FifoId,
    },
    Chaos,
}

pub struct Host {
    pub node: Option<Node>,
    pub life: u64,
    pub shares: bool,
    drift: i64,
    wake: u64,
    pub pids: BTreeSet<XpuPid>,
}

pub struct World {
    pub random: Random,
    pub now: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    serial: u64,
    pub hosts: Vec<Host>,
    pub links: Vec<Link>,
    pub former: Former,
    pub carried: BTreeMap<Carried, EndId>,
    pub next_carried: u64,
    pub plane: Plane,
    pub oracle: Oracle,
    pub known: Vec<XpuPid>,
    /// Nothing goes wrong any more, and nobody starts anything.
    pub quiet: bool,
    pub trace: bool,
    pub steps: usize,
}

impl World {
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + random.below(6);
        let mixed = random.chance(40);
        let host = |random: &mut Random, index: usize| Host {
            node: None,
            life: 0,
            shares: index == 0 || !mixed || random.chance(50),
            drift: random.below(20_001) as i64 - 10_000,
            wake: 0,
            pids: BTreeSet::new(),
        };
        let hosts = (0..count).map(|index| host(&mut random, index)).collect();
        let mut world = Self {
            random,
            now: Duration::ZERO,
            events: BTreeMap::new(),
            serial: 0,
            hosts,
            links: (0..count).map(|_| Link::default()).collect(),
            former: Former { incarnation: 1000, members: BTreeSet::new() },
            carried: BTreeMap::new(),
            next_carried: 0,
            plane: Plane::default(),
            oracle: Oracle::default(),
            known: Vec::new(),
            quiet: false,
            trace,
            steps: 0,
        };
        for host in 0..count {
            world.after(0..20_000, Event::Restart { host });
        }
        world
    }

    pub fn micros(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_micros(range.start + self.random.next() % (range.end - range.start))
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.random.below(from.len())]) }
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>10.3} ms  {}", self.now.as_secs_f64() * 1e3, what());
        }
    }

    pub fn at(&mut self, when: Duration, event: Event) {
        self.serial += 1;
        self.events.insert((when, self.serial), event);
    }

    /// Some microseconds from now.
    pub fn after(&mut self, micros: std::ops::Range<u64>, event: Event) {
        let when = self.now + self.micros(micros);
        self.at(when, event);
    }

    /// The next event that must happen before `until`.
    pub fn next(&mut self, until: Duration) -> Option<Event> {
        let (when, serial) = *self.events.first_key_value()?.0;
        if when > until {
            self.now = until;
            return None;
        }
        self.now = self.now.max(when);
        self.events.remove(&(when, serial))
    }

    /// What happens around the nodes; `Act` and `Chaos` are for others.
    pub fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { link, up, life, bytes, carried } => self.deliver(link, up, life, &bytes, carried),
            Event::Hear { link, side, life, dead } => self.hear(link, side, life, dead),
            Event::Reconnect { link } => self.reconnect(link),
            Event::Tick { host, life, wake } => {
                if self.hosts[host].life == life && self.hosts[host].wake == wake {
                    self.step(host, Input::Tick);
                }
            }
            Event::Feed { host, life, input } => self.feed(host, life, input),
            Event::Attach { host } => self.step(host, Input::Attach { token: 0, quota: QUOTA }),
            Event::Restart { host } => self.restart(host),
            Event::Pump { host, lane } => self.pump(host, lane),
            Event::Act { .. } | Event::Use { .. } | Event::Scribble { .. } | Event::Panic { .. } | Event::Chaos => {}
        }
    }

    fn feed(&mut self, host: usize, life: u64, input: Input) {
        if self.hosts[host].life != life || self.hosts[host].node.is_none() {
            return;
        }
        if let Input::Ended { lane, side } = &input {
            self.plane.check_drained(*lane, *side);
            self.plane.turn(*lane, *side, Course::Ended);
        }
        if input == Input::Fenced {
            self.lose_processes(host);
        }
        self.step(host, input);
    }

    pub fn clock(&self, host: usize) -> Duration {
        let now = self.now.as_nanos() as i128;
        let local = now + now * i128::from(self.hosts[host].drift) / 1_000_000 + host as i128 * 7_000_000_000;
        Duration::from_nanos(local as u64)
    }

    fn world_time(&self, host: usize, local: Duration) -> Duration {
        let local = local.as_nanos() as i128 - host as i128 * 7_000_000_000;
        let now = local * 1_000_000 / (1_000_000 + i128::from(self.hosts[host].drift));
        Duration::from_nanos(now.max(0) as u64 + 2)
    }

    pub fn step(&mut self, host: usize, input: Input) {
        let clock = self.clock(host);
        self.say(|| format!("PU {host} ◀ {input:?}"));
        let Some(node) = self.hosts[host].node.as_mut() else { return };
        let mut actions = Vec::new();
        node.step(clock, input, &mut actions);
        self.steps += 1;
        for action in actions {
            self.act(host, action);
        }
    }

    fn act(&mut self, host: usize, action: Action) {
        self.say(|| format!("PU {host}   ▶ {action:?}"));
        match action {
            Action::Attached { result, .. } => {
                if let Ok(pid) = result {
                    self.attached(host, pid);
                }
            }
            Action::Answer { id, by, answer } => self.answered(id, by, &answer),
            Action::Send { to, message, with } => self.send(host, to, &message, with),
            Action::Make { lane, by, .. } => {
                self.plane.make(lane, by);
                let made = !self.random.chance(2);
                self.feed_soon(host, 1..50, Input::Made { lane, made });
            }
            Action::Open { lane, reader, by, writer, source, .. } => {
                self.check_source(lane, source);
                assert_eq!(self.plane.lanes[&lane].writer, writer);
                self.plane.open(lane, reader, by, source == Source::Relayed);
            }
            Action::Relay { lane, credit: bytes } | Action::Credit { lane, bytes } => {
                let held = self.plane.lanes.get_mut(&lane).expect("a lane that is relayed was made");
                held.credit = Some(held.credit.unwrap_or(0) + bytes);
                self.after(1..100, Event::Pump { host, lane });
            }
            Action::Frame { lane, bytes } => {
                let written = bytes.first_chunk().map(|first| u64::from_le_bytes(*first));
                self.plane.frame(lane, written.expect("a frame begins with its moment"), &self.oracle);
            }
            Action::Cut { lane, side, drain, .. } => self.cut(host, lane, side, drain),
            Action::Start { pid, program, .. } => {
                self.oracle.attached(pid);
                self.oracle.endowed(pid, &program.path);
                let result =
                    if self.random.chance(90) { Ok(QUOTA) } else { Err(shim::protocol::call::StartError::Os(2)) };
                self.feed_soon(host, 10..2000, Input::Started { pid, result });
                match result {
                    Ok(_) => self.run(host, pid),
                    Err(_) => self.oracle.gone(pid),
                }
            }
            Action::Fence => self.feed_soon(host, 1..10_000, Input::Fenced),
            Action::Drop { pu } => {
                self.break_link(if host == 0 { pu.0 as usize } else { host }, Some(usize::from(host != 0)), false)
            }
            Action::Persist { incarnation, members } => self.former = Former { incarnation, members },
            Action::Wake { at } => self.wake(host, at),
            Action::Dismiss { .. } | Action::Serve { .. } | Action::Expel { .. } => {}
        }
    }

    fn feed_soon(&mut self, host: usize, micros: std::ops::Range<u64>, input: Input) {
        let life = self.hosts[host].life;
        self.after(micros, Event::Feed { host, life, input });
    }

    fn wake(&mut self, host: usize, at: Option<Duration>) {
        self.hosts[host].wake += 1;
        let (life, wake) = (self.hosts[host].life, self.hosts[host].wake);
        if let Some(at) = at {
            let late = if self.quiet { Duration::ZERO } else { self.micros(0..3_000) };
            let when = self.world_time(host, at).max(self.now) + late;
            self.at(when, Event::Tick { host, life, wake });
        }
    }

    // ── Processes ──

    fn attached(&mut self, host: usize, pid: XpuPid) {
        self.oracle.attached(pid);
        self.run(host, pid);
    }

    fn run(&mut self, host: usize, pid: XpuPid) {
        self.hosts[host].pids.insert(pid);
        self.known.push(pid);
        if !self.quiet {
            self.after(1..5_000, Event::Act { pid });
        }
    }

    pub fn host_of(&self, pid: XpuPid) -> Option<usize> {
        let host = pid.pu().0 as usize;
        self.hosts.get(host)?.pids.contains(&pid).then_some(host)
    }

    pub fn call(&mut self, host: usize, by: XpuPid, call: Call) {
        let fifos = match &call {
            Call::Grant { fifo, .. } | Call::Revoke { fifo, .. } => vec![*fifo],
            Call::Connect { fifo, .. } | Call::Release { fifo } => vec![*fifo],
            Call::Spawn { capabilities, .. } => capabilities.iter().map(|(fifo, _)| *fifo).collect(),
            Call::Create { .. } | Call::Close { .. } => Vec::new(),
        };
        if fifos.into_iter().any(|fifo| self.oracle.is_creating(by, fifo)) {
            return;
        }
        let id = self.oracle.call(by, &call, self.now);
        self.step(host, Input::Call { id, by, call });
    }

    fn answered(&mut self, id: shim::protocol::CallId, by: XpuPid, answer: &Answer) {
        if self.oracle.is_gone(by) {
            return;
        }
        let waiting = self.oracle.answered(id, answer, self.now);
        if let (Answer::Connected(Ok(end)), Call::Connect { side, .. }) = (answer, &waiting.call) {
            let tie = self.oracle.tie(&waiting);
            self.plane.ties.insert(*end, tie);
            if *side == Side::Writer {
                self.plane.lanes.get_mut(end).expect("a writer is connected to a lane that was made").tie = tie;
            }
        }
    }

    pub fn die(&mut self, host: usize, pid: XpuPid) {
        if self.hosts[host].pids.remove(&pid) {
            self.oracle.gone(pid);
            self.step(host, Input::Gone { pid });
        }
    }

    pub fn lose_processes(&mut self, host: usize) {
        for pid in std::mem::take(&mut self.hosts[host].pids) {
            self.oracle.gone(pid);
        }
        self.plane.lose(PuId(host as u8));
    }

    // ── Lanes ──

    fn check_source(&self, lane: EndId, source: Source) {
        if let Source::Carried(carried) = source {
            assert_eq!(self.carried.get(&carried), Some(&lane), "a lane was opened with another's descriptors");
        }
    }

    fn cut(&mut self, host: usize, lane: EndId, side: Side, drain: bool) {
        self.plane.turn(lane, side, if drain { Course::Draining } else { Course::Cut });
        if side == Side::Writer && self.random.chance(30) {
            self.after(1..1_000, Event::Scribble { lane, times: 8 });
        }
        let stuck = !self.quiet && self.random.below(300) == 0;
        match (drain, side) {
            (true, _) => self.drained(lane, side),
            (false, _) if stuck => self.feed_soon(host, 100_000..1_000_000, Input::Ended { lane, side }),
            (false, Side::Writer) => self.feed_soon(host, 1..10_000, Input::Ended { lane, side }),
            (false, Side::Reader) => self.feed_soon(host, 1..300, Input::Ended { lane, side }),
        }
    }

    /// Whether a side that drains has: then it has ended.
    fn drained(&mut self, lane: EndId, side: Side) {
        let host = match (side, self.plane.lanes.get(&lane)) {
            (Side::Writer, _) => lane.pu,
            (Side::Reader, Some(held)) => held.reading.as_ref().map_or(lane.pu, |reading| reading.pid.pu()),
            (Side::Reader, None) => return,
        };
        let draining = self.plane.course(lane, side) == Some(Course::Draining);
        if draining && self.plane.is_drained(lane, side) {
            self.feed_soon(host.0 as usize, 1..300, Input::Ended { lane, side });
        }
    }

    /// The writer's shim takes what its writer has written, a message a frame.
    fn pump(&mut self, host: usize, lane: EndId) {
        if let Some(written) = self.plane.take_frame(lane, FRAME_MAX as u32) {
            let mut bytes = vec![0; FRAME_MAX];
            bytes[..8].copy_from_slice(&written.to_le_bytes());
            self.after(1..100, Event::Pump { host, lane });
            self.step(host, Input::Frame { lane, bytes });
        }
        self.drained(lane, Side::Writer);
    }

    pub fn write(&mut self, host: usize, lane: EndId, hostile: bool) {
        self.plane.write(lane, hostile, &mut self.oracle);
        if self.plane.lanes.get(&lane).is_some_and(|held| held.credit.is_some()) {
            self.after(1..100, Event::Pump { host, lane });
        }
    }

    /// A reader has no use for a lane.
    pub fn give_up(&mut self, host: usize, lane: EndId) {
        if self.plane.course(lane, Side::Reader) == Some(Course::Open) {
            self.plane.turn(lane, Side::Reader, Course::Ended);
            self.step(host, Input::Ended { lane, side: Side::Reader });
        }
    }

    pub fn read(&mut self, host: usize, lane: EndId) -> bool {
        let read = self.plane.read(lane, &mut self.oracle);
        let relayed =
            |held: &super::plane::Lane| held.reading.as_ref().is_some_and(|reading| reading.relayed.is_some());
        if read && self.plane.lanes.get(&lane).is_some_and(relayed) {
            self.step(host, Input::Taken { lane, bytes: FRAME_MAX as u32 });
        }
        self.drained(lane, Side::Reader);
        read
    }
}
