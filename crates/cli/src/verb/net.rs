//! `lichen net`: networks of Pods, whose halves stand on several processing units, and the daemon that keeps them.

use crate::print::{self, Format, Output, Table};
use crate::supervisor::{self, Kept, keep};
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::{Args, Subcommand};
use daemon::telemetry;
use net::broker::doors;
use net::split::client::{self, Answer, AskError, FOLDER, HalfStatus, Request, Status};
use net::split::ports::{Port, Protocol};
use net::split::{Half, Known, Network, Rules};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tracing::warn;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The daemon's folder, with its socket and what it remembers
    #[arg(long, global = true, default_value = FOLDER, value_name = "DIR")]
    folder: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Keep the networks of this machine's Pods, until told to end
    Serve(Serve),
    /// Make one network of network namespaces on several PUs, or of one, for its users to share memory
    Join(Join),
    /// Take a network apart, and its namespaces back to what they were
    Leave { network: String },
    /// Go on without the half on a PU
    Lose { network: String, pu: String },
    /// Take a half in again that was lost
    Rejoin {
        network: String,
        #[arg(long, value_parser = half)]
        half: Half,
    },
    /// Take one more half into a network
    Split(Split),
    /// Hand connections to a sidecar on one of the PUs, as its rules say
    Capture(Capture),
    /// Hand them to nobody any more
    Release { network: String },
    /// Say anew whose programs may share memory in a network: these users', or nobody's
    Users {
        network: String,
        /// Users, by their numbers on this machine
        #[arg(value_name = "UID")]
        users: Vec<u32>,
    },
    /// List networks, their halves, and whose port is which
    Ls(Output),
}

#[derive(Debug, Args)]
struct Serve {
    /// The folder of the sockets by which networks' users share memory
    #[arg(long, default_value = doors::FOLDER, value_name = "DIR")]
    users: PathBuf,
    /// A configuration file (lichen.toml), whose [socket] says how memory is shared
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Join {
    network: String,
    /// A half: the path of its network namespace, or a process in it, whose end is the end of the half. One to four of them
    #[arg(long = "half", value_name = "PU=PATH|PID", value_parser = half, required = true)]
    halves: Vec<Half>,
    /// The PU whose half is connected with the outside
    #[arg(long, value_name = "PU")]
    uplink: Option<String>,
    /// An address of the Pod's, which its uplink has already
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,
    /// A user, by its number on this machine, whose programs under `lichen socket run` may share memory with those of the others that are
    /// named so
    #[arg(long = "user", value_name = "UID")]
    users: Vec<u32>,
}

#[derive(Debug, Args)]
struct Split {
    network: String,
    /// The half: the path of its network namespace, or a process in it
    #[arg(long, value_name = "PU=PATH|PID", value_parser = half)]
    half: Half,
    /// The PU whose half is connected with the outside, if the network had one half, and was not told
    #[arg(long, value_name = "PU")]
    uplink: Option<String>,
    /// An address of the Pod's, likewise
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<IpAddr>,
}

#[derive(Debug, Args)]
struct Capture {
    network: String,
    /// The PU on which the sidecar is
    #[arg(long, value_name = "PU")]
    proxy: String,
    /// What `iptables-save` says where the mesh has written its rules
    #[arg(long, value_name = "FILE", required_unless_present_any = ["v6", "nft"])]
    v4: Option<PathBuf>,
    /// And `ip6tables-save`
    #[arg(long, value_name = "FILE")]
    v6: Option<PathBuf>,
    /// Or `nft -j -n list ruleset`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["v4", "v6"])]
    nft: Option<PathBuf>,
}

pub fn act(arguments: Arguments) -> Verdict {
    let folder = arguments.folder;
    let request = match arguments.verb {
        Verb::Serve(ways) => return serve(&folder, ways),
        Verb::Ls(output) => return list(&folder, output),
        Verb::Join(Join { network, halves, uplink, addresses, users }) => {
            let network = Network { name: network, addresses, halves, uplink, users };
            network.check().map_err(|error| wrong(error.to_string()))?;
            Request::Join(network)
        }
        Verb::Leave { network } => Request::Leave { network },
        Verb::Lose { network, pu } => Request::Lose { network, pu },
        Verb::Rejoin { network, half } => Request::Rejoin { network, half },
        Verb::Split(Split { network, half, uplink, addresses }) => Request::Split { network, half, uplink, addresses },
        Verb::Capture(capture) => {
            let rules = rules(&capture)?;
            Request::Capture { network: capture.network, proxy: capture.proxy, rules }
        }
        Verb::Release { network } => Request::Release { network },
        Verb::Users { network, users } => Request::Users { network, users },
    };
    if let Answer::Joined { contended } = ask(&folder, &request)?
        && !contended.is_empty()
    {
        eprintln!("lichen: bound on more than one PU already, and the first one's now: {}", ports(&contended));
    }
    Ok(Exit::Done)
}

/// Has each network that has users a broker of theirs, which is begun anew where its halves or users have changed.
fn brokers(networks: PathBuf, ways: Serve) -> impl FnMut(&[Known]) {
    let mut kept = Vec::<(Known, Kept)>::new();
    let Serve { users, config } = ways;
    let mut lock = None;
    let broker = move |users: &Path, known: &Known| {
        doors::prepare(users, known)?;
        let mut arguments = vec![format!("--networks={}", networks.display()), format!("--network={}", known.name)];
        arguments.push(format!("--users={}", users.display()));
        arguments.extend(config.iter().map(|config| format!("--config={}", config.display())));
        keep(supervisor::broker(arguments))
    };
    move |all| {
        let wanted = || all.iter().filter(|known| !known.users.is_empty() && !known.namespaces.is_empty());
        kept.retain(|(known, _)| wanted().any(|wanted| wanted == known));
        if lock.is_none() && (users.exists() || wanted().next().is_some()) {
            let taken = doors::take(&users).inspect_err(|error| {
                warn!(
                    "networks' users have no brokers: {} is another daemon's, or cannot be used: {error}",
                    users.display()
                );
            });
            lock = taken.ok();
        }
        if lock.is_none() {
            return;
        }
        if let Err(error) = doors::sweep(&users, all) {
            warn!("{} cannot be cleared: {error}", users.display());
        }
        for known in wanted() {
            if kept.iter().any(|(kept, _)| kept == known) {
                continue;
            }
            match broker(&users, known) {
                Ok(broker) => kept.push((known.clone(), broker)),
                Err(error) => warn!(network = known.name, "its users have no broker: {error:#}"),
            }
        }
    }
}

fn serve(folder: &Path, ways: Serve) -> Verdict {
    os::process::set_name(c"lichen-net");
    // Some for each half, and for each broker.
    os::process::raise_descriptors();
    telemetry::start(&telemetry::Log::default()).map_err(|error| wrong(error.to_string()))?;
    let _own = keep(supervisor::broker(vec![format!("--networks={}", folder.display())]))?;
    let ready = || {
        let _ = print::line(&format!("lichen net: ready at {}", folder.join(client::SOCKET).display()));
    };
    net::split::daemon::serve(folder, ready, brokers(folder.to_owned(), ways))?;
    Ok(Exit::Done)
}

fn ask(folder: &Path, request: &Request) -> anyhow::Result<Answer> {
    client::ask(folder, request).map_err(|error| match error {
        AskError::Refused(why) => wrong(why),
        error => error.into(),
    })
}

fn list(folder: &Path, output: Output) -> Verdict {
    let Answer::Networks(networks) = ask(folder, &Request::List)? else {
        anyhow::bail!("the daemon has answered something else");
    };
    match output.format {
        Format::Json => print::json(&serde_json::to_value(&networks)?)?,
        Format::Table => print::bytes(render(&networks).as_bytes())?,
    }
    Ok(Exit::Done)
}

/// A line for each half.
fn render(networks: &[Status]) -> String {
    let mut table = Table::new(&["NETWORK", "PU", "STATE", "ROLE", "USERS", "PORTS"]);
    for network in networks {
        for half in &network.halves {
            let state = if half.there { "there" } else { "lost" };
            let users = network.users.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let cells = [&*network.name, &*half.pu, state, &role(network, half), &users, &ports(&half.ports)];
            table.row(cells.map(str::to_owned));
        }
    }
    table.render()
}

fn role(network: &Status, half: &HalfStatus) -> String {
    let roles = [("uplink", &network.uplink), ("proxy", &network.proxy)];
    let of = roles.iter().filter(|(_, pu)| pu.as_ref() == Some(&half.pu)).map(|(role, _)| *role);
    of.collect::<Vec<_>>().join(",")
}

fn ports(ports: &[Port]) -> String {
    let text = |port: &Port| match port.protocol {
        Protocol::Tcp => port.number.to_string(),
        Protocol::Udp => format!("{}/udp", port.number),
    };
    ports.iter().map(text).collect::<Vec<_>>().join(",")
}

/// `PU=PATH` or `PU=PID`.
fn half(text: &str) -> Result<Half, String> {
    let (pu, place) = text.split_once('=').ok_or("PU=PATH or PU=PID: there is no `=`")?;
    let process = place.parse().ok().filter(|pid| *pid > 0);
    let namespace = process.map_or_else(|| place.into(), |pid: i32| format!("/proc/{pid}/ns/net").into());
    Ok(Half { pu: pu.to_owned(), namespace, process })
}

fn rules(capture: &Capture) -> anyhow::Result<Rules> {
    let read = |path: &Option<PathBuf>| match path {
        None => Ok(String::new()),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| wrong(format!("{error}")))
            .with_context(|| format!("cannot read {}", path.display())),
    };
    match &capture.nft {
        Some(_) => read(&capture.nft).map(Rules::Nft),
        None => Ok(Rules::Tables { v4: read(&capture.v4)?, v6: read(&capture.v6)? }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_is_a_path_or_a_process() {
        let of = |text: &str| half(text).map(|half| (half.namespace.display().to_string(), half.process));
        assert_eq!(of("cpu=/run/netns/a"), Ok(("/run/netns/a".to_owned(), None)));
        assert_eq!(of("cpu=12"), Ok(("/proc/12/ns/net".to_owned(), Some(12))));
        assert!(of("cpu").is_err());
    }

    #[test]
    fn every_half_has_a_line() {
        let port = |protocol, number| Port { protocol, number };
        let half = |pu: &str, there| HalfStatus {
            pu: pu.to_owned(),
            there,
            ports: vec![port(Protocol::Tcp, 80), port(Protocol::Udp, 53)],
        };
        let status = Status {
            name: "pod".to_owned(),
            addresses: Vec::new(),
            uplink: Some("dpu".to_owned()),
            halves: vec![half("cpu", false), half("dpu", true)],
            proxy: Some("dpu".to_owned()),
            users: vec![1000, 1337],
        };
        let text = render(&[status]);
        assert!(
            text.contains("lost")
                && text.contains("uplink,proxy")
                && text.contains("80,53/udp")
                && text.contains("1000,1337"),
            "{text}"
        );
    }
}
