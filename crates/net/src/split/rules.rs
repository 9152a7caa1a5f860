//! A half's packet filter, as text for nft: made from the model, replaced whole in one transaction.
//!
//! What is sent to the Pod itself is led to the half whose it is before any filter sees it ([`super::ways`]). So a half without
//! a sidecar's rules has one that drops what is not the Pod's, and nothing that each packet had to pass: connections are not tracked,
//! but by rules of the Pod's own.
//!
//! With a sidecar's rules a connection's first packet is judged, and its mark keeps the judgement for all that follow; what began
//! before is left alone. A packet goes untouched to the half that its mark says.
//!
//! Pure text: what each rule must come before is the order in which it is written here.

use super::capture::Capture;
use super::plan::{LINKS_V4, LINKS_V6, MARK_MASK, Peer, Side};
use super::ports::{Port, Protocol};
use std::fmt::Write;
use std::net::IpAddr;

/// The table of a half.
pub const TABLE: &str = "lichen_pod";
/// The set of the ports that this half has claimed.
pub const OWN: &str = "own";

/// What a half's filter is made from.
pub struct View<'a> {
    pub side: &'a Side,
    pub addresses: &'a [IpAddr],
    /// Claimed ports and the numbers of their halves.
    pub claims: &'a [(Port, usize)],
    pub capture: Option<Capture<'a>>,
    /// Whether packets that are not the Pod's may pass through this half, as they could before.
    pub transit: bool,
}

/// The whole table, in the place of one that may be there.
pub fn table(view: &View<'_>) -> String {
    let mut text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n");
    if let Some(capture) = &view.capture {
        sets(&mut text, view);
        judge(&mut text, view, capture);
        let body = [leaving(view), entering(view), fit(view), translate(view, capture), arrive(view, capture)];
        for (head, rules) in body {
            chain(&mut text, head, &rules);
        }
    }
    let (head, rules) = passing(view);
    chain(&mut text, head, &rules);
    text.push_str("}\n");
    text
}

/// Removes it, whether it is there or not.
pub fn removal() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// What begins nothing.
const BEGUN: &str = "meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn";

type Chain = (&'static str, Vec<String>);

/// Where packets pass, one that has no rules would cost each of them something.
fn chain(text: &mut String, head: &str, rules: &[String]) {
    let (name, hook) = head.split_once(": ").unwrap_or((head, ""));
    if rules.is_empty() && !hook.is_empty() {
        return;
    }
    let _ = writeln!(text, "  chain {name} {{");
    if !hook.is_empty() {
        let _ = writeln!(text, "    type {hook}; policy accept;");
    }
    for rule in rules {
        let _ = writeln!(text, "    {rule}");
    }
    text.push_str("  }\n");
}

fn sets(text: &mut String, view: &View<'_>) {
    let own = std::iter::once((view.side.number, OWN.to_owned()));
    for (number, name) in own.chain(view.side.peers.iter().map(|peer| (peer.number, peer.set()))) {
        let of = view.claims.iter().filter(|(_, owner)| *owner == number);
        let elements: Vec<String> = of.map(|(port, _)| port.to_string()).collect();
        let _ = writeln!(text, "  set {name} {{");
        text.push_str("    type inet_proto . inet_service\n");
        if !elements.is_empty() {
            let _ = writeln!(text, "    elements = {{ {} }}", elements.join(", "));
        }
        text.push_str("  }\n");
    }
}

/// Where a connection goes, by its first packet: chains that the hooks jump to.
fn judge(text: &mut String, view: &View<'_>, capture: &Capture<'_>) {
    let mut by_port = Vec::new();
    for (match_, list) in pods(view, "daddr") {
        for (port, peer) in by_peer(view.side) {
            by_port.push(format!("{match_} {list} {port} {} return", marked("ct", peer.mark())));
        }
    }
    chain(text, "by_port", &by_port);
    // What a kernel does not see the beginning of is not moved.
    let begun = || vec![BEGUN.to_owned() + " return"];
    let (mut out, mut enter) = (begun(), begun());
    out.extend(capture.leaving(view));
    enter.extend(capture.entering(view));
    enter.push("goto by_port".to_owned());
    chain(text, "judge_leaving", &out);
    chain(text, "judge_entering", &enter);
}

fn leaving(view: &View<'_>) -> Chain {
    let mut rules = vec!["ct state new jump judge_leaving".to_owned()];
    rules.extend(follow(view.side));
    ("leaving: route hook output priority -150", rules)
}

/// What has come from a peer is remembered by it, but where it was led here as the Pod's own; what comes from outside follows its
/// connection. Nobody outside reaches a link.
fn entering(view: &View<'_>) -> Chain {
    let links = links(view.side);
    let mut rules = vec![format!("iifname {links} ip daddr 127.0.0.0/8 accept")];
    for ((from, list), (to, _)) in pods(view, "saddr").iter().zip(&pods(view, "daddr")) {
        rules.push(format!("iifname {links} {from} {list} {to} {list} accept"));
    }
    for peer in &view.side.peers {
        rules.push(format!("iifname \"{}\" ct state new {}", peer.link, marked("ct", peer.mark())));
        rules.push(format!("iifname \"{}\" accept", peer.link));
    }
    rules.push("iifname \"lo\" accept".to_owned());
    rules.push(format!("ip daddr {LINKS_V4} drop"));
    rules.push(format!("ip6 daddr {LINKS_V6} drop"));
    rules.push("ct state new jump judge_entering".to_owned());
    rules.extend(follow(view.side));
    ("entering: filter hook prerouting priority -150", rules)
}

/// A half passes packets on for the Pod, and for nobody else.
fn passing(view: &View<'_>) -> Chain {
    let links = links(view.side);
    let stranger = format!("iifname != {links} oifname != {links} drop");
    let rules = if view.transit || view.side.peers.is_empty() { Vec::new() } else { vec![stranger] };
    ("passing: filter hook forward priority 0", rules)
}

/// What a proxy on this half gets from programs on it.
fn translate(view: &View<'_>, capture: &Capture<'_>) -> Chain {
    let local = capture.local(view);
    let rules = if local.is_empty() { local } else { [vec![BEGUN.to_owned() + " accept"], local].concat() };
    ("translate: nat hook output priority -100", rules)
}

/// What is for a proxy on another half would go elsewhere without it, and other devices carry more than a link.
fn fit(view: &View<'_>) -> Chain {
    let one = |peer: &Peer| {
        format!("oifname \"{}\" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu", peer.link)
    };
    ("fit: filter hook postrouting priority -150", view.side.peers.iter().map(one).collect())
}

/// What a proxy on this half gets from elsewhere.
fn arrive(view: &View<'_>, capture: &Capture<'_>) -> Chain {
    ("arrive: nat hook prerouting priority -100", capture.arriving(view))
}

/// Which ports are whose: those that were claimed before those from which the kernels choose.
pub fn by_peer(side: &Side) -> Vec<(String, &Peer)> {
    let claimed = side.peers.iter().map(|peer| (format!("meta l4proto . th dport @{}", peer.set()), peer));
    let chosen = side.peers.iter().map(|peer| {
        let (first, last) = (peer.chosen.start(), peer.chosen.end());
        let port = format!("meta l4proto {{ tcp, udp }} th dport {first}-{last} meta l4proto . th dport != @{OWN}");
        (port, peer)
    });
    claimed.chain(chosen).collect()
}

/// What was decided of a connection is done with each of its packets.
fn follow(side: &Side) -> impl Iterator<Item = String> {
    side.peers.iter().map(|peer| {
        let mark = peer.mark();
        format!("ct mark & {MARK_MASK:#010x} == {mark:#010x} {}", marked("meta", mark))
    })
}

/// Gives a packet or a connection a mark, and leaves the bits that are others'.
pub fn marked(of: &str, mark: u32) -> String {
    format!("{of} mark set {of} mark & {:#010x} | {mark:#010x}", !MARK_MASK)
}

/// The Pod's addresses of each family that has some, as a match.
pub fn pods(view: &View<'_>, end: &str) -> Vec<(String, String)> {
    let of = |v4: bool| {
        let of: Vec<String> =
            view.addresses.iter().filter(|address| address.is_ipv4() == v4).map(ToString::to_string).collect();
        let family = if v4 { "ip" } else { "ip6" };
        (!of.is_empty()).then(|| (format!("{family} {end}"), format!("{{ {} }}", of.join(", "))))
    };
    [of(true), of(false)].into_iter().flatten().collect()
}

/// The devices that lead to peers.
pub fn links(side: &Side) -> String {
    let names: Vec<String> = side.peers.iter().map(|peer| format!("\"{}\"", peer.link)).collect();
    format!("{{ {} }}", names.join(", "))
}

impl std::fmt::Display for Port {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(to, "{protocol} . {}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No sidecar: whose a port is, the filter does not ask.
    #[test]
    fn a_half_is_written_down_as_it_always_was() {
        let side = Side::new(0, 2, &[0, 1]);
        let port = |protocol, number| Port { protocol, number };
        let view = View {
            side: &side,
            addresses: &["10.77.0.5".parse().unwrap(), "fd77::5".parse().unwrap()],
            claims: &[(port(Protocol::Tcp, 8080), 0), (port(Protocol::Tcp, 33000), 1), (port(Protocol::Udp, 53), 1)],
            capture: None,
            transit: false,
        };
        assert_eq!(table(&view), include_str!("golden/two-halves.nft"));
    }

    #[test]
    fn a_half_that_is_alone_moves_nothing() {
        let side = Side::new(1, 2, &[1]);
        let view = View { side: &side, addresses: &[], claims: &[], capture: None, transit: false };
        let text = table(&view);
        assert!(!text.contains("chain"), "{text}");
    }
}
