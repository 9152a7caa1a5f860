//! A slot: a process in fresh namespaces whose user namespace belongs to the function's user.
//!
//! ```text
//! test (root) ──► outer: mounts, becomes the function's user ──clone──► inner: pid 1 of the slot, waits for ever
//!      └─ writes the inner one's id maps ───────────────────────────────┘
//! ```

use crate::place;
use cfork::forkpoint::FUNCTION_ID;
use os::idmap::Range;
use os::ns::Kinds;
use os::process::{self, Fork};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A container that waits for an instance. All in it ends when this is dropped.
pub struct Slot {
    outer: Child,
    inner: OwnedFd,
    id: u64,
    forker: OwnedFd,
}

impl Slot {
    pub fn new(runtime: &Path, id: u64, forker: OwnedFd) -> io::Result<Self> {
        let (mut pid_reader, pid_writer) = io::pipe()?;
        let (go_reader, mut go_writer) = io::pipe()?;
        let runtime = runtime.to_owned();
        let mut command = Command::new("sleep");
        command.arg("infinity").stdin(Stdio::null());
        // SAFETY: between fork and exec this process has one thread; the C library's fork has left its allocator usable.
        unsafe {
            command.pre_exec(move || {
                place::furnish(&runtime, None)?;
                place::become_function()?;
                process::set_dumpable(true);
                match process::fork_into(Some(Kinds::ALL))? {
                    Fork::Parent(pid) => outlive(pid, &pid_writer),
                    Fork::Child => settle(&go_reader),
                }
            });
        }
        // Starting returns only once the inner process runs its program, and before that it waits for its maps.
        let maps = std::thread::spawn(move || -> io::Result<i32> {
            let mut pid = [0; 4];
            pid_reader.read_exact(&mut pid)?;
            let pid = i32::from_ne_bytes(pid);
            let own = [Range { inside: FUNCTION_ID, outside: FUNCTION_ID, count: 1 }];
            os::idmap::write(pid, &own, &own, false)?;
            go_writer.write_all(b"g")?;
            Ok(pid)
        });
        let outer = command.spawn()?;
        let pid = maps.join().map_err(|_| io::ErrorKind::Other)??;
        Ok(Self { outer, inner: os::pidfd::open(pid)?, id, forker })
    }

    /// By which the template knows it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What its forker takes its order from.
    pub fn forker(&self) -> impl AsFd + '_ {
        &self.forker
    }

    /// The process whose namespaces make up the slot.
    pub fn process(&self) -> impl AsFd + '_ {
        &self.inner
    }
}

fn outlive(pid: i32, tell: &io::PipeWriter) -> io::Result<()> {
    let mut tell = tell;
    tell.write_all(&pid.to_ne_bytes())?;
    // Whoever waits for this command to start waits for this descriptor's end.
    process::close_from(3);
    let _ = process::wait(pid);
    process::exit_now(0)
}

fn settle(go: &io::PipeReader) -> io::Result<()> {
    let mut go = go;
    process::die_with_parent(libc::SIGKILL)?;
    go.read_exact(&mut [0])?;
    os::netlink::loopback_up()?;
    os::mount::tmpfs(Path::new("/tmp"), 64 << 20, 0o1777, false)?;
    os::mount::proc(Path::new("/proc"))
}

impl Drop for Slot {
    fn drop(&mut self) {
        let _ = os::pidfd::kill(&self.inner);
        let _ = self.outer.wait();
    }
}
