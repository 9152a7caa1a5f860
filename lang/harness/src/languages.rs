//! How each language's template is started, as `lang/README.md` says.

use crate::{Place, Template};
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The host's Python unless `LICHEN_PYTHON` names another, with the packages of `LICHEN_PYTHONPATH`.
pub fn python(config: &Value, code: Option<&Path>) -> io::Result<Template> {
    let mut command = Command::new(std::env::var_os("LICHEN_PYTHON").unwrap_or_else(|| "/usr/bin/python3".into()));
    command.env_clear().envs([("TZ", ":UTC"), ("LD_BIND_NOW", "1")]);
    command.args(["-s", "-S", "-P", "-B", "-X", "utf8", "/var/runtime/python/template.py"]);
    if let Some(packages) = std::env::var_os("LICHEN_PYTHONPATH") {
        command.env("PYTHONPATH", packages);
    }
    let place = Place::new("python", &scripts("python"), &library("lichen_python"), "_lichen.so")?;
    Template::start(command, place, config, code)
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
    let mut command = Command::new(std::env::var_os("LICHEN_NODE").unwrap_or_else(|| "/usr/bin/node".into()));
    command.env_clear().args([
        "--v8-pool-size=0",
        "--single-threaded",
        "--no-memory-reducer",
        "/var/runtime/node/template.cjs",
    ]);
    let place = Place::new("node", &scripts("node"), &library("lichen_node"), "lichen.node")?;
    Template::start(command, place, config, code)
}
