//! Split networks: one Pod's network whose parts stand on several processing units.
//!
//! ```text
//!  PU 0: app                              PU 1: sidecar, uplink
//!  127.0.0.1, ::1, Pod's addresses        127.0.0.1, ::1, Pod's addresses
//!        │                                      │         │
//!        └──────── link1 ══════════ link0 ──────┘       eth0 ── outside
//! ```
//!
//! The *halves* (up to four) are ordinary network namespaces. All have the Pod's addresses and a loopback, and a port belongs
//! to one of them: what is sent to a port of the other half, at a loopback address or one of the Pod's, goes over the link
//! and arrives as if it had never left; both ends see the same addresses and ports. HeteroPod calls it a port-based reverse
//! mapping. The kernel's packet filter does all of it; nobody is asked on the way.
//!
//! | file | what it is |
//! |---|---|
//! | `plan` | numbers: links, addresses, marks, ports (pure) |
//! | `ways` | programs in the kernel that lead packets to their half |
//! | `rules` | a half's packet filter, as text for nft (pure) |
//! | `capture` | which connections a sidecar gets, from every half (pure) |
//! | `behaviour` | a half's switches (sysctl), and putting them back |
//! | `place` | standing in a namespace |
//! | `halves` | making a network, and removing it |
//! | `hooks` | programs in the kernel that claim ports |
//! | `ports` | whose port is which, and telling the halves |
//! | `listing` | sockets that were there before |
//! | `daemon`, `client`, `state` | `lichen net` |
//!
//! The halves stand under one kernel. Between kernels nothing claims a port yet.
//!
//! A network of one half has nothing to lead anywhere: its namespace is left as it is, and known for its users' sake, until it is
//! split.

mod behaviour;
mod capture;
pub mod client;
pub mod daemon;
mod halves;
mod hooks;
mod listing;
mod place;
mod plan;
pub mod ports;
mod rules;
mod state;
mod ways;

pub use capture::CaptureError;
pub use halves::MakeError;
pub use hooks::HookError;
pub use state::{Known, known};

use os::ns::{self, Kinds};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use thiserror::Error;

/// The most halves of one network.
pub const HALVES_MAX: usize = 4;
/// The most users of one network.
pub const USERS_MAX: usize = 32;
/// The most addresses of one Pod.
pub const ADDRESSES_MAX: usize = 8;
const NAME_MAX: usize = 128;
/// Rules as halves have them, for whoever only tries.
const REHEARSAL: &str = include_str!("split/golden/proxy.nft");

/// Why no network can be split here.
#[derive(Debug, Error)]
pub enum RehearseError {
    #[error("a network namespace cannot be made")]
    Namespace(#[source] io::Error),
    #[error("packets cannot be filtered as halves need it")]
    Filter(#[source] io::Error),
    #[error("packets cannot be led to their half")]
    Ways(#[source] io::Error),
    #[error("nobody can claim ports")]
    Hooks(#[from] HookError),
}

/// Tries what halves need: their packet filter, and the programs that lead packets, in a network namespace in which nothing else
/// is and in which the calling thread stands afterwards; and the programs that claim ports, which see no half and go again.
pub fn rehearse() -> Result<(), RehearseError> {
    ns::unshare(Kinds::NET).map_err(RehearseError::Namespace)?;
    place::nft(REHEARSAL).map_err(RehearseError::Filter)?;
    ways::rehearse().map_err(RehearseError::Ways)?;
    hooks::Hooks::open().map(drop)?;
    Ok(())
}

/// One Pod's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Letters, digits, `.`, `_` and `-`: the Pod's or its sandbox's.
    pub name: String,
    /// The Pod's. They are on the uplink's devices already, and become local in all halves.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// One to four. One: it is not split, and nothing is changed there.
    pub halves: Vec<Half>,
    /// The PU whose half is connected with the outside; its half has a default route. None: the Pod has no outside.
    #[serde(default)]
    pub uplink: Option<String>,
    /// The users whose programs may talk to each other through memory, as this machine numbers them. Without it: of each user, those
    /// that have a broker of theirs.
    #[serde(default)]
    pub users: Vec<u32>,
}

/// The part of a network that stands on one PU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Half {
    /// The PU's name: like a network's.
    pub pu: String,
    /// A network namespace: `/proc/PID/ns/net`, `/run/netns/NAME`.
    pub namespace: PathBuf,
    /// A process whose end is the end of this half, as a PU's first process is.
    #[serde(default)]
    pub process: Option<i32>,
}

/// Rules of a sidecar, in the words of the program that lists them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rules {
    /// Of `iptables-save` and `ip6tables-save`; either may be empty.
    Tables { v4: String, v6: String },
    /// Of `nft -j -n list ruleset`.
    Nft(String),
}

/// Why a network cannot be one.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum NetworkError {
    #[error("{0:?} is no name: 1 to {NAME_MAX} letters, digits, dots, underscores and dashes, and not a dot first")]
    Name(String),
    #[error("a network has 1 to {HALVES_MAX} halves, not {0}")]
    Halves(usize),
    #[error("two halves on the PU {0}")]
    Twice(String),
    #[error("the uplink {0:?} is none of the halves")]
    Uplink(String),
    #[error("a Pod has up to {ADDRESSES_MAX} addresses, not {0}")]
    Addresses(usize),
    #[error("a network has up to {USERS_MAX} users, each named once, not {0:?}")]
    Users(Vec<u32>),
    #[error("{0} is no address that a Pod can have")]
    Address(IpAddr),
}

impl Network {
    /// Whether it can be made at all.
    pub fn check(&self) -> Result<(), NetworkError> {
        for name in std::iter::once(&self.name).chain(self.halves.iter().map(|half| &half.pu)) {
            check_name(name)?;
        }
        if !(1..=HALVES_MAX).contains(&self.halves.len()) {
            return Err(NetworkError::Halves(self.halves.len()));
        }
        for (at, half) in self.halves.iter().enumerate() {
            if self.halves[..at].iter().any(|other| other.pu == half.pu) {
                return Err(NetworkError::Twice(half.pu.clone()));
            }
        }
        match &self.uplink {
            Some(pu) if self.place_of(pu).is_none() => return Err(NetworkError::Uplink(pu.clone())),
            _ => {}
        }
        check_users(&self.users)?;
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(NetworkError::Addresses(self.addresses.len()));
        }
        match self.addresses.iter().find(|address| !plan::can_be_of_a_pod(address)) {
            Some(address) => Err(NetworkError::Address(*address)),
            None => Ok(()),
        }
    }

    /// Whether it has several halves, there or lost: something is between them.
    pub fn is_split(&self) -> bool {
        self.halves.len() > 1
    }

    /// Which of the halves is on this PU.
    pub fn place_of(&self, pu: &str) -> Option<usize> {
        self.halves.iter().position(|half| half.pu == pu)
    }
}

/// The last number is nobody's: calls take it for none.
fn check_users(users: &[u32]) -> Result<(), NetworkError> {
    let is_said_before = |(at, user)| users[..at].contains(user);
    if users.len() > USERS_MAX || users.contains(&u32::MAX) || users.iter().enumerate().any(is_said_before) {
        return Err(NetworkError::Users(users.to_owned()));
    }
    Ok(())
}

/// Names become names of files.
fn check_name(name: &str) -> Result<(), NetworkError> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || !name.chars().all(known) {
        return Err(NetworkError::Name(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(pus: &[&str]) -> Network {
        let half = |pu: &&str| Half { pu: (*pu).to_owned(), namespace: "/nowhere".into(), process: None };
        Network {
            name: "pod-1".to_owned(),
            addresses: vec![[10, 77, 0, 5].into()],
            halves: pus.iter().map(half).collect(),
            uplink: Some("dpu".to_owned()),
            users: Vec::new(),
        }
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert_eq!(network(&["cpu", "dpu"]).check(), Ok(()));
        assert_eq!(network(&["dpu"]).check(), Ok(()));
        assert_eq!(network(&[]).check(), Err(NetworkError::Halves(0)));
        assert_eq!(network(&["dpu", "a", "b", "c", "d"]).check(), Err(NetworkError::Halves(5)));
        assert_eq!(network(&["dpu", "dpu"]).check(), Err(NetworkError::Twice("dpu".to_owned())));
        assert_eq!(network(&["cpu", "cpu2"]).check(), Err(NetworkError::Uplink("dpu".to_owned())));
        let named = |name: &str| Network { name: name.to_owned(), ..network(&["cpu", "dpu"]) }.check();
        for name in ["", "..", "a/b", "ä", "a b", &"a".repeat(NAME_MAX + 1)] {
            assert_eq!(named(name), Err(NetworkError::Name(name.to_owned())));
        }
        for users in [vec![1000, 1000], vec![u32::MAX], (0..40).collect()] {
            let odd = Network { users: users.clone(), ..network(&["cpu", "dpu"]) };
            assert_eq!(odd.check(), Err(NetworkError::Users(users)));
        }
        for address in ["127.0.0.2", "::1", "0.0.0.0", "224.0.0.1", "169.254.77.2", "fe80::1", "::ffff:10.0.0.1"] {
            let address: IpAddr = address.parse().unwrap();
            let odd = Network { addresses: vec![address], ..network(&["cpu", "dpu"]) };
            assert_eq!(odd.check(), Err(NetworkError::Address(address)));
        }
    }

    #[test]
    fn unknown_words_are_refused() {
        let text = r#"{"name":"a","halves":[],"uplnk":"dpu"}"#;
        assert!(serde_json::from_str::<Network>(text).is_err());
    }
}
