//! How each language's template is started, as `lang/README.md` says.

use crate::{Place, Template};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The host's Python unless `LICHEN_PYTHON` names another, with the packages of `LICHEN_PYTHONPATH`.
pub fn python(config: &Value, code: Option<&Path>) -> io::Result<Template> {
    let mut command =
        Command::new(interpreter("LICHEN_PYTHON", "python3", &["-c", "import sys; print(sys.executable)"]));
    command.env_clear().envs([("TZ", ":UTC"), ("LD_BIND_NOW", "1")]);
    command.args(["-s", "-S", "-P", "-B", "-X", "utf8", "/var/runtime/python/template.py"]);
    if let Some(packages) = std::env::var_os("LICHEN_PYTHONPATH") {
        command.env("PYTHONPATH", packages);
    }
    let place = Place::new("python", &scripts("python"), &library("lichen_python"), "_lichen.so")?;
    Template::start(command, place, config, code)
}

/// What `variable` names, else what `name` on the PATH really is, else that in `/usr/bin`: a shell function of a version
/// chooser is none, nor can the function's user run what lies in somebody's home.
fn interpreter(variable: &str, name: &str, ask: &[&str]) -> PathBuf {
    if let Some(chosen) = std::env::var_os(variable) {
        return chosen.into();
    }
    let said = Command::new(name).args(ask).output().map(|output| output.stdout).unwrap_or_default();
    let real = std::fs::canonicalize(String::from_utf8_lossy(&said).trim());
    real.ok().filter(|path| is_for_everybody(path)).unwrap_or_else(|| Path::new("/usr/bin").join(name))
}

fn is_for_everybody(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.ancestors().all(|part| std::fs::metadata(part).is_ok_and(|about| about.permissions().mode() & 1 == 1))
}

fn scripts(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(language).join("runtime")
}

/// The built cdylib `lib{name}.so` of this build: beside the running test, or one folder up.
fn library(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let candidates = program.ancestors().skip(1).take(3).map(|folder| folder.join(format!("lib{name}.so")));
    candidates.into_iter().find(|path| path.exists()).unwrap_or_else(|| format!("lib{name}.so").into())
}

/// The host's Node.js unless `LICHEN_NODE` names another.
pub fn node(config: &Value, code: Option<&Path>) -> io::Result<Template> {
    let mut command = Command::new(interpreter("LICHEN_NODE", "node", &["-p", "process.execPath"]));
    command.env_clear().args([
        "--v8-pool-size=0",
        "--single-threaded",
        "--no-memory-reducer",
        "/var/runtime/node/template.cjs",
    ]);
    let place = Place::new("node", &scripts("node"), &library("lichen_node"), "lichen.node")?;
    Template::start(command, place, config, code)
}
