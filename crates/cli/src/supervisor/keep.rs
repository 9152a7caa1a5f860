//! One daemon, kept running beside whatever else this process does.

use super::role::Role;
use super::{polled, revive, until};
use anyhow::Context;
use rustix::event::poll;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Instant;
use tracing::warn;

/// Keeps it running, from a thread of its own, for as long as this process lives; it ends with its lifeline.
pub fn keep(mut role: Role) -> anyhow::Result<()> {
    // Stands in for the daemon while there is none.
    let nobody = OwnedFd::from(std::io::pipe().context("cannot make a pipe")?.0);
    let keeping = thread::Builder::new().name("keeper".to_owned());
    let kept = keeping.spawn(move || {
        while let Err(error) = turn(&mut role, &nobody) {
            warn!("{error:#}");
            role.restart(std::time::Duration::ZERO, true);
        }
    });
    kept.map(drop).context("cannot start a thread")
}

/// Looks after it until something cannot be done.
fn turn(role: &mut Role, nobody: &OwnedFd) -> anyhow::Result<()> {
    loop {
        let now = Instant::now();
        if role.is_due(now) {
            role.start_with_lifeline(Vec::new())?;
        }
        match poll(&mut [polled(role.process(), nobody)], until(now, [role.deadline()]).as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for a daemon"),
        }
        if let Some((status, lived)) = role.reap()? {
            revive(role, status, lived, true)?;
        }
    }
}
