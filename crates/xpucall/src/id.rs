//! Names of processing units, processes and FIFOs, and the rights on a FIFO.
//!
//! ```text
//!   XpuPid   63      56 55                       28 27                        0
//!            ├─ PU ────┼─ incarnation ─────────────┼─ serial ─────────────────┤
//!   FifoId   given by a shim: the same, with the top bit of the serial set; chosen by its creator: any value but 0
//! ```
//!
//! An incarnation is one life of a PU's membership and never comes back, and within one a serial is never reused: a process
//! id names one attachment for ever. Nothing here says whether a name is in use.

use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

const SERIAL_BITS: u32 = 28;
const INCARNATION_BITS: u32 = 28;
/// One past the greatest serial and the greatest incarnation.
pub const PART_END: u32 = 1 << SERIAL_BITS;
/// The bit of a serial that tells ids given to FIFOs from ids of processes.
const FIFO_BIT: u32 = 1 << (SERIAL_BITS - 1);

/// A processing unit. 0 is the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PuId(pub u8);

impl PuId {
    /// The PU whose shim numbers all changes.
    pub const HEAD: Self = Self(0);
}

impl fmt::Display for PuId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// One attachment of a process, unique among all PUs and over all time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct XpuPid(pub u64);

/// A FIFO: a nonzero value that its creator has chosen, or that its shim has given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FifoId(pub u64);

fn pack(pu: PuId, incarnation: u32, serial: u32) -> u64 {
    debug_assert!(incarnation < PART_END && serial < PART_END);
    u64::from(pu.0) << (INCARNATION_BITS + SERIAL_BITS) | u64::from(incarnation) << SERIAL_BITS | u64::from(serial)
}

const fn part(value: u64, shift: u32) -> u32 {
    (value >> shift) as u32 & (PART_END - 1)
}

impl XpuPid {
    /// The process of `serial` (below 2²⁷) in that life of that PU.
    pub fn new(pu: PuId, incarnation: u32, serial: u32) -> Self {
        debug_assert!(serial & FIFO_BIT == 0);
        Self(pack(pu, incarnation, serial))
    }

    /// Where the process is attached.
    pub const fn pu(self) -> PuId {
        PuId((self.0 >> (INCARNATION_BITS + SERIAL_BITS)) as u8)
    }

    /// The life of that PU in which it attached.
    pub const fn incarnation(self) -> u32 {
        part(self.0, SERIAL_BITS)
    }

    /// Its number among that life's attachments.
    pub const fn serial(self) -> u32 {
        part(self.0, 0)
    }
}

impl FifoId {
    /// The id that a shim gives to its FIFO number `serial` (below 2²⁷) of that life.
    pub fn given(pu: PuId, incarnation: u32, serial: u32) -> Self {
        debug_assert!(serial & FIFO_BIT == 0);
        Self(pack(pu, incarnation, serial | FIFO_BIT))
    }
}

fn display(value: u64, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(out, "{}.{}.{}", value >> (INCARNATION_BITS + SERIAL_BITS), part(value, SERIAL_BITS), part(value, 0))
}

impl fmt::Display for XpuPid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(self.0, out)
    }
}

impl fmt::Display for FifoId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        display(self.0, out)
    }
}

/// What a process may do with a FIFO: any of [`READ`](Self::READ), [`WRITE`](Self::WRITE), [`OWNER`](Self::OWNER).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Rights(u8);

/// Bits that are no rights.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{0:#x} is no set of rights: read is 1, write 2, owner 4")]
pub struct NoRights(pub u8);

impl Rights {
    pub const NONE: Self = Self(0);
    /// To connect as its reader.
    pub const READ: Self = Self(1);
    /// To connect as a writer.
    pub const WRITE: Self = Self(2);
    /// To grant what it holds, to revoke from others, to release the FIFO.
    pub const OWNER: Self = Self(4);
    pub const ALL: Self = Self(7);

    /// The set of these bits.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 { Some(Self(bits)) } else { None }
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether every right of `other` is among these.
    pub const fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any right of `other` is among these.
    pub const fn intersect(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl std::ops::BitOr for Rights {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl TryFrom<u8> for Rights {
    type Error = NoRights;
    fn try_from(bits: u8) -> Result<Self, NoRights> {
        Self::from_bits(bits).ok_or(NoRights(bits))
    }
}

impl From<Rights> for u8 {
    fn from(rights: Rights) -> Self {
        rights.0
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(Self::READ, "read"), (Self::WRITE, "write"), (Self::OWNER, "owner")];
        let mut held = names.iter().filter(|(right, _)| self.contain(*right)).map(|(_, name)| *name);
        match held.next() {
            None => out.write_str("nothing"),
            Some(first) => {
                out.write_str(first)?;
                held.try_for_each(|name| write!(out, "+{name}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_their_parts() {
        let pid = XpuPid::new(PuId(255), PART_END - 1, 7);
        assert_eq!((pid.pu(), pid.incarnation(), pid.serial()), (PuId(255), PART_END - 1, 7));
        assert_eq!(XpuPid::new(PuId(1), 2, 3).to_string(), "1.2.3");
    }

    #[test]
    fn ids_given_to_fifos_are_no_ids_of_processes() {
        let (fifo, pid) = (FifoId::given(PuId(1), 2, 3), XpuPid::new(PuId(1), 2, 3));
        assert_ne!(fifo.0, pid.0);
        assert_ne!(FifoId::given(PuId(0), 0, 0).0, 0);
    }

    #[test]
    fn rights_are_sets() {
        let both = Rights::READ | Rights::OWNER;
        assert!(
            both.contain(Rights::READ) && !both.contain(Rights::WRITE | Rights::READ) && both.intersect(Rights::ALL)
        );
        assert_eq!(both.without(Rights::READ), Rights::OWNER);
        assert_eq!(both.to_string(), "read+owner");
        assert_eq!(Rights::NONE.to_string(), "nothing");
        assert_eq!(Rights::from_bits(8), None);
    }
}
