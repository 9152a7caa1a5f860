//! One daemon: this same program in another role, as a child process.

use super::backoff::{Backoff, Next};
use anyhow::Context;
use rustix::process::{Signal, pidfd_send_signal};
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// A daemon that should be running.
pub struct Role {
    /// For people.
    name: String,
    /// The verb, and what follows it.
    arguments: Vec<String>,
    running: Option<Running>,
    backoff: Backoff,
    /// When to start it, while it does not run.
    due: Option<Instant>,
    /// When to end it without further words.
    kill_at: Option<Instant>,
}

struct Running {
    child: Child,
    process: OwnedFd,
    /// Closing it asks the daemon to end; one that has none is sent a signal.
    lifeline: Option<PipeWriter>,
    since: Instant,
}

impl Role {
    /// A daemon that is due now.
    pub fn new(name: impl Into<String>, verb: &str, arguments: Vec<String>) -> Self {
        let (name, due) = (name.into(), Some(Instant::now()));
        let arguments = [verb.to_owned()].into_iter().chain(arguments).collect();
        Self { name, arguments, running: None, backoff: Backoff::default(), due, kill_at: None }
    }

    /// One whose end concerns nobody else, and which is tried again for as long as it takes.
    pub fn never_given_up(mut self) -> Self {
        self.backoff = Backoff::patient();
        self
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn runs(&self) -> bool {
        self.running.is_some()
    }

    pub fn is_due(&self, now: Instant) -> bool {
        self.running.is_none() && self.due.is_some_and(|due| due <= now)
    }

    /// The next time at which something has to be done about it.
    pub fn deadline(&self) -> Option<Instant> {
        if self.runs() { self.kill_at } else { self.due }
    }

    /// Polls readable when it has ended.
    pub fn process(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|running| running.process.as_fd())
    }

    /// Starts it with these descriptors at 3, 4 and so on. It ends in good order on SIGTERM.
    pub fn start(&mut self, descriptors: Vec<OwnedFd>) -> anyhow::Result<()> {
        self.launch(descriptors, None)
    }

    /// Starts it with these descriptors, and its lifeline behind them. It ends in good order when that closes.
    pub fn start_with_lifeline(&mut self, mut descriptors: Vec<OwnedFd>) -> anyhow::Result<()> {
        let (theirs, ours) = io::pipe().context("cannot make a pipe")?;
        descriptors.push(theirs.into());
        self.launch(descriptors, Some(ours))
    }

    fn launch(&mut self, descriptors: Vec<OwnedFd>, lifeline: Option<PipeWriter>) -> anyhow::Result<()> {
        // The file may have been replaced since: the roles must be of one version.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("lichen").args(&self.arguments);
        // Ctrl-C is for the supervisor, who ends the daemons in order.
        os::child::in_own_session(&mut command);
        os::child::hand_over(&mut command, descriptors);
        let child = command.spawn().with_context(|| format!("cannot start the {}", self.name))?;
        let process = os::pidfd::open(child.id() as i32).with_context(|| format!("cannot watch the {}", self.name))?;
        info!(role = self.name.as_str(), pid = child.id(), "started");
        self.running = Some(Running { child, process, lifeline, since: Instant::now() });
        (self.due, self.kill_at) = (None, None);
        Ok(())
    }

    /// Asks it to end, and ends it if it has not within `patience`. A later call can only shorten the time.
    pub fn end(&mut self, patience: Duration) {
        let Some(running) = &mut self.running else { return };
        if patience.is_zero() {
            signal(&running.process, Signal::KILL, &self.name);
            return;
        }
        let at = Instant::now() + patience;
        if self.kill_at.is_none() && running.lifeline.take().is_none() {
            signal(&running.process, Signal::TERM, &self.name);
        }
        self.kill_at = Some(self.kill_at.map_or(at, |before| before.min(at)));
    }

    /// Ends it if its time is over.
    pub fn enforce(&mut self, now: Instant) {
        if let (Some(running), true) = (&self.running, self.kill_at.is_some_and(|at| at <= now)) {
            warn!(role = self.name.as_str(), "did not end in time: killed");
            signal(&running.process, Signal::KILL, &self.name);
            self.kill_at = None;
        }
    }

    /// What became of it, if it has ended.
    pub fn reap(&mut self) -> anyhow::Result<Option<(ExitStatus, Duration)>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        let ended = running.child.try_wait().with_context(|| format!("cannot watch the {}", self.name))?;
        let Some(status) = ended else { return Ok(None) };
        let lived = running.since.elapsed();
        self.running = None;
        Ok(Some((status, lived)))
    }

    /// It will be started again, unless there is no point.
    pub fn restart(&mut self, lived: Duration, was_ready: bool) -> Next {
        let next = self.backoff.ended(lived, was_ready);
        if let Next::StartAfter(pause) = next {
            self.due = Some(Instant::now() + pause);
        }
        next
    }

    /// It will be started as soon as may be, through no fault of its own.
    pub fn start_soon(&mut self) {
        self.due = Some(Instant::now());
    }
}

impl Drop for Role {
    /// Whatever goes wrong up here, no daemon stays behind.
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            signal(&running.process, Signal::KILL, &self.name);
            // Its status no longer matters.
            let _ = running.child.wait();
        }
    }
}

fn signal(process: &OwnedFd, signal: Signal, name: &str) {
    // One that has ended already is fine: its descriptor says so next.
    if let Err(error) = pidfd_send_signal(process, signal) {
        info!(role = name, %error, "could not be signalled");
    }
}
