//! `lichen run`: a node for one invocation. It lives in a temporary folder and on a free port, and is gone afterwards,
//! also when it is interrupted.

use super::deploy;
use super::invoke::tell;
use super::program::{self, Program};
use super::serve::plan;
use super::settings::Settings;
use crate::node::{explain, payload};
use crate::supervisor::folder::{self, DataFolder};
use crate::supervisor::{Cause, Notice, Supervisor};
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use api::Client;
use clap::Args;
use daemon::pu::Pus;
use daemon::telemetry;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// The only invocation has ended when the node does, or nobody waits for it any more.
const DRAIN: Duration = Duration::ZERO;

#[derive(Debug, Args)]
pub struct Arguments {
    /// A folder, a zip, a .py, .js, .mjs or .cjs file; or a .wasm file, which runs like a command, without -d
    path: PathBuf,
    /// The event: JSON, @FILE, or - for standard input
    #[arg(short, long, value_name = "JSON", allow_hyphen_values = true)]
    data: Option<String>,
    /// An argument of the .wasm program; any number of them
    #[arg(long = "arg", value_name = "A", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// A folder that the .wasm program has, copied in and back out; any number of them
    #[arg(long = "dir", value_parser = program::parse_folder, value_name = "HOST::GUEST")]
    folders: Vec<(PathBuf, String)>,
    #[command(flatten)]
    function: deploy::Settings,
    /// What to log of the node itself: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

pub fn act(arguments: Arguments) -> Verdict {
    let Arguments { path, data, arguments, folders, function, log_level } = arguments;
    if data.is_none() && program::is_program(&path) {
        let deploy::OfAProgram { environment, memory_mib, timeout_s } = function.of_a_program()?;
        return program::act(Program { path, arguments, environment, folders, memory_mib, timeout_s });
    }
    if !arguments.is_empty() || !folders.is_empty() {
        return Err(wrong("--arg and --dir are for programs: give a .wasm file, and no -d"));
    }
    let event = payload(data.as_deref())?;
    let temporary = folder::throw_away()?;
    let settings =
        Settings { data_dir: Some(temporary.path().to_owned()), log_level: Some(log_level), ..Settings::default() };
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let log = settings.config(None)?.log;
    telemetry::start(&log).map_err(|error| wrong(error.to_string()))?;
    let folder = DataFolder::take(temporary.path())?;
    let mut supervisor = Supervisor::new(plan(listen, &Pus::default(), folder, settings, DRAIN)?)?;
    let endpoint = supervisor.endpoint();
    let (stop, done) = std::io::pipe().context("cannot make a pipe")?;
    let (tell_ready, ready) = sync_channel(1);
    let client = std::thread::spawn(move || {
        let verdict = use_once(&path, function, &event, &endpoint, &ready);
        // The supervisor ends the node when this closes.
        drop(done);
        verdict
    });
    let cause = supervisor.run(Some(stop.as_fd()), |notice| {
        if let Notice::Ready = notice {
            // The thread may have ended without waiting for it.
            let _ = tell_ready.send(());
        }
    })?;
    if cause == Cause::Signal {
        // The thread may be waiting for something that will not come: it ends with the process.
        anyhow::bail!("interrupted");
    }
    client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Packs while the node starts, deploys, invokes.
fn use_once(
    path: &std::path::Path,
    function: deploy::Settings,
    event: &[u8],
    endpoint: &str,
    ready: &Receiver<()>,
) -> Verdict {
    let name = "run";
    let (package, manifest) = function.pack(path, name.to_owned(), deploy::How::Fleeting)?;
    if ready.recv().is_err() {
        // The supervisor says why.
        return Ok(Exit::PlatformFailed);
    }
    let client = Client::new(endpoint)?.with_patience(None);
    deploy::put(&client, &manifest, &package)?;
    let invoked = client.invoke(name, event, true).map_err(explain)?;
    tell(&invoked)
}
