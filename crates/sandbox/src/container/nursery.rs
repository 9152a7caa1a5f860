//! The process that makes sandboxes.
//!
//! Forked from the worker before that has any other thread, so that forking stays safe and cheap: what a sandbox's init
//! inherits is a few hundred kilobytes. It stands in the worker's mount namespace, where the root of all sandboxes is
//! staged. It ends with the worker.

use super::init;
use super::message::{Ids, MakeSandbox, SandboxMade};
use super::policy;
use crate::conversation::{MESSAGE_MAX, hear, say};
use os::idmap;
use os::ns::Kinds;
use os::process::{self, Fork};
use os::seccomp::Filter;
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
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

/// Starts the nursery, which shows sandboxes the root staged at `stage`. Answers the worker's end of its socket.
///
/// # Safety
/// The calling process must have one thread.
pub unsafe fn start(stage: PathBuf) -> Result<OwnedFd, NurseryError> {
    let filter = policy::FUNCTION.compile().map_err(NurseryError::Filter)?;
    let (ours, theirs) = os::seqpacket::pair().map_err(NurseryError::Start)?;
    // SAFETY: one thread, by the contract.
    match unsafe { process::fork_into(None) }.map_err(NurseryError::Start)? {
        Fork::Parent(_) => Ok(ours),
        Fork::Child => {
            let _ = process::die_with_parent(libc::SIGKILL);
            process::set_name(c"lichen-nursery");
            // Inits and slots are copies of this process, and their /proc is a sandbox's.
            // SAFETY: a process that was just forked has one thread.
            unsafe { process::wipe_environment() };
            drop(ours);
            let status = Nursery { socket: theirs, stage, filter }.run().is_err();
            process::exit_now(status.into())
        }
    }
}

pub(super) struct Nursery {
    socket: OwnedFd,
    pub(super) stage: PathBuf,
    pub(super) filter: Filter,
}

impl Nursery {
    fn run(&self) -> io::Result<()> {
        let children = os::signal::descriptor(&[libc::SIGCHLD])?;
        let mut buffer = vec![0; MESSAGE_MAX];
        loop {
            let mut waits = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
            poll(&mut waits, None)?;
            if !waits[1].revents().is_empty() {
                let _ = rustix::io::read(&children, &mut [0; 128]);
                while process::reap().is_some() {}
            }
            if !waits[0].revents().is_empty() {
                let Ok((order, descriptors)) = hear::<MakeSandbox>(&self.socket, &mut buffer) else { return Ok(()) };
                let id = order.id;
                let (result, init) = match self.make(order, descriptors) {
                    Ok(init) => (Ok(()), Some(init)),
                    Err(error) => (Err(error.to_string()), None),
                };
                let descriptors: Vec<_> = init.iter().map(AsFd::as_fd).collect();
                let _ = say(&self.socket, &SandboxMade { id, result }, &descriptors);
            }
        }
    }

    /// Forks the init of a new sandbox into new namespaces.
    fn make(&self, order: MakeSandbox, descriptors: Vec<OwnedFd>) -> io::Result<OwnedFd> {
        let (mut mapped, tell_mapped) = io::pipe()?;
        // SAFETY: the nursery has one thread.
        match unsafe { process::fork_into(Some(Kinds::WITHOUT_CGROUP)) }? {
            Fork::Child => {
                drop(tell_mapped);
                let told = io::Read::read(&mut mapped, &mut [0]).unwrap_or(0);
                if told == 1 {
                    init::run(self, order, descriptors);
                }
                process::exit_now(1)
            }
            Fork::Parent(pid) => {
                let init = os::pidfd::open(pid)?;
                let range = |outside, count| [idmap::Range { inside: 0, outside, count }];
                match order.ids {
                    Ids::Range(base) => idmap::write(pid, &range(base, IDS), &range(base, IDS), false)?,
                    Ids::Single => {
                        let own = [idmap::Range { inside: cfork::forkpoint::FUNCTION_ID, outside: 0, count: 1 }];
                        idmap::write(pid, &own, &own, true)?;
                    }
                }
                io::Write::write_all(&mut { tell_mapped }, b"m")?;
                Ok(init)
            }
        }
    }
}
