//! Roles of this program that are not for people: `lichen gateway` and `lichen worker`, as `lichen serve` starts them, and
//! the other end of what `lichen bench` measures.

use super::settings::Settings;
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use bench::nipc::PeerMedium;
use clap::Args;
use daemon::telemetry;
use os::child;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct GatewayArguments {
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub struct WorkerArguments {
    /// An empty folder, to stage the sandboxes' root on
    #[arg(long)]
    stage: PathBuf,
    /// The folder of the language runtimes' libraries
    #[arg(long)]
    libraries: PathBuf,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub struct BenchPeerArguments {
    /// What the way is made of
    medium: String,
    /// Where the other end waits
    address: String,
    /// The processor to run on
    cpu: usize,
}

pub fn gateway(arguments: GatewayArguments) -> Verdict {
    os::process::set_name(c"lichen-gateway");
    let listener = handed_over(child::FIRST_DESCRIPTOR, "listening socket")?;
    let supervisor = handed_over(child::FIRST_DESCRIPTOR + 1, "supervisor")?;
    let config = arguments.settings.config(None)?;
    telemetry::start(&config.log).map_err(|error| wrong(error.to_string()))?;
    gateway::run(config, listener, supervisor)?;
    Ok(Exit::Done)
}

pub fn worker(arguments: WorkerArguments) -> Verdict {
    os::process::set_name(c"lichen-worker");
    let socket = handed_over(child::FIRST_DESCRIPTOR, "connection")?;
    let lifeline = handed_over(child::FIRST_DESCRIPTOR + 1, "lifeline")?;
    let config = arguments.settings.config(None)?;
    telemetry::start(&config.log).map_err(|error| wrong(error.to_string()))?;
    let sdk = config.runtime.sdk(&config.node.data_dir);
    let settings = sandbox::container::Settings {
        stage: arguments.stage,
        libraries: arguments.libraries,
        sdk,
        interpreters: config.runtime.interpreters,
    };
    worker::role::run(&settings, socket, lifeline)?;
    Ok(Exit::Done)
}

pub fn bench_peer(arguments: BenchPeerArguments) -> Verdict {
    let medium = PeerMedium::of(&arguments.medium);
    let medium = medium.ok_or_else(|| wrong(format!("there is no way called {}", arguments.medium)))?;
    bench::nipc::run_peer(medium, &arguments.address, arguments.cpu)?;
    Ok(Exit::Done)
}

fn handed_over(number: i32, what: &str) -> anyhow::Result<OwnedFd> {
    child::take(number).with_context(|| format!("no {what}: this role is started by `lichen serve`"))
}
