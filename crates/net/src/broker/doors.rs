//! The sockets by which a network's users come to its broker: one for each user and namespace, in a folder that is root's.
//!
//! ```text
//!   FOLDER/NAMESPACE/USER/broker        the user's, 0600: nobody else can connect
//!                        /broker.call   the user's, 0400: nobody else can read, so nobody can keep others from hearing
//! ```
//!
//! The folders are root's: who can enter them can neither change nor replace what lies there. Whoever has connected, the kernel says
//! once more, as a user may let others use what is its own.

use super::call::Call;
use super::closer::Closer;
use crate::split::Known;
use os::seqpacket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where they are, if nobody says otherwise.
pub const FOLDER: &str = "/run/lichen-users";
const SOCKET: &str = "broker";

/// The folder of a namespace, by the kernel's number.
fn of(folder: &Path, namespace: u64) -> PathBuf {
    folder.join(namespace.to_string())
}

/// Where a user of a network comes to its broker, in this namespace.
pub fn door(folder: &Path, namespace: u64, user: u32) -> PathBuf {
    of(folder, namespace).join(user.to_string()).join(SOCKET)
}

/// The door of a user in this namespace, if root has declared it to be one of the network's.
pub fn declared(folder: &Path, namespace: u64, user: u32) -> Option<PathBuf> {
    let door = door(folder, namespace, user);
    let is_roots = |at: &Path| fs::symlink_metadata(at).is_ok_and(|at| at.is_dir() && at.uid() == 0);
    door.parent().is_some_and(is_roots).then_some(door)
}

/// Waits until somebody listens at a door, so long at most; an error: why nobody does.
pub fn await_open(door: &Path, patience: Duration) -> io::Result<()> {
    if seqpacket::connect(door).is_ok() {
        return Ok(());
    }
    let until = Instant::now() + patience;
    let news = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    // A broker makes its socket, and then gives it to the user.
    let changes = WatchFlags::CREATE | WatchFlags::ATTRIB;
    inotify::add_watch(&news, door.parent().ok_or(io::ErrorKind::NotFound)?, changes)?;
    loop {
        let Err(error) = seqpacket::connect(door) else { return Ok(()) };
        let left = until.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&news, PollFlags::IN)], Some(&limit)) {
            Ok(0) => return Err(error),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while rustix::io::read(&news, &mut [0; 4096]).is_ok() {}
    }
}

/// Where root comes to the broker of a network: in the folder of its first half. Nothing if it has none any more.
pub fn own(folder: &Path, known: &Known) -> Option<PathBuf> {
    Some(of(folder, *known.namespaces.first()?).join(SOCKET))
}

/// Those of all brokers there that this user comes in by, root's own or the user's.
pub fn all(folder: &Path, user: u32) -> Vec<PathBuf> {
    let namespaces = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let door = |at: PathBuf| if user == 0 { at.join(SOCKET) } else { at.join(user.to_string()).join(SOCKET) };
    namespaces.map(door).filter(|door| door.exists()).collect()
}

/// Takes the folder for one daemon, which is made. `WouldBlock`: another one has it.
pub fn take(folder: &Path) -> io::Result<File> {
    make(folder)?;
    let lock = File::create(folder.join(".lock"))?;
    lock.try_lock()?;
    Ok(lock)
}

/// Makes the folders of a network, which say who may come, before its broker begins: who removes them does not find them made anew by a
/// broker that is about to end.
pub fn prepare(folder: &Path, known: &Known) -> io::Result<()> {
    for &namespace in &known.namespaces {
        make(&of(folder, namespace))?;
        let doors = known.users.iter().map(|&user| door(folder, namespace, user));
        doors.into_iter().try_for_each(|door| door.parent().map_or(Ok(()), make))?;
    }
    Ok(())
}

/// Removes what is no network's of these, or was of a user that is none any more.
pub fn sweep(folder: &Path, known: &[Known]) -> io::Result<()> {
    let of = |at: &Path| at.file_name().and_then(|name| name.to_str()?.parse().ok());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(number) = of(&path) else { continue };
        let network = known.iter().find(|known| known.namespaces.contains(&number));
        let Some(network) = network.filter(|network| !network.users.is_empty()) else {
            fs::remove_dir_all(path)?;
            continue;
        };
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            let user: Option<u64> = of(&path);
            if user.is_some_and(|user| !network.users.iter().any(|known| u64::from(*known) == user)) {
                fs::remove_dir_all(path)?;
            }
        }
    }
    Ok(())
}

/// A folder that all may enter, whatever this process's files are by default.
fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is another user's", folder.display())));
    }
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

/// One of them.
pub struct Door {
    listener: OwnedFd,
    pub user: u32,
    pub closer: Closer,
}

impl Door {
    /// Opens the door of a user, and calls those who have come by it to a broker before this one.
    fn open(path: &Path, (user, closer): (u32, &Closer)) -> io::Result<(Self, Call)> {
        // Of a broker that has ended: who has the lock is the only one.
        let _ = fs::remove_file(path);
        let listener = seqpacket::listen(path)?;
        let call = Call::at(path)?;
        for (file, mode) in [(&*socket::member::call_beside(path), 0o400), (path, 0o600)] {
            fs::set_permissions(file, Permissions::from_mode(mode))?;
            chown(file, Some(user), None)?;
        }
        Ok((Self { listener, user, closer: closer.clone() }, call))
    }

    /// All of a network; `relieved` is written to when somebody is to be heard again.
    pub fn open_all(folder: &Path, known: &Known, relieved: &PipeWriter) -> io::Result<(Vec<Self>, Vec<Call>)> {
        let (mut doors, mut calls) = (Vec::new(), Vec::new());
        for &user in &known.users {
            let closer = Closer::start(relieved.try_clone()?)?;
            for &namespace in &known.namespaces {
                let (opened, call) = Self::open(&door(folder, namespace, user), (user, &closer))?;
                doors.push(opened);
                calls.push(call);
            }
        }
        Ok((doors, calls))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
