//! `lichen join`: this machine is a processing unit of another one's node, for as long as this runs.
//!
//! ```text
//!            ╭───────────── pause ◀── worker ended ◀── link, or worker, gone ─╮
//!            ▼                                                                │
//!   join ─▶ dial ──────────────────────────────────▶ link ─▶ worker started ──┴──▶ asked to end: worker ended
//! ```
//!
//! The worker's shim goes with it, and calls the node's shim by itself. One life of the link is one life of both: what it had for the node is of no use to the node's next one.

use super::serve::{SHIM_SOCKET, libraries};
use super::settings::Settings;
use super::{carrier, invite};
use crate::supervisor::folder::DataFolder;
use crate::supervisor::role::Role;
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::Args;
use daemon::telemetry;
use interconnect::link::tcp::Tcp;
use interconnect::link::tcp::dial::{self, DialError};
use interconnect::link::tcp::dialer::{Dialer, Dialled};
use interconnect::link::tcp::identity::Identity;
use interconnect::link::tcp::token::Token;
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::process::Signal;
use shim::control::Supervisor as Control;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use tracing::{info, warn};
use worker::remote::{Far, Store};

/// How long joining may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the worker may take to remove its sandboxes.
const TEAR_DOWN: Duration = Duration::from_secs(10);
/// From the end of one worker to the next.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct Arguments {
    /// What `lichen pu token NAME` has printed on the node's machine; not needed again once it has joined
    token: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

pub fn act(arguments: Arguments) -> Verdict {
    let config = arguments.settings.config(None)?;
    telemetry::start(&config.log).map_err(|error| wrong(error.to_string()))?;
    let folder = DataFolder::take(&config.node.data_dir)?;
    let identity = identity(arguments.token.as_deref(), &invite::folder(folder.path()))?;
    let settings = Settings { data_dir: Some(folder.path().to_owned()), ..arguments.settings };
    // Before there is a second thread, which would get the signals instead.
    let signals = os::signal::descriptor(&[Signal::INT.as_raw(), Signal::TERM.as_raw()]);
    let signals = signals.context("cannot receive signals")?;
    let greeting = format!("lichen is PU {} of the node at {}\n", identity.pu, identity.addresses.join(" or "));
    let (worker, shim) = roles(identity.pu, folder.path(), &settings)?;
    let store = Store::new(&folder.path().join("code-of-head")).context("cannot make room for functions' code")?;
    let dialer = Dialer::start(identity).context("cannot start a thread")?;
    // A terminal that is gone is no reason to end.
    let _ = std::io::stdout().lock().write_all(greeting.as_bytes());
    Membership { signals, worker, shim, store: Some(store), dialer }.run()
}

/// Who this machine is: by a token, or as before.
fn identity(token: Option<&str>, folder: &Path) -> anyhow::Result<Identity> {
    let kept = Identity::load(folder).context("cannot read what was kept of this membership")?;
    let Some(text) = token else {
        return kept.ok_or_else(|| {
            wrong("this machine has not joined a node: get a token there with `lichen pu token NAME`, and give it to `lichen join`")
        });
    };
    let token: Token = text.parse().map_err(|error| wrong(format!("{error}")))?;
    match (dial::join(&token, PATIENCE), kept) {
        (Ok(identity), _) => {
            identity.keep(folder).context("cannot keep this membership")?;
            Ok(identity)
        }
        // The same command again, as a service is started.
        (Err(DialError::Unknown | DialError::Expired), Some(kept)) if kept.is_of(&token) => Ok(kept),
        (Err(error), _) => Err(error).context("cannot join"),
    }
}

/// The worker, and the shim that its instances attach to.
fn roles(pu: u8, folder: &Path, settings: &Settings) -> anyhow::Result<(Role, Role)> {
    let (stage, meeting) = (folder.join("stage"), folder.join("shim"));
    for folder in [&stage, &meeting] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let (pu, socket) = (format!("--pu={pu}"), meeting.join(SHIM_SOCKET));
    let worker = [
        pu.clone(),
        format!("--stage={}", stage.display()),
        format!("--libraries={}", libraries()?.display()),
        format!("--shim={}", socket.display()),
    ];
    let shim = [pu, format!("--socket={}", socket.display()), "--remote".to_owned()];
    let worker = worker.into_iter().chain(settings.arguments()).collect();
    let shim = shim.into_iter().chain(settings.arguments()).collect();
    Ok((Role::new("worker", "worker", worker), Role::new("shim", "shim", shim)))
}

/// What this machine has of being a PU.
struct Membership {
    signals: OwnedFd,
    worker: Role,
    shim: Role,
    /// Away while it is used.
    store: Option<Store>,
    dialer: Dialer,
}

impl Membership {
    fn run(mut self) -> Verdict {
        loop {
            match self.dialer.take() {
                Some(Dialled::Link(link)) => {
                    self.serve(*link)?;
                    if wait(&[self.signals.as_fd()], Some(PAUSE)) {
                        return Ok(Exit::Done);
                    }
                    self.dialer.again();
                }
                Some(Dialled::Failed(error)) => warn!(error = %with_causes(&error), "the node cannot be reached"),
                Some(Dialled::Refused(error)) => return Err(error).context("the node refuses this machine"),
                None => {
                    wait(&[self.signals.as_fd(), self.dialer.poll_fd()], None);
                    if wait(&[self.signals.as_fd()], Some(Duration::ZERO)) {
                        return Ok(Exit::Done);
                    }
                }
            }
        }
    }

    /// One life of the link and the worker.
    fn serve(&mut self, link: Tcp) -> anyhow::Result<()> {
        let link = match carrier::follow(link) {
            Ok(link) => link,
            Err(error) => {
                warn!("no work for the node: {error:#}");
                return Ok(());
            }
        };
        info!(tier = %link.tier(), "linked with the node");
        let (ours, workers) = os::seqpacket::pair().context("cannot make a socket")?;
        let store = self.store.take().context("the functions' code is in use")?;
        // The shim's end is its control's: it goes with this life.
        let (control, controls) = Control::pair().context("cannot make a socket")?;
        self.shim.start(vec![controls])?;
        self.worker.start_with_lifeline(vec![workers])?;
        let stop = self.stop().context("cannot wait for several things")?;
        let (store, result) = Far::new(ours, link, store).run(stop.as_fd());
        self.store = Some(store);
        match result {
            Err(error) => warn!(error = %with_causes(&error), "no longer linked with the node"),
            Ok(()) if self.shim.reap()?.is_some() => warn!("the shim has ended, and the worker with it"),
            Ok(()) => {}
        }
        end(&mut self.worker)?;
        drop(control);
        end(&mut self.shim)
    }

    /// Readable when this is to end, or the shim has ended.
    fn stop(&self) -> rustix::io::Result<OwnedFd> {
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for descriptor in [Some(self.signals.as_fd()), self.shim.process()].into_iter().flatten() {
            epoll::add(&both, descriptor, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        }
        Ok(both)
    }
}

/// Ends a daemon, and waits for its end.
fn end(role: &mut Role) -> anyhow::Result<()> {
    role.end(TEAR_DOWN);
    while role.runs() && role.reap()?.is_none() {
        let now = Instant::now();
        role.enforce(now);
        let left = role.deadline().map(|at| at.saturating_duration_since(now));
        let Some(process) = role.process() else { break };
        wait(&[process], left.or(Some(TEAR_DOWN)));
    }
    Ok(())
}

/// Waits until one of these has something to say: whether one has.
fn wait(descriptors: &[BorrowedFd<'_>], most: Option<Duration>) -> bool {
    let mut fds: Vec<_> = descriptors.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = most.and_then(|most| most.try_into().ok());
    poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

/// An error with what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
