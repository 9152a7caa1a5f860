//! Whose port is which: one table for all halves of a network.
//!
//! The claims are made in the kernel (`hooks`), at the moment of a bind; this is what follows from them. A port that the
//! kernel of a half chooses by itself is not among them: those are divided beforehand (`plan`).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn of(number: u8) -> Option<Self> {
        match i32::from(number) {
            libc::IPPROTO_TCP => Some(Self::Tcp),
            libc::IPPROTO_UDP => Some(Self::Udp),
            _ => None,
        }
    }

    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    pub protocol: Protocol,
    pub number: u16,
}

/// A change of a half's set of the ports of `of`, which may be itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub half: usize,
    pub of: usize,
    pub port: Port,
    pub there: bool,
}

/// The claims of one network.
#[derive(Debug, Default)]
pub struct Table(BTreeMap<Port, usize>);

impl Table {
    /// Takes note of whose a port is now. What there is to be changed in the halves that are there.
    pub fn note(&mut self, port: Port, owner: Option<usize>, there: &[usize]) -> Vec<Change> {
        let before = match owner {
            Some(owner) => self.0.insert(port, owner),
            None => self.0.remove(&port),
        };
        if before == owner {
            return Vec::new();
        }
        let change = |of: Option<usize>, to: bool| {
            let halves = of.map(|of| there.iter().map(move |half| Change { half: *half, of, port, there: to }));
            halves.into_iter().flatten()
        };
        change(before, false).chain(change(owner, true)).collect()
    }

    /// All claims, in order.
    pub fn claims(&self) -> Vec<(Port, usize)> {
        self.0.iter().map(|(port, owner)| (*port, *owner)).collect()
    }

    /// Forgets those of a half.
    pub fn forget(&mut self, half: usize) {
        self.0.retain(|_, owner| *owner != half);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DNS: Port = Port { protocol: Protocol::Udp, number: 53 };

    #[test]
    fn every_half_is_told_once() {
        let mut table = Table::default();
        let told = table.note(DNS, Some(1), &[0, 1]);
        let change = |half, there| Change { half, of: 1, port: DNS, there };
        assert_eq!(told, [change(0, true), change(1, true)]);
        assert_eq!(table.note(DNS, Some(1), &[0, 1]), []);
        assert_eq!(table.claims(), [(DNS, 1)]);
        assert_eq!(table.note(DNS, None, &[0, 1]), [change(0, false), change(1, false)]);
        assert_eq!(table.note(DNS, None, &[0, 1]), []);
    }

    #[test]
    fn a_port_that_changes_hands_is_taken_from_one_and_given_to_the_other() {
        let mut table = Table::default();
        table.note(DNS, Some(0), &[0, 1]);
        let told = table.note(DNS, Some(1), &[1]);
        let change = |of, there| Change { half: 1, of, port: DNS, there };
        assert_eq!(told, [change(0, false), change(1, true)]);
    }

    #[test]
    fn what_a_lost_half_had_is_free() {
        let mut table = Table::default();
        table.note(DNS, Some(1), &[0, 1]);
        table.note(Port { number: 54, ..DNS }, Some(0), &[0, 1]);
        table.forget(1);
        assert_eq!(table.claims().len(), 1);
    }
}
