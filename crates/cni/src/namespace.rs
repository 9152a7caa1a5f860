//! A network namespace with a path: one that stays until it is removed, as `ip netns` makes them.

use net::netlink::Socket;
use os::ns::{self, Kinds};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use thiserror::Error;

/// The loopback device of every network namespace.
const LOOPBACK: u32 = 1;

#[derive(Debug, Error)]
pub enum NamespaceError {
    #[error("no place for it")]
    Place(#[source] io::Error),
    #[error("it takes root (CAP_SYS_ADMIN, CAP_NET_ADMIN) to make one")]
    Make(#[source] io::Error),
    #[error("it cannot be removed")]
    Remove(#[source] io::Error),
}

/// Makes one, with its loopback device up. What was at the path before is removed.
pub fn make(path: &Path) -> Result<(), NamespaceError> {
    remove(path)?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(NamespaceError::Place)?;
    }
    File::create_new(path).map_err(NamespaceError::Place)?;
    // A thread stands in one network namespace: this one ends in the new one.
    let born = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            ns::unshare(Kinds::NET)?;
            Socket::route()?.bring_up(LOOPBACK)?;
            Ok(mount_bind("/proc/thread-self/ns/net", path)?)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    born.map_err(NamespaceError::Make)
}

/// Whether it is the one in which this process stands.
pub fn is_own(path: &Path) -> bool {
    let number = |path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((number(path), number(Path::new("/proc/self/ns/net"))), (Ok(one), Ok(own)) if one == own)
}

/// Whether a device of this name is there, and up.
pub fn has_link(path: &Path, link: &str) -> io::Result<bool> {
    let namespace = File::open(path)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            ns::enter(&namespace, Kinds::NET)?;
            Ok(Socket::route()?.devices()?.iter().any(|device| device.name == link && device.up))
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Removes it, or what there is of it. Processes that stand in it keep it until they end.
pub fn remove(path: &Path) -> Result<(), NamespaceError> {
    while unmount(path, UnmountFlags::DETACH).is_ok() {}
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NamespaceError::Remove(error)),
        _ => Ok(()),
    }
}
