//! The broker of sockets (`net::broker`), as this program has it: one at a time for each user, whoever holds the lock in the
//! user's folder.
//!
//! ```text
//!  lichen serve ─────┐ keeps ┌─▶ lichen broker ─┐
//!  lichen net serve ─┘       └─▶ lichen broker ─┼─ one has the lock, and serves at FOLDER/broker; the others wait for it
//!  lichen socket run ───────────────────────────┘
//! ```
//! The broker of a network's users (`lichen broker --network NAME`) is kept by `lichen net serve` alone, and has a lock of its own.

use crate::verdict::wrong;
use anyhow::Context;
use daemon::sockets::{Mode, Sockets};
use net::broker::{Bounds, Broker, Sharing, doors};
use net::split::Known;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// How a broker goes about it.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    pub bounds: Bounds,
    /// The folder in which `lichen net` remembers its networks.
    pub networks: Option<PathBuf>,
    /// The network whose users it is for, and the folder of their doors; none: it is for this program's user.
    pub users: Option<(PathBuf, Known)>,
}

impl Ways {
    /// As the configuration says.
    pub fn of(allowed: &Sockets) -> Self {
        let sharing = match allowed.mode {
            Mode::Pair => Sharing::Pair,
            Mode::Strict => Sharing::Strict,
            Mode::Pod => Sharing::Pod,
        };
        Self { bounds: Bounds { sharing, ..Bounds::default() }, networks: None, users: None }
    }
}

/// Where it listens, in this user's folder, which is made.
pub fn place() -> anyhow::Result<PathBuf> {
    Ok(folder()?.join("broker"))
}

/// Serves from a thread of its own, for as long as this process lives: before this returns, if nobody else is the broker,
/// else when nobody is any more.
pub fn beside(ways: Ways) -> anyhow::Result<PathBuf> {
    let place = place()?;
    let lock = lock(&place)?;
    let (stop, end) = io::pipe().context("cannot make a pipe")?;
    let stop = OwnedFd::from(stop);
    let serving = {
        let place = place.clone();
        move |lock: File| {
            let broker = open(&place, &ways)?;
            anyhow::Ok(thread::spawn(move || {
                let _while_serving = (lock, end);
                serve(broker, &stop)
            }))
        }
    };
    match lock.try_lock() {
        Ok(()) => drop(serving(lock)?),
        Err(_) => drop(thread::spawn(move || lock.lock().map(|()| serving(lock)))),
    }
    Ok(place)
}

/// Waits until this is the broker, and serves until `lifeline` hangs up.
pub fn run(ways: Ways, lifeline: OwnedFd) -> anyhow::Result<()> {
    // One for each process, each offer, each memory.
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the broker of sockets has few descriptors");
    }
    let place = match &ways.users {
        Some((folder, known)) => doors::own(folder, known).context("the network has no half")?,
        None => place()?,
    };
    let lock = lock(&place)?;
    let (ended, end) = io::pipe().context("cannot make a pipe")?;
    let stop = lifeline.try_clone().context("cannot share the lifeline")?;
    let serving: JoinHandle<anyhow::Result<()>> = thread::spawn(move || {
        let _until_the_end = end;
        lock.lock().context("cannot have the broker's lock")?;
        serve(open(&place, &ways)?, &stop)
    });
    os::resident::let_go();
    let mut ends = [PollFd::new(&ended, PollFlags::IN), PollFd::new(&lifeline, PollFlags::IN)];
    while let Err(error) = poll(&mut ends, None) {
        if error != rustix::io::Errno::INTR {
            return Err(error).context("cannot wait");
        }
    }
    // Who still waits for the lock ends with this process.
    if ends[0].revents().is_empty() {
        Ok(())
    } else {
        serving.join().unwrap_or_else(|_| anyhow::bail!("the broker failed"))
    }
}

fn lock(place: &Path) -> anyhow::Result<File> {
    File::create(place.with_file_name("lock")).context("cannot open the broker's lock")
}

fn open(place: &Path, ways: &Ways) -> anyhow::Result<Broker> {
    // Of one that has ended: whoever has the lock is the only one.
    let _ = fs::remove_file(place);
    let why = || format!("cannot listen at {}", place.display());
    if let Some((folder, known)) = &ways.users {
        return Broker::of_network(place, folder, known, ways.bounds).with_context(why);
    }
    let broker = Broker::bind(place, ways.bounds).with_context(why)?;
    Ok(match &ways.networks {
        Some(folder) => broker.over(folder),
        None => broker,
    })
}

fn serve(mut broker: Broker, stop: &OwnedFd) -> anyhow::Result<()> {
    broker.run(stop.as_fd()).context("the broker cannot wait")
}

/// This user's folder for such things, which nobody else may enter.
#[expect(clippy::disallowed_methods, reason = "where a user has no folder of its own; checked to be nobody else's")]
fn folder() -> anyhow::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder).join("lichen-socket"),
        None => std::env::temp_dir().join(format!("lichen-socket-{user}")),
    };
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", folder.display()));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(&folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(wrong(format!("{} is not this user's alone: remove it", folder.display())));
    }
    Ok(folder)
}
