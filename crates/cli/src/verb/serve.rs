//! `lichen serve`: a node of this machine, for as long as it is wanted.

use super::settings::Settings;
use crate::broker;
use crate::supervisor::folder::DataFolder;
use crate::supervisor::{Notice, Plan, Supervisor, UnitPlan};
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use api::Client;
use clap::Args;
use daemon::pu::{Pu, Pus, Tier};
use daemon::telemetry;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The name of a shim's socket, in a folder of its own.
pub const SHIM_SOCKET: &str = "shim.sock";
/// What the gateway has, beyond the time it gives to running invocations, when the node ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to listen for HTTP [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    settings: Settings,
}

pub fn act(arguments: Arguments) -> Verdict {
    let Arguments { listen, settings } = arguments;
    let config = settings.config(listen)?;
    telemetry::start(&config.log).map_err(|error| wrong(error.to_string()))?;
    let folder = DataFolder::take(&config.node.data_dir)?;
    let drain = Duration::from_secs(config.http.drain_s) + LAST_WORDS;
    // A node lives without one: its folder lies where others may have been before.
    let place = config.socket.broker.then(broker::place).transpose().unwrap_or_else(|error| {
        tracing::warn!("the node has no broker of sockets: {error:#}");
        None
    });
    let broker = place.is_some().then(|| settings.arguments());
    let mut plan = plan(config.node.listen, &config.pus, folder, settings, drain)?;
    plan.gateway.extend(place.map(|place| format!("--broker={}", place.display())));
    let mut supervisor = Supervisor::new(Plan { broker, ..plan })?;
    let endpoint = supervisor.endpoint();
    let place = supervisor.folder().path().to_owned();
    supervisor.run(None, |notice| match notice {
        // A terminal that is gone is no reason to end the node.
        Notice::Ready => {
            drop(std::io::stdout().lock().write_all(greeting(&endpoint, &place).as_bytes()));
            os::resident::let_go();
        }
        Notice::Draining if std::io::stderr().is_terminal() => {
            eprintln!("lichen: finishing what runs; once more to end at once");
        }
        Notice::Draining => {}
    })?;
    Ok(Exit::Done)
}

/// What to start for a node like this.
pub fn plan(
    listen: SocketAddr,
    pus: &Pus,
    folder: DataFolder,
    settings: Settings,
    drain: Duration,
) -> anyhow::Result<Plan> {
    let settings = Settings { data_dir: Some(folder.path().to_owned()), ..settings };
    let libraries = libraries()?.display().to_string();
    let shims = folder.path().join("shims");
    for pu in pus.all() {
        let folder = shims.join(&pu.name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let socket = |pu: &Pu| shims.join(&pu.name).join(SHIM_SOCKET).display().to_string();
    let memory = shims.join("changes").display().to_string();
    let shim = ["--pu", "0", "--socket", &socket(pus.host()), "--memory", &memory].map(str::to_owned);
    let remote = pus.all().iter().any(|pu| pu.tier == Tier::Remote).then(|| "--remote".to_owned());
    let shim = shim.into_iter().chain(remote).chain(settings.arguments()).collect();
    let mut units = Vec::new();
    for (number, pu) in pus.iter() {
        if pu.tier == Tier::Remote {
            // Its worker is started where it is; here it arrives.
            let arguments = [format!("--pu={number}")].into_iter().chain(settings.arguments()).collect();
            let name = format!("PU {}", pu.name);
            units.push(UnitPlan { pu: number, shim: false, name, verb: "pier", arguments });
            continue;
        }
        let (name, verb, stage) = match pu.tier {
            Tier::Host => ("worker".to_owned(), "worker", folder.path().join("stage")),
            _ => (format!("PU {}", pu.name), "unit", folder.path().join("stages").join(&pu.name)),
        };
        std::fs::create_dir_all(&stage).with_context(|| format!("cannot make {}", stage.display()))?;
        let number_text = number.to_string();
        let (stage, shim) = (stage.display().to_string(), socket(pu));
        let own = ["--pu", &number_text, "--stage", &stage, "--libraries", &libraries, "--shim", &shim];
        let arguments = own.map(str::to_owned).into_iter().chain(settings.arguments()).collect();
        units.push(UnitPlan { pu: number, shim: number > 0, name, verb, arguments });
    }
    let gateway = ["--shim".to_owned(), socket(pus.host())].into_iter().chain(settings.arguments()).collect();
    Ok(Plan { listen, folder, gateway, shim, broker: None, units, drain })
}

/// The folder of the language runtimes' libraries: beside this program, or where packages put them.
pub fn libraries() -> anyhow::Result<PathBuf> {
    const ONE_OF_THEM: &str = "liblichen_python.so";
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = program.parent().context("this program is in no folder")?;
    let candidates = [beside.to_owned(), beside.join("../lib/lichen"), PathBuf::from("/usr/lib/lichen")];
    let found = candidates.iter().find(|folder| folder.join(ONE_OF_THEM).exists()).cloned();
    found.with_context(|| {
        let folders: Vec<String> = candidates.iter().map(|folder| folder.display().to_string()).collect();
        format!("{ONE_OF_THEM} is in none of {}: build or install all of Lichen", folders.join(", "))
    })
}

/// What a person wants to know when the node is ready.
fn greeting(endpoint: &str, folder: &std::path::Path) -> String {
    let missing = Client::new(endpoint).ok().and_then(|client| client.node().ok()).map(|node| node.missing);
    let mut text = format!(
        "lichen is ready at {endpoint}, with its data in {}\n\n  \
         lichen deploy PATH --name NAME\n  \
         aws lambda list-functions --endpoint-url {endpoint} --region us-east-1 --no-sign-request\n",
        folder.display()
    );
    for sentence in missing.iter().flatten() {
        text.push_str(&format!("\nnot here: {sentence}"));
    }
    text.push('\n');
    text
}
