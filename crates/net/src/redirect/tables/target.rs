//! What a rule does: the word after `-j`, and its options.

use super::super::ruleset::Act;
use super::super::{Cidr, How, Then, Why};
use super::Reader;
use std::net::{IpAddr, SocketAddr};

/// Reads it, with all of its options.
pub(super) fn read(reader: &mut Reader<'_>, option: &str) -> Result<(), Why> {
    let name = reader.value(option)?;
    reader.step.act = match (option, name.as_str()) {
        ("-g", chain) => Some(Act::Goto(chain.to_owned())),
        (_, "RETURN") => Some(Act::Return),
        (_, "ACCEPT") => Some(Act::End(Then::Pass)),
        (_, "REDIRECT") => Some(redirect(reader)?),
        (_, "DNAT") => Some(dnat(reader)?),
        (_, "TPROXY") => Some(tproxy(reader)?),
        (_, "DROP" | "MARK" | "CONNMARK" | "CT" | "NFLOG") => {
            plumbing(reader, &name)?;
            None
        }
        (_, chain) => Some(Act::Jump(chain.to_owned())),
    };
    Ok(())
}

fn redirect(reader: &mut Reader<'_>) -> Result<Act, Why> {
    let mut port = None;
    while let Some(option) = reader.words.next() {
        match option.as_str() {
            "--to-ports" => port = reader.value(&option)?.parse().ok().filter(|port| *port != 0),
            _ => return Err(Why::Unknown(option)),
        }
    }
    capture(How::Redirect, port)
}

fn dnat(reader: &mut Reader<'_>) -> Result<Act, Why> {
    let mut to = None;
    while let Some(option) = reader.words.next() {
        match option.as_str() {
            "--to-destination" => to = reader.value(&option)?.parse::<SocketAddr>().ok(),
            _ => return Err(Why::Unknown(option)),
        }
    }
    let to = to.filter(|to| to.ip().is_loopback() && to.port() != 0).ok_or(Why::Elsewhere)?;
    capture(How::Dnat(to.ip()), Some(to.port()))
}

fn tproxy(reader: &mut Reader<'_>) -> Result<Act, Why> {
    let (mut port, mut mark) = (None, None);
    while let Some(option) = reader.words.next() {
        match option.as_str() {
            "--on-port" => port = reader.value(&option)?.parse().ok().filter(|port| *port != 0),
            "--tproxy-mark" => mark = Some(reader.mark(&option)?),
            "--on-ip" if is_here(&reader.value(&option)?) => {}
            "--on-ip" => return Err(Why::Elsewhere),
            _ => return Err(Why::Unknown(option)),
        }
    }
    let (mark, _) = mark.ok_or_else(|| Why::Value("--tproxy-mark".to_owned()))?;
    capture(How::Tproxy { mark }, port)
}

/// Whether a proxy there is in this namespace: at any address, or at loopback.
fn is_here(address: &str) -> bool {
    let address = Cidr::parse(address).map(Cidr::address);
    address.is_some_and(|address: IpAddr| address.is_unspecified() || address.is_loopback())
}

fn capture(how: How, port: Option<u16>) -> Result<Act, Why> {
    port.map(|port| Act::End(Then::Capture { how, port })).ok_or(Why::Elsewhere)
}

/// Takes a target that moves no connection, and its options.
fn plumbing(reader: &mut Reader<'_>, name: &str) -> Result<(), Why> {
    const LOGGING: &[&str] = &["--nflog-group", "--nflog-prefix", "--nflog-size", "--nflog-range", "--nflog-threshold"];
    let (with_value, alone): (&[&str], &[&str]) = match name {
        "MARK" => (&["--set-xmark"], &[]),
        "CONNMARK" => (&["--nfmask", "--ctmask"], &["--save-mark", "--restore-mark"]),
        "CT" => (&["--zone"], &[]),
        "NFLOG" => (LOGGING, &[]),
        _ => (&[], &[]),
    };
    while let Some(option) = reader.words.next() {
        if with_value.contains(&option.as_str()) {
            reader.value(&option)?;
        } else if !alone.contains(&option.as_str()) {
            return Err(Why::Unknown(option));
        }
    }
    reader.step.marks = matches!(name, "MARK" | "CONNMARK");
    if name == "DROP" { reader.step.drops() } else { Ok(()) }
}
