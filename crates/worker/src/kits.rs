//! Kits: what instances need of their caller, sent to a worker ahead of them, so that a start is a message without
//! descriptors, and nothing has to be made while somebody waits for it.
//!
//! ```text
//!   control plane: make, number ──Kits──▶ stock: 7 8 9 ──▶ a start names 7: taken, for good
//! ```
//! Numbers count up and none is used twice. A start may overtake its kit, as the two may go different ways.

use crate::protocol::DESCRIPTORS_PER_KIT;
use interconnect::channel::Descriptors;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use thiserror::Error;

/// The most kits that a worker keeps: more than any gateway has starts in flight.
pub const KEPT_MAX: usize = 1024;

/// What one instance needs.
#[derive(Debug)]
pub struct Kit {
    /// The guest's end of its channel.
    pub channel: Descriptors,
    /// Where its standard output and error go.
    pub log: OwnedFd,
}

impl Kit {
    /// Its descriptors in the order in which they travel.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; DESCRIPTORS_PER_KIT] {
        [self.channel.region.as_fd(), self.channel.down.as_fd(), self.channel.up.as_fd(), self.log.as_fd()]
    }
}

/// Why kits were not put into the stock.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PutError {
    #[error("{descriptors} descriptors are not {DESCRIPTORS_PER_KIT} for each kit")]
    Incomplete { descriptors: usize },
    #[error("kit {first} comes after number {next}, or out of turn")]
    OutOfTurn { first: u64, next: u64 },
    #[error("{KEPT_MAX} kits are as many as there may be")]
    TooMany,
}

/// There is no kit of this number: it has been used, or has not come.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("there is no kit {0}")]
pub struct NoKit(pub u64);

/// The kits that wait.
#[derive(Debug)]
pub struct Stock {
    kits: BTreeMap<u64, Kit>,
    next: u64,
}

impl Default for Stock {
    fn default() -> Self {
        Self { kits: BTreeMap::new(), next: FIRST }
    }
}

/// The number of a conversation's first kit.
pub const FIRST: u64 = 1;

impl Stock {
    /// Kits that have come, numbered from `first` on.
    pub fn put(&mut self, first: u64, descriptors: Vec<OwnedFd>) -> Result<(), PutError> {
        let count = descriptors.len() / DESCRIPTORS_PER_KIT;
        if first != self.next {
            return Err(PutError::OutOfTurn { first, next: self.next });
        }
        if count == 0 || !descriptors.len().is_multiple_of(DESCRIPTORS_PER_KIT) {
            return Err(PutError::Incomplete { descriptors: descriptors.len() });
        }
        if self.kits.len() + count > KEPT_MAX {
            // Starts that name them are refused; those after them are not.
            self.next += count as u64;
            return Err(PutError::TooMany);
        }
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next();
        while let (Some(region), Some(down), Some(up), Some(log)) = (next(), next(), next(), next()) {
            self.kits.insert(self.next, Kit { channel: Descriptors { region, down, up }, log });
            self.next += 1;
        }
        Ok(())
    }

    /// Takes a kit for a start.
    pub fn take(&mut self, kit: u64) -> Result<Kit, NoKit> {
        self.kits.remove(&kit).ok_or(NoKit(kit))
    }

    /// Whether a kit has come, used or not.
    pub fn has_come(&self, kit: u64) -> bool {
        kit < self.next
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.kits.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.kits.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptors(kits: usize) -> Vec<OwnedFd> {
        let pipes = (0..kits * DESCRIPTORS_PER_KIT / 2).map(|_| std::io::pipe().unwrap());
        pipes.flat_map(|(a, b)| [OwnedFd::from(a), OwnedFd::from(b)]).collect()
    }

    #[test]
    fn a_kit_is_used_once_and_may_be_overtaken() {
        let mut stock = Stock::default();
        assert!(!stock.has_come(1));
        stock.put(1, descriptors(2)).unwrap();
        stock.take(2).unwrap();
        assert_eq!(stock.take(2).unwrap_err(), NoKit(2));
        assert!(stock.has_come(2) && !stock.has_come(3));
        stock.put(3, descriptors(1)).unwrap();
        stock.take(1).unwrap();
        stock.take(3).unwrap();
        assert!(stock.is_empty());
    }

    #[test]
    fn what_is_no_kit_is_refused() {
        let mut stock = Stock::default();
        let mut short = descriptors(1);
        short.pop();
        assert_eq!(stock.put(1, short), Err(PutError::Incomplete { descriptors: 3 }));
        assert_eq!(stock.put(1, Vec::new()), Err(PutError::Incomplete { descriptors: 0 }));
        assert_eq!(stock.put(2, descriptors(1)), Err(PutError::OutOfTurn { first: 2, next: 1 }));
        for first in (1..=KEPT_MAX as u64).step_by(16) {
            stock.put(first, descriptors(16)).unwrap();
        }
        let last = KEPT_MAX as u64;
        assert_eq!(stock.put(last + 1, descriptors(1)), Err(PutError::TooMany));
        assert_eq!(stock.len(), KEPT_MAX);
        assert_eq!(stock.take(last + 1).unwrap_err(), NoKit(last + 1));
        stock.take(last).unwrap();
        stock.put(last + 2, descriptors(1)).unwrap();
    }
}
