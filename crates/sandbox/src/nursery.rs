//! What every nursery is: a process with one thread that makes others when it is told to, in namespaces of their own.
//!
//! ```text
//!  worker ── order, descriptors ──▶ nursery ── fork ──▶ a process, which waits until its users are mapped
//!         ◀── made, its pidfd ─────
//!         ◀── ended, and how ──────        of those that the worker wants to know it of
//! ```
//!
//! Forked from the worker before that has any other thread, so that forking stays safe and cheap: what is inherited is a few
//! hundred kilobytes, and nothing is executed. It ends with the worker. What the processes become is for each backend to say.

use crate::conversation::{MESSAGE_MAX, hear, say};
use crate::spec::End;
use os::idmap;
use os::ns::Kinds;
use os::process::{self, Fork};
use rustix::event::{PollFd, PollFlags, poll};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What a nursery is told to make.
pub trait Order: DeserializeOwned {
    fn id(&self) -> u64;
    /// Whether it matters how the process ends.
    fn wants_end(&self) -> bool {
        false
    }
}

/// Nursery to worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Said {
    /// What became of an order. Accompanied by a descriptor of the process.
    Made { id: u64, result: Result<(), String> },
    /// A process that was made is over.
    Ended { id: u64, end: End },
}

/// A process that was forked.
pub struct Child {
    pid: i32,
    process: OwnedFd,
}

/// Which users of the worker's namespace a process has in its own.
pub enum Users {
    /// So many, from this one on; they count from 0 inside.
    Range { outside: u32, count: u32 },
    /// The worker's only one, an ordinary user's; inside it is this one.
    Single { inside: u32 },
}

/// Starts a nursery that does as `make` says. Answers the worker's end of its socket.
///
/// # Safety
/// The calling process must have one thread.
pub unsafe fn start<O: Order>(make: impl Fn(O, Vec<OwnedFd>) -> io::Result<Child>) -> io::Result<OwnedFd> {
    let (ours, theirs) = os::seqpacket::pair()?;
    // SAFETY: one thread, by the contract.
    match unsafe { process::fork_into(None) }? {
        Fork::Parent(_) => Ok(ours),
        Fork::Child => {
            let _ = process::die_with_parent(libc::SIGKILL);
            process::set_name(c"lichen-nursery");
            // What it makes are copies of it, and the /proc of some is a sandbox's.
            // SAFETY: a process that was just forked has one thread.
            unsafe { process::wipe_environment() };
            drop(ours);
            process::exit_now(serve(&theirs, make).is_err().into())
        }
    }
}

/// Takes orders until the worker is gone.
fn serve<O: Order>(socket: &OwnedFd, make: impl Fn(O, Vec<OwnedFd>) -> io::Result<Child>) -> io::Result<()> {
    let children = os::signal::descriptor(&[libc::SIGCHLD])?;
    let mut buffer = vec![0; MESSAGE_MAX];
    let mut watched = HashMap::new();
    loop {
        let mut waits = [PollFd::new(socket, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
        poll(&mut waits, None)?;
        if !waits[1].revents().is_empty() {
            let _ = rustix::io::read(&children, &mut [0; 128]);
            while let Some((pid, end)) = process::reap() {
                let Some(id) = watched.remove(&pid) else { continue };
                let end = match end {
                    process::End::Exit(status) => End::Exit(status),
                    process::End::Signal(signal) => End::Signal(signal),
                };
                let _ = say(socket, &Said::Ended { id, end }, &[]);
            }
        }
        if !waits[0].revents().is_empty() {
            let Ok((order, descriptors)) = hear::<O>(socket, &mut buffer) else { return Ok(()) };
            let (id, wants_end) = (order.id(), order.wants_end());
            let (result, child) = match make(order, descriptors) {
                Ok(child) => (Ok(()), Some(child)),
                Err(error) => (Err(error.to_string()), None),
            };
            watched.extend(child.iter().filter(|_| wants_end).map(|child| (child.pid, id)));
            let descriptors: Vec<_> = child.iter().map(|child| child.process.as_fd()).collect();
            let _ = say(socket, &Said::Made { id, result }, &descriptors);
        }
    }
}

/// Forks a process into namespaces of its own, all but that of cgroups. It runs `become_it` once it has its users, and exits
/// with what that answers.
///
/// # Safety
/// The calling process must have one thread, as a nursery has.
pub unsafe fn fork(users: &Users, become_it: impl FnOnce() -> i32) -> io::Result<Child> {
    let (mut mapped, tell_mapped) = io::pipe()?;
    // SAFETY: one thread, by the contract.
    match unsafe { process::fork_into(Some(Kinds::WITHOUT_CGROUP)) }? {
        Fork::Child => {
            drop(tell_mapped);
            let told = io::Read::read(&mut mapped, &mut [0]).unwrap_or(0);
            drop(mapped);
            process::exit_now(if told == 1 { become_it() } else { 1 })
        }
        Fork::Parent(pid) => {
            let process = os::pidfd::open(pid)?;
            match *users {
                Users::Range { outside, count } => {
                    let range = [idmap::Range { inside: 0, outside, count }];
                    idmap::write(pid, &range, &range, false)?;
                }
                Users::Single { inside } => {
                    let own = [idmap::Range { inside, outside: 0, count: 1 }];
                    idmap::write(pid, &own, &own, true)?;
                }
            }
            io::Write::write_all(&mut { tell_mapped }, b"m")?;
            Ok(Child { pid, process })
        }
    }
}
