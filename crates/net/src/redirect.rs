//! Redirect rules of sidecars: read, understood exactly, or refused.
//!
//! ```text
//!  iptables-save ─ tables ─┐
//!                          ├─ Ruleset ─ flow ─ Redirects: what becomes of a new connection, first rule that fits
//!  nft -j ───────  nft ────┘
//! ```
//!
//! A service mesh's init container writes into a Pod's network namespace which connections its proxy gets. To put the proxy
//! into another namespace, those rules have to be taken apart, and for that to be understood: [`Redirects`] is what they
//! say about the first packet of a connection, with all chains, jumps and returns resolved. What is not understood is
//! refused with its words and the reason, all of it at once; nothing is guessed.
//!
//! Rules that move no connection (marks and zones by which the proxy's own packets are told apart) are left out, and named
//! in [`Redirects::left_out`].
//!
//! Pure: who reads the rules from the kernel, and who applies the halves, is decided elsewhere.

mod cidr;
mod condition;
mod flow;
mod nft;
mod ruleset;
mod tables;

#[cfg(test)]
mod tests;

pub use cidr::Cidr;
pub use condition::{Condition, On, Range};
pub use nft::read as read_nft;
pub use tables::read as read_tables;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use thiserror::Error;

/// The most text that is read: Istio's largest is some 10 KiB.
pub const TEXT_LIMIT: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Where a rule looks at a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// It begins in this namespace: *outbound*, if it is not for the namespace itself.
    Output,
    /// It arrives, from outside or over the loopback device: *inbound*.
    Prerouting,
}

/// How a connection is handed to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// `REDIRECT`: to this port of the namespace itself. The proxy asks for `SO_ORIGINAL_DST`.
    Redirect,
    /// `DNAT` to a loopback address.
    Dnat(IpAddr),
    /// `TPROXY`: the destination stays, the packet gets this mark, by which it is routed to the proxy.
    Tproxy { mark: u32 },
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes where it is addressed to.
    Pass,
    /// The proxy gets it, at this port.
    Capture { how: How, port: u16 },
}

/// One decision: where all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub hook: Hook,
    /// None: both.
    pub family: Option<Family>,
    pub when: Vec<Condition>,
    pub then: Then,
}

/// What a set of rules says about new connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redirects {
    /// Per hook, the first whose conditions hold decides. Where none does, the connection passes.
    pub rules: Vec<Rule>,
    /// Rules that were understood and move no connection, in the words in which they were written.
    pub left_out: Vec<String>,
}

/// The first packet of a connection.
#[derive(Clone, Copy, Debug)]
pub struct First<'a> {
    pub protocol: Protocol,
    /// Both of one family.
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Whose socket it comes from; none for one that arrives.
    pub owner: Option<Owner>,
    /// The devices by which it arrives, and by which it leaves.
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
    pub mark: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Owner {
    pub user: u32,
    pub group: u32,
}

/// A rule that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In the words in which it was written.
    pub rule: String,
    pub why: Why,
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Why {
    #[error("{0} is not known here")]
    Unknown(String),
    #[error("{0} has no value, or one that makes no sense")]
    Value(String),
    #[error("it drops packets that are not invalid")]
    Drops,
    #[error("connections would go to another machine, or to no port in particular")]
    Elsewhere,
    #[error("it looks at packets where connections are not redirected: {0}")]
    Place(String),
    #[error("{0} is neither a target known here nor a chain of its table that comes to an end")]
    Jump(String),
    #[error("it marks packets, which may lead them elsewhere, and there is no TPROXY for which it could")]
    Mark,
    #[error("rules of two tables redirect connections at the same place")]
    TwoTables,
    #[error("it was written by iptables: read those with iptables-save, and give them in its words")]
    OfTables,
    #[error("it names a user or group: read the rules with nft -n")]
    Name,
}

/// Why rules cannot be read.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    #[error("rules of more than {TEXT_LIMIT} bytes")]
    TooLong,
    #[error("line {0} is not of iptables-save")]
    Line(usize),
    #[error("the last table has no COMMIT: a part of the rules is missing")]
    Cut,
    #[error("this is not the JSON of nft -j list ruleset")]
    Json,
    #[error("{} of the rules cannot be taken apart: {}", .0.len(), Listed(.0))]
    Refused(Vec<Refusal>),
    #[error("chains with so many jumps that more than {0} ways lead through them")]
    TooManyWays(usize),
}

struct Listed<'a>(&'a [Refusal]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, refusal) in self.0.iter().enumerate() {
            let between = if number == 0 { "" } else { "; " };
            write!(to, "{between}“{}”: {}", refusal.rule, refusal.why)?;
        }
        Ok(())
    }
}

impl Redirects {
    /// What becomes of a connection.
    pub fn decide(&self, hook: Hook, first: &First<'_>) -> Then {
        let fits = |rule: &&Rule| rule.hook == hook && rule.applies(first);
        self.rules.iter().find(fits).map_or(Then::Pass, |rule| rule.then)
    }

    /// Whether any connection goes to a proxy.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// With the rules of another text: those of IPv6, mostly.
    pub fn and(mut self, other: Self) -> Self {
        self.rules.extend(other.rules);
        self.left_out.extend(other.left_out);
        self
    }
}

impl Rule {
    fn applies(&self, first: &First<'_>) -> bool {
        let family = if first.destination.is_ipv4() { Family::V4 } else { Family::V6 };
        self.family.is_none_or(|of| of == family) && self.when.iter().all(|condition| condition.holds(first))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = match self.hook {
            Hook::Output => "out",
            Hook::Prerouting => "in",
        };
        let family = match self.family {
            Some(Family::V4) => " ipv4",
            Some(Family::V6) => " ipv6",
            None => "",
        };
        write!(to, "{hook}{family}")?;
        for condition in &self.when {
            write!(to, " {condition}")?;
        }
        match self.then {
            Then::Pass => write!(to, ": passes"),
            Then::Capture { how: How::Redirect, port } => write!(to, ": redirected to {port}"),
            Then::Capture { how: How::Dnat(address), port } => {
                write!(to, ": rewritten to {}", SocketAddr::new(address, port))
            }
            Then::Capture { how: How::Tproxy { mark }, port } => write!(to, ": handed to {port}, marked {mark:#x}"),
        }
    }
}
