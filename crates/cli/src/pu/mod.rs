//! The role of a processing unit that is a part of this machine (tier `namespace`): what plays a DPU where there is none.
//!
//! ```text
//!  supervisor ── lifeline ──► outside ── what was found, lifeline ──► inside: process 1 of the unit's own namespaces
//!                             │                                       └── lifeline, connections ──► its worker, its shim
//!                             ╰── bounds of memory and processors, and a way out, in the host's own namespaces
//! ```
//! Processes, network, mounts, host name and IPC are the unit's own, its processors and memory bounded; kernel, users and
//! files are the machine's. It is one unit of failure: outside, inside, shim and worker end together, whichever ends first, and
//! the supervisor starts all of them again.
//!
//! What runs on a unit is the gateway's business: it speaks to the worker itself.

mod inside;

use anyhow::{Context, bail};
use daemon::pu::Pu;
use net::egress::resolver::Resolver;
use net::egress::{Egress, Settings};
use os::cgroup::{Bounds, Tree};
use os::idmap;
use os::ns::Kinds;
use os::process::End;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Of the processors' time, for each processor of a unit: its shim, its worker and an instance at work.
const SHARES_PER_CORE: u32 = 3;
/// How long the inside may take to end its worker.
const TEAR_DOWN: Duration = Duration::from_secs(9);
/// How often, and after which pauses, the control groups of a unit that was killed are looked for.
const SWEEPS: u32 = 200;
const SWEEP_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// How often, and for how long, groups are tried to be removed whose processes are still ending.
const REMOVALS: u32 = 100;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// What has been found out of a unit while it was made, for its worker.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Found {
    /// Why there is no way out of it.
    pub no_egress: Option<String>,
    /// What is not enforced there: sentences for people.
    pub missing: Vec<String>,
}

/// The arguments of a unit's daemons.
pub struct Typed {
    pub worker: Vec<String>,
    pub shim: Vec<String>,
}

/// Where a unit's daemons are connected: the worker with the gateway, the shim with the supervisor.
pub struct Connections {
    pub worker: OwnedFd,
    pub shim: OwnedFd,
}

/// Makes the unit and is there as long as it is, or until `lifeline` ends. `typed` says the arguments of its daemons. The
/// calling process must have one thread.
pub fn run(
    pu: &Pu,
    typed: &dyn Fn(&Found) -> Typed,
    connections: Connections,
    lifeline: &OwnedFd,
) -> anyhow::Result<()> {
    let mut found = Found::default();
    let place = bounded(pu, &mut found.missing);
    let (told, tell) = std::io::pipe().context("cannot make a pipe")?;
    let (mut tell, mut ends) = (Some(tell), Some((told, connections)));
    let alone = !rustix::process::geteuid().is_root();
    let kinds = if alone { Kinds::UNIT.and(Kinds::USER) } else { Kinds::UNIT };
    let life = || {
        // The copy of it would keep the pipe from ever ending.
        tell = None;
        let Some((told, connections)) = ends.take() else { return 1 };
        inside::live(pu, place.as_ref(), typed, told, connections)
    };
    let forked = os::process::fork_unit(kinds, life);
    let (pid, process) = forked.context("no namespaces for the PU: this user or this kernel may not make them")?;
    drop(ends);
    let Some(tell) = tell else { bail!("a pipe has two ends") };
    if alone {
        let own = |id| [idmap::Range { inside: id, outside: id, count: 1 }];
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        idmap::write(pid, &own(uid), &own(gid), true).context("the PU's users cannot be mapped")?;
    }
    let way_out = if alone { None } else { way_out(&process, &mut found) };
    info!(pu = pu.name, pid, "the unit is there");
    let end = attend(&process, pid, lifeline, tell, &found, place.as_ref())?;
    if let Some(egress) = way_out {
        egress.close_and_wait();
    }
    remove(place);
    match end {
        End::Exit(0) => Ok(()),
        end => bail!("the PU {} has ended ({end:?}): what it said is above", pu.name),
    }
}

/// A place of its own among the control groups, with the unit's bounds.
fn bounded(pu: &Pu, missing: &mut Vec<String>) -> Option<Tree> {
    let bounds = Bounds {
        memory: pu.memory_mib.map(|mib| mib << 20),
        cpus: pu.cpus.as_ref().map(ToString::to_string),
        // A group is one among all processes of the host, and this one has a PU's work to do.
        shares: Some(pu.cores() * SHARES_PER_CORE),
    };
    let made = Tree::create().map_err(anyhow::Error::from).and_then(|mut place| {
        place.bound(&bounds)?;
        Ok(place)
    });
    match made {
        Ok(place) => Some(place),
        Err(error) => {
            if bounds.memory.is_some() || bounds.cpus.is_some() {
                missing.push(format!("the PU's memory and processors are not bounded: {error:#}"));
            }
            None
        }
    }
}

/// A pair of devices between the unit and the host, and what leads on from there.
fn way_out(process: &OwnedFd, found: &mut Found) -> Option<Egress> {
    let opened = Egress::open_and_wait(Settings::new(Resolver::of_this_host())).map_err(anyhow::Error::from);
    let attached = opened.and_then(|egress| {
        let address = egress.attach_and_wait(process.try_clone()?)?;
        Ok((egress, address))
    });
    match attached {
        Ok((egress, address)) => {
            info!(%address, "the unit is connected with the host");
            Some(egress)
        }
        Err(error) => {
            warn!("the unit has no network: {error:#}");
            found.no_egress = Some(format!("{error:#}"));
            None
        }
    }
}

/// Tells the inside what was found, and waits for its end, or for the supervisor's.
fn attend(
    process: &OwnedFd,
    pid: i32,
    lifeline: &OwnedFd,
    mut tell: PipeWriter,
    found: &Found,
    place: Option<&Tree>,
) -> anyhow::Result<End> {
    let line = format!("{}\n", serde_json::to_string(found)?);
    // One that has ended already is noticed below.
    let _ = tell.write_all(line.as_bytes());
    let mut polled = [PollFd::new(process, PollFlags::IN), PollFd::new(lifeline, PollFlags::IN)];
    let mut sweeps = SWEEPS;
    while polled.iter().all(|one| one.revents().is_empty()) {
        // What one that was killed has left, whose processes may still be ending.
        sweeps = if place.is_none_or(Tree::sweep) { 0 } else { sweeps.saturating_sub(1) };
        match poll(&mut polled, (sweeps > 0).then_some(&SWEEP_PAUSE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the PU"),
        }
    }
    drop(tell);
    let until = Instant::now() + TEAR_DOWN;
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    while polled[0].revents().is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            warn!("the PU did not end in time: killed");
            os::pidfd::kill(process).context("cannot end the PU")?;
            break;
        }
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let _ = poll(&mut polled, Some(&left));
    }
    os::process::wait(pid).context("cannot tell how the PU has ended")
}

/// All processes of the unit have ended, or are about to.
fn remove(place: Option<Tree>) {
    let Some(place) = place else { return };
    for _ in 0..REMOVALS {
        if place.remove() {
            return;
        }
        crate::node::pause(REMOVAL_PAUSE);
    }
    warn!("the PU's control groups could not be removed: the next one does it");
}
