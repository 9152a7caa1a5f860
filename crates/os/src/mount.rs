//! Mounts, as a sandbox's root needs them.

use crate::check;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_remount, unmount};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

const ATTR_RDONLY: u64 = 1;
const ATTR_NOSUID: u64 = 2;
const ATTR_NODEV: u64 = 4;
const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;

/// Nothing mounted here is seen outside this namespace, and the other way round.
pub fn make_private() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// A tmpfs of at most `bytes` at `target`.
pub fn tmpfs(target: &Path, bytes: u64, mode: u32, noexec: bool) -> io::Result<()> {
    let options = CString::new(format!("size={bytes},mode={mode:o}"))?;
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    if noexec {
        flags |= MountFlags::NOEXEC;
    }
    Ok(mount("tmpfs", target, "tmpfs", flags, options.as_c_str())?)
}

/// The process list of the calling process's pid namespace.
pub fn proc(target: &Path) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount("proc", target, "proc", flags, None::<&std::ffi::CStr>)?)
}

/// Shows `source`, with what is mounted below it, at `target` too.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::mount_bind_recursive(source, target)?)
}

/// Makes the mount at `target` and all below it read-only, without devices and set-id programs.
pub fn read_only(target: &Path) -> io::Result<()> {
    set_attributes(target, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
}

/// The same, for a mount that holds devices.
pub fn read_only_devices(target: &Path) -> io::Result<()> {
    set_attributes(target, ATTR_RDONLY | ATTR_NOSUID)
}

fn set_attributes(target: &Path, set: u64) -> io::Result<()> {
    let path = c_path(target)?;
    let attributes = MountAttr { set, clear: 0, propagation: 0, userns: 0 };
    // SAFETY: the kernel reads a terminated path and one MountAttr of the size passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// A detached, read-only copy of the tree at `path`: a mount that is nowhere yet, to be attached once.
pub fn detached(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u32 | libc::AT_RECURSIVE as u32;
    // SAFETY: the kernel reads a terminated path.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: checked: a new descriptor, ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attributes = MountAttr { set: ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV, clear: 0, propagation: 0, userns: 0 };
    // SAFETY: the kernel reads an empty path and one MountAttr of the size passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(fd)
}

/// Attaches a detached mount at `target`.
pub fn attach(mount: impl AsFd, target: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: the kernel reads two terminated paths.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Makes `root` the root of the calling process's mount namespace; the old root and everything below it go away.
pub fn pivot(root: &Path) -> io::Result<()> {
    // A mount inherited from a more privileged namespace is locked in place; a bind of it onto itself is not.
    bind(root, root)?;
    rustix::process::chdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// Makes the mount at `target` alone read-only (not those below it).
pub fn remount_read_only(target: &Path) -> io::Result<()> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount_remount(target, flags, "")?)
}
