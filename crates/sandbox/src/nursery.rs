//! What every nursery is: a process with one thread that makes others when it is told to, in namespaces of their own.
//!
//! ```text
//!  worker ── order, descriptors ──▶ nursery ── fork ──▶ a process, which waits until its users are mapped
//!         ◀── made, its pidfd ─────
//! ```
//!
//! Forked from the worker before that has any other thread, so that forking stays safe and cheap: what is inherited is a few
//! hundred kilobytes, and nothing is executed. It ends with the worker. What the processes become is for each backend to say.

use crate::conversation::{MESSAGE_MAX, hear, say};
use os::idmap;
use os::ns::Kinds;
use os::process::{self, Fork};
use rustix::event::{PollFd, PollFlags, poll};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What a nursery is told to make.
pub trait Order: DeserializeOwned {
    fn id(&self) -> u64;
}

/// What became of an order. Accompanied by a descriptor of the process.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProcessMade {
    pub id: u64,
    pub result: Result<(), String>,
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
pub unsafe fn start<O: Order>(make: impl Fn(O, Vec<OwnedFd>) -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
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
fn serve<O: Order>(socket: &OwnedFd, make: impl Fn(O, Vec<OwnedFd>) -> io::Result<OwnedFd>) -> io::Result<()> {
    let children = os::signal::descriptor(&[libc::SIGCHLD])?;
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let mut waits = [PollFd::new(socket, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
        poll(&mut waits, None)?;
        if !waits[1].revents().is_empty() {
            let _ = rustix::io::read(&children, &mut [0; 128]);
            while process::reap().is_some() {}
        }
        if !waits[0].revents().is_empty() {
            let Ok((order, descriptors)) = hear::<O>(socket, &mut buffer) else { return Ok(()) };
            let id = order.id();
            let (result, process) = match make(order, descriptors) {
                Ok(process) => (Ok(()), Some(process)),
                Err(error) => (Err(error.to_string()), None),
            };
            let descriptors: Vec<_> = process.iter().map(AsFd::as_fd).collect();
            let _ = say(socket, &ProcessMade { id, result }, &descriptors);
        }
    }
}

/// Forks a process into namespaces of its own, all but that of cgroups. It runs `become_it` once it has its users, and exits
/// with what that answers.
///
/// # Safety
/// The calling process must have one thread, as a nursery has.
pub unsafe fn fork(users: &Users, become_it: impl FnOnce() -> i32) -> io::Result<OwnedFd> {
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
            Ok(process)
        }
    }
}
