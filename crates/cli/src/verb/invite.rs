//! `lichen pu token` and `lichen pu revoke`: who may be a processing unit of this node from another machine.
//!
//! Both write the ledger in the node's data folder, as its user; a node that runs notices.

use super::settings::Settings;
use crate::print;
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::Args;
use daemon::pu::{Pus, Tier};
use daemon::remote::Remote;
use gateway::Config;
use interconnect::link::tcp::authority::Authority;
use std::io::IsTerminal;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where nobody is: what the kernel would send there tells this machine's own address. Nothing is sent.
const ELSEWHERE: &str = "192.0.2.1:9";

/// Where the authority and the ledger are, or what a member has of them.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("membership")
}

#[derive(Debug, Args)]
pub struct Token {
    /// The name of a `[[pu]]` of tier "remote"
    name: String,
    /// How the other machine reaches this one: HOST or HOST:PORT [default: this machine's address]
    #[arg(long, value_name = "HOST")]
    address: Vec<String>,
    /// For how many minutes the token is good
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u32,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Args)]
pub struct Revoke {
    /// The name of a `[[pu]]` of tier "remote"
    name: String,
    #[command(flatten)]
    settings: Settings,
}

pub fn token(arguments: Token) -> Verdict {
    let config = arguments.settings.config(None)?;
    let pu = number(&config.pus, &arguments.name)?;
    let addresses = match &arguments.address[..] {
        [] => vec![own_address(&config.remote)?],
        given => given.to_vec(),
    };
    let with_port = |address: String| with_port(&address, &config.remote, pu);
    let addresses = addresses.into_iter().map(with_port).collect::<Result<_, _>>()?;
    let lasts = Duration::from_secs(u64::from(arguments.minutes) * 60);
    let token = authority(&config)?.invite(pu, addresses, lasts).map_err(|error| wrong(error.to_string()))?;
    print::bytes(format!("{}\n", token.reveal()).as_bytes())?;
    if std::io::stderr().is_terminal() {
        eprintln!(
            "\nOn the other machine, within {} minutes and as root:  lichen join TOKEN\nIt calls {}.",
            arguments.minutes,
            token.addresses.join(" or ")
        );
    }
    Ok(Exit::Done)
}

pub fn revoke(arguments: Revoke) -> Verdict {
    let config = arguments.settings.config(None)?;
    let pu = number(&config.pus, &arguments.name)?;
    let was = authority(&config)?.revoke(pu).context("cannot write the ledger of members")?;
    if !was {
        eprintln!("lichen: {} has not joined, and nobody has a token for it: nothing to revoke", arguments.name);
    }
    Ok(Exit::Done)
}

fn authority(config: &Config) -> anyhow::Result<Authority> {
    Authority::open(&folder(&config.node.data_dir)).context("cannot open this node's authority")
}

/// The number of a remote PU.
fn number(pus: &Pus, name: &str) -> anyhow::Result<u8> {
    match pus.iter().find(|(_, pu)| pu.name == name) {
        Some((number, pu)) if pu.tier == Tier::Remote => Ok(number),
        Some((_, pu)) => Err(wrong(format!(
            "{name} is a PU of tier {}: only one of tier remote is joined from another machine",
            pu.tier.as_str()
        ))),
        None => {
            let names = pus.iter().filter(|(_, pu)| pu.tier == Tier::Remote).map(|(_, pu)| pu.name.as_str());
            let names = names.collect::<Vec<_>>().join(", ");
            let known = if names.is_empty() { "there are none".to_owned() } else { format!("there are {names}") };
            Err(wrong(format!(
                "the configuration has no remote PU called {name}; {known}. Add a [[pu]] with tier = \"remote\""
            )))
        }
    }
}

fn own_address(remote: &Remote) -> anyhow::Result<String> {
    let unknown = || wrong("this machine's address is not known: say how the other one reaches it with --address HOST");
    let listens = remote.listen.ip();
    if !listens.is_unspecified() {
        return Ok(host(listens));
    }
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(|_| unknown())?;
    socket.connect(ELSEWHERE).map_err(|_| unknown())?;
    Ok(host(socket.local_addr().map_err(|_| unknown())?.ip()))
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The address, with the port at which this PU is waited for where it says none.
fn with_port(address: &str, remote: &Remote, pu: u8) -> anyhow::Result<String> {
    let after_host = address.rsplit(']').next().unwrap_or_default();
    if after_host.contains(':') {
        return Ok(address.to_owned());
    }
    let there = remote.address(pu).ok_or_else(|| wrong("`listen` in [remote] leaves no port for this PU"))?;
    Ok(format!("{address}:{}", there.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_port_of_their_pu() {
        let remote = Remote::default();
        for (address, whole) in [
            ("head", "head:9703"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[fd00::1]", "[fd00::1]:9703"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(with_port(address, &remote, 3).unwrap(), whole);
        }
        let only_there = Remote { listen: "[::1]:9700".parse().unwrap(), ..remote };
        assert_eq!(own_address(&only_there).unwrap(), "[::1]");
    }
}
