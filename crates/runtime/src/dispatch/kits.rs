//! Kits: channels and log pipes that are made ahead of the instances that will use them, their other halves lying with the
//! worker already. A start makes nothing then, and waits for no system call but the one that rings.
//!
//! Which kit has which number is [`super::link`]'s business, as the worker is to hear of them in turn.

use super::call::PlatformError;
use super::instance::Wire;
use interconnect::channel::{Channel, Descriptors};
use std::collections::VecDeque;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use worker::protocol::{DESCRIPTORS_PER_KIT, VECTOR_MAX};

/// Kits that wait, for each worker.
const STOCKED: usize = VECTOR_MAX;
/// More are made when no more than this are left, and not at the side of the start that took the last of them.
const LOW: usize = STOCKED / 2;
const LATER: Duration = Duration::from_millis(5);

/// What one instance is given, as its caller has it.
pub(super) struct Kit {
    pub number: u64,
    pub wire: Wire,
    pub log: PipeReader,
}

/// The half of it that goes to the worker.
#[derive(Debug)]
pub(super) struct Half {
    channel: Descriptors,
    printer: OwnedFd,
}

impl Half {
    /// In the order in which they travel.
    pub fn descriptors(self) -> [OwnedFd; DESCRIPTORS_PER_KIT] {
        [self.channel.region, self.channel.down, self.channel.up, self.printer]
    }
}

/// A kit that has no number yet.
pub(super) struct Made {
    wire: Wire,
    log: PipeReader,
    half: Half,
}

impl Made {
    /// Makes one whose channel takes bodies of so many bytes.
    pub fn new(body_max: usize) -> Result<Self, PlatformError> {
        let (channel, guest) = Channel::create(body_max).map_err(PlatformError::Channel)?;
        channel.furnish();
        let (log, printer) = std::io::pipe().map_err(PlatformError::Descriptors)?;
        rustix::io::ioctl_fionbio(&log, true).map_err(|error| PlatformError::Descriptors(error.into()))?;
        Ok(Self { wire: Wire::new(channel), log, half: Half { channel: guest, printer: printer.into() } })
    }

    /// It has a number now, and its other half is on its way.
    pub fn numbered(self, number: u64) -> (Kit, Half) {
        (Kit { number, wire: self.wire, log: self.log }, self.half)
    }
}

/// The kits that wait at one worker.
#[derive(Default)]
pub(super) struct Stock {
    kits: Mutex<VecDeque<Kit>>,
    low: Notify,
}

impl Stock {
    fn kits(&self) -> MutexGuard<'_, VecDeque<Kit>> {
        self.kits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of them, if there is one.
    pub fn take(&self) -> Option<Kit> {
        let (kit, left) = {
            let mut kits = self.kits();
            (kits.pop_front(), kits.len())
        };
        if left <= LOW {
            self.low.notify_one();
        }
        kit
    }

    /// Makes kits whenever few are left, for ever; `send` sends their other halves, and numbers them.
    pub async fn replenish(&self, body_max: usize, send: impl Fn(Made) -> Kit) {
        loop {
            while self.kits().len() < STOCKED {
                match Made::new(body_max) {
                    Ok(made) => {
                        let kit = send(made);
                        self.kits().push_back(kit);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "nothing can be made ahead of starts");
                        break;
                    }
                }
                tokio::task::yield_now().await;
            }
            self.low.notified().await;
            tokio::time::sleep(LATER).await;
        }
    }
}
