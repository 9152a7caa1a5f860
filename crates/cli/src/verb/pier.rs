//! The role `lichen pier`: where the worker of one remote processing unit arrives. Not for people.
//!
//! For the gateway it is that PU's worker; it waits for the other machine, and passes on what either says. One life of it
//! is one life of that worker: it ends with the link, and the supervisor starts the next.

use super::settings::Settings;
use super::{carrier, invite};
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::Args;
use daemon::telemetry;
use interconnect::link::fabric::Provider;
use interconnect::link::tcp::authority::Authority;
use interconnect::link::tcp::listen::{Arrival, Listener};
use os::child;
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, OwnedFd};
use tracing::{info, warn};
use worker::remote::Near;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of the PU
    #[arg(long)]
    pu: u8,
    #[command(flatten)]
    settings: Settings,
}

pub fn act(arguments: Arguments) -> Verdict {
    os::process::set_name(c"lichen-pier");
    let absent = |what| format!("no {what}: this role is started by `lichen serve`");
    let gateway = child::take(child::FIRST_DESCRIPTOR).with_context(|| absent("connection"))?;
    let lifeline = child::take(child::FIRST_DESCRIPTOR + 1).with_context(|| absent("lifeline"))?;
    let config = arguments.settings.config(None)?;
    telemetry::start(&config.log).map_err(|error| wrong(error.to_string()))?;
    let fabric = match config.remote.fabric.as_str() {
        "" => None,
        name => Some(Provider::of(name).ok_or_else(|| wrong(unknown(name)))?),
    };
    let address = config.remote.address(arguments.pu);
    let address = address.ok_or_else(|| wrong("`listen` in [remote] leaves no port for this PU"))?;
    let authority = Authority::open(&invite::folder(&config.node.data_dir)).context("cannot open the authority")?;
    // It listens until the end: it is what ends the link of a PU that was revoked, or has come anew.
    let mut listener = Listener::bind(address, authority)?;
    info!(pu = arguments.pu, %address, "waiting for a remote PU");
    let Some(Arrival { from, link, .. }) = arrival(&mut listener, arguments.pu, &lifeline) else {
        return Ok(Exit::Done);
    };
    info!(pu = arguments.pu, %from, "a remote PU has come");
    let link = carrier::choose(link, fabric).context("a remote PU cannot be worked with")?;
    info!(pu = arguments.pu, tier = %link.tier(), "linked with a remote PU");
    match Near::new(gateway, link).run(lifeline.as_fd()) {
        Ok(()) => Ok(Exit::Done),
        Err(error) => Err(error).context("a remote PU is gone"),
    }
}

fn unknown(name: &str) -> String {
    let known = Provider::ALL.map(Provider::name).join(", ");
    format!("`fabric` in [remote] is {name:?}, and there are {known}; \"\" for none")
}

/// Waits for this PU; nothing when it is time to end.
fn arrival(listener: &mut Listener, pu: u8, lifeline: &OwnedFd) -> Option<Arrival> {
    loop {
        while let Some(arrival) = listener.take() {
            if arrival.pu == pu {
                return Some(arrival);
            }
            warn!(pu = arrival.pu, from = %arrival.from, "another PU has come to this one's port, and is sent away");
        }
        let mut fds =
            [PollFd::new(lifeline, PollFlags::IN), PollFd::from_borrowed_fd(listener.poll_fd(), PollFlags::IN)];
        let _ = poll(&mut fds, None);
        if !fds[0].revents().is_empty() {
            return None;
        }
    }
}
