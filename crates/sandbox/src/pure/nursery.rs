//! The process that makes engine processes and compilers: see [`crate::nursery`]. There is no file in their root.

use super::confine::{self, confine};
use super::message::{Crew, Make, What};
use super::{compile, policy, resident};
use crate::nursery::{self, Child, Order, Users};
use os::process;
use os::seccomp::Filter;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use thiserror::Error;

/// Why there is no nursery.
#[derive(Debug, Error)]
pub enum NurseryError {
    #[error("the engines' system call filter is not accepted")]
    Filter(#[source] os::seccomp::FilterError),
    #[error("no socket, or no process, for the nursery of engines")]
    Start(#[source] io::Error),
}

/// What its processes have from it.
struct Nursery {
    stage: PathBuf,
    filter: Filter,
}

impl Order for Make {
    fn id(&self) -> u64 {
        self.id
    }

    fn wants_end(&self) -> bool {
        true
    }
}

/// Starts the nursery, whose engines cover the folder `stage` with their root. Answers the worker's end of its socket.
///
/// # Safety
/// The calling process must have one thread.
pub unsafe fn start(stage: PathBuf) -> Result<OwnedFd, NurseryError> {
    let filter = policy::ENGINE.compile().map_err(NurseryError::Filter)?;
    let own = Nursery { stage, filter };
    // SAFETY: one thread, by the contract.
    unsafe { nursery::start(move |order, descriptors| own.make(order, descriptors)) }.map_err(NurseryError::Start)
}

impl Nursery {
    fn make(&self, order: Make, descriptors: Vec<OwnedFd>) -> io::Result<Child> {
        // As who the nursery is: the engine is nobody.
        let crew = if let What::Engine { crew, .. } = order.what { Some(staff(crew)) } else { None };
        let users = match order.outside {
            Some(outside) => Users::Range { outside, count: confine::ID + 1 },
            None => Users::Single { inside: confine::ID },
        };
        // SAFETY: the nursery has one thread.
        unsafe { nursery::fork(&users, || self.become_it(&order, descriptors, crew)) }
    }

    /// What was ordered: its exit status.
    fn become_it(&self, order: &Make, descriptors: Vec<OwnedFd>, crew: Option<::engine::Crew>) -> i32 {
        let mut descriptors = descriptors.into_iter();
        match order.what {
            What::Engine { cpu, for_long, .. } => {
                process::set_name(c"lichen-engine");
                let (Some(socket), Some(crew)) = (descriptors.next(), crew) else { return 1 };
                let entrances: Vec<OwnedFd> = descriptors.collect();
                if let Some(cpu) = cpu {
                    confine::pin(cpu);
                }
                confine::let_others_first(for_long);
                // Its engines have descriptors of their own from now on.
                process::close_all_but(&kept(&socket, &entrances, &crew));
                let prepared = ::engine::prepare(crew);
                if let Err((step, error)) = confine(order, &self.stage, &self.filter, entrances) {
                    return failed(step, &error);
                }
                resident::run(socket, prepared, for_long)
            }
            What::Compiler { kind } => {
                process::set_name(c"lichen-compiler");
                let (code, artefact, report) = (descriptors.next(), descriptors.next(), descriptors.next());
                let (Some(code), Some(artefact), Some(report)) = (code, artefact, report) else { return 1 };
                let entrances: Vec<OwnedFd> = descriptors.collect();
                if let Err((step, error)) = confine(order, &self.stage, &self.filter, entrances) {
                    return failed(step, &error);
                }
                process::close_all_but(&[&code, &artefact, &report]);
                compile::run(kind, code, artefact, report)
            }
        }
    }
}

/// Those who are wanted, with what they need of this machine.
fn staff(crew: Crew) -> ::engine::Crew {
    match crew {
        Crew::Usual => ::engine::Crew::Usual,
        Crew::Machines { limit_us: 0 } => {
            let off = "kvm_limit_us of [engines] is 0 in this node's configuration";
            ::engine::Crew::Machines { device: Err(io::Error::other(off)), limit_us: 0 }
        }
        Crew::Machines { limit_us } => ::engine::Crew::Machines { device: ::engine::device(), limit_us },
    }
}

/// What an engine is given, and where it says what went wrong.
fn kept<'a>(socket: &'a OwnedFd, entrances: &'a [OwnedFd], crew: &'a ::engine::Crew) -> Vec<&'a dyn AsRawFd> {
    let entrances = entrances.iter().map(|entrance| entrance as &dyn AsRawFd);
    let streams: [&dyn AsRawFd; 2] = [&libc::STDERR_FILENO, socket];
    let device = if let ::engine::Crew::Machines { device: Ok(device), .. } = crew { Some(device) } else { None };
    entrances.chain(streams).chain(device.map(|device| device as &dyn AsRawFd)).collect()
}

/// Where the worker's own standard error goes, which the process still has.
fn failed(step: &str, error: &io::Error) -> i32 {
    let text = format!("lichen: an engine could not {step}: {error}\n");
    let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    1
}
