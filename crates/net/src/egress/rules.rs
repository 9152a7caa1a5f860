//! What passes, and what does not.
//!
//! Refusing is better than dropping: a client library that looks for a metadata service learns at once that there is none.

use super::addresses::{Uplink, is_uplink};
use crate::netlink::filter::{Hook, Rule, Table};
use crate::netlink::route::Prefix;
use std::net::Ipv4Addr;

/// The router's end of the uplink, as the router calls it.
pub const UPLINK: &str = "uplink";
const GUARD: &str = "-guard";
const DNS: u16 = 53;

/// Where no sandbox may go. Private networks are not among them.
const FORBIDDEN: [Prefix; 7] = [
    Prefix::new([0, 0, 0, 0], 8),
    Prefix::new([127, 0, 0, 0], 8),
    // Link-local, with the metadata services of most clouds.
    Prefix::new([169, 254, 0, 0], 16),
    // Those of Alibaba, Oracle and Azure.
    Prefix::new([100, 100, 100, 200], 32),
    Prefix::new([192, 0, 0, 192], 32),
    Prefix::new([168, 63, 129, 16], 32),
    // Multicast, broadcast, and the class of which the slots' addresses are.
    Prefix::new([224, 0, 0, 0], 3),
];

/// Questions to the name servers, which some clouds have at addresses that are forbidden otherwise.
fn questions(rule: &Rule, servers: &[Ipv4Addr]) -> Vec<Rule> {
    let to = servers.iter().map(|server| rule.clone().destination(Prefix::one(*server)));
    to.flat_map(|rule| {
        [libc::IPPROTO_UDP, libc::IPPROTO_TCP].map(|kind| rule.clone().protocol(kind).port(DNS).accept())
    })
    .collect()
}

/// The router's: between slots, and between them and the uplink.
pub fn of_router(uplink: &Uplink, servers: &[Ipv4Addr]) -> Table {
    let mut passing = vec![
        Rule::default().answering().accept(),
        Rule::default().astray().drop(),
        Rule::default().entering_by(UPLINK).drop(),
    ];
    passing.extend(Rule::default().not_leaving_by(UPLINK).refuse());
    passing.extend(questions(&Rule::default(), servers));
    for prefix in FORBIDDEN.into_iter().chain([uplink.pair()]) {
        passing.extend(Rule::default().destination(prefix).refuse());
    }
    passing.push(Rule::default().accept());
    let leaving = [Rule::default().not_leaving_by("lo").translate_source()];
    Table::owned(Uplink::PREFIX).chain("passing", Hook::Forward, false, passing).chain(
        "leaving",
        Hook::SourceTranslation,
        true,
        leaving,
    )
}

/// The host's: none of its own services, by none of its addresses; and the way on.
pub fn of_host(uplink: &Uplink, servers: &[Ipv4Addr]) -> Table {
    let leaving = [Rule::default().source(uplink.router).translate_source()];
    keep_out(Table::owned(&uplink.name), uplink, servers).chain("leaving", Hook::SourceTranslation, true, leaving)
}

/// The same without the way on, but lasting: it still stands while the kernel removes what a killed worker has left.
pub fn of_guard(uplink: &Uplink, servers: &[Ipv4Addr]) -> Table {
    keep_out(Table::lasting(&guard(&uplink.name)), uplink, servers)
}

/// What the guard of an uplink is called.
pub fn guard(uplink: &str) -> String {
    format!("{uplink}{GUARD}")
}

/// The uplink that a table guards, if it does.
pub fn guarded(table: &str) -> Option<&str> {
    table.strip_suffix(GUARD).filter(|uplink| is_uplink(uplink))
}

/// Refused before the host's own rules can translate the destination, as those that publish a container's port do.
fn keep_out(table: Table, uplink: &Uplink, servers: &[Ipv4Addr]) -> Table {
    let sent = Rule::default().entering_by(&uplink.name);
    let questions = questions(&sent, servers);
    let early = questions.iter().cloned().chain(sent.clone().destined_here().refuse()).collect::<Vec<_>>();
    let input = questions.into_iter().chain([sent.drop()]);
    table.chain("early", Hook::Early, true, early).chain("input", Hook::Input, true, input)
}
