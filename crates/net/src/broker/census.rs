//! What the broker tells of connections: whose they are, and where their bytes go. Looked up when somebody asks.

use super::meetings::Party;
use api::node::{Connection, ConnectionEnd, Sockets};
use os::memfd;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

const MEMORY: &str = "memory";
const TCP: &str = "tcp";

/// A connection whose ends have met. `through`: whether each end sends through memory now.
pub fn met(parties: [Party; 2], through: [bool; 2], record_bytes: u64) -> Connection {
    known(parties.map(Some), parties.map(|party| party.address), through, record_bytes)
}

/// The same, of whose ends not all need be known.
pub fn known(
    parties: [Option<Party>; 2],
    addresses: [SocketAddr; 2],
    through: [bool; 2],
    record_bytes: u64,
) -> Connection {
    let tier = if through.contains(&true) { MEMORY } else { TCP };
    let ends = [0, 1].map(|side: usize| match parties[side] {
        Some(party) => end(party, through[side]),
        None => stranger(addresses[side], through[side]),
    });
    Connection { tier: tier.to_owned(), ends, record_bytes }
}

/// One of which only one end was offered.
pub fn half(party: Party, peer: SocketAddr) -> Connection {
    Connection { tier: TCP.to_owned(), ends: [end(party, false), stranger(peer, false)], record_bytes: 0 }
}

fn way(through: bool) -> String {
    if through { MEMORY } else { TCP }.to_owned()
}

fn stranger(address: SocketAddr, through: bool) -> ConnectionEnd {
    ConnectionEnd { address: address.to_string(), sends: way(through), ..ConnectionEnd::default() }
}

fn end(party: Party, through: bool) -> ConnectionEnd {
    let process = (party.process > 0).then_some(party.process);
    let program = process.and_then(|process| std::fs::read_to_string(format!("/proc/{process}/comm")).ok());
    let program = program.map(|name| name.trim_end().to_owned());
    ConnectionEnd { address: party.address.to_string(), process, program, sends: way(through) }
}

/// As a file that nobody can make longer or shorter.
pub fn written(sockets: &Sockets) -> io::Result<OwnedFd> {
    let text = serde_json::to_vec(sockets)?;
    let mut file = File::from(memfd::sealed("lichen-census", text.len() as u64)?);
    file.write_all(&text)?;
    file.rewind()?;
    Ok(file.into())
}
