//! A half's packet filter, as text for nft: made from the model, replaced whole in one transaction.
//!
//! A connection's first packet is judged, and its mark keeps the judgement for all that follow; what began before the network
//! was made is left alone. The Pod's own addresses are local in all halves, and so is `127.0.0.0/8`: to these a packet goes untouched,
//! by a route that its mark chooses. A kernel takes nothing for `::1` from a link, so calls there are translated, in HeteroPod's steps:
//!
//! ```text
//!  caller's half  translate: [::1]:port of the peer ─1─▶ its end of the link    leave: ::1 ─2─▶ own end, port kept
//!  server's half  arrive: own end ─3─▶ ::1                                      deliver: peer's end ─4─▶ ::1
//! ```
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
    sets(&mut text, view);
    judge(&mut text, view);
    let body = [
        leaving(view),
        entering(view),
        passing(view),
        fit(view),
        translate(view),
        leave(view),
        arrive(view),
        deliver(view),
    ];
    for (head, rules) in body {
        chain(&mut text, head, &rules);
    }
    text.push_str("}\n");
    text
}

/// Removes it, whether it is there or not.
pub fn removal() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

type Chain = (&'static str, Vec<String>);

fn chain(text: &mut String, head: &str, rules: &[String]) {
    let (name, hook) = head.split_once(": ").unwrap_or((head, ""));
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
fn judge(text: &mut String, view: &View<'_>) {
    let mut by_port = Vec::new();
    for (match_, list) in pods(view, "daddr") {
        for (port, peer) in by_peer(view.side) {
            by_port.push(format!("{match_} {list} {port} {} return", marked("ct", peer.mark())));
        }
    }
    chain(text, "by_port", &by_port);
    // What a kernel does not see the beginning of is not moved.
    let begun = "meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn return".to_owned();
    let mut out = vec![begun.clone()];
    // Not where packets enter: nobody outside is led to what serves at localhost.
    for (port, peer) in by_peer(view.side) {
        out.push(format!("ip daddr 127.0.0.0/8 {port} {} return", marked("ct", peer.mark())));
    }
    let mut enter = vec![begun];
    if let Some(capture) = &view.capture {
        out.extend(capture.leaving(view));
        enter.extend(capture.entering(view));
    }
    out.push("goto by_port".to_owned());
    enter.push("goto by_port".to_owned());
    chain(text, "judge_leaving", &out);
    chain(text, "judge_entering", &enter);
}

fn leaving(view: &View<'_>) -> Chain {
    let mut rules = vec!["ct state new jump judge_leaving".to_owned()];
    rules.extend(follow(view.side));
    ("leaving: route hook output priority -150", rules)
}

/// Packets from a peer are remembered by it; those from outside follow their connection. Nobody outside reaches a link.
fn entering(view: &View<'_>) -> Chain {
    let mut rules = Vec::new();
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

/// Step 1.
fn translate(view: &View<'_>) -> Chain {
    let mut rules = vec!["meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn accept".to_owned()];
    for (port, peer) in by_peer(view.side) {
        rules.push(format!("ip6 daddr ::1 {port} dnat ip6 to {}", peer.far.v6));
    }
    rules.extend(view.capture.iter().flat_map(|capture| capture.local(view)));
    ("translate: nat hook output priority -100", rules)
}

/// Both ends of a connection believe that it stays, and the loopback carries a byte more than a link.
fn fit(view: &View<'_>) -> Chain {
    let one = |peer: &Peer| {
        format!("oifname \"{}\" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu", peer.link)
    };
    ("fit: filter hook postrouting priority -150", view.side.peers.iter().map(one).collect())
}

/// Step 2.
fn leave(view: &View<'_>) -> Chain {
    let one = |peer: &Peer| format!("oifname \"{}\" ip6 saddr ::1 snat ip6 to {}", peer.link, peer.near.v6);
    ("leave: nat hook postrouting priority 100", view.side.peers.iter().map(one).collect())
}

/// Step 3, and what a proxy on this half gets.
fn arrive(view: &View<'_>) -> Chain {
    let one = |peer: &Peer| {
        format!("iifname \"{}\" ip6 daddr {} meta l4proto {{ tcp, udp }} dnat ip6 to ::1", peer.link, peer.near.v6)
    };
    let mut rules: Vec<String> = view.side.peers.iter().map(one).collect();
    rules.extend(view.capture.iter().flat_map(|capture| capture.arriving(view)));
    ("arrive: nat hook prerouting priority -100", rules)
}

/// Step 4.
fn deliver(view: &View<'_>) -> Chain {
    let one =
        |peer: &Peer| format!("iifname \"{}\" ip6 saddr {} ip6 daddr ::1 snat ip6 to ::1", peer.link, peer.far.v6);
    ("deliver: nat hook input priority 100", view.side.peers.iter().map(one).collect())
}

/// Which ports are whose: those that were claimed before those from which the kernels choose.
fn by_peer(side: &Side) -> Vec<(String, &Peer)> {
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

    /// Two halves, of which the second has claimed a port in the first one's range.
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
        assert!(!text.contains("dnat") && !text.contains("drop\n  }\n  chain fit"), "{text}");
    }
}
