//! One daemon, kept running beside whatever else this process does.

use super::role::Role;
use super::{polled, revive, until};
use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{PipeReader, PipeWriter};
use std::thread;
use std::time::Instant;
use tracing::warn;

/// What is kept running until this is dropped.
pub struct Kept {
    _lifeline: PipeWriter,
}

/// Keeps it running, from a thread of its own, until what this gives is dropped, or this process ends; it ends with its lifeline.
pub fn keep(mut role: Role) -> anyhow::Result<Kept> {
    let (stop, lifeline) = std::io::pipe().context("cannot make a pipe")?;
    let keeping = thread::Builder::new().name("keeper".to_owned());
    let kept = keeping.spawn(move || {
        while let Err(error) = turn(&mut role, &stop) {
            warn!("{error:#}");
            role.restart(std::time::Duration::ZERO, true);
        }
    });
    kept.map(|_| Kept { _lifeline: lifeline }).context("cannot start a thread")
}

/// Looks after it until it is to end, or something cannot be done.
fn turn(role: &mut Role, stop: &PipeReader) -> anyhow::Result<()> {
    loop {
        let now = Instant::now();
        if role.is_due(now) {
            role.start_with_lifeline(Vec::new())?;
        }
        // It stands in for the daemon while there is none.
        let mut woken = [PollFd::new(stop, PollFlags::IN), polled(role.process(), stop)];
        match poll(&mut woken, until(now, [role.deadline()]).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for a daemon"),
        }
        if !woken[0].revents().is_empty() {
            return Ok(());
        }
        if let Some((status, lived)) = role.reap()? {
            revive(role, status, lived, true)?;
        }
    }
}
