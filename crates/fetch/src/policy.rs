//! Egress policy: which hosts, addresses and ports functions may reach.
//!
//! ```text
//!   host:port ─ denied by name? ─▶ no
//!        │ allowed by name ────────────────────────▶ every address that the name has, but denied ones
//!        ╰─ each address ─ denied? ─▶ no  ─ allowed? ─▶ yes  ─ public, and its port among `ports`? ─▶ yes, else no
//! ```
//! Asked for the very address that is connected to, for every request and every redirect anew. What `deny` names goes
//! before what `allow` names. Not here: names are resolved by [`crate::resolve`].

use crate::address::{self, Place};
use serde::Deserialize;
use std::net::IpAddr;
use thiserror::Error;

/// A rule of `allow` or `deny`: `10.0.0.0/8`, `10.1.2.3:8080`, `[fd00::/8]:443`, `api.internal:443`, `*.corp.example`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rule {
    what: Subject,
    /// Nothing for every port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    /// Bits are those of the address as it is written; IPv4 is compared as IPv6 has it.
    Network { base: u128, length: u8 },
    /// In small letters, without a dot at its end.
    Host(String),
    /// All names below this one.
    Below(String),
}

/// Why a text is no rule.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RuleError {
    #[error("{0:?} names nothing: a rule is ADDRESS, NETWORK/BITS, HOST or *.DOMAIN, each with or without :PORT")]
    Nothing(String),
    #[error("{0:?}: the part behind the last colon is no port")]
    Port(String),
    #[error("{0:?}: the part behind the slash is no number of bits of that address")]
    Bits(String),
}

/// Why something is not reached. Names what was asked for, not the address that it turned out to have: what a private
/// name means is nobody's business.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Denial {
    #[error("the node's operator denies {0:?}")]
    Named(String),
    #[error("{host:?} is at {place}, which functions do not reach unless `allow` in [fetch] of the node names it")]
    Place { host: String, place: Place },
    #[error(
        "{0:?} is this machine itself, which functions do not reach unless `allow` in [fetch] of the node names it"
    )]
    Own(String),
    #[error("port {0} is not among those that functions may reach (`ports` in [fetch] of the node)")]
    Port(u16),
}

/// Who may be reached.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    /// Of public addresses; all where it is empty.
    ports: Vec<u16>,
}

/// On what ground an address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// A rule names it: then it may be this machine too.
    Named,
    Public,
}

impl Policy {
    pub fn new(allow: &[Rule], deny: &[Rule], ports: &[u16]) -> Self {
        Self { allow: allow.to_vec(), deny: deny.to_vec(), ports: ports.to_vec() }
    }

    /// Whether a name may be asked for at all.
    pub fn check_host(&self, host: &str, port: u16) -> Result<(), Denial> {
        let host = normal(host);
        match self.deny.iter().any(|rule| rule.has_host(&host, port)) {
            true => Err(Denial::Named(host)),
            false => Ok(()),
        }
    }

    /// Whether an address that a name has may be connected to.
    pub fn check(&self, host: &str, address: IpAddr, port: u16) -> Result<Ground, Denial> {
        let host = normal(host);
        if self.deny.iter().any(|rule| rule.has_address(address, port)) {
            return Err(Denial::Named(host));
        }
        if self.allow.iter().any(|rule| rule.has_host(&host, port) || rule.has_address(address, port)) {
            return Ok(Ground::Named);
        }
        match address::place(address) {
            Some(place) => Err(Denial::Place { host, place }),
            None if !self.ports.is_empty() && !self.ports.contains(&port) => Err(Denial::Port(port)),
            None => Ok(Ground::Public),
        }
    }
}

/// One form of a name: names compare without case, and a dot at the end changes nothing.
fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

impl Rule {
    fn has_host(&self, host: &str, port: u16) -> bool {
        let fits = match &self.what {
            Subject::Network { .. } => false,
            Subject::Host(name) => host == name,
            Subject::Below(name) => host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
        };
        fits && self.port.is_none_or(|own| own == port)
    }

    fn has_address(&self, address: IpAddr, port: u16) -> bool {
        let Subject::Network { base, length } = self.what else { return false };
        let within = |bits: u128| length == 0 || (bits ^ base) >> (128 - u32::from(length)) == 0;
        let inner = match address {
            IpAddr::V6(address) => address::embedded(address).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        (within(bits(address)) || inner.is_some_and(|inner| within(bits(inner))))
            && self.port.is_none_or(|own| own == port)
    }
}

/// IPv4 addresses as IPv6 has them.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        let (what, port) = split(&text)?;
        let (address, length) = match what.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (what, None),
        };
        if let Ok(address) = address.parse::<IpAddr>() {
            let own = if address.is_ipv4() { 32 } else { 128 };
            let length = length.map_or(Ok(own), str::parse).map_err(|_| RuleError::Bits(text.clone()))?;
            if length > own {
                return Err(RuleError::Bits(text));
            }
            return Ok(Self { what: Subject::Network { base: bits(address), length: 128 - own + length }, port });
        }
        let (below, name) = match what.strip_prefix("*.") {
            Some(name) => (true, normal(name)),
            None => (false, normal(what)),
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err(RuleError::Nothing(text));
        }
        Ok(Self { what: if below { Subject::Below(name) } else { Subject::Host(name) }, port })
    }
}

/// A rule and its port. An IPv6 address with a port is in brackets; without brackets it has none.
fn split(text: &str) -> Result<(&str, Option<u16>), RuleError> {
    let port = |port: &str| port.parse().map(Some).map_err(|_| RuleError::Port(text.to_owned()));
    if let Some((what, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(number) => Ok((what, port(number)?)),
            None if rest.is_empty() => Ok((what, None)),
            None => Err(RuleError::Port(text.to_owned())),
        };
    }
    match text.split_once(':') {
        Some((what, number)) if !number.contains(':') => Ok((what, port(number)?)),
        _ => Ok((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Vec<Rule> {
        texts.iter().map(|text| Rule::try_from((*text).to_owned()).unwrap()).collect()
    }

    fn policy(allow: &[&str], deny: &[&str]) -> Policy {
        Policy::new(&rules(allow), &rules(deny), &[80, 443])
    }

    fn reaches(policy: &Policy, host: &str, address: &str, port: u16) -> bool {
        policy.check_host(host, port).is_ok() && policy.check(host, address.parse().unwrap(), port).is_ok()
    }

    #[test]
    fn nothing_but_public_addresses_without_rules() {
        let policy = policy(&[], &[]);
        assert!(reaches(&policy, "example.com", "93.184.216.34", 443));
        assert!(!reaches(&policy, "example.com", "93.184.216.34", 25));
        for address in ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::a00:1"] {
            assert!(!reaches(&policy, "example.com", address, 443), "{address}");
        }
    }

    #[test]
    fn what_is_allowed_by_network_port_or_name() {
        let policy =
            policy(&["10.0.0.0/8", "127.0.0.1:8080", "[fd00::/8]:443", "db.internal:5000", "*.Corp.example."], &[]);
        assert!(reaches(&policy, "x", "10.255.0.1", 9999) && !reaches(&policy, "x", "11.0.0.1", 9999));
        assert!(reaches(&policy, "x", "::ffff:10.0.0.1", 80) && reaches(&policy, "x", "64:ff9b::a00:1", 80));
        assert!(reaches(&policy, "x", "127.0.0.1", 8080) && !reaches(&policy, "x", "127.0.0.1", 8081));
        assert!(reaches(&policy, "x", "fd00::1", 443) && !reaches(&policy, "x", "fd00::1", 80));
        assert!(
            reaches(&policy, "DB.internal.", "192.168.0.9", 5000)
                && !reaches(&policy, "db.internal", "192.168.0.9", 80)
        );
        assert!(
            reaches(&policy, "a.b.corp.example", "172.16.0.1", 1)
                && !reaches(&policy, "corp.example", "172.16.0.1", 80)
        );
        assert!(!reaches(&policy, "evilcorp.example", "172.16.0.1", 80));
    }

    #[test]
    fn what_is_denied_stays_denied() {
        let policy =
            policy(&["10.0.0.0/8", "db.internal"], &["10.9.0.0/16", "1.1.1.1", "*.bad.example", "10.1.1.1:22"]);
        assert!(reaches(&policy, "x", "10.8.0.1", 80) && !reaches(&policy, "x", "10.9.0.1", 80));
        assert!(!reaches(&policy, "db.internal", "10.9.0.1", 80) && !reaches(&policy, "x", "1.1.1.1", 443));
        assert!(!reaches(&policy, "x", "::ffff:1.1.1.1", 443) && !reaches(&policy, "a.BAD.example", "1.0.0.1", 443));
        assert!(!reaches(&policy, "x", "10.1.1.1", 22) && reaches(&policy, "x", "10.1.1.1", 23));
    }

    #[test]
    fn a_rule_for_everything() {
        let all = policy(&["0.0.0.0/0", "::/0"], &["169.254.169.254"]);
        assert!(reaches(&all, "x", "127.0.0.1", 1) && reaches(&all, "x", "::1", 1));
        assert!(!reaches(&all, "x", "::ffff:169.254.169.254", 80));
        let v4 = policy(&["0.0.0.0/0"], &[]);
        assert!(reaches(&v4, "x", "127.0.0.1", 1) && !reaches(&v4, "x", "::1", 1));
    }

    #[test]
    fn texts_that_are_no_rules() {
        for text in ["", "*.", "a b", "http://x/", "10.0.0.0/33", "fd00::/129", "10.0.0.0/x", "a:99999", "[::1]x", "a:"]
        {
            assert!(Rule::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
