//! The root of all sandboxes: staged once, in the worker's own mount namespace, and shared by them read-only.
//!
//! ```text
//! /usr /bin /lib …   the host's, read-only
//! /etc               a few files of our own, and the host's certificates
//! /dev               null zero full random urandom, fd; shm is each sandbox's own
//! /var/runtime       the language runtimes' files, and AWS's SDKs where the node has them
//! /var/task /opt     where code and layers are attached
//! /proc /tmp         each sandbox's own
//! ```
//!
//! No image is needed, and nothing of the host's /home, /root, /etc, /var, /run or /sys is seen, but for interpreters
//! that are installed there.

use super::Settings;
use super::language::{Interpreter, NATIVE, RUNTIME_DIR, SCRIPTS};
use crate::spec::Kind;
use os::mount;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why there is no root.
#[derive(Debug, Error)]
#[error("the root of the sandboxes could not be staged: {path}")]
pub struct RootError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RootError {
    let path = path.into();
    move |source| RootError { path, source }
}

/// The host's folders that every sandbox sees, where they exist.
const SHARED: [&str; 6] = ["usr", "bin", "sbin", "lib", "lib32", "lib64"];
/// What of /etc every sandbox sees, where it exists.
const SHARED_ETC: [&str; 9] = [
    "alternatives",
    "ca-certificates",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "pki",
    "protocols",
    "services",
    "ssl",
];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
// The loader remembers of each folder of its search path whether it is there: a template has to see the one that layers
// bring, or none of its children would find libraries in it.
const EMPTY: [&str; 9] = ["proc", "tmp", "dev/shm", "etc", "opt/lib", "run", "home", "var/task", "var/runtime"];
const FILES: [(&str, &str); 4] = [
    ("etc/passwd", "root:x:0:0:root:/:/bin/false\nfunction:x:1000:1000::/tmp:/bin/sh\n"),
    ("etc/group", "root:x:0:\nfunction:x:1000:\n"),
    ("etc/hosts", "127.0.0.1 localhost lichen sandbox sandbox.localdomain\n::1 localhost lichen\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

/// Stages the root at `stage`, an existing folder. `resolver` is the text of /etc/resolv.conf.
pub fn build(stage: &Path, interpreters: &[Interpreter], settings: &Settings, resolver: &str) -> Result<(), RootError> {
    mount::tmpfs(stage, 64 << 20, 0o755, false).map_err(at(stage))?;
    for folder in EMPTY {
        make(&stage.join(folder))?;
    }
    for (name, text) in FILES.into_iter().chain([("etc/resolv.conf", resolver)]) {
        fs::write(stage.join(name), text).map_err(at(name))?;
    }
    for name in SHARED {
        share(&Path::new("/").join(name), &stage.join(name))?;
    }
    for name in SHARED_ETC {
        share_file(&Path::new("/etc").join(name), &stage.join("etc").join(name))?;
    }
    let folders: BTreeSet<&PathBuf> = interpreters.iter().flat_map(|interpreter| &interpreter.folders).collect();
    for folder in folders {
        share_interpreter(stage, folder)?;
    }
    devices(&stage.join("dev"))?;
    let runtime = below(stage, Path::new(RUNTIME_DIR));
    runtimes(&runtime, interpreters, &settings.libraries)?;
    sdk(&settings.sdk.python(), &runtime.join("sdk/python"));
    sdk(&settings.sdk.node_modules(), &runtime.join("node_modules"));
    // A shim that is started anew makes its socket anew: the folder stays.
    if let Some(shim) = &settings.unit.shim {
        share(shim, &below(stage, Path::new(super::SHIM)))?;
    }
    // ES modules are looked for above the importer's folder, and by no search path.
    symlink("runtime/node_modules", stage.join("var/node_modules")).map_err(at("/var/node_modules"))?;
    mount::read_only_devices(stage).map_err(at(stage))?;
    // A sandbox may mount its own /proc only where it sees one already, and no less restricted: it will cover this one.
    mount::bind(Path::new("/proc"), &stage.join("proc")).map_err(at(stage.join("proc")))
}

/// Shows a folder for AWS's SDKs, which need not have been installed yet. Where that is not possible there are none.
fn sdk(from: &Path, to: &Path) {
    if let Err(error) = fs::create_dir_all(from).map_err(at(from)).and_then(|()| share(from, to)) {
        tracing::warn!(%error, folder = %from.display(), "functions find no AWS SDK");
    }
}

fn below(stage: &Path, path: &Path) -> PathBuf {
    stage.join(path.strip_prefix("/").unwrap_or(path))
}

fn make(folder: &Path) -> Result<(), RootError> {
    fs::create_dir_all(folder).map_err(at(folder))
}

/// Shows an interpreter's folder under the name by which the interpreter knows it, and its own.
fn share_interpreter(stage: &Path, folder: &Path) -> Result<(), RootError> {
    let real = folder.canonicalize().map_err(at(folder))?;
    share(&real, &below(stage, &real))?;
    if real != folder {
        let link = below(stage, folder);
        make(link.parent().unwrap_or(stage))?;
        symlink(&real, &link).map_err(at(folder))?;
    }
    Ok(())
}

/// Shows a folder of the host, or copies the link that it is.
fn share(from: &Path, to: &Path) -> Result<(), RootError> {
    let Ok(metadata) = fs::symlink_metadata(from) else { return Ok(()) };
    if metadata.is_symlink() {
        return fs::read_link(from).and_then(|target| symlink(target, to)).map_err(at(from));
    }
    make(to)?;
    mount::bind(from, to).map_err(at(from))?;
    mount::read_only(to).map_err(at(from))
}

/// Shows a file or folder of the host, whatever links lead to it.
fn share_file(from: &Path, to: &Path) -> Result<(), RootError> {
    let Ok(real) = from.canonicalize() else { return Ok(()) };
    if real.is_dir() {
        return share(&real, to);
    }
    fs::copy(&real, to).map(drop).map_err(at(from))
}

fn devices(dev: &Path) -> Result<(), RootError> {
    for name in DEVICES {
        fs::write(dev.join(name), "").map_err(at(name))?;
        mount::bind(&Path::new("/dev").join(name), &dev.join(name)).map_err(at(name))?;
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        symlink(target, dev.join(name)).map_err(at(name))?;
    }
    Ok(())
}

fn runtimes(folder: &Path, interpreters: &[Interpreter], libraries: &Path) -> Result<(), RootError> {
    for script in SCRIPTS {
        let path = folder.join(script.name);
        make(path.parent().unwrap_or(folder))?;
        fs::write(&path, script.text).map_err(at(&path))?;
    }
    for interpreter in interpreters {
        let (from, to) = match interpreter.kind {
            Kind::Python => ("liblichen_python.so", "python/_lichen.so"),
            Kind::Node => ("liblichen_node.so", "node/lichen.node"),
            Kind::Provided => (NATIVE, "provided/lichen_provided"),
            // No interpreter runs these.
            Kind::Wasm | Kind::Native => continue,
        };
        make(folder.join(to).parent().unwrap_or(folder))?;
        fs::copy(libraries.join(from), folder.join(to)).map_err(at(libraries.join(from)))?;
    }
    Ok(())
}
