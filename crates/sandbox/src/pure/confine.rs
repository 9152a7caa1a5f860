//! What an engine process, or a compiler, does to itself before it looks at anybody's code: an empty root, a cgroup, a
//! user of its own without capabilities, and a filter.

use crate::pure::message::Make;
use engine::serve::{LONG_SLICE, SLICE};
use os::process;
use os::seccomp::Filter;
use os::{caps, mount, ns};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The user that it is in its namespace.
pub const ID: u32 = 1;
/// Bytes of its root, in which nothing is.
const ROOT: u64 = 4096;
/// Descriptors: four for each instance, and some.
const DESCRIPTORS: u64 = 1 << 16;

/// A step that failed, and how.
pub type StepError = (&'static str, io::Error);

fn step(name: &'static str) -> impl Fn(io::Error) -> StepError {
    move |error| (name, error)
}

/// Gives up everything but these descriptors' use. The process has one thread, and namespaces of its own in which it is
/// mapped. Its maker's `stage` is covered by an empty root.
pub fn confine(make: &Make, stage: &Path, filter: &Filter, entrances: Vec<OwnedFd>) -> Result<(), StepError> {
    for entrance in &entrances {
        rustix::io::write(entrance, b"0").map_err(io::Error::from).map_err(step("enter the cgroup"))?;
    }
    drop(entrances);
    ns::unshare(ns::Kinds::CGROUP).map_err(step("make a cgroup namespace"))?;
    mount::tmpfs(stage, ROOT, 0o555, true).map_err(step("mount an empty root"))?;
    mount::pivot(stage).map_err(step("change the root"))?;
    mount::remount_read_only(Path::new("/")).map_err(step("make the root read-only"))?;
    os::signal::unblock_all();
    for (resource, soft, hard) in [
        (libc::RLIMIT_CORE, 0, 0),
        (libc::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS),
        (libc::RLIMIT_MEMLOCK, 64 << 10, 64 << 10),
        (libc::RLIMIT_MSGQUEUE, 0, 0),
        (libc::RLIMIT_FSIZE, libc::RLIM_INFINITY, libc::RLIM_INFINITY),
    ] {
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
        let of_descriptors = resource == libc::RLIMIT_NOFILE;
        let (soft, hard) = if of_descriptors { (soft.min(most), hard.min(most)) } else { (soft, hard) };
        process::limit(resource, soft, hard).map_err(step("limit its resources"))?;
    }
    if let Some(processes) = make.processes {
        process::limit(libc::RLIMIT_NPROC, processes.into(), processes.into()).map_err(step("limit its processes"))?;
    }
    caps::drop_bounding();
    process::become_ids(ID, ID).map_err(step("take its identity"))?;
    caps::drop_all().map_err(step("give up its capabilities"))?;
    process::set_dumpable(false);
    // A change of identity forgets it.
    process::die_with_parent(libc::SIGKILL).map_err(step("end with its maker"))?;
    process::no_new_privileges().map_err(step("give up gaining privileges"))?;
    filter.install().map_err(|error| ("install its filter", io::Error::other(error)))
}

/// Whoever wakes up on its processor, and has had less of it than its share, goes first from now on, and whoever wakes it
/// goes on: it computes, and others have somebody who waits for them. An event loop that has more requests sends them all
/// before the first is run. Its own share stays the same. A kernel that does not know this does without.
pub fn let_others_first(for_long: bool) {
    let _ = process::preempt_nobody(if for_long { LONG_SLICE } else { SLICE });
}

/// Stays on one processor from now on. One that is not there, or is not ours, is none to stay on.
pub fn pin(cpu: u32) {
    let mut set = CpuSet::new();
    set.set(cpu as usize);
    let _ = sched_setaffinity(None, &set);
}
