//! The role `lichen shim`: the XPU-Shim of one PU, as its supervisor starts it. Not for people.
//!
//! Descriptor 3 is the connection to the supervisor (`shim::control`): links come over it, and its hang-up is the end.

use super::settings::Settings;
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::Args;
use daemon::telemetry;
use os::child;
use std::path::PathBuf;
use xpucall::id::PuId;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The number of the PU: 0 is the head
    #[arg(long)]
    pu: u8,
    /// Where processes attach
    #[arg(long)]
    socket: PathBuf,
    /// Of the head: the file in which it writes down what its next life must know
    #[arg(long, required_if_eq("pu", "0"))]
    memory: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

pub fn act(arguments: Arguments) -> Verdict {
    os::process::set_name(c"lichen-shim");
    let control =
        child::take(child::FIRST_DESCRIPTOR).context("no supervisor: this role is started by `lichen serve`")?;
    let config = arguments.settings.config(None)?;
    telemetry::start(&config.log).map_err(|error| wrong(error.to_string()))?;
    // A descriptor or two for each lane.
    os::process::raise_descriptors();
    let mut own = shim::Config::new(PuId(arguments.pu), arguments.socket);
    own.memory = arguments.memory;
    own.quotas = config.shim;
    let mut shim = shim::Shim::open(own)?;
    shim.obey(control)?;
    shim.run();
    Ok(Exit::Done)
}
