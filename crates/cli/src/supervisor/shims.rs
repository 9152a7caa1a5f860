//! The shims of a node's PUs, as their supervisor knows them: linked with the head's whenever one of them is new, and
//! believed when the head has given one of them up.
//!
//! A shim is started by whoever starts its PU: the host's as a daemon of its own, a unit's with the unit.

use rustix::io::Errno;
use shim::control::{Report, Supervisor as Control};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tracing::{info, warn};
use xpucall::id::PuId;

/// The shim that numbers all changes.
const HEAD: u8 = 0;
/// How long a shim that was given up may take to join again, before its PU is started anew.
const RETURN: Duration = Duration::from_secs(10);

/// A shim that was started.
struct Known {
    control: Control,
    /// Of its present life, once it has one.
    incarnation: Option<u32>,
    /// Since when that has been over, and no other has begun.
    expelled: Option<Instant>,
}

/// All of them, by their PUs.
#[derive(Default)]
pub struct Shims(BTreeMap<u8, Known>);

impl Shims {
    /// A shim is about to be started: answers its first descriptor. It finds the orders to be linked in it.
    pub fn begin(&mut self, pu: u8) -> io::Result<OwnedFd> {
        let (control, theirs) = Control::pair()?;
        rustix::io::ioctl_fionbio(control.as_fd(), true)?;
        self.0.insert(pu, Known { control, incarnation: None, expelled: None });
        let members: Vec<u8> = self.0.keys().copied().filter(|member| *member != HEAD).collect();
        let members = members.into_iter().filter(|member| pu == HEAD || pu == *member);
        for (head, number, member) in members.filter_map(|n| Some((self.0.get(&HEAD)?, n, self.0.get(&n)?))) {
            // One that has just ended is noticed elsewhere.
            if let Err(error) = head.control.link(&member.control, PuId(HEAD), PuId(number)) {
                warn!(%error, pu = number, "two shims could not be linked");
            }
        }
        Ok(theirs)
    }

    /// A PU has ended, with all its processes.
    pub fn ended(&mut self, pu: u8) {
        let known = self.0.remove(&pu).is_some();
        if let Some(head) = self.0.get(&HEAD).filter(|_| known && pu != HEAD) {
            let _ = head.control.dead(PuId(pu));
        }
    }

    /// What poll readable when one has something to say, or has ended.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.values().map(|known| known.control.as_fd())
    }

    /// When to look for the overdue.
    pub fn deadlines(&self) -> impl Iterator<Item = Option<Instant>> {
        self.0.values().map(|known| known.expelled.map(|at| at + RETURN))
    }

    /// Hears what they report.
    pub fn hear(&mut self, now: Instant) {
        let mut expelled = Vec::new();
        self.0.retain(|pu, known| {
            loop {
                match known.control.hear() {
                    Ok(Some(Report::Serving { incarnation })) => {
                        info!(pu, incarnation, "the shim serves");
                        (known.incarnation, known.expelled) = (Some(incarnation), None);
                    }
                    Ok(Some(Report::Expelled { pu, incarnation })) => expelled.push((pu.0, incarnation)),
                    Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => return true,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // Its process says so too, and would for ever wake us here.
                    Ok(None) | Err(_) => return false,
                }
            }
        });
        for (pu, incarnation) in expelled {
            let known = self.0.get_mut(&pu).filter(|known| known.incarnation == Some(incarnation));
            if let Some(known) = known {
                warn!(pu, incarnation, "the shim was given up by the head's");
                known.expelled = Some(now);
            }
        }
    }

    /// PUs whose shims have been given up and have not come back in time. Told once.
    pub fn overdue(&mut self, now: Instant) -> Vec<u8> {
        let overdue = |known: &Known| known.expelled.is_some_and(|at| at + RETURN <= now);
        let pus = self.0.iter_mut().filter(|(_, known)| overdue(known));
        pus.map(|(pu, known)| {
            known.expelled = None;
            *pu
        })
        .collect()
    }
}
