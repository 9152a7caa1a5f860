//! Process 1 of a unit: completes its namespaces, and starts and ends its shim and its worker.
//!
//! It is native, has one thread and no event loop, and serves nobody.

use super::{Connections, Found, Typed};
use crate::supervisor::role::Role;
use anyhow::{Context, bail};
use daemon::pu::{Cpus, Pu};
use os::cgroup::Tree;
use os::mount;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::{BufRead, BufReader, PipeReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};
use tracing::error;

/// How long the worker may take to remove its sandboxes.
const TEAR_DOWN: Duration = Duration::from_secs(8);
/// Bytes of the folders that are the unit's own: they hold a lock, and marks of a few bytes.
const OWN_FOLDER_MAX: u64 = 64 << 20;
/// Folders in which processes of one machine meet.
const MEETING_PLACES: [&str; 2] = ["/dev/shm", "/run/lichen"];

/// The unit's life. Answers its exit status.
pub fn live(
    pu: &Pu,
    place: Option<&Tree>,
    typed: &dyn Fn(&Found) -> Typed,
    told: PipeReader,
    connections: Connections,
) -> i32 {
    os::process::set_name(c"lichen-pu-init");
    match prepare_and_serve(pu, place, typed, told, connections) {
        Ok(()) => 0,
        Err(problem) => {
            error!(pu = pu.name, "{problem:#}");
            1
        }
    }
}

fn prepare_and_serve(
    pu: &Pu,
    place: Option<&Tree>,
    typed: &dyn Fn(&Found) -> Typed,
    told: PipeReader,
    connections: Connections,
) -> anyhow::Result<()> {
    let mut told = BufReader::new(told);
    let mut line = String::new();
    if told.read_line(&mut line).context("cannot hear from the outside")? == 0 {
        return Ok(());
    }
    let found: Found = serde_json::from_str(&line).context("the outside makes no sense")?;
    place.map_or(Ok(()), Tree::enter).context("the PU's control groups cannot be entered")?;
    pu.cpus.as_ref().map_or(Ok(()), confine)?;
    furnish(pu)?;
    let typed = typed(&found);
    // Before the worker, whose instances attach to it.
    let mut shim = Role::new("shim", "shim", typed.shim);
    shim.start(vec![connections.shim])?;
    let mut worker = Role::new("worker", "worker", typed.worker);
    worker.start_with_lifeline(vec![connections.worker])?;
    serve(&mut worker, &mut shim, told.get_ref())
}

/// Keeps to these processors, whatever control groups there are.
fn confine(cpus: &Cpus) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    cpus.numbers().filter(|number| *number < CpuSet::MAX_CPU).for_each(|number| set.set(number));
    sched_setaffinity(None, &set).with_context(|| format!("this machine has none of the processors {cpus}"))
}

/// Completes the unit's namespaces.
fn furnish(pu: &Pu) -> anyhow::Result<()> {
    rustix::system::sethostname(pu.name.as_bytes()).context("no host name for the PU")?;
    mount::make_private().context("no mounts for the PU")?;
    mount::proc(Path::new("/proc")).context("no list of processes for the PU")?;
    for folder in MEETING_PLACES.map(Path::new).into_iter().filter(|folder| folder.is_dir()) {
        mount::tmpfs(folder, OWN_FOLDER_MAX, 0o1777, false)
            .with_context(|| format!("no {} for the PU", folder.display()))?;
    }
    os::netlink::loopback_up().context("no loopback for the PU")
}

/// Is there as long as the worker and the shim. The worker ends when the outside does; the shim ends with this process.
fn serve(worker: &mut Role, shim: &mut Role, outside: &PipeReader) -> anyhow::Result<()> {
    let mut asked = false;
    loop {
        if let Some((status, _)) = worker.reap()? {
            if asked {
                return Ok(());
            }
            bail!("the worker has ended ({status}), and the PU with it");
        }
        if let Some((status, _)) = shim.reap()?
            && !asked
        {
            bail!("the shim has ended ({status}), and the PU with it");
        }
        let now = Instant::now();
        worker.enforce(now);
        let limit = crate::supervisor::until(now, [worker.deadline().filter(|at| *at > now)]);
        let process = worker.process().context("the worker is not there")?;
        let mut polled = vec![PollFd::from_borrowed_fd(process, PollFlags::IN)];
        // Once it has ended it would wake us for ever.
        polled.extend(shim.process().map(|shim| PollFd::from_borrowed_fd(shim, PollFlags::IN)));
        polled.extend((!asked).then(|| PollFd::from_borrowed_fd(outside.as_fd(), PollFlags::IN)));
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the worker"),
        }
        let gone = !asked && polled.last().is_some_and(|outside| !outside.revents().is_empty());
        drop(polled);
        if gone {
            worker.end(TEAR_DOWN);
            asked = true;
        }
    }
}
