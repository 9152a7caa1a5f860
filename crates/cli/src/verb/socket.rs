//! `lichen socket run -- CMD`: a program with `liblichen_socket.so` before its libc.
//!
//! Of all that run at a time, for one user, one is the broker: whoever holds the lock in the user's folder. When it ends, the next
//! one gets the lock. Whether bytes go through memory is not decided here.

use super::settings::Settings;
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use clap::{Args, Subcommand};
use net::broker::{Bounds, Broker};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

const LIBRARY: &str = "liblichen_socket.so";

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run a program so
    Run(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// Only connections with this port at one end; may be given several times
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<u16>,
    /// A configuration file (lichen.toml), whose [socket] says which programs and ports may
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub fn act(arguments: Arguments) -> Verdict {
    let What::Run(run) = arguments.what;
    let [program, rest @ ..] = &run.command[..] else { return Err(wrong("name a program to run")) };
    let mut command = Command::new(program);
    command.args(rest);
    let allowed = Settings { config: run.config, ..Settings::default() }.config(None)?.socket;
    let ports = if run.ports.is_empty() { &allowed.ports } else { &run.ports };
    if allowed.allows(Path::new(program)) {
        hook(&mut command, ports)?;
    }
    let status = command.status().map_err(|error| {
        wrong(format!("{} cannot be run: {error}: name a program, and its arguments", program.display()))
    })?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Exit::Program(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Has a program find the library, and the library a broker.
fn hook(command: &mut Command, ports: &[u16]) -> anyhow::Result<()> {
    let library = library()?;
    let folder = folder()?;
    let place = folder.join("broker");
    let lock = File::create(folder.join("lock")).context("cannot open the broker's lock")?;
    // Before the program begins, if nobody else is; else when nobody is any more.
    match lock.try_lock() {
        Ok(()) => drop(broker(lock, &place)?),
        Err(_) => drop(thread::spawn(move || lock.lock().map(|()| broker(lock, &place)))),
    }
    let place = folder.join("broker");
    let mut preload = library.into_os_string();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    command.env("LD_PRELOAD", preload).env("LICHEN_SOCKET_BROKER", place);
    if !ports.is_empty() {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        command.env("LICHEN_SOCKET_PORTS", ports.join(","));
    }
    Ok(())
}

/// Serves from a thread of its own, for as long as this process lives and has the lock.
fn broker(lock: File, place: &Path) -> anyhow::Result<thread::JoinHandle<io::Result<()>>> {
    // Of one that has ended: whoever has the lock is the only one.
    let _ = fs::remove_file(place);
    let mut broker =
        Broker::bind(place, Bounds::default()).with_context(|| format!("cannot listen at {}", place.display()))?;
    let (stop, end) = io::pipe()?;
    Ok(thread::spawn(move || {
        let served = broker.run(stop.as_fd());
        drop((lock, end));
        served
    }))
}

/// Beside this program, or where packages put libraries.
fn library() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = program.parent().context("this program is in no folder")?;
    let candidates = [beside.to_owned(), beside.join("../lib/lichen"), PathBuf::from("/usr/lib/lichen")];
    let found = candidates.iter().map(|folder| folder.join(LIBRARY)).find(|file| file.exists());
    found.with_context(|| {
        format!("{LIBRARY} is neither beside this program nor in lib/lichen: build or install all of Lichen")
    })
}

/// This user's folder for such things, which nobody else may enter.
#[expect(clippy::disallowed_methods, reason = "where a user has no folder of its own; checked to be nobody else's")]
fn folder() -> anyhow::Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let folder = match std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => PathBuf::from(folder).join("lichen-socket"),
        None => std::env::temp_dir().join(format!("lichen-socket-{user}")),
    };
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", folder.display()));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(&folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(wrong(format!("{} is not this user's alone: remove it", folder.display())));
    }
    Ok(folder)
}
