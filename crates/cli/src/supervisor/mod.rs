//! Starts the daemons of a node, keeps them alive, and ends them in order.
//!
//! ```text
//!             ┌── listening socket (3), supervisor socket (4) ──► gateway
//!  supervisor ┤        `w` + descriptor: a worker's connection       ▲
//!             │                                                      │ the connection
//!             ├── connection (3), lifeline (4) ────────────────► worker
//!             ├── control (3) ──► shim
//!             ├── lifeline (3) ──► broker of sockets
//!             └── connection (3), control (4), lifeline (5) ──► unit ──► its shim, its worker   (for each further PU)
//! ```
//! A unit, which is the host's worker or another PU as a whole, that ends is started again, and the gateway given the new
//! connection. A gateway that ends takes the units with it, since the instances answer on the old gateway's channels; then
//! all are started again. When the supervisor itself is killed, its ends of the sockets and of the lifelines close, and
//! all daemons tear down what is theirs. A node lives without any unit but the host's, without shims, and without a
//! broker.
//!
//! One thread, one poll: nothing here serves a request, and nothing here may fail while others do.

mod backoff;
pub mod folder;
mod keep;
pub mod listen;
mod ready;
pub mod role;
mod shims;

use crate::verdict::wrong;
use anyhow::{Context, bail};
use backoff::Next;
use folder::DataFolder;
pub use keep::{Kept, keep};
use ready::Probe;
pub use ready::until;
use role::Role;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use shims::Shims;
use std::io::{ErrorKind, IoSlice};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long a worker may take to remove its sandboxes.
const TEAR_DOWN: Duration = Duration::from_secs(10);
/// The same, when a person has lost patience.
const TEAR_DOWN_NOW: Duration = Duration::from_secs(2);
/// Requests to end that are no further apart are one.
const SAME_REQUEST: Duration = Duration::from_millis(300);
/// The length of what the kernel tells of a signal.
const SIGNAL_RECORD: usize = 128;
/// What a daemon that finds its arguments or its configuration wrong ends with.
const STATUS_WRONG_USAGE: i32 = 2;

/// What to start.
pub struct Plan {
    pub listen: SocketAddr,
    pub folder: DataFolder,
    pub gateway: Vec<String>,
    /// The host's shim.
    pub shim: Vec<String>,
    /// The broker of sockets, if the node is to have one.
    pub broker: Option<Vec<String>>,
    /// The host's worker is the first.
    pub units: Vec<UnitPlan>,
    /// How long running invocations have when the node ends.
    pub drain: Duration,
}

/// A worker, or what starts and ends with one.
pub struct UnitPlan {
    /// The number of its PU.
    pub pu: u8,
    /// Whether its shim starts and ends with it.
    pub shim: bool,
    /// For people.
    pub name: String,
    pub verb: &'static str,
    pub arguments: Vec<String>,
}

/// What the supervisor tells its caller.
pub enum Notice {
    /// The node answers requests. Told once.
    Ready,
    /// The node ends, as soon as what runs has ended.
    Draining,
}

/// Why a node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A signal to the supervisor.
    Signal,
    /// Its caller.
    Stop,
}

/// What runs a PU's worker.
struct Unit {
    pu: u8,
    shim: bool,
    role: Role,
}

/// A node's daemons.
pub struct Supervisor {
    plan: Plan,
    listener: TcpListener,
    address: SocketAddr,
    signals: OwnedFd,
    gateway: Role,
    /// The end of the supervisor socket that is not the gateway's.
    gateway_socket: Option<OwnedFd>,
    shim: Role,
    shims: Shims,
    broker: Option<Role>,
    units: Vec<Unit>,
    probe: Option<Probe>,
    was_ready: bool,
    /// Since when the node has been ending.
    draining: Option<Instant>,
    cause: Cause,
}

impl Supervisor {
    /// Takes what must be had before anything starts: the socket, the signals.
    pub fn new(plan: Plan) -> anyhow::Result<Self> {
        let listener = listen::bind(plan.listen)?;
        let address = listener.local_addr().context("cannot tell the port")?;
        let signals = os::signal::descriptor(&[Signal::INT.as_raw(), Signal::TERM.as_raw()]);
        Ok(Self {
            address,
            listener,
            signals: signals.context("cannot receive signals")?,
            gateway: Role::new("gateway", "gateway", plan.gateway.clone()),
            gateway_socket: None,
            shim: Role::new("shim", "shim", plan.shim.clone()).never_given_up(),
            shims: Shims::default(),
            broker: plan.broker.clone().map(broker),
            units: plan.units.iter().map(Unit::new).collect(),
            probe: Some(Probe::new(address)),
            was_ready: false,
            draining: None,
            cause: Cause::Signal,
            plan,
        })
    }

    /// The URL of the node.
    pub fn endpoint(&self) -> String {
        listen::endpoint(self.address)
    }

    /// Runs the node until a signal, or until `stop` becomes readable.
    pub fn run(&mut self, stop: Option<BorrowedFd<'_>>, mut tell: impl FnMut(Notice)) -> anyhow::Result<Cause> {
        let result = self.supervise(stop, &mut tell);
        if result.is_err() {
            // Whatever went wrong, what has been started is ended in order.
            self.draining = Some(Instant::now());
            self.gateway.end(TEAR_DOWN_NOW);
            self.end_units(TEAR_DOWN);
            self.supervise(None, &mut tell)?;
        }
        result.map(|()| self.cause)
    }

    fn supervise(&mut self, mut stop: Option<BorrowedFd<'_>>, tell: &mut impl FnMut(Notice)) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            self.act(now)?;
            if self.draining.is_some() && !self.gateway.runs() && !self.units_run() && !self.others_run() {
                return Ok(());
            }
            let woken = self.wait(now, stop)?;
            if woken.signal && rustix::io::read(&self.signals, &mut [0; SIGNAL_RECORD]).is_ok() {
                self.asked_to_end(tell);
            }
            if woken.stop {
                // Its writer is gone for good: it would wake us for ever.
                stop = None;
                if self.draining.is_none() {
                    self.cause = Cause::Stop;
                }
                self.asked_to_end(tell);
            }
            if woken.probe && self.probe.as_mut().is_some_and(Probe::hear) {
                (self.probe, self.was_ready) = (None, true);
                tell(Notice::Ready);
            }
            self.look_after_gateway()?;
            self.look_after_units()?;
            self.look_after_shims(now)?;
            self.look_after_broker()?;
        }
    }

    /// Starts what is due and ends what is overdue.
    fn act(&mut self, now: Instant) -> anyhow::Result<()> {
        self.gateway.enforce(now);
        self.shim.enforce(now);
        self.broker.iter_mut().for_each(|broker| broker.enforce(now));
        self.units.iter_mut().for_each(|unit| unit.role.enforce(now));
        if self.draining.is_some() {
            return Ok(());
        }
        if self.shim.is_due(now) {
            let control = self.shims.begin(0).context("cannot make a socket")?;
            self.shim.start(vec![control])?;
        }
        if let Some(broker) = self.broker.as_mut().filter(|broker| broker.is_due(now)) {
            broker.start_with_lifeline(Vec::new())?;
        }
        // A new gateway waits until the old one's instances are gone.
        if self.gateway.is_due(now) && !self.units_run() {
            self.start_gateway()?;
        }
        for at in 0..self.units.len() {
            if self.units[at].role.is_due(now) && self.gateway.runs() {
                self.start_unit(at)?;
            }
        }
        if let Some(probe) = &mut self.probe {
            probe.ask(now);
        }
        Ok(())
    }

    fn start_gateway(&mut self) -> anyhow::Result<()> {
        let (ours, theirs) = os::seqpacket::pair().context("cannot make a socket")?;
        let listener = self.listener.try_clone().context("cannot share the listening socket")?;
        self.gateway.start(vec![listener.into(), theirs])?;
        self.gateway_socket = Some(ours);
        Ok(())
    }

    fn start_unit(&mut self, at: usize) -> anyhow::Result<()> {
        let (for_gateway, for_worker) = os::seqpacket::pair().context("cannot make a socket")?;
        let Unit { pu, shim, role } = &mut self.units[at];
        let mut descriptors = vec![for_worker];
        if *shim {
            descriptors.push(self.shims.begin(*pu).context("cannot make a socket")?);
        }
        role.start_with_lifeline(descriptors)?;
        let Some(gateway) = &self.gateway_socket else { bail!("a worker was started without a gateway") };
        match os::seqpacket::send(gateway, &[IoSlice::new(&[b'w', *pu])], &[for_gateway.as_fd()]) {
            // A gateway that has just ended is noticed by its process.
            Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Err(error).context("cannot give the gateway its worker")
            }
            _ => Ok(()),
        }
    }

    fn wait(&self, now: Instant, stop: Option<BorrowedFd<'_>>) -> anyhow::Result<Woken> {
        let probe = self.probe.as_ref();
        let watched = [Some(self.signals.as_fd()), stop, probe.and_then(Probe::socket), self.gateway.process()];
        let units = self.units.iter().map(|unit| unit.role.process()).chain([self.shim.process()]);
        let units = units.chain(self.broker.iter().map(Role::process));
        let all = watched.into_iter().chain(units).chain(self.shims.descriptors().map(Some));
        let mut fds: Vec<PollFd<'_>> = all.map(|fd| polled(fd, &self.listener)).collect();
        let units = self.units.iter().map(|unit| unit.role.deadline()).chain(self.shims.deadlines());
        let broker = self.broker.as_ref().and_then(Role::deadline);
        let own = [probe.and_then(Probe::deadline), self.gateway.deadline(), self.shim.deadline(), broker];
        let deadlines = own.into_iter().chain(units);
        // What was due at `now` has been done, or waits for another daemon, whose end wakes us.
        let ahead: Vec<_> = deadlines.map(|deadline| deadline.filter(|&at| at > now)).collect();
        match poll(&mut fds, until(now, ahead).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the daemons"),
        }
        let [signal, stop, probe] = [0, 1, 2].map(|at: usize| !fds[at].revents().is_empty());
        Ok(Woken { signal, stop: stop && watched[1].is_some(), probe })
    }

    /// The first time: drains. Once more: at once.
    fn asked_to_end(&mut self, tell: &mut impl FnMut(Notice)) {
        let (draining, now) = (self.draining, Instant::now());
        match draining {
            // Who signals a process and its group means it once.
            Some(since) if now - since < SAME_REQUEST => return,
            Some(_) => self.end_units(TEAR_DOWN_NOW),
            None => tell(Notice::Draining),
        }
        self.draining = draining.or(Some(now));
        self.probe = None;
        self.gateway.end(if draining.is_some() { Duration::ZERO } else { self.plan.drain });
        if !self.gateway.runs() {
            self.end_units(TEAR_DOWN);
        }
    }

    fn units_run(&self) -> bool {
        self.units.iter().any(|unit| unit.role.runs())
    }

    fn others_run(&self) -> bool {
        self.shim.runs() || self.broker.as_ref().is_some_and(Role::runs)
    }

    fn end_units(&mut self, patience: Duration) {
        self.units.iter_mut().for_each(|unit| unit.role.end(patience));
        if self.draining.is_some() {
            self.shim.end(TEAR_DOWN_NOW);
            self.broker.iter_mut().for_each(|broker| broker.end(TEAR_DOWN_NOW));
        }
    }

    fn look_after_gateway(&mut self) -> anyhow::Result<()> {
        let Some((status, lived)) = self.gateway.reap()? else { return Ok(()) };
        self.gateway_socket = None;
        self.end_units(TEAR_DOWN);
        if self.draining.is_some() {
            info!(%status, "the gateway has ended");
            return Ok(());
        }
        revive(&mut self.gateway, status, lived, self.was_ready)
    }

    fn look_after_units(&mut self) -> anyhow::Result<()> {
        let (draining, gateway_runs) = (self.draining.is_some(), self.gateway.runs());
        for Unit { pu, role, .. } in &mut self.units {
            let Some((status, lived)) = role.reap()? else { continue };
            if *pu > 0 {
                self.shims.ended(*pu);
            }
            match (draining, gateway_runs) {
                (true, _) => info!(%status, "the {} has ended", role.name()),
                (false, false) => role.start_soon(),
                // The node lives without it, as long as that takes.
                (false, true) => revive(role, status, lived, self.was_ready || *pu > 0)?,
            }
        }
        Ok(())
    }

    fn look_after_shims(&mut self, now: Instant) -> anyhow::Result<()> {
        self.shims.hear(now);
        for pu in self.shims.overdue(now) {
            // The host's numbers all changes, and is given up by nobody.
            self.units.iter_mut().filter(|unit| unit.pu == pu && pu > 0).for_each(|unit| unit.role.end(TEAR_DOWN));
        }
        let Some((status, lived)) = self.shim.reap()? else { return Ok(()) };
        self.shims.ended(0);
        match self.draining {
            Some(_) => info!(%status, "the shim has ended"),
            None => revive(&mut self.shim, status, lived, true)?,
        }
        Ok(())
    }

    fn look_after_broker(&mut self) -> anyhow::Result<()> {
        let Some(broker) = &mut self.broker else { return Ok(()) };
        match (broker.reap()?, self.draining) {
            (Some((status, lived)), None) => revive(broker, status, lived, true),
            _ => Ok(()),
        }
    }

    /// The folder of this node.
    pub fn folder(&self) -> &DataFolder {
        &self.plan.folder
    }
}

impl Unit {
    fn new(plan: &UnitPlan) -> Self {
        let role = Role::new(plan.name.clone(), plan.verb, plan.arguments.clone());
        Self { pu: plan.pu, shim: plan.shim, role: if plan.pu > 0 { role.never_given_up() } else { role } }
    }
}

/// The broker of sockets, as a daemon: `lichen broker`, with these arguments.
pub fn broker(arguments: Vec<String>) -> Role {
    Role::new("broker", "broker", arguments).never_given_up()
}

/// Which descriptors had something to say. The daemons are asked every time.
struct Woken {
    signal: bool,
    stop: bool,
    probe: bool,
}

/// Each descriptor keeps its place: one that is not there is stood in for by one that is, and asks for nothing.
fn polled<'a>(descriptor: Option<BorrowedFd<'a>>, stand_in: &'a impl AsFd) -> PollFd<'a> {
    match descriptor {
        Some(descriptor) => PollFd::from_borrowed_fd(descriptor, PollFlags::IN),
        None => PollFd::new(stand_in, PollFlags::empty()),
    }
}

fn revive(role: &mut Role, status: ExitStatus, lived: Duration, was_ready: bool) -> anyhow::Result<()> {
    let name = role.name().to_owned();
    if status.code() == Some(STATUS_WRONG_USAGE) && !was_ready {
        return Err(wrong(format!("the {name} cannot start as asked: what it said is above")));
    }
    match role.restart(lived, was_ready) {
        Next::StartAfter(pause) => {
            warn!(role = name.as_str(), %status, pause_ms = pause.as_millis() as u64, "ended: starting it again");
            Ok(())
        }
        Next::GiveUp => {
            bail!("the {name} cannot start ({status}): what it said is above; `lichen doctor` may tell more")
        }
    }
}
