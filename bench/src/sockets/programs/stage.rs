//! Servers and callers, each way that they can talk in turns.

use crate::Plan;
use crate::error::{BenchError, io};
use crate::figure::{Arm, Unit};
use crate::sockets::group::Group;
use crate::sockets::pair::Broker;
use crate::sockets::{How, JOINED, OURS, SOCKMAP, TCP, how};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a caller may take: ten times what the longest takes.
const CALL_PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// A server, killed at the end.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a caller has found out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub rate: f64,
    /// The 99th percentile, in milliseconds.
    pub slow: f64,
    /// Answers that were errors, or did not come.
    pub failed: u64,
}

/// Something that callers do again and again, in each way.
struct Lane {
    what: String,
    how: How,
    rates: Vec<f64>,
    slow: Vec<f64>,
    failed: u64,
    /// Why there is no more of it.
    ended: Option<String>,
}

/// Where programs run, and what came of it.
pub struct Stage<'a> {
    plan: &'a Plan<'a>,
    broker: &'a Broker,
    group: Option<Group>,
    turns: usize,
    pub arms: Vec<Arm>,
    pub notes: Vec<String>,
}

impl<'a> Stage<'a> {
    pub fn new(plan: &'a Plan<'a>, broker: &'a Broker) -> Self {
        let group = Group::new();
        let notes = group.as_ref().err().map(|error| format!("No arm for sockmap: {error}.")).into_iter().collect();
        Self { plan, broker, group: group.ok(), turns: plan.samples(10).max(3), arms: Vec::new(), notes }
    }

    /// How programs can talk here: by the kernel, by sockets that it joins, through memory.
    pub fn ways(&self) -> Vec<How> {
        let sockmap = self.group.is_some().then_some(how(SOCKMAP, JOINED, false));
        [Some(TCP), sockmap, Some(OURS)].into_iter().flatten().collect()
    }

    fn command(&self, how: How, program: &Path) -> Command {
        let group = self.group.as_ref().filter(|_| how.medium == JOINED);
        let mut command = group.map_or_else(|| Command::new(program), |group| group.command(program));
        self.broker.dress(&mut command, how);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        os::child::end_with_parent(&mut command);
        command
    }

    /// Starts a server and waits until it listens at a port, which it is told.
    pub fn serve(&self, how: How, program: &Path, dress: impl FnOnce(&mut Command, u16)) -> Result<Server, BenchError> {
        let port = free_port()?;
        let mut command = self.command(how, program);
        dress(&mut command, port);
        let started = command.stdout(Stdio::null()).spawn();
        let started = started.map_err(|source| BenchError::Program { program: program.into(), source });
        let server = Server { child: started?, port };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until {
                return Err(BenchError::Broken(format!("{} does not listen", program.display())));
            }
            crate::pause(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// What a program says until its end. One that does not end is killed.
    pub fn ask(&self, how: How, program: &Path, arguments: &[&str]) -> Result<String, BenchError> {
        let mut command = self.command(how, program);
        let mut child = command
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| BenchError::Program { program: program.into(), source })?;
        let process = os::pidfd::open(child.id() as i32).map_err(io("a program cannot be waited for"))?;
        if poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&CALL_PATIENCE)) != Ok(1) {
            // It is waited for below in any case.
            let _ = child.kill();
            let _ = child.wait();
            return Err(BenchError::Broken(format!("{} did not end", program.display())));
        }
        let output = child.wait_with_output().map_err(io("what a program has said cannot be read"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Has callers do each kind of work in each way, in turns: arms for all of them. Where sockets that the kernel joins stop,
    /// that is said, and their arm ends.
    pub fn measure<W, S>(
        &mut self,
        works: &[(String, W)],
        servers: &[(How, S)],
        call: impl Fn(&Self, How, &W, &S) -> Result<Reading, BenchError>,
    ) -> Result<(), BenchError> {
        let mut lanes = Vec::new();
        for (what, _) in works {
            for (how, _) in servers {
                let what = format!("{what}, {}", how.name);
                lanes.push(Lane { what, how: *how, rates: vec![], slow: vec![], failed: 0, ended: None });
            }
        }
        for _ in 0..self.turns {
            let all = works.iter().flat_map(|(_, work)| servers.iter().map(move |(_, server)| (work, server)));
            for (lane, (work, server)) in lanes.iter_mut().zip(all).filter(|(lane, _)| lane.ended.is_none()) {
                match call(self, lane.how, work, server) {
                    Ok(reading) => lane.add(reading),
                    Err(error) if lane.how.medium == JOINED => {
                        (self.plan.tell)(&format!("{}: {error}", lane.what));
                        lane.ended = Some(error.to_string());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.arms.extend(lanes.iter().flat_map(Lane::arms));
        self.notes.extend(lanes.iter().filter_map(Lane::note));
        Ok(())
    }
}

impl Lane {
    fn add(&mut self, reading: Reading) {
        self.rates.push(reading.rate);
        self.slow.push(reading.slow);
        self.failed += reading.failed;
    }

    fn arms(&self) -> impl Iterator<Item = Arm> + use<> {
        let slow = Arm::of(format!("{}, 99th percentile", self.what), Unit::Milliseconds, &self.slow);
        [Arm::of(self.what.clone(), Unit::PerSecond, &self.rates), slow].into_iter().flatten()
    }

    fn note(&self) -> Option<String> {
        let turns = self.rates.len();
        match &self.ended {
            Some(why) => Some(format!("{}: left out after {turns} turns: {why}.", self.what)),
            None if self.failed > 0 => Some(format!("{}: {} answers were errors.", self.what, self.failed)),
            None => None,
        }
    }
}

/// A port that nobody has, and that nobody is given for a while.
pub fn free_port() -> Result<u16, BenchError> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(free.map_err(io("a port could not be had"))?.port())
}

pub fn installed(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}
