//! `lichen socket run -- CMD`: a program with `liblichen_socket.so` before its libc.
//!
//! In a network that this user is declared to be one of (`lichen net join --user`), its broker is that of all of them ([`doors`]).
//! Elsewhere, where no node of this user's has a broker, the first that runs is one too, for as long as it lives ([`crate::broker`]). Whether
//! bytes go through memory is not decided here.

mod passing;

use super::settings::Settings;
use crate::broker::{self, Ways};
use crate::print::{self, Format, Output, Table};
use crate::verdict::{Exit, Verdict, wrong};
use anyhow::Context;
use api::node::{Connection, ConnectionEnd, Sockets};
use clap::{Args, Subcommand};
use net::broker::doors;
use std::cmp::Reverse;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a network's broker, which may have just begun, is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Exit codes of those who run other programs (`env`, `timeout`): there is none of that name; it is there and cannot be run.
const MISSING: u8 = 127;
const UNFIT: u8 = 126;

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
    /// List connections of programs that run so, and where their bytes go
    Ls(Ls),
}

#[derive(Debug, Args)]
struct Ls {
    #[command(flatten)]
    output: Output,
    /// The folder of the sockets by which networks' users share memory
    #[arg(long, default_value = doors::FOLDER, value_name = "DIR")]
    users: PathBuf,
}

#[derive(Debug, Args)]
struct Run {
    /// Only connections with this port at one end; may be given several times
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    /// A configuration file (lichen.toml), whose [socket] says which programs and ports may
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the sockets by which networks' users share memory
    #[arg(long, default_value = doors::FOLDER, value_name = "DIR")]
    users: PathBuf,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub fn act(arguments: Arguments) -> Verdict {
    match arguments.what {
        What::Run(run) => start(run),
        What::Ls(Ls { output, users }) => list(output, &users),
    }
}

fn list(output: Output, users: &Path) -> Verdict {
    let mut places = vec![broker::place()?];
    places.extend(doors::all(users, rustix::process::geteuid().as_raw()));
    let sockets = net::broker::ask_all(&places).context("the broker does not answer")?;
    match output.format {
        Format::Json => print::json(&serde_json::to_value(&sockets)?)?,
        Format::Table => print::bytes(render(&sockets, usize::MAX).as_bytes())?,
    }
    Ok(Exit::Done)
}

/// A line for each connection, `most` of them: those first that have taken most.
pub fn render(sockets: &Sockets, most: usize) -> String {
    let mut table = Table::new(&["ONE END", "", "OTHER END", "", "TIER", "SENDS", "RECORDS"]);
    let mut connections: Vec<&Connection> = sockets.connections.iter().collect();
    connections.sort_by_key(|connection| (Reverse(connection.record_bytes), &connection.ends[0].address));
    for connection in connections.iter().take(most) {
        let [one, other] = &connection.ends;
        let sends =
            if one.sends == other.sends { one.sends.clone() } else { format!("{}, {}", one.sends, other.sends) };
        let records = format!("{} KiB", connection.record_bytes / 1024);
        table.row([
            one.address.clone(),
            who(one),
            other.address.clone(),
            who(other),
            connection.tier.clone(),
            sends,
            records,
        ]);
    }
    let left = connections.len().saturating_sub(most);
    let more = if left > 0 { format!("and {left} more: lichen socket ls\n") } else { String::new() };
    table.render() + &more
}

/// The program at an end.
fn who(end: &ConnectionEnd) -> String {
    match (&end.program, end.process) {
        (Some(program), Some(process)) => format!("{program} ({process})"),
        (None, Some(process)) => format!("({process})"),
        _ => "without the library".to_owned(),
    }
}

fn start(run: Run) -> Verdict {
    let [program, rest @ ..] = &run.command[..] else { return Err(wrong("name a program to run")) };
    let mut command = Command::new(program);
    command.args(rest);
    let allowed = Settings { config: run.config, ..Settings::default() }.config(None)?.socket;
    let ports = if run.ports.is_empty() { &allowed.ports } else { &run.ports };
    // Before the broker's thread begins, which is to leave them alone as well.
    let signals = passing::awaited(&mut command).context("cannot receive signals")?;
    if allowed.allows(Path::new(program)) {
        match declared(&run.users).map_or_else(|| broker::beside(Ways::of(&allowed)), Ok) {
            Ok(place) => hook(&mut command, ports, &place)?,
            Err(error) => eprintln!("lichen: {error:#}: connections stay on TCP"),
        }
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("lichen: {} cannot be run: {error}: name a program, and its arguments", program.display());
            return Ok(Exit::Program(if error.kind() == ErrorKind::NotFound { MISSING } else { UNFIT }));
        }
    };
    let status = passing::on(child, &signals).context("cannot wait for the program")?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Exit::Program(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Where the broker of this network listens for this user, if root has declared the user to be one of the network's; it is waited for.
fn declared(users: &Path) -> Option<PathBuf> {
    let any = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    let namespace = os::netlink::namespace_of(any).ok()?;
    let door = doors::declared(users, namespace, rustix::process::geteuid().as_raw())?;
    if let Err(error) = doors::await_open(&door, PATIENCE) {
        eprintln!(
            "lichen: the broker of this network's users does not answer at {}: {error}: connections stay on TCP until \
             `lichen net serve` has one again",
            door.display()
        );
    }
    Some(door)
}

/// Has a program find the library, and the library a broker.
fn hook(command: &mut Command, ports: &[u16], place: &Path) -> anyhow::Result<()> {
    let library = library()?;
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
