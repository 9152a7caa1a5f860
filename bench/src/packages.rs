//! Python packages that baselines and preloading templates need, in a virtual environment of the user's cache. It is made
//! once; a bench that finds it needs no network.

use crate::error::{BenchError, io};
use sha2::{Digest, Sha256};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A PATH on which `python3` has these packages, and everything else is where it was.
pub fn path_with(packages: &[&str]) -> Result<String, BenchError> {
    let old = env::var("PATH").unwrap_or_default();
    if packages.is_empty() {
        return Ok(old);
    }
    let place = place("python", packages)?;
    if !place.exists() {
        install(packages, &place)?;
    }
    Ok(format!("{}:{old}", place.join("bin").display()))
}

/// A folder with the `node_modules` that these packages need.
pub fn node_modules(packages: &[&str]) -> Result<PathBuf, BenchError> {
    let place = place("node", packages)?;
    if !place.exists() {
        let making = beside(&place)?;
        fs::write(making.path().join("package.json"), "{}").map_err(io("package.json could not be written"))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--no-update-notifier"]).args(packages);
        ran(npm.current_dir(making.path()))?;
        keep(making, &place)?;
    }
    Ok(place)
}

fn install(packages: &[&str], place: &Path) -> Result<(), BenchError> {
    // An environment knows its own path: it is made where it will be, and removed when it does not become whole.
    let made = ran(Command::new("python3").args(["-m", "venv"]).arg(place)).and_then(|()| {
        let mut pip = Command::new(place.join("bin/python3"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]).args(packages);
        ran(&mut pip)
    });
    if made.is_err() {
        // What is left of it would be taken for whole.
        let _ = fs::remove_dir_all(place);
    }
    made
}

fn ran(command: &mut Command) -> Result<(), BenchError> {
    let program = PathBuf::from(command.get_program());
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().map_err(|source| BenchError::Program { program, source })?;
    if status.success() {
        return Ok(());
    }
    let said = [stdout, stderr].concat();
    Err(BenchError::NoPackages { said: String::from_utf8_lossy(&said).into_owned() })
}

/// A folder of the cache: the same for the same packages.
fn place(kind: &str, packages: &[&str]) -> Result<PathBuf, BenchError> {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let cache =
        cache.ok_or_else(|| BenchError::NoPackages { said: "neither XDG_CACHE_HOME nor HOME is set".into() })?;
    let folder = cache.join("lichen").join("bench");
    fs::create_dir_all(&folder).map_err(io("the cache could not be made"))?;
    let hash: String = Sha256::digest(packages.join(" "))[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(folder.join(format!("{kind}-{hash}")))
}

fn beside(place: &Path) -> Result<TempDir, BenchError> {
    let folder = place.parent().unwrap_or(Path::new("."));
    TempDir::with_prefix_in(".new-", folder).map_err(io("a folder of the cache could not be made"))
}

fn keep(making: TempDir, place: &Path) -> Result<(), BenchError> {
    fs::rename(making.path(), place).map_err(io("a folder of the cache could not be put in its place"))?;
    // Its place is another one now.
    let _ = making.keep();
    Ok(())
}
