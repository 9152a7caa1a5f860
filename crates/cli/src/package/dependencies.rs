//! Installs what a folder says it needs (`requirements.txt`, `package.json`) into a cache, once per content.
//!
//! ```text
//! ~/.cache/lichen/dependencies/<hash of the list, the interpreter's version, this format's version>/…
//! ```
//! A folder appears there whole or not at all: it is made beside its place and renamed. A list without exact versions is
//! looked up once and then kept: `--reinstall` looks again. Python's modules are compiled here, not in every sandbox.

use super::files::Files;
use super::{Language, Wishes};
use crate::installer::follow;
use crate::progress::Step;
use crate::verdict::wrong;
use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Goes up when the same list must give another folder than before.
const FORMAT: &str = "1";

/// The folders, none or one, whose files belong into the package too.
pub fn install(
    folder: &Path,
    files: &Files,
    language: Language,
    wishes: &Wishes<'_>,
) -> anyhow::Result<Option<PathBuf>> {
    match language {
        Language::Python if files.has("requirements.txt") => python(folder, files, wishes),
        Language::Node if files.has("package.json") && !files.has_folder("node_modules") => node(files, wishes),
        _ => Ok(None),
    }
}

fn python(folder: &Path, files: &Files, wishes: &Wishes<'_>) -> anyhow::Result<Option<PathBuf>> {
    let list = files.text("requirements.txt")?.unwrap_or_default();
    let wanted: Vec<&str> = list.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let version = output(
        Command::new("python3").args(["-c", "import sys, sysconfig; print(sys.version, sysconfig.get_platform())"]),
    )?;
    // Other lists and folders that this one refers to are not part of its text: what they give is not kept.
    let refers =
        wanted.iter().any(|line| ["-r", "-c", "-e", "--", ".", "/", "file:"].iter().any(|p| line.starts_with(p)));
    let place = Place::of(&["python", &version, &wanted.join("\n")])?;
    if place.is_there() && !wishes.reinstall && !refers {
        return Ok(Some(place.path));
    }
    let step = Step::begin(&format!("installing {}", summary(&wanted)), wishes.quiet);
    let making = place.begin()?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
        "--progress-bar=off",
    ]);
    pip.args(["--root-user-action=ignore", "--requirement", "requirements.txt", "--target"]).arg(making.path());
    follow(pip.current_dir(folder), &step).map_err(|said| no_pip(&said))?;
    // Compiled files that are never checked against their sources: a package keeps no times.
    let mut compile = Command::new("python3");
    compile.args(["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s"]).arg(making.path());
    compile.args(["-p", "/var/task"]).arg(making.path()).stdout(Stdio::null()).stderr(Stdio::null());
    // Some packages ship files of another Python's syntax: those stay uncompiled.
    compile.status().context("cannot run python3 -m compileall")?;
    place.keep(making).map(Some)
}

fn no_pip(said: &str) -> anyhow::Error {
    let remedy = if said.contains("No module named pip") {
        ": python3 has no pip: install it (apt install python3-pip), or put the modules into the folder"
    } else {
        ""
    };
    wrong(format!("requirements.txt could not be installed{remedy}\n{said}"))
}

fn node(files: &Files, wishes: &Wishes<'_>) -> anyhow::Result<Option<PathBuf>> {
    let manifest = files.text("package.json")?.unwrap_or_default();
    let parsed: serde_json::Value =
        serde_json::from_str(&manifest).map_err(|error| wrong(format!("package.json is not JSON: {error}")))?;
    let Some(wanted) = parsed["dependencies"].as_object().filter(|wanted| !wanted.is_empty()) else { return Ok(None) };
    let lock = files.text("package-lock.json")?;
    let version = output(Command::new("node").args(["-p", "process.version + process.platform + process.arch"]))?;
    let place =
        Place::of(&["node", &version, &parsed["dependencies"].to_string(), lock.as_deref().unwrap_or_default()])?;
    if place.is_there() && !wishes.reinstall {
        return Ok(Some(place.path));
    }
    let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
    let step = Step::begin(&format!("installing {}", summary(&names)), wishes.quiet);
    let making = place.begin()?;
    fs::write(making.path().join("package.json"), manifest.as_bytes())?;
    if let Some(lock) = &lock {
        fs::write(making.path().join("package-lock.json"), lock.as_bytes())?;
    }
    let mut npm = Command::new("npm");
    npm.arg(if lock.is_some() { "ci" } else { "install" });
    npm.args(["--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier"]).current_dir(making.path());
    follow(&mut npm, &step)
        .map_err(|said| wrong(format!("the dependencies in package.json could not be installed\n{said}")))?;
    place.keep(making).map(Some)
}

/// A few names, or how many there are.
fn summary(names: &[&str]) -> String {
    if names.len() <= 4 { names.join(", ") } else { format!("{} and {} more", names[..3].join(", "), names.len() - 3) }
}

/// A folder of the cache.
struct Place {
    path: PathBuf,
}

impl Place {
    fn of(parts: &[&str]) -> anyhow::Result<Self> {
        let mut hash = Sha256::new();
        for part in [FORMAT].iter().chain(parts) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let name = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Ok(Self { path: cache()?.join("dependencies").join(name) })
    }

    fn is_there(&self) -> bool {
        self.path.is_dir()
    }

    fn begin(&self) -> anyhow::Result<tempfile::TempDir> {
        let parent = self.path.parent().context("a place is always in a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        Ok(tempfile::Builder::new().prefix(".making-").tempdir_in(parent)?)
    }

    fn keep(self, making: tempfile::TempDir) -> anyhow::Result<PathBuf> {
        if self.is_there() {
            fs::remove_dir_all(&self.path)?;
        }
        let made = making.keep();
        match fs::rename(&made, &self.path) {
            Ok(()) => Ok(self.path),
            // Somebody else has made the same at the same time: theirs is as good.
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                fs::remove_dir_all(&made)?;
                Ok(self.path)
            }
            Err(error) => Err(error).with_context(|| format!("cannot make {}", self.path.display())),
        }
    }
}

/// This user's cache.
pub fn cache() -> anyhow::Result<PathBuf> {
    let xdg = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = xdg.or_else(home).context("cannot tell where to keep what is made once: set XDG_CACHE_HOME or HOME")?;
    Ok(base.join("lichen"))
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::null()).output();
    let output = output.map_err(|error| wrong(format!("cannot run {program}, which this function needs: {error}")))?;
    if !output.status.success() {
        bail!("{program} does not work: it ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
