//! The process that makes engine processes and compilers.
//!
//! Forked from the worker before that has any other thread, as the nursery of containers is, so that forking stays safe
//! and cheap: what an engine inherits is a few hundred kilobytes, and nothing is executed: there is no file in its root.
//! It ends with the worker.

use super::confine::{self, confine};
use super::message::{Made, Make, What};
use super::{compile, policy, resident};
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

/// Why there is no nursery.
#[derive(Debug, Error)]
pub enum NurseryError {
    #[error("the engines' system call filter is not accepted")]
    Filter(#[source] os::seccomp::FilterError),
    #[error("no socket, or no process, for the nursery of engines")]
    Start(#[source] io::Error),
}

/// Starts the nursery, whose engines cover the folder `stage` with their root. Answers the worker's end of its socket.
///
/// # Safety
/// The calling process must have one thread.
pub unsafe fn start(stage: PathBuf) -> Result<OwnedFd, NurseryError> {
    let filter = policy::ENGINE.compile().map_err(NurseryError::Filter)?;
    let (ours, theirs) = os::seqpacket::pair().map_err(NurseryError::Start)?;
    // SAFETY: one thread, by the contract.
    match unsafe { process::fork_into(None) }.map_err(NurseryError::Start)? {
        Fork::Parent(_) => Ok(ours),
        Fork::Child => {
            let _ = process::die_with_parent(libc::SIGKILL);
            process::set_name(c"lichen-nursery");
            // SAFETY: a process that was just forked has one thread.
            unsafe { process::wipe_environment() };
            drop(ours);
            let status = Nursery { socket: theirs, stage, filter }.run().is_err();
            process::exit_now(status.into())
        }
    }
}

struct Nursery {
    socket: OwnedFd,
    stage: PathBuf,
    filter: Filter,
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
                let Ok((order, descriptors)) = hear::<Make>(&self.socket, &mut buffer) else { return Ok(()) };
                let id = order.id;
                let (result, process) = match self.make(order, descriptors) {
                    Ok(process) => (Ok(()), Some(process)),
                    Err(error) => (Err(error.to_string()), None),
                };
                let descriptors: Vec<_> = process.iter().map(AsFd::as_fd).collect();
                let _ = say(&self.socket, &Made { id, result }, &descriptors);
            }
        }
    }

    fn make(&self, order: Make, descriptors: Vec<OwnedFd>) -> io::Result<OwnedFd> {
        let (mut mapped, tell_mapped) = io::pipe()?;
        // SAFETY: the nursery has one thread.
        match unsafe { process::fork_into(Some(Kinds::WITHOUT_CGROUP)) }? {
            Fork::Child => {
                drop(tell_mapped);
                let told = io::Read::read(&mut mapped, &mut [0]).unwrap_or(0);
                drop(mapped);
                process::exit_now(if told == 1 { self.become_it(&order, descriptors) } else { 1 })
            }
            Fork::Parent(pid) => {
                let process = os::pidfd::open(pid)?;
                let range = |outside| [idmap::Range { inside: 0, outside, count: confine::ID + 1 }];
                match order.outside {
                    Some(base) => idmap::write(pid, &range(base), &range(base), false)?,
                    None => {
                        let own = [idmap::Range { inside: confine::ID, outside: 0, count: 1 }];
                        idmap::write(pid, &own, &own, true)?;
                    }
                }
                io::Write::write_all(&mut { tell_mapped }, b"m")?;
                Ok(process)
            }
        }
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
