//! An OCI bundle for `crun run` that holds a function as Lichen's sandboxes hold theirs: the host's interpreter
//! read-only, the code at `/var/task`, a `/tmp` of its own, namespaces, limits, no capabilities, no network.
//!
//! Weaker than Lichen's in two ways, both in crun's favour: no user namespace, and no system call filter.

use super::interpreter::Interpreter;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tempfile::TempDir;

const NAMESPACES: [&str; 6] = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
const SHARED: [&str; 6] = ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives"];
const CGROUPS: &str = "/sys/fs/cgroup";

/// A bundle, and crun's own records of what runs from it.
pub struct Bundle {
    folder: TempDir,
    number: AtomicU64,
}

impl Bundle {
    /// A bundle of the function in the folder `code`, with `memory_mib` for each container.
    pub fn new(interpreter: &Interpreter, code: &Path, memory_mib: u64) -> io::Result<Self> {
        let folder = TempDir::with_prefix("lichen-bench-")?;
        fs::create_dir(folder.path().join("root"))?;
        let (name, text) = interpreter.runner();
        fs::write(folder.path().join(name), text)?;
        let bundle = Self { folder, number: AtomicU64::new(0) };
        let config = bundle.config(interpreter, code, memory_mib);
        fs::write(bundle.folder.path().join("config.json"), serde_json::to_vec(&config)?)?;
        Ok(bundle)
    }

    /// `crun run` of one more container.
    pub fn run(&self) -> Command {
        let mut crun = Command::new("crun");
        crun.arg("--root").arg(self.folder.path().join("state")).arg("run").arg("--bundle").arg(self.folder.path());
        crun.arg(format!("{}-{}", self.name(), self.number.fetch_add(1, Relaxed)));
        crun
    }

    /// A name for containers and cgroups that nobody else has.
    fn name(&self) -> String {
        let name = self.folder.path().file_name().unwrap_or_default().to_string_lossy();
        name.trim_matches('.').to_owned()
    }

    fn config(&self, interpreter: &Interpreter, code: &Path, memory_mib: u64) -> Value {
        let runner = self.folder.path().join(interpreter.runner().0);
        let inside = Path::new("/var/runner").join(interpreter.runner().0);
        let mut arguments = vec![interpreter.program.display().to_string()];
        arguments.extend(interpreter.arguments(&inside));
        let path = interpreter.program.parent().unwrap_or(Path::new("/usr/bin")).display().to_string();
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 1000, "gid": 1000 },
                "args": arguments,
                "env": [format!("PATH={path}:/usr/bin:/bin"), "LANG=C.UTF-8", "HOME=/tmp", "OPENBLAS_NUM_THREADS=1"],
                "cwd": "/var/task",
                "capabilities": {},
                "noNewPrivileges": true,
                "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            },
            "root": { "path": "root", "readonly": true },
            "hostname": "lichen",
            "mounts": mounts(interpreter, code, &runner, &inside),
            "linux": {
                "namespaces": NAMESPACES.map(|kind| json!({ "type": kind })),
                "resources": {
                    "memory": { "limit": memory_mib << 20 },
                    "cpu": { "quota": 100_000, "period": 100_000 },
                    "pids": { "limit": 1024 },
                },
            },
        })
    }
}

fn mounts(interpreter: &Interpreter, code: &Path, runner: &Path, inside: &Path) -> Vec<Value> {
    let tmpfs = |at: &str, mode: &str| json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", mode] });
    let bind = |from: &Path, to: &Path| json!({ "destination": to, "type": "bind", "source": from, "options": ["rbind", "ro", "nosuid", "nodev"] });
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        tmpfs("/dev", "mode=755"),
        tmpfs("/tmp", "mode=1777"),
    ];
    let system = SHARED.map(PathBuf::from).into_iter().filter(|path| path.exists());
    mounts.extend(system.chain(interpreter.folders.iter().cloned()).map(|folder| bind(&folder, &folder)));
    mounts.push(bind(code, Path::new("/var/task")));
    mounts.push(bind(runner, inside));
    mounts
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // crun removes a container's cgroups, unless it was killed itself.
        for hierarchy in entries(Path::new(CGROUPS)) {
            for cgroup in entries(&hierarchy).filter(|path| path.to_string_lossy().contains(&self.name())) {
                // One that is in use is not ours to end; links to a hierarchy show what is gone already.
                let _ = fs::remove_dir(cgroup);
            }
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
