//! The shim's one thread: looks for calls while there are some, sleeps while there are none.
//!
//! ```text
//!            ╭───────────────────────────── something ◀───────────────────────────────╮
//!            ▼                                                                        │
//!   look: lines of recent callers · links · ends being cut ──nothing for `spin`──▶ sleep: their notice pages say so,
//!            ▲                                                              one more look, then epoll until it, or the time
//!            ╰── every LOOKS looks also what the epoll has
//! ```
//!
//! While it looks it gives its core away to whoever wants it. A process that polls without end keeps it awake: those are
//! platform processes, by whose choice it is.

use crate::act::recall;
use crate::admission::{Admission, Class, Identity};
use crate::apart::Apart;
use crate::config::Config;
use crate::lanes::Lanes;
use crate::links::Links;
use crate::poller::{Name, Poller, READ, RINGS};
use crate::process::{Process, Way};
use crate::protocol::{Input, Node};
use crate::remote::Remote;
use crate::shim::{Arriving, Shim, Stranger};
use interconnect::waking;
use os::seqpacket;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use thiserror::Error;
use xpucall::abi::{self, ended, quota, status};
use xpucall::id::PuId;
use xpucall::wire::{Call, Hello, MESSAGE_MAX, Transport};

/// Looks at lines between two at everything else.
const LOOKS: u32 = 64;
/// Looks in vain between two offers of the core.
const YIELDS: u32 = 16;
/// Callers whose lines are looked at.
const HOT_MAX: usize = 32;
/// Connections that have not said hello: how many, and for how long.
const STRANGERS_MAX: usize = 64;
const HELLO: Duration = Duration::from_secs(2);
/// How often an end that is being cut is looked at.
const BUSY: Duration = Duration::from_millis(1);

/// Why a shim does not run.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("cannot listen at {path}")]
    Listen { path: std::path::PathBuf, source: io::Error },
    #[error("cannot read what the last life of the head wrote to {path}")]
    Memory { path: std::path::PathBuf, source: io::Error },
    #[error("the kernel refuses what the shim waits with")]
    Poller(#[source] io::Error),
}

impl Shim {
    /// A shim that listens, and does not serve yet.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let refused = |source| OpenError::Listen { path: config.socket.clone(), source };
        // Whatever is there is of a life before.
        let _ = std::fs::remove_file(&config.socket);
        let listener = seqpacket::listen(&config.socket).map_err(refused)?;
        // Whoever can reach it may knock: what it may do then is decided by who it is.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&config.socket, everybody).map_err(refused)?;
        let poller = Poller::new().map_err(OpenError::Poller)?;
        poller.add(&listener, Name::Listener, READ).map_err(OpenError::Poller)?;
        let node = node(&config)?;
        let mut shim = Self {
            admission: Admission::new(config.quotas),
            config,
            poller,
            node,
            numbers: 0,
            listener,
            spare: spare(),
            strangers: VecDeque::new(),
            arriving: None,
            processes: HashMap::new(),
            by_pid: HashMap::new(),
            hot: Vec::new(),
            polled: 0,
            calls: HashMap::new(),
            readers: HashMap::new(),
            news: HashMap::new(),
            lanes: Lanes::default(),
            bells_max: (os::process::descriptors() / 8) as usize,
            links: Links::default(),
            remote: Remote::default(),
            relays: HashMap::new(),
            pumped: HashMap::new(),
            again: Vec::new(),
            children: HashMap::new(),
            control: None,
            inputs: VecDeque::new(),
            actions: Vec::new(),
            settling: false,
            wake: None,
            sleep: None,
            over: false,
            buffer: vec![0; MESSAGE_MAX],
        };
        shim.step(Input::Tick);
        Ok(shim)
    }

    /// Serves until its supervisor is gone.
    pub fn run(&mut self) {
        let mut ready = Vec::new();
        let mut active = Instant::now();
        let mut looks = 0u32;
        let (mut apart, mut given_away) = (Apart::default(), false);
        while !self.over {
            let mut something = self.look();
            looks += 1;
            if something {
                active = Instant::now();
                apart.called(given_away);
            }
            given_away = false;
            if looks.is_multiple_of(LOOKS) {
                something |= self.handle(Some(Duration::ZERO), &mut ready);
                self.keep_time();
            }
            if something || self.must_look() || active.elapsed() < self.spin() {
                // A caller on the same core cannot call before it has the core.
                if !something && looks.is_multiple_of(YIELDS) {
                    std::thread::yield_now();
                    given_away = true;
                }
                std::hint::spin_loop();
                continue;
            }
            if self.rest() {
                let limit = self.next_deadline();
                self.sleep = Some(waking::Sleep::begin());
                if self.handle(limit, &mut ready) {
                    active = Instant::now();
                }
                self.sleep = None;
                self.keep_time();
            }
        }
    }

    /// How long to look for calls after the last one: as long as is worth it here, but no more than twice as long as was set, as
    /// what keeps links alive is followed by a look as well.
    fn spin(&self) -> Duration {
        Duration::from_nanos(waking::limit()).clamp(self.config.spin, 2 * self.config.spin)
    }

    /// A process has rung: whether that has woken this shim, and how long it took.
    fn learn(&mut self, key: u64) {
        if let (Some(sleep), Some(process)) = (self.sleep.take(), self.processes.get(&key)) {
            sleep.end(process.calls.rung_at()).into_iter().for_each(|woken| waking::learn(woken.took));
        }
    }

    /// Whether somebody polls without end.
    fn must_look(&self) -> bool {
        self.polled > 0
    }

    /// Looks at everything that is in memory: whether there was something.
    fn look(&mut self) -> bool {
        let mut something = false;
        for at in 0..self.hot.len() {
            // A call may end attachments, and with them what is hot.
            let Some(&key) = self.hot.get(at) else { break };
            something |= self.look_at(key);
        }
        something |= self.look_at_links() | self.pump_again();
        if !self.lanes.busy.is_empty() {
            self.look_at_busy();
        }
        self.settle();
        something
    }

    /// Prepares to sleep: whether there is nothing to do.
    fn rest(&mut self) -> bool {
        let hot = std::mem::take(&mut self.hot);
        for key in &hot {
            if let Some(process) = self.processes.get_mut(key) {
                process.hot = false;
                process.notices.sleeps(true);
            }
        }
        let mut something = false;
        for key in hot {
            something |= self.look_at(key);
        }
        something |= self.rest_links();
        self.settle();
        !something
    }

    /// A process whose line is looked at from now on, if not too many are.
    pub(crate) fn warm(&mut self, key: u64, process: &mut Process) {
        if process.hot || (self.hot.len() >= HOT_MAX && !process.is_polled()) {
            return;
        }
        process.hot = true;
        process.notices.sleeps(false);
        self.hot.push(key);
    }

    fn warm_again(&mut self, key: u64) {
        if let Some(mut process) = self.processes.remove(&key) {
            self.warm(key, &mut process);
            self.processes.insert(key, process);
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let now = os::boottime();
        let wake = self.wake.map(|at| at.saturating_sub(now));
        let busy = (!self.lanes.busy.is_empty()).then_some(BUSY);
        let hello = self.strangers.front().map(|stranger| HELLO.saturating_sub(stranger.since.elapsed()));
        [wake, busy, hello].into_iter().flatten().min()
    }

    /// Does what is due.
    fn keep_time(&mut self) {
        while self
            .strangers
            .front()
            .is_some_and(|stranger| stranger.child.is_none() && stranger.since.elapsed() >= HELLO)
        {
            if let Some(stranger) = self.strangers.pop_front() {
                self.poller.remove(&stranger.socket);
            }
        }
        if self.wake.is_some_and(|at| at <= os::boottime()) {
            self.wake = None;
            self.step(Input::Tick);
        }
    }

    /// Waits for descriptors, and serves them: whether there were any.
    fn handle(&mut self, limit: Option<Duration>, ready: &mut Vec<Name>) -> bool {
        self.poller.wait(limit, ready);
        for name in ready.iter() {
            match *name {
                Name::Listener => self.welcome(),
                Name::Control => self.hear_control(),
                Name::Stranger(number) => self.hear_stranger(number),
                Name::Process(key) => self.hear_process(key),
                Name::Doorbell(key) => {
                    self.learn(key);
                    self.look_at(key);
                    self.warm_again(key);
                    self.look_at(key);
                }
                Name::Death(key) => self.detach(key, ended::NOT),
                Name::News(name) => {
                    if let Some(&(key, slot)) = self.news.get(&name) {
                        self.deliver(key, slot);
                    }
                }
                Name::Link(pu) => {
                    self.look_at_link(PuId(pu));
                }
                Name::Child(number) => self.reap(number),
                Name::Relay(number) => self.pump(number),
                Name::Remote => self.look_at_remote(),
            }
            self.settle();
        }
        !ready.is_empty()
    }

    /// Takes a connection.
    fn welcome(&mut self) {
        match seqpacket::accept(&self.listener) {
            Ok(Some(socket)) => {
                if self.strangers.len() >= STRANGERS_MAX
                    && let Some(oldest) = self.strangers.iter().position(|stranger| stranger.child.is_none())
                    && let Some(oldest) = self.strangers.remove(oldest)
                {
                    self.poller.remove(&oldest.socket);
                }
                self.stranger(socket, None);
            }
            Ok(None) => {}
            Err(error) => {
                // With no descriptor left, whoever knocks is let in by the one kept for this, and shown out.
                self.spare = None;
                drop(seqpacket::accept(&self.listener));
                self.spare = spare();
                tracing::warn!(%error, "a process was turned away");
            }
        }
    }

    /// Waits for somebody's hello.
    pub(crate) fn stranger(&mut self, socket: OwnedFd, child: Option<xpucall::id::XpuPid>) {
        let number = self.number();
        if self.poller.add(&socket, Name::Stranger(number), READ).is_ok() {
            self.strangers.push_back(Stranger { number, socket, since: Instant::now(), child });
        }
    }

    fn hear_stranger(&mut self, number: u64) {
        let Some(at) = self.strangers.iter().position(|stranger| stranger.number == number) else { return };
        let mut buffer = [0; 64];
        let got = seqpacket::receive(&self.strangers[at].socket, &mut buffer, &mut Vec::new());
        if got.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return;
        }
        let Some(stranger) = self.strangers.remove(at) else { return };
        self.poller.remove(&stranger.socket);
        let hello = got.ok().and_then(|len| postcard::from_bytes::<Hello>(&buffer[..len]).ok());
        let Some(hello) = hello.filter(|hello| hello.magic == abi::MAGIC && hello.version == abi::VERSION) else {
            return;
        };
        self.hello(stranger, hello.transport);
    }

    fn hello(&mut self, stranger: Stranger, transport: Transport) {
        let Stranger { socket, child, .. } = stranger;
        let own = |pid| self.children.values().find(|child| child.pid == pid).map(|child| child.process.id() as i32);
        let (identity, process) = match (child, seqpacket::peer(&socket)) {
            (Some(pid), _) => (Identity::platform(), own(pid).unwrap_or_default()),
            (None, Ok(peer)) => (Identity::of(peer), peer.pid),
            (None, Err(_)) => return,
        };
        if identity.class == Class::Guest && matches!(transport, Transport::Mpsc | Transport::Polling) {
            return self.turn_away(&socket, status::NOT_PERMITTED, 0);
        }
        // A child's death is seen by the one that waits for it.
        let death = if child.is_some() { None } else { seqpacket::peer_process(&socket).ok() };
        let Some(usage) = self.count(&identity) else {
            return self.turn_away(&socket, status::QUOTA, quota::PROCESSES);
        };
        let limits = identity.quota(&self.config.quotas);
        let arriving = Arriving { socket, identity, transport, death, usage, number: process };
        if let Some(pid) = child {
            return self.attach(pid, arriving);
        }
        self.arriving = Some(arriving);
        let quota = crate::protocol::Quota { fifos: limits.fifos, ends: limits.ends };
        let token = self.number();
        self.step(Input::Attach { token, quota });
    }

    /// Waits for what an attached process does.
    pub(crate) fn watch(&mut self, key: u64, process: &Process) -> io::Result<()> {
        self.poller.add(&process.socket, Name::Process(key), READ)?;
        self.poller.add(&process.doorbell, Name::Doorbell(key), RINGS)?;
        if let Some(death) = &process.death {
            self.poller.add(death, Name::Death(key), READ)?;
        }
        Ok(())
    }

    /// A process has sent something, or hung up.
    fn hear_process(&mut self, key: u64) {
        let Some(process) = self.processes.get(&key) else { return };
        // Its next call waits in the socket until this one is answered.
        match seqpacket::receive(&process.socket, &mut self.buffer, &mut Vec::new()) {
            Ok(0) => self.detach(key, ended::NOT),
            Ok(len) => match postcard::from_bytes::<Call>(&self.buffer[..len]) {
                Ok(call) if process.flight.is_none() => {
                    self.call(key, call.number, Way::Socket, call.request(), call.program);
                }
                _ => self.detach(key, ended::MISBEHAVED),
            },
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => self.detach(key, ended::MISBEHAVED),
            Err(_) => self.detach(key, ended::NOT),
        }
    }
}

/// The node of this PU.
fn node(config: &Config) -> Result<Node, OpenError> {
    let own = crate::protocol::Config { pu: config.pu, timing: config.timing, limits: config.limits };
    if config.pu != PuId::HEAD {
        return Ok(Node::member(own));
    }
    let former = match &config.memory {
        Some(path) => recall(path).map_err(|source| OpenError::Memory { path: path.clone(), source })?,
        None => recall(std::path::Path::new("")).unwrap_or_default(),
    };
    Ok(Node::head(own, former))
}

/// A descriptor that is kept for when there is no other.
fn spare() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

impl Drop for Shim {
    fn drop(&mut self) {
        for process in self.processes.values() {
            process.notices.end(ended::CLOSED);
        }
        self.end_children();
        let _ = std::fs::remove_file(&self.config.socket);
    }
}
