//! Where templates and instances find the runtime and the code: a tmpfs over `/var`, seen by them alone.

use os::ns::{self, Kinds};
use os::{mount, process};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The user of templates and instances.
const USER: u32 = cfork::forkpoint::FUNCTION_ID;

/// The runtime's files, laid out as in a sandbox.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A place for the runtime `language`: the files of `scripts`, and `library` under the name by which they load it.
    pub fn new(language: &str, scripts: &Path, library: &Path, as_name: &str) -> io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let target = folder.path().join(language);
        copy_folder(scripts, &target)?;
        std::fs::copy(library, target.join(as_name))?;
        Ok(Self { folder })
    }

    /// The folder to be seen as `/var/runtime`.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Shows `runtime` at `/var/runtime`, and `code` or nothing at `/var/task`, to the calling process alone.
pub(crate) fn furnish(runtime: &Path, code: Option<&Path>) -> io::Result<()> {
    let code = code.map(mount::detached).transpose()?;
    let runtime = mount::detached(runtime)?;
    ns::unshare(Kinds::MOUNT)?;
    mount::make_private()?;
    mount::tmpfs(Path::new("/var"), 1 << 20, 0o755, false)?;
    std::fs::create_dir("/var/runtime")?;
    std::fs::create_dir("/var/task")?;
    mount::attach(runtime.as_fd(), c"/var/runtime")?;
    if let Some(code) = code {
        mount::attach(code.as_fd(), c"/var/task")?;
    }
    Ok(())
}

/// Gives up being root. What is then executed ends with the process that made this one.
pub(crate) fn become_function() -> io::Result<()> {
    process::become_ids(USER, USER)?;
    process::die_with_parent(libc::SIGKILL)
}

/// Closes every descriptor from `first` on when a program is executed.
pub(crate) fn keep_nothing(first: u32) -> io::Result<()> {
    // SAFETY: integers only; nothing is closed before the exec.
    match unsafe { libc::close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
