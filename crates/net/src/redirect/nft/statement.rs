//! One statement of a rule: a question, or what is done.

use super::super::ruleset::{Act, Step, state};
use super::super::{Cidr, Condition, Family, How, On, Protocol, Range, Then, Why};
use serde_json::Value;
use std::net::IpAddr;

/// Reads it into the rule.
pub(super) fn read(step: &mut Step, statement: &Value) -> Result<(), Why> {
    let one = statement.as_object().filter(|object| object.len() == 1).and_then(|object| object.iter().next());
    let (kind, value) = one.ok_or_else(|| unknown(statement))?;
    match kind.as_str() {
        "match" => question(step, value)?,
        "counter" | "log" => {}
        "mangle" => mark(step, value)?,
        "xt" => return Err(Why::OfTables),
        "drop" => step.drops()?,
        // After a TPROXY, what it comes to.
        "accept" if step.act.is_some() => {}
        _ => step.act = Some(act(kind, value)?),
    }
    Ok(())
}

fn unknown(what: &Value) -> Why {
    Why::Unknown(what.to_string())
}

fn act(kind: &str, value: &Value) -> Result<Act, Why> {
    let target = || value.get("target").and_then(Value::as_str).map(str::to_owned);
    match kind {
        "accept" => Ok(Act::End(Then::Pass)),
        "return" => Ok(Act::Return),
        "jump" => target().map(Act::Jump).ok_or_else(|| unknown(value)),
        "goto" => target().map(Act::Goto).ok_or_else(|| unknown(value)),
        "redirect" => capture(How::Redirect, value),
        "dnat" => {
            let to = address(value).filter(IpAddr::is_loopback).ok_or(Why::Elsewhere)?;
            capture(How::Dnat(to), value)
        }
        "tproxy" => match (value.get("addr"), address(value)) {
            (Some(_), Some(to)) if !to.is_loopback() && !to.is_unspecified() => Err(Why::Elsewhere),
            (Some(_), None) => Err(Why::Elsewhere),
            // Its mark is set by a statement of its own.
            _ => capture(How::Tproxy { mark: 0 }, value),
        },
        _ => Err(Why::Unknown(kind.to_owned())),
    }
}

fn address(value: &Value) -> Option<IpAddr> {
    value.get("addr")?.as_str()?.parse().ok()
}

fn capture(how: How, value: &Value) -> Result<Act, Why> {
    let port = value.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let known = value.as_object().is_some_and(|of| of.keys().all(|key| matches!(&**key, "port" | "addr" | "family")));
    match port.filter(|port| *port != 0 && known) {
        Some(port) => Ok(Act::End(Then::Capture { how, port })),
        None => Err(Why::Elsewhere),
    }
}

/// A mark, or a zone, is set.
fn mark(step: &mut Step, value: &Value) -> Result<(), Why> {
    let key = value.get("key").ok_or_else(|| unknown(value))?;
    let key = [key.pointer("/meta/key"), key.pointer("/ct/key")].map(|key| key.and_then(Value::as_str));
    match (key, &mut step.act) {
        ([Some("mark"), None], Some(Act::End(Then::Capture { how: How::Tproxy { mark }, .. }))) => {
            *mark = number(value.get("value").ok_or_else(|| unknown(value))?)?;
        }
        ([Some("mark"), None] | [None, Some("mark")], _) => step.marks = true,
        ([None, Some("zone")], _) => {}
        _ => return Err(unknown(value)),
    }
    Ok(())
}

fn question(step: &mut Step, value: &Value) -> Result<(), Why> {
    let (Some(op), Some(left), Some(right)) = (value.get("op"), value.get("left"), value.get("right")) else {
        return Err(unknown(value));
    };
    let not = match op.as_str() {
        Some("==" | "in") => false,
        Some("!=") => true,
        _ => return Err(unknown(value)),
    };
    let part = |pointer| left.pointer(pointer).and_then(Value::as_str);
    match (part("/meta/key"), part("/payload/protocol"), part("/payload/field"), part("/ct/key")) {
        (Some("nfproto"), ..) => step.ask_family(family(right, not)?),
        (Some(key), None, None, None) => step.ask(Condition { not, on: of_packet(key, right)? }),
        (None, Some(protocol), Some(field), None) => payload(step, protocol, field, not, right)?,
        (None, None, None, Some("state")) => step.ask_state(states(right)?, not),
        (None, None, None, Some("mark")) => step.ask_connection_mark(number(right)?, not),
        _ => return Err(unknown(left)),
    }
    Ok(())
}

fn family(right: &Value, not: bool) -> Result<Family, Why> {
    match (right.as_str(), right.as_u64()) {
        (Some("ipv4"), _) | (_, Some(2)) => Ok(if not { Family::V6 } else { Family::V4 }),
        (Some("ipv6"), _) | (_, Some(10)) => Ok(if not { Family::V4 } else { Family::V6 }),
        _ => Err(unknown(right)),
    }
}

fn of_packet(key: &str, right: &Value) -> Result<On, Why> {
    Ok(match key {
        "l4proto" => On::Protocol(listed(right, protocol)?),
        "iifname" | "iif" => On::From(device(right)?),
        "oifname" | "oif" => On::To(device(right)?),
        "skuid" => On::User(listed(right, owner)?),
        "skgid" => On::Group(listed(right, owner)?),
        "mark" => On::Mark { value: number(right)?, mask: u32::MAX },
        _ => return Err(Why::Unknown(format!("meta {key}"))),
    })
}

fn payload(step: &mut Step, protocol: &str, field: &str, not: bool, right: &Value) -> Result<(), Why> {
    let on = match (protocol, field) {
        ("ip" | "ip6", "saddr") => On::Source(listed(right, |one| cidr(one, protocol == "ip"))?),
        ("ip" | "ip6", "daddr") => On::Destination(listed(right, |one| cidr(one, protocol == "ip"))?),
        ("ip", "protocol") | ("ip6", "nexthdr") => On::Protocol(listed(right, self::protocol)?),
        ("tcp" | "udp" | "th", "sport") => On::SourcePort(listed(right, range)?),
        ("tcp" | "udp" | "th", "dport") => On::DestinationPort(listed(right, range)?),
        _ => return Err(Why::Unknown(format!("{protocol} {field}"))),
    };
    let family = match protocol {
        "ip" => Some(Family::V4),
        "ip6" => Some(Family::V6),
        _ => None,
    };
    if let Some(family) = family {
        step.ask_family(family);
    }
    // The question itself says of which protocol its packets are.
    match protocol {
        "tcp" => step.ask(Condition::is(On::Protocol(vec![Protocol::Tcp]))),
        "udp" => step.ask(Condition::is(On::Protocol(vec![Protocol::Udp]))),
        _ => {}
    }
    step.ask(Condition { not, on });
    Ok(())
}

/// One thing, or a set of them.
fn listed<T>(right: &Value, read: impl Fn(&Value) -> Result<T, Why>) -> Result<Vec<T>, Why> {
    match right.get("set").and_then(Value::as_array) {
        Some(items) if items.is_empty() => Err(unknown(right)),
        Some(items) => items.iter().map(read).collect(),
        None => Ok(vec![read(right)?]),
    }
}

fn number(value: &Value) -> Result<u32, Why> {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).ok_or_else(|| unknown(value))
}

fn device(value: &Value) -> Result<String, Why> {
    // A star at the end means all devices that begin so.
    let name = value.as_str().filter(|name| !name.is_empty() && !name.ends_with('*') && !name.starts_with('@'));
    name.map(str::to_owned).ok_or_else(|| unknown(value))
}

fn protocol(value: &Value) -> Result<Protocol, Why> {
    match (value.as_str(), value.as_u64()) {
        (Some("tcp"), _) | (_, Some(6)) => Ok(Protocol::Tcp),
        (Some("udp"), _) | (_, Some(17)) => Ok(Protocol::Udp),
        _ => Err(unknown(value)),
    }
}

fn owner(value: &Value) -> Result<Range<u32>, Why> {
    match value.as_str() {
        Some(name) if !name.starts_with('@') => Err(Why::Name),
        _ => range(value),
    }
}

/// One number, or a range.
fn range<T: TryFrom<u64> + Copy + PartialOrd>(value: &Value) -> Result<Range<T>, Why> {
    let read = |value: &Value| value.as_u64().and_then(|number| T::try_from(number).ok());
    let ends = match value.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        Some([low, high]) => read(low).zip(read(high)),
        _ => read(value).map(|number| (number, number)),
    };
    ends.filter(|(low, high)| low <= high).ok_or_else(|| unknown(value))
}

fn cidr(value: &Value, of_ipv4: bool) -> Result<Cidr, Why> {
    let one = |text: &Value| text.as_str().and_then(|text| text.parse().ok());
    let read = match value.get("prefix") {
        Some(prefix) => {
            let len = prefix.get("len").and_then(Value::as_u64).and_then(|len| u8::try_from(len).ok());
            prefix.get("addr").and_then(one).zip(len).and_then(|(address, len)| Cidr::new(address, len))
        }
        None => one(value).map(Cidr::host),
    };
    read.filter(|cidr| cidr.is_ipv4() == of_ipv4).ok_or_else(|| unknown(value))
}

/// Bits of states, as one number, a name, or a list of these.
fn states(right: &Value) -> Result<u8, Why> {
    let listed = right.as_array().or_else(|| right.get("set").and_then(Value::as_array));
    let one = |value: &Value| match value.as_str() {
        Some(name) => state::bit(name).ok_or_else(|| unknown(value)),
        None => value.as_u64().and_then(|bits| u8::try_from(bits).ok()).ok_or_else(|| unknown(value)),
    };
    match listed {
        Some(items) => items.iter().try_fold(0, |bits, item| Ok(bits | one(item)?)),
        None => one(right),
    }
}
