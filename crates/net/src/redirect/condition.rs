//! What a rule asks of a connection, and which questions exclude each other.

use super::{Cidr, Family, First, Protocol};
use std::fmt;
use std::net::SocketAddr;

/// From the first to the last, both in.
pub type Range<T> = (T, T);

/// A question, or its opposite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub not: bool,
    pub on: On,
}

/// Lists hold where one of them does. Blocks of addresses in one list are of one family, and only its packets are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    Protocol(Vec<Protocol>),
    Source(Vec<Cidr>),
    Destination(Vec<Cidr>),
    SourcePort(Vec<Range<u16>>),
    DestinationPort(Vec<Range<u16>>),
    /// Of the sending socket.
    User(Vec<Range<u32>>),
    Group(Vec<Range<u32>>),
    /// The device by which it arrives.
    From(String),
    /// The device by which it leaves.
    To(String),
    Mark {
        value: u32,
        mask: u32,
    },
}

impl Condition {
    pub fn is(on: On) -> Self {
        Self { not: false, on }
    }

    pub fn holds(&self, first: &First<'_>) -> bool {
        self.on.holds(first) != self.not
    }

    /// Whether no connection can meet both. Not everything that is impossible is found.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        match (self.not, other.not) {
            (false, false) => self.on.is_apart(&other.on),
            (false, true) => self.on.is_within(&other.on),
            (true, false) => other.on.is_within(&self.on),
            (true, true) => false,
        }
    }

    /// Whether a connection that meets this one meets the other. Not every case is found.
    pub(super) fn implies(&self, other: &Self) -> bool {
        match (self.not, other.not) {
            (false, false) => self.on.is_within(&other.on),
            (false, true) => self.on.is_apart(&other.on),
            (true, true) => other.on.is_within(&self.on),
            (true, false) => false,
        }
    }

    /// Of which family a connection must be to meet it.
    pub(super) fn family(&self) -> Option<Family> {
        let (On::Source(of) | On::Destination(of)) = &self.on else { return None };
        Some(if is_ipv4(of) { Family::V4 } else { Family::V6 })
    }
}

impl On {
    fn holds(&self, first: &First<'_>) -> bool {
        let any = |ranges: &[Range<u16>], port: u16| ranges.iter().any(|(low, high)| (*low..=*high).contains(&port));
        let owned = |ranges: &[Range<u32>], id: Option<u32>| {
            id.is_some_and(|id| ranges.iter().any(|(low, high)| (*low..=*high).contains(&id)))
        };
        let among = |cidrs: &[Cidr], at: SocketAddr| cidrs.iter().any(|cidr| cidr.contains(at.ip()));
        match self {
            Self::Protocol(of) => of.contains(&first.protocol),
            Self::Source(of) => among(of, first.source),
            Self::Destination(of) => among(of, first.destination),
            Self::SourcePort(of) => any(of, first.source.port()),
            Self::DestinationPort(of) => any(of, first.destination.port()),
            Self::User(of) => owned(of, first.owner.map(|owner| owner.user)),
            Self::Group(of) => owned(of, first.owner.map(|owner| owner.group)),
            Self::From(device) => first.from == Some(device),
            Self::To(device) => first.to == Some(device),
            Self::Mark { value, mask } => first.mark & mask == *value,
        }
    }

    /// The numbers for which it holds, for questions of one kind.
    fn spans(&self) -> Option<(Subject, Vec<Range<u128>>)> {
        let cidrs = |of: &[Cidr]| of.iter().map(|cidr| cidr.span()).collect();
        let wide = |of: &[Range<u32>]| of.iter().map(|(low, high)| ((*low).into(), (*high).into())).collect();
        let ports = |of: &[Range<u16>]| of.iter().map(|(low, high)| ((*low).into(), (*high).into())).collect();
        Some(match self {
            Self::Protocol(of) => {
                (Subject::Protocol, of.iter().map(|protocol| (*protocol as u128, *protocol as u128)).collect())
            }
            Self::Source(of) => (Subject::Source(is_ipv4(of)), cidrs(of)),
            Self::Destination(of) => (Subject::Destination(is_ipv4(of)), cidrs(of)),
            Self::SourcePort(of) => (Subject::SourcePort, ports(of)),
            Self::DestinationPort(of) => (Subject::DestinationPort, ports(of)),
            Self::User(of) => (Subject::User, wide(of)),
            Self::Group(of) => (Subject::Group, wide(of)),
            Self::From(_) | Self::To(_) | Self::Mark { .. } => return None,
        })
    }

    /// Whether both cannot hold.
    fn is_apart(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::From(a), Self::From(b)) | (Self::To(a), Self::To(b)) => a != b,
            (Self::Mark { value: a, mask: x }, Self::Mark { value: b, mask: y }) => a & x & y != b & x & y,
            _ => match (self.spans(), other.spans()) {
                (Some((a, of)), Some((b, others))) if a == b => {
                    !of.iter().any(|(low, high)| others.iter().any(|(from, to)| low <= to && from <= high))
                }
                _ => false,
            },
        }
    }

    /// Whether the other holds wherever this one does.
    fn is_within(&self, other: &Self) -> bool {
        match (self.spans(), other.spans()) {
            (Some((a, of)), Some((b, others))) if a == b => {
                of.iter().all(|(low, high)| others.iter().any(|(from, to)| from <= low && high <= to))
            }
            (None, None) => self == other,
            _ => false,
        }
    }
}

/// Of which family the blocks of a list are; readers let in only such of one.
fn is_ipv4(of: &[Cidr]) -> bool {
    of.first().is_some_and(|cidr| cidr.is_ipv4())
}

#[derive(PartialEq)]
enum Subject {
    Protocol,
    /// By whether they are of IPv4.
    Source(bool),
    Destination(bool),
    SourcePort,
    DestinationPort,
    User,
    Group,
}

impl fmt::Display for Condition {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.not { "not " } else { "" };
        match &self.on {
            On::Protocol(of) => write!(to, "{not}{}", joined(of.iter().map(name))),
            On::Source(of) => write!(to, "{not}from {}", joined(of.iter().map(ToString::to_string))),
            On::Destination(of) => write!(to, "{not}to {}", joined(of.iter().map(ToString::to_string))),
            On::SourcePort(of) => write!(to, "{not}from port {}", joined(of.iter().map(range))),
            On::DestinationPort(of) => write!(to, "{not}to port {}", joined(of.iter().map(range))),
            On::User(of) => write!(to, "{not}of user {}", joined(of.iter().map(range))),
            On::Group(of) => write!(to, "{not}of group {}", joined(of.iter().map(range))),
            On::From(device) => write!(to, "{not}by {device}"),
            On::To(device) => write!(to, "{not}over {device}"),
            On::Mark { value, mask } => write!(to, "{not}marked {value:#x}/{mask:#x}"),
        }
    }
}

fn name(protocol: &Protocol) -> String {
    match protocol {
        Protocol::Tcp => "tcp".to_owned(),
        Protocol::Udp => "udp".to_owned(),
    }
}

fn range<T: fmt::Display + PartialEq>((low, high): &Range<T>) -> String {
    if low == high { low.to_string() } else { format!("{low}-{high}") }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}
