//! The host's permission to pass packets on, and its own firewall's.
//!
//! ```text
//! ip_forward   turned on where it was off; turned off again by the last worker that ends, unless a firewall has come
//!              meanwhile that may count on it. A mark in /run remembers, also over a worker that was killed
//! iptables     where it drops what is forwarded (Docker has it so, and ufw), two rules let the uplink's packets pass
//! ```
//!
//! Other firewalls are not touched: a warning says which one has to be told.

use super::addresses::{Uplink, is_uplink};
use crate::netlink::Socket;
use crate::netlink::filter::ForwardChain;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// Held while packets are to be passed on. To be made and closed in turn, by a thread that stands in the host's namespace.
#[derive(Debug)]
pub struct Forwarding {
    mark: PathBuf,
    uplink: String,
    /// Whether iptables has been told.
    told: bool,
}

impl Forwarding {
    /// Turns it on. `folder` is for the mark.
    pub fn open(folder: &Path, uplink: &Uplink, filter: &Socket) -> io::Result<Self> {
        let mark = folder.join(format!("forwarding-{}", fs::metadata(OWN_NAMESPACE)?.ino()));
        let firewalls = firewalls(filter);
        if fs::read_to_string(SWITCH)?.trim() == "0" {
            if let Err(error) = fs::write(&mark, describe(&firewalls)) {
                tracing::warn!(%error, ?mark, "no mark: forwarding of IPv4 packets will stay on");
            }
            fs::write(SWITCH, "1")?;
            tracing::info!("forwarding of IPv4 packets is on");
        }
        let told = firewalls.iter().any(is_iptables) && tell_iptables(&uplink.name);
        for chain in firewalls.iter().filter(|chain| chain.drops && !is_iptables(chain)) {
            let (table, chain, uplink) = (&chain.table, &chain.name, &uplink.name);
            tracing::warn!(table, chain, "a firewall may drop what sandboxes send: let pass what comes from {uplink}");
        }
        Ok(Self { mark, uplink: uplink.name.clone(), told })
    }

    /// Takes back what was changed.
    pub fn close(self, filter: &Socket) {
        if self.told {
            for rule in passages(&self.uplink) {
                let _ = iptables("-D", rule.iter().map(String::as_str));
            }
        }
        if devices().iter().any(|name| is_uplink(name) && *name != self.uplink) {
            return;
        }
        let Ok(before) = fs::read_to_string(&self.mark) else { return };
        if before == describe(&firewalls(filter)) && fs::write(SWITCH, "0").is_ok() {
            tracing::info!("forwarding of IPv4 packets is off again");
        }
        let _ = fs::remove_file(&self.mark);
    }
}

/// What filters forwarded packets. The tables of old iptables are only known by name.
fn firewalls(filter: &Socket) -> Vec<ForwardChain> {
    let mut chains = filter.forward_chains().unwrap_or_default();
    let old = fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    let old =
        old.lines().map(|table| ForwardChain { table: table.to_owned(), name: "FORWARD".to_owned(), drops: true });
    chains.extend(old);
    chains
}

fn is_iptables(chain: &ForwardChain) -> bool {
    chain.table == "filter" && chain.name == "FORWARD"
}

fn describe(chains: &[ForwardChain]) -> String {
    chains.iter().map(|chain| format!("{} {}\n", chain.table, chain.name)).collect()
}

/// The devices of the calling thread's network namespace.
pub fn devices() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// The rules by which the uplink's packets pass.
fn passages(uplink: &str) -> [Vec<String>; 2] {
    let sent = format!("FORWARD -i {uplink} -j ACCEPT");
    let answers = format!("FORWARD -o {uplink} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
    [sent, answers].map(|rule| rule.split(' ').map(str::to_owned).collect())
}

/// Lets the uplink's packets pass, if others do not; takes back what killed workers had let pass.
fn tell_iptables(uplink: &str) -> bool {
    let listing = match iptables("-S", ["FORWARD"]) {
        Ok(listing) => listing,
        Err(error) => {
            tracing::warn!(%error, "iptables may drop what sandboxes send: let pass what comes from {uplink}");
            return false;
        }
    };
    // What names this uplink is of an earlier one: nothing has been told of this one.
    let devices: Vec<String> = devices().into_iter().filter(|device| device != uplink).collect();
    for rule in listing.lines().filter_map(|line| line.strip_prefix("-A ")) {
        if left_behind(rule, &devices) {
            let _ = iptables("-D", rule.split_ascii_whitespace());
        }
    }
    if !listing.starts_with("-P FORWARD DROP") {
        return false;
    }
    for rule in passages(uplink) {
        if let Err(error) = iptables("-I", rule.iter().map(String::as_str)) {
            tracing::warn!(%error, "iptables drops what sandboxes send, and could not be told to let it pass");
        }
    }
    true
}

/// Whether a rule lets pass an uplink that is gone.
fn left_behind(rule: &str, devices: &[String]) -> bool {
    let words: Vec<_> = rule.split_ascii_whitespace().collect();
    let link = words.windows(2).find_map(|pair| matches!(pair[0], "-i" | "-o").then_some(pair[1]));
    link.is_some_and(|link| is_uplink(link) && !devices.iter().any(|device| device == link))
}

fn iptables<'a>(verb: &str, rule: impl IntoIterator<Item = &'a str>) -> io::Result<String> {
    let output = Command::new("iptables")
        // Services are often started without the folders of the superuser.
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
        .args(["-w", "5", verb])
        .args(rule)
        .stdin(Stdio::null())
        .output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_of_uplinks_that_are_gone_are_left_behind() {
        let devices = ["lo", "eth0", "lichen1"].map(str::to_owned);
        assert!(left_behind("FORWARD -i lichen0 -j ACCEPT", &devices));
        assert!(left_behind(&passages("lichen2")[1].join(" "), &devices));
        assert!(!left_behind("FORWARD -i lichen1 -j ACCEPT", &devices));
        assert!(!left_behind("FORWARD -i docker0 -o eth0 -j ACCEPT", &devices));
        assert!(!left_behind("FORWARD -j DOCKER-USER", &devices));
    }

    #[test]
    fn the_loopback_is_a_device() {
        assert!(devices().contains(&"lo".to_owned()));
    }
}
