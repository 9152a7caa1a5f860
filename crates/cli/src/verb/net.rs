//! `lichen net`: networks of Pods whose halves stand on several processing units, and the daemon that keeps them.

use crate::print::{self, Format, Output, Table};
use crate::supervisor::{self, keep};
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::{Args, Subcommand};
use daemon::telemetry;
use net::split::client::{self, Answer, AskError, FOLDER, HalfStatus, Request, Status};
use net::split::ports::{Port, Protocol};
use net::split::{Half, Network, Rules};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

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
    /// Keep the split networks of this machine's Pods, until told to end
    Serve,
    /// Make one network of network namespaces on several PUs
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
    /// Hand connections to a sidecar on one of the PUs, as its rules say
    Capture(Capture),
    /// Hand them to nobody any more
    Release { network: String },
    /// List networks, their halves, and whose port is which
    Ls(Output),
}

#[derive(Debug, Args)]
struct Join {
    network: String,
    /// A half: the path of its network namespace, or a process in it, whose end is the end of the half. Two to four of them
    #[arg(long = "half", value_name = "PU=PATH|PID", value_parser = half, required = true)]
    halves: Vec<Half>,
    /// The PU whose half is connected with the outside
    #[arg(long, value_name = "PU")]
    uplink: Option<String>,
    /// An address of the Pod's, which its uplink has already
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
        Verb::Serve => return serve(&folder),
        Verb::Ls(output) => return list(&folder, output),
        Verb::Join(Join { network, halves, uplink, addresses }) => {
            let network = Network { name: network, addresses, halves, uplink };
            network.check().map_err(|error| wrong(error.to_string()))?;
            Request::Join(network)
        }
        Verb::Leave { network } => Request::Leave { network },
        Verb::Lose { network, pu } => Request::Lose { network, pu },
        Verb::Rejoin { network, half } => Request::Rejoin { network, half },
        Verb::Capture(capture) => {
            let rules = rules(&capture)?;
            Request::Capture { network: capture.network, proxy: capture.proxy, rules }
        }
        Verb::Release { network } => Request::Release { network },
    };
    if let Answer::Joined { contended } = ask(&folder, &request)?
        && !contended.is_empty()
    {
        eprintln!("lichen: bound on more than one PU already, and the first one's now: {}", ports(&contended));
    }
    Ok(Exit::Done)
}

fn serve(folder: &Path) -> Verdict {
    os::process::set_name(c"lichen-net");
    telemetry::start(&telemetry::Log::default()).map_err(|error| wrong(error.to_string()))?;
    keep(supervisor::broker(vec![format!("--networks={}", folder.display())]))?;
    let ready = || {
        let _ = print::line(&format!("lichen net: ready at {}", folder.join(client::SOCKET).display()));
    };
    net::split::daemon::serve(folder, ready)?;
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
    let mut table = Table::new(&["NETWORK", "PU", "STATE", "ROLE", "PORTS"]);
    for network in networks {
        for half in &network.halves {
            let state = if half.there { "there" } else { "lost" };
            let cells = [&*network.name, &*half.pu, state, &role(network, half), &ports(&half.ports)];
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
        };
        let text = render(&[status]);
        assert!(text.contains("lost") && text.contains("uplink,proxy") && text.contains("80,53/udp"), "{text}");
    }
}
