//! The process that makes sandboxes: see [`crate::nursery`].
//!
//! It stands in the worker's mount namespace, where the root of all sandboxes is staged.

use super::init;
use super::message::{Ids, MakeSandbox};
use super::policy;
use crate::nursery::{self, Child, Order, Users};
use os::seccomp::Filter;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use thiserror::Error;

/// How many user ids each sandbox has to itself.
pub const IDS: u32 = 65_536;

/// Why there is no nursery.
#[derive(Debug, Error)]
pub enum NurseryError {
    #[error("the system call filter is not accepted")]
    Filter(#[source] os::seccomp::FilterError),
    #[error("no socket, or no process, for the nursery")]
    Start(#[source] io::Error),
}

/// What its sandboxes have from it.
pub(super) struct Nursery {
    pub(super) stage: PathBuf,
    pub(super) filter: Filter,
}

impl Order for MakeSandbox {
    fn id(&self) -> u64 {
        self.id
    }
}

/// Starts the nursery, which shows sandboxes the root staged at `stage`. Answers the worker's end of its socket.
///
/// # Safety
/// The calling process must have one thread.
pub unsafe fn start(stage: PathBuf) -> Result<OwnedFd, NurseryError> {
    let filter = policy::FUNCTION.compile().map_err(NurseryError::Filter)?;
    let own = Nursery { stage, filter };
    // SAFETY: one thread, by the contract.
    unsafe { nursery::start(move |order, descriptors| own.make(order, descriptors)) }.map_err(NurseryError::Start)
}

impl Nursery {
    /// Forks the init of a new sandbox.
    fn make(&self, order: MakeSandbox, descriptors: Vec<OwnedFd>) -> io::Result<Child> {
        let users = match order.ids {
            Ids::Range(outside) => Users::Range { outside, count: IDS },
            Ids::Single => Users::Single { inside: cfork::forkpoint::FUNCTION_ID },
        };
        let init = || {
            init::run(self, order, descriptors);
            1
        };
        // SAFETY: the nursery has one thread.
        unsafe { nursery::fork(&users, init) }
    }
}
