//! The process that makes engine processes and compilers: see [`crate::nursery`]. There is no file in their root.

use super::confine::{self, confine};
use super::message::{Make, What};
use super::{compile, policy, resident};
use crate::nursery::{self, Order, Users};
use os::process;
use os::seccomp::Filter;
use std::io;
use std::os::fd::OwnedFd;
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
    fn make(&self, order: Make, descriptors: Vec<OwnedFd>) -> io::Result<OwnedFd> {
        let users = match order.outside {
            Some(outside) => Users::Range { outside, count: confine::ID + 1 },
            None => Users::Single { inside: confine::ID },
        };
        // SAFETY: the nursery has one thread.
        unsafe { nursery::fork(&users, || self.become_it(&order, descriptors)) }
    }

    /// What was ordered: its exit status.
    fn become_it(&self, order: &Make, descriptors: Vec<OwnedFd>) -> i32 {
        let mut descriptors = descriptors.into_iter();
        match order.what {
            What::Engine { cpu } => {
                process::set_name(c"lichen-engine");
                let Some(socket) = descriptors.next() else { return 1 };
                let entrances: Vec<OwnedFd> = descriptors.collect();
                if let Some(cpu) = cpu {
                    confine::pin(cpu);
                }
                confine::let_others_first();
                // Its engines have descriptors of their own from now on.
                process::close_all_but(&kept(&socket, &entrances));
                let prepared = ::engine::prepare();
                if let Err((step, error)) = confine(order, &self.stage, &self.filter, entrances) {
                    return failed(step, &error);
                }
                resident::run(socket, prepared)
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

/// What an engine is given, and where it says what went wrong.
fn kept<'a>(socket: &'a OwnedFd, entrances: &'a [OwnedFd]) -> Vec<&'a dyn std::os::fd::AsRawFd> {
    let entrances = entrances.iter().map(|entrance| entrance as &dyn std::os::fd::AsRawFd);
    let streams: [&dyn std::os::fd::AsRawFd; 1] = [&libc::STDERR_FILENO];
    entrances.chain(streams).chain([socket as &dyn std::os::fd::AsRawFd]).collect()
}

/// Where the worker's own standard error goes, which the process still has.
fn failed(step: &str, error: &io::Error) -> i32 {
    let text = format!("lichen: an engine could not {step}: {error}\n");
    let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
    1
}
