//! Who a process is, and what it and its like have taken.
//!
//! A guest counts three times: by itself, with all of its user, and with all of its pid namespace, so that nobody gets more
//! by attaching more often. What a FIFO may cost is the protocol's to count; what this shim gives is counted here.

use crate::config::{Quota, Quotas};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use xpucall::abi::quota;

/// What a process may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The shim's own user, or root: may start programs, and poll without end.
    Platform,
    Guest,
}

/// Those who are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kin {
    User(u32),
    PidNamespace(u64, u64),
}

/// Who a process is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub class: Class,
    kin: Vec<Kin>,
}

impl Identity {
    /// Whom the kernel says is at the other end of a connection.
    pub fn of(peer: os::seqpacket::Peer) -> Self {
        let own = rustix::process::geteuid().as_raw();
        if peer.uid == 0 || peer.uid == own {
            return Self::platform();
        }
        let namespace = std::fs::metadata(format!("/proc/{}/ns/pid", peer.pid)).ok();
        let namespace = namespace.map(|ns| Kin::PidNamespace(ns.dev(), ns.ino()));
        Self { class: Class::Guest, kin: [Some(Kin::User(peer.uid)), namespace].into_iter().flatten().collect() }
    }

    /// A program that the shim has started itself.
    pub fn platform() -> Self {
        Self { class: Class::Platform, kin: Vec::new() }
    }

    pub fn quota(&self, quotas: &Quotas) -> Quota {
        match self.class {
            Class::Platform => quotas.platform,
            Class::Guest => quotas.guest,
        }
    }
}

/// What can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Process,
    Fifo,
    End,
    Memory,
}

impl Kind {
    /// How a process is told that it has too much of it.
    pub fn word(self) -> u64 {
        match self {
            Self::Process => quota::PROCESSES,
            Self::Fifo => quota::FIFOS,
            Self::End => quota::SLOTS,
            Self::Memory => quota::MEMORY,
        }
    }

    fn of(self, quota: &Quota) -> u64 {
        match self {
            // Only counted together: one is one.
            Self::Process => 32,
            Self::Fifo => quota.fifos.into(),
            Self::End => quota.ends.into(),
            Self::Memory => quota.memory,
        }
    }
}

/// How much of everything somebody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage([u64; 4]);

/// What all guests have together.
#[derive(Debug)]
pub struct Admission {
    quotas: Quotas,
    kin: HashMap<Kin, Usage>,
}

impl Admission {
    pub fn new(quotas: Quotas) -> Self {
        Self { quotas, kin: HashMap::new() }
    }

    /// Takes `much` of a kind, or nothing where that is more than there may be.
    pub fn take(&mut self, who: &Identity, own: &mut Usage, kind: Kind, much: u64) -> bool {
        let limit = kind.of(&who.quota(&self.quotas));
        let shared = limit.saturating_mul(self.quotas.together.into());
        let fits = |usage: &Usage, limit| usage.0[kind as usize].saturating_add(much) <= limit;
        if !fits(own, limit) || !who.kin.iter().all(|kin| self.kin.get(kin).is_none_or(|usage| fits(usage, shared))) {
            return false;
        }
        own.0[kind as usize] += much;
        for kin in &who.kin {
            self.kin.entry(*kin).or_default().0[kind as usize] += much;
        }
        true
    }

    /// Gives `much` of a kind back, or what there is of it.
    pub fn give(&mut self, who: &Identity, own: &mut Usage, kind: Kind, much: u64) {
        let much = much.min(own.0[kind as usize]);
        own.0[kind as usize] -= much;
        for kin in &who.kin {
            if let Some(usage) = self.kin.get_mut(kin) {
                usage.0[kind as usize] = usage.0[kind as usize].saturating_sub(much);
                if *usage == Usage::default() {
                    self.kin.remove(kin);
                }
            }
        }
    }

    /// Gives everything back.
    pub fn leave(&mut self, who: &Identity, own: &mut Usage) {
        for kind in [Kind::Process, Kind::Fifo, Kind::End, Kind::Memory] {
            self.give(who, own, kind, u64::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest() -> Identity {
        Identity { class: Class::Guest, kin: vec![Kin::User(1), Kin::PidNamespace(1, 2)] }
    }

    #[test]
    fn kin_are_counted_together() {
        let quotas = Quotas { together: 2, ..Quotas::default() };
        let mut admission = Admission::new(quotas);
        let fifos = u64::from(quotas.guest.fifos);
        let mut used = [Usage::default(); 3];
        for usage in &mut used[..2] {
            assert!(admission.take(&guest(), usage, Kind::Fifo, fifos));
            assert!(!admission.take(&guest(), usage, Kind::Fifo, 1), "more than one may have");
        }
        assert!(!admission.take(&guest(), &mut used[2], Kind::Fifo, 1), "more than they may have together");
        let mut other = Usage::default();
        assert!(admission.take(&Identity::platform(), &mut other, Kind::Fifo, fifos));
        admission.leave(&guest(), &mut used[0]);
        assert!(admission.take(&guest(), &mut used[2], Kind::Fifo, fifos));
        admission.leave(&guest(), &mut used[1]);
        admission.leave(&guest(), &mut used[2]);
        assert!(admission.kin.is_empty());
    }

    #[test]
    fn nothing_is_given_back_twice() {
        let mut admission = Admission::new(Quotas::default());
        let mut usage = Usage::default();
        assert!(admission.take(&guest(), &mut usage, Kind::Memory, 10));
        admission.give(&guest(), &mut usage, Kind::Memory, 7);
        admission.give(&guest(), &mut usage, Kind::Memory, 7);
        assert_eq!(usage, Usage::default());
    }
}
