//! Which connections a sidecar's proxy gets, from every half: one rule, taken apart.
//!
//! In one namespace a rule rewrites a connection's destination, and the proxy asks the kernel what it was. Rewritten on the
//! caller's half it would be the proxy's own address that the proxy finds there, and calls: for ever. So each part can be
//! done without the others, and the rewriting twice where it is the same (HeteroPod's *partially idempotent* rules):
//!
//! ```text
//!  caller's half   judge: would the rule hold? ─▶ route to the proxy's half, destination untouched
//!  proxy's half    judge again, by the same conditions ─▶ rewrite here, where the proxy asks
//! ```
//! Who the owner of a socket is, and by which device it leaves, only its own half knows: conditions on these are those by
//! which a proxy tells itself apart, and in another half there is no proxy.

use super::plan::{LINKS_V4, LINKS_V6, mark};
use super::rules::{View, by_peer, links, marked, pods};
use crate::redirect::{Cidr, Condition, Family, Hook, How, On, Protocol, Range, Redirects, Rule, Then};
use std::fmt::Display;
use std::net::IpAddr;
use thiserror::Error;

/// Rules of a sidecar whose proxy is in this half.
#[derive(Clone, Copy, Debug)]
pub struct Capture<'a> {
    pub redirects: &'a Redirects,
    pub proxy: usize,
}

/// Why rules cannot be taken apart.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum CaptureError {
    #[error("no rule hands a connection to a proxy")]
    Nothing,
    #[error("{0:?} is no device that rules can name here")]
    Device(String),
    #[error("TPROXY needs the packet itself in the proxy's half: have the mesh redirect (“{0}”)")]
    Tproxy(String),
}

impl Capture<'_> {
    pub fn check(&self) -> Result<(), CaptureError> {
        let mut some = false;
        for rule in &self.redirects.rules {
            rule.when.iter().try_for_each(nameable)?;
            match rule.then {
                Then::Capture { how: How::Tproxy { .. }, .. } => return Err(CaptureError::Tproxy(rule.to_string())),
                Then::Capture { .. } => some = true,
                Then::Pass => {}
            }
        }
        if some { Ok(()) } else { Err(CaptureError::Nothing) }
    }

    /// In a half without the proxy: what leaves the Pod, and the proxy is to get.
    pub fn leaving(&self, view: &View<'_>) -> Vec<String> {
        if view.side.number == self.proxy || !self.is_reachable(view) {
            return Vec::new();
        }
        let mut rules = within(view, "return");
        rules.extend(self.judged(Hook::Output, None, &self.steer(), "return"));
        rules
    }

    /// What comes from outside: to the proxy's half, or, there, not on to the owner of the port.
    pub fn entering(&self, view: &View<'_>) -> Vec<String> {
        let here = view.side.number == self.proxy;
        if !here && !self.is_reachable(view) {
            return Vec::new();
        }
        let captured = if here { "return".to_owned() } else { self.steer() };
        let mut rules = Vec::new();
        // Only what is for the Pod: nobody else's packets are led to its proxy.
        for (to, list) in pods(view, "daddr") {
            let family = if to.starts_with("ip ") { Family::V4 } else { Family::V6 };
            let judged = self.judged(Hook::Prerouting, Some(family), &captured, "goto by_port");
            rules.extend(judged.iter().map(|rule| format!("{to} {list} {rule}")));
        }
        rules
    }

    /// In the proxy's half: calls of the programs there, by the rules as they are.
    pub fn local(&self, view: &View<'_>) -> Vec<String> {
        if view.side.number != self.proxy {
            return Vec::new();
        }
        // What goes to another half is none of the proxy's.
        let mut rules = Vec::new();
        let own = ["ip daddr 127.0.0.0/8".to_owned(), "ip6 daddr ::1".to_owned()];
        for to in own.into_iter().chain(pods(view, "daddr").iter().map(|(end, list)| format!("{end} {list}"))) {
            rules.extend(by_peer(view.side).iter().map(|(port, _)| format!("{to} {port} accept")));
        }
        for rule in self.redirects.rules.iter().filter(|rule| rule.hook == Hook::Output) {
            rules.push(format!("{} {}", conditions(rule), then(rule, rewrite)));
        }
        rules
    }

    /// In the proxy's half: what other halves and the outside have sent it.
    pub fn arriving(&self, view: &View<'_>) -> Vec<String> {
        if view.side.number != self.proxy {
            return Vec::new();
        }
        let links = links(view.side);
        let mut rules = Vec::new();
        for ((to, pods), (from, _)) in pods(view, "daddr").iter().zip(&pods(view, "saddr")) {
            let family = if to.starts_with("ip ") { Family::V4 } else { Family::V6 };
            for rule in elsewhere(self.redirects, Hook::Prerouting).iter().filter(|rule| of(rule, family)) {
                let then = then(rule, |_, port| format!("redirect to :{port}"));
                rules.push(format!("iifname != \"lo\" {to} {pods} {from} != {pods} {} {then}", conditions(rule)));
            }
        }
        rules.extend(within(view, "accept").iter().map(|rule| format!("iifname {links} {rule}")));
        for rule in elsewhere(self.redirects, Hook::Output) {
            for (family, to) in [(Family::V4, "ip to 127.0.0.1"), (Family::V6, "ip6 to [::1]")] {
                if of(&rule, family) {
                    let then = then(&rule, |_, port| format!("dnat {to}:{port}"));
                    let rule = Rule { family: Some(family), ..rule.clone() };
                    rules.push(format!("iifname {links} {} {then}", conditions(&rule)));
                }
            }
        }
        rules
    }

    fn is_reachable(&self, view: &View<'_>) -> bool {
        view.side.peers.iter().any(|peer| peer.number == self.proxy)
    }

    fn steer(&self) -> String {
        format!("{} return", marked("ct", mark(self.proxy)))
    }

    /// Rules of a hook, for packets of one family or of both, where what is captured has to go elsewhere.
    fn judged(&self, hook: Hook, family: Option<Family>, captured: &str, passed: &str) -> Vec<String> {
        let then = |rule: &Rule| if rule.then == Then::Pass { passed } else { captured };
        let rules = elsewhere(self.redirects, hook);
        let asked = rules.iter().filter(|rule| family.is_none_or(|family| of(rule, family)));
        asked.map(|rule| format!("{} {}", conditions(rule), then(rule))).collect()
    }
}

/// Rules are the Pod's words, and become ours: a name must not end its quotes.
fn nameable(condition: &Condition) -> Result<(), CaptureError> {
    let (On::From(device) | On::To(device)) = &condition.on else { return Ok(()) };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | ':');
    if device.len() < libc::IFNAMSIZ && device.chars().all(plain) {
        Ok(())
    } else {
        Err(CaptureError::Device(device.clone()))
    }
}

/// What stays within the Pod is its own, whatever the rules say.
fn within(view: &View<'_>, then: &str) -> Vec<String> {
    let mut rules = vec![
        format!("ip daddr {{ 127.0.0.0/8, {LINKS_V4} }} {then}"),
        format!("ip6 daddr {{ ::1, {LINKS_V6} }} {then}"),
    ];
    rules.extend(pods(view, "daddr").iter().map(|(end, list)| format!("{end} {list} {then}")));
    rules
}

/// The rules of a hook, as they are where the proxy is not: nobody there is the proxy, and devices are others.
fn elsewhere(redirects: &Redirects, hook: Hook) -> Vec<Rule> {
    let own = |condition: &Condition| {
        matches!(condition.on, On::User(_) | On::Group(_) | On::From(_) | On::To(_) | On::Mark { .. })
    };
    let holds = |rule: &&Rule| rule.hook == hook && !rule.when.iter().any(|condition| own(condition) && !condition.not);
    let foreign = |rule: &Rule| {
        let when = rule.when.iter().filter(|condition| !own(condition)).cloned().collect();
        Rule { when, ..rule.clone() }
    };
    redirects.rules.iter().filter(holds).map(foreign).collect()
}

fn then(rule: &Rule, captured: impl Fn(How, u16) -> String) -> String {
    match rule.then {
        Then::Pass => "accept".to_owned(),
        Then::Capture { how, port } => captured(how, port),
    }
}

/// In the words of the rule itself.
fn rewrite(how: How, port: u16) -> String {
    match how {
        How::Dnat(IpAddr::V4(address)) => format!("dnat ip to {address}:{port}"),
        How::Dnat(IpAddr::V6(address)) => format!("dnat ip6 to [{address}]:{port}"),
        How::Redirect | How::Tproxy { .. } => format!("redirect to :{port}"),
    }
}

/// Whether it is asked of packets of this family.
fn of(rule: &Rule, family: Family) -> bool {
    let v4 = family == Family::V4;
    let asked = |condition: &Condition| match &condition.on {
        On::Source(of) | On::Destination(of) => of.first().is_none_or(|cidr| cidr.is_ipv4() == v4),
        _ => true,
    };
    rule.family.is_none_or(|of| of == family) && rule.when.iter().all(asked)
}

fn conditions(rule: &Rule) -> String {
    let family = match rule.family {
        Some(Family::V4) => "meta nfproto ipv4 ",
        Some(Family::V6) => "meta nfproto ipv6 ",
        None => "",
    };
    // A port that is rewritten has to be one of these protocols'.
    let parts = std::iter::once("meta l4proto { tcp, udp }".to_owned()).chain(rule.when.iter().map(condition));
    format!("{family}{}", parts.collect::<Vec<_>>().join(" "))
}

fn condition(condition: &Condition) -> String {
    let not = if condition.not { "!= " } else { "" };
    match &condition.on {
        On::Protocol(of) => format!(
            "meta l4proto {not}{}",
            list(of.iter().map(|of| match of {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            }))
        ),
        On::Source(of) => format!("{} {not}{}", end(of, "saddr"), list(of)),
        On::Destination(of) => format!("{} {not}{}", end(of, "daddr"), list(of)),
        On::SourcePort(of) => format!("th sport {not}{}", list(of.iter().map(range))),
        On::DestinationPort(of) => format!("th dport {not}{}", list(of.iter().map(range))),
        On::User(of) => format!("meta skuid {not}{}", list(of.iter().map(range))),
        On::Group(of) => format!("meta skgid {not}{}", list(of.iter().map(range))),
        On::From(device) => format!("iifname {not}\"{device}\""),
        On::To(device) => format!("oifname {not}\"{device}\""),
        On::Mark { value, mask } => {
            format!("meta mark & {mask:#x} {} {value:#x}", if condition.not { "!=" } else { "==" })
        }
    }
}

fn end(of: &[Cidr], end: &str) -> String {
    let family = if of.first().is_some_and(|cidr| cidr.is_ipv4()) { "ip" } else { "ip6" };
    format!("{family} {end}")
}

fn range<T: Display + PartialEq>((low, high): &Range<T>) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

fn list(of: impl IntoIterator<Item = impl Display>) -> String {
    let parts: Vec<String> = of.into_iter().map(|one| one.to_string()).collect();
    format!("{{ {} }}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::read_tables;
    use crate::split::plan::Side;
    use crate::split::rules::table;

    const RULES: &str = "*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 15090 -j RETURN
-A PREROUTING -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -o lo -d 127.0.0.1/32 -j RETURN
-A OUTPUT -m owner --uid-owner 1337 -j RETURN
-A OUTPUT -p tcp -m tcp ! --dport 22 -j REDIRECT --to-ports 15001
COMMIT
";

    /// The app's half, and the proxy's.
    #[test]
    fn a_rule_is_taken_apart_as_it_always_was() {
        let redirects = read_tables(RULES, Family::V4).unwrap();
        let capture = Capture { redirects: &redirects, proxy: 1 };
        assert_eq!(capture.check(), Ok(()));
        let text = |number| {
            let side = Side::new(number, 2, &[0, 1]);
            let addresses = ["10.77.0.5".parse().unwrap(), "fd77::5".parse().unwrap()];
            table(&View { side: &side, addresses: &addresses, claims: &[], capture: Some(capture), transit: false })
        };
        assert_eq!(text(0), include_str!("golden/app.nft"));
        assert_eq!(text(1), include_str!("golden/proxy.nft"));
    }

    #[test]
    fn names_do_not_become_commands() {
        let rule = |device: &str| Rule {
            hook: Hook::Output,
            family: None,
            when: vec![Condition::is(On::To(device.to_owned()))],
            then: Then::Capture { how: How::Redirect, port: 1 },
        };
        let check = |device: &str| {
            let redirects = Redirects { rules: vec![rule(device)], left_out: Vec::new() };
            Capture { redirects: &redirects, proxy: 0 }.check()
        };
        assert_eq!(check("eth0.7"), Ok(()));
        for device in ["a\" accept", "a\nb", "a; b", "eth*", &"a".repeat(16)] {
            assert_eq!(check(device), Err(CaptureError::Device(device.to_owned())));
        }
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        let of = |text: &str| {
            let redirects = read_tables(text, Family::V4).unwrap();
            Capture { redirects: &redirects, proxy: 0 }.check()
        };
        assert_eq!(of("*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp -j RETURN\nCOMMIT\n"), Err(CaptureError::Nothing));
        let tproxy = "*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j TPROXY --on-port 15006 --tproxy-mark 0x539/0xffffffff\nCOMMIT\n";
        assert!(matches!(of(tproxy), Err(CaptureError::Tproxy(_))));
    }
}
