//! Roles of this program that are not for people: `lichen gateway` and `lichen worker`, as `lichen serve` starts them, and
//! the other end of what `lichen bench` measures.

use super::settings::Settings;
use crate::broker::Ways;
use crate::pu::{Connections, Found, Typed};
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::Args;
use daemon::telemetry;
use os::child;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct GatewayArguments {
    /// Where the host's shim listens
    #[arg(long)]
    shim: Option<PathBuf>,
    /// Where the broker of sockets listens
    #[arg(long)]
    broker: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// What a worker has to know, wherever it runs.
#[derive(Clone, Debug, Args)]
pub struct WorkerArguments {
    /// The number of its PU
    #[arg(long, default_value_t = 0)]
    pu: u8,
    /// An empty folder, to stage the sandboxes' root on
    #[arg(long)]
    stage: PathBuf,
    /// The folder of the language runtimes' libraries
    #[arg(long)]
    libraries: PathBuf,
    /// Where processes of its PU attach to their shim
    #[arg(long)]
    shim: PathBuf,
    /// Why there is no way out of its PU; nothing where there is one
    #[arg(long)]
    no_egress: Option<String>,
    /// What else cannot be enforced there
    #[arg(long)]
    missing: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

impl WorkerArguments {
    /// The same for the shim of its PU, which is not the head.
    fn typed_for_shim(&self) -> Vec<String> {
        let own = [("--pu", self.pu.to_string()), ("--socket", self.shim.display().to_string())];
        own.map(|(name, value)| format!("{name}={value}")).into_iter().chain(self.settings.arguments()).collect()
    }

    /// As they are typed, with what was found out of the PU.
    fn typed(&self, found: &Found) -> Vec<String> {
        let own = [
            ("--pu", self.pu.to_string()),
            ("--stage", self.stage.display().to_string()),
            ("--libraries", self.libraries.display().to_string()),
            ("--shim", self.shim.display().to_string()),
        ];
        let no_egress = found.no_egress.iter().map(|why| ("--no-egress", why.clone()));
        let missing = found.missing.iter().map(|sentence| ("--missing", sentence.clone()));
        let options = own.into_iter().chain(no_egress).chain(missing);
        options.map(|(name, value)| format!("{name}={value}")).chain(self.settings.arguments()).collect()
    }
}

/// A PU that is a part of this machine: makes it, and is there as long as it is.
pub fn unit(arguments: WorkerArguments) -> Verdict {
    os::process::set_name(c"lichen-pu");
    let socket = handed_over(child::FIRST_DESCRIPTOR, "connection")?;
    let control = handed_over(child::FIRST_DESCRIPTOR + 1, "control of the shim")?;
    let lifeline = handed_over(child::FIRST_DESCRIPTOR + 2, "lifeline")?;
    let config = arguments.settings.config(None)?;
    telemetry::start(&config.log).map_err(|error| wrong(error.to_string()))?;
    let Some(spec) = config.pus.all().get(usize::from(arguments.pu)) else {
        return Err(wrong(format!("the configuration has no PU {}", arguments.pu)));
    };
    let typed = |found: &Found| Typed { worker: arguments.typed(found), shim: arguments.typed_for_shim() };
    crate::pu::run(spec, &typed, Connections { worker: socket, shim: control }, &lifeline)?;
    Ok(Exit::Done)
}

#[derive(Debug, Args)]
pub struct BrokerArguments {
    /// The folder in which split networks are remembered
    #[arg(long, default_value = net::split::client::FOLDER)]
    networks: PathBuf,
    /// One of them, whose users it serves
    #[arg(long)]
    network: Option<String>,
    /// The folder of those users' sockets
    #[arg(long, default_value = net::broker::doors::FOLDER)]
    users: PathBuf,
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
    let neighbours = gateway::Neighbours { shim: arguments.shim, broker: arguments.broker };
    gateway::run(config, listener, supervisor, neighbours)?;
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
        unit: sandbox::container::Unit {
            number: arguments.pu,
            shim: arguments.shim.parent().map(Path::to_owned),
            no_egress: arguments.no_egress,
            missing: arguments.missing,
        },
    };
    worker::role::run(&settings, config.engines, arguments.shim, socket, lifeline)?;
    Ok(Exit::Done)
}

pub fn broker(arguments: BrokerArguments) -> Verdict {
    os::process::set_name(c"lichen-broker");
    let lifeline = handed_over(child::FIRST_DESCRIPTOR, "lifeline")?;
    let config = arguments.settings.config(None)?;
    telemetry::start(&config.log).map_err(|error| wrong(error.to_string()))?;
    // One for each process, and some for each memory.
    os::process::raise_descriptors();
    let users = match &arguments.network {
        Some(name) => {
            let known = net::split::known(&arguments.networks).context("networks cannot be read")?;
            let known = known.into_iter().find(|known| known.name == *name);
            Some((arguments.users, known.with_context(|| format!("there is no network {name}"))?))
        }
        None => None,
    };
    let ways = Ways { networks: Some(arguments.networks), users, ..Ways::of(&config.socket) };
    crate::broker::run(ways, lifeline)?;
    Ok(Exit::Done)
}

pub fn bench_peer(arguments: BenchPeerArguments) -> Verdict {
    let BenchPeerArguments { medium, address, cpu } = arguments;
    match medium.as_str() {
        bench::sockets::SERVE | bench::sockets::CALL => bench::sockets::run_peer(&medium, &address, cpu)?,
        bench::pure::bare::LOOP => bench::pure::bare::run(&address)?,
        bench::mesh::SERVE | bench::mesh::CALL => bench::mesh::run_peer(&medium, &address, cpu)?,
        _ => bench::nipc::run_peer(&medium, &address, cpu)?,
    }
    Ok(Exit::Done)
}

fn handed_over(number: i32, what: &str) -> anyhow::Result<OwnedFd> {
    child::take(number).with_context(|| format!("no {what}: this role is started by `lichen serve`"))
}
