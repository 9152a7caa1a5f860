//! The role `lichen shim`: the XPU-Shim of one PU, as its supervisor starts it. Not for people.
//!
//! Descriptor 3 is the connection to the supervisor (`shim::control`): links come over it, and its hang-up is the end.

use super::invite;
use super::settings::Settings;
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::Args;
use daemon::telemetry;
use interconnect::link::tcp::authority::Authority;
use interconnect::link::tcp::dialer::Dialer;
use interconnect::link::tcp::identity::Identity;
use interconnect::link::tcp::listen::Listener;
use os::child;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
    /// Shims of remote PUs come here; or, of one of these: the head's is elsewhere
    #[arg(long)]
    remote: bool,
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
    let membership = invite::folder(&config.node.data_dir);
    let mut shim = shim::Shim::open(own)?;
    shim.obey(control)?;
    match (arguments.remote, arguments.pu) {
        (false, _) => {}
        (true, 0) => expect(&mut shim, config.remote.listen, &membership),
        (true, pu) => {
            let identity = Identity::load(&membership).context("cannot read what was kept of this membership")?;
            let identity = identity.context("this machine has not joined a node")?;
            // Where the head's own shim is: as PU 0's.
            shim.dial(Dialer::start(identity.at_lower_ports(pu.into()))?)?;
        }
    }
    os::resident::let_go();
    shim.run();
    Ok(Exit::Done)
}

/// Listens for shims of remote PUs. Without them those here still do their work.
fn expect(shim: &mut shim::Shim, address: SocketAddr, membership: &Path) {
    let listener = Authority::open(membership).map_err(anyhow::Error::from).and_then(|authority| {
        let listener = Listener::bind(address, authority)?;
        Ok(shim.expect(listener)?)
    });
    if let Err(error) = listener {
        tracing::error!("shims of remote PUs cannot come: {error:#}");
    }
}
