//! Making a slot: a container in a sandbox, with namespaces, cgroup and mounts of its own, that waits for an instance.
//!
//! Its user namespace is owned by the template's user, which is what lets a template without any capability send children
//! there (`cfork::enter`). Its process 1 holds the namespaces and reaps orphans; an instance is its process 2. When
//! process 1 is killed the kernel ends all the others.

use super::init::{StepError, furnish, step};
use super::message::Ids;
use cfork::forkpoint::FUNCTION_ID;
use os::idmap::{self, Range};
use os::ns::{self, Kinds};
use os::process::{self, Fork};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::OwnedFd;

/// The first user that an instance can be, as the sandbox counts them. Every slot has another one, so that what the kernel
/// counts by user (pipes, watches, signals) is limited one by one.
const FIRST_USER: u32 = 2000;
const USERS: u32 = super::nursery::IDS - FIRST_USER;

/// Makes slot number `made`: its process 1, by pid and by descriptor.
pub(super) fn make(ids: Ids, made: u32, tmp: u64, entrances: &[OwnedFd]) -> Result<(i32, OwnedFd), String> {
    let (mapped, mut tell_mapped) = io::pipe().map_err(|e| e.to_string())?;
    let (mut ready, tell_ready) = io::pipe().map_err(|e| e.to_string())?;
    let (mut born, tell_born) = io::pipe().map_err(|e| e.to_string())?;
    // SAFETY: an init has one thread.
    let maker = match unsafe { process::fork_into(None) }.map_err(|e| e.to_string())? {
        Fork::Parent(maker) => maker,
        Fork::Child => {
            drop((tell_mapped, ready, born));
            let several = matches!(ids, Ids::Range(_));
            match beget(several, entrances) {
                Ok(Fork::Parent(pid)) => drop((&tell_born).write_all(&pid.to_ne_bytes())),
                Ok(Fork::Child) => be_process_one(several, tmp, mapped, tell_ready),
                Err((step, error)) => drop(write!(&tell_ready, "could not {step}: {error}")),
            }
            process::exit_now(0)
        }
    };
    drop((mapped, tell_ready, tell_born));
    let mut pid = [0; 4];
    let begotten = born.read_exact(&mut pid);
    let _ = process::wait(maker);
    let pid = i32::from_ne_bytes(pid);
    let mut finish = || -> io::Result<OwnedFd> {
        let mut complaint = String::new();
        if begotten.is_err() {
            ready.read_to_string(&mut complaint)?;
            return Err(io::Error::other(complaint));
        }
        let process = os::pidfd::open(pid)?;
        map(pid, ids, made)?;
        tell_mapped.write_all(b"m")?;
        ready.read_to_string(&mut complaint)?;
        if complaint == "ready" { Ok(process) } else { Err(io::Error::other(complaint)) }
    };
    finish().map(|process| (pid, process)).map_err(|error| error.to_string())
}

/// Forks process 1 of a slot, from a process of its own that has entered the slot's cgroup: what the kernel needs for the
/// slot's namespaces is charged there.
fn beget(several: bool, entrances: &[OwnedFd]) -> Result<Fork, StepError> {
    for entrance in entrances {
        rustix::io::write(entrance, b"0").map_err(io::Error::from).map_err(step("enter its cgroup"))?;
    }
    if several {
        // The owner of a user namespace is the effective user of its maker.
        process::become_effective(FUNCTION_ID).map_err(step("take its owner's identity"))?;
    }
    // The new process's id maps are files that only its owner may write, and a process that is not dumpable has none.
    process::set_dumpable(true);
    // SAFETY: a process that was just forked has one thread.
    unsafe { process::fork_into(Some(Kinds::WITHOUT_CGROUP)) }.map_err(step("make its namespaces"))
}

fn map(pid: i32, ids: Ids, made: u32) -> io::Result<()> {
    let one = |inside, outside| Range { inside, outside, count: 1 };
    match ids {
        Ids::Single => {
            let own = [one(FUNCTION_ID, FUNCTION_ID)];
            idmap::write(pid, &own, &own, true)
        }
        Ids::Range(_) => {
            let own = [one(FUNCTION_ID, FIRST_USER + made % USERS), one(0, FUNCTION_ID)];
            idmap::write(pid, &own, &own, false)
        }
    }
}

/// Is process 1 of a slot.
fn be_process_one(several: bool, tmp: u64, mut mapped: PipeReader, mut tell_ready: PipeWriter) -> ! {
    process::set_name(c"lichen-slot");
    if mapped.read(&mut [0]).unwrap_or(0) == 1 {
        match complete(several, tmp) {
            Ok(()) => {
                let _ = tell_ready.write_all(b"ready");
                process::close_from(0);
                loop {
                    process::pause();
                }
            }
            Err((step, error)) => {
                let _ = write!(tell_ready, "could not {step}: {error}");
            }
        }
    }
    process::exit_now(1)
}

fn complete(several: bool, tmp: u64) -> Result<(), StepError> {
    if several {
        process::become_ids(0, 0).map_err(step("take its identity"))?;
    }
    ns::unshare(Kinds::CGROUP).map_err(step("make a cgroup namespace"))?;
    furnish(tmp)?;
    os::signal::unblock_all();
    os::signal::ignore_children();
    os::caps::drop_all().map_err(step("give up its capabilities"))?;
    // Entering by a process's descriptor is allowed to those who may look into that process. There is nothing in it.
    process::set_dumpable(true);
    Ok(())
}
