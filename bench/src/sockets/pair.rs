//! Two processes that talk, and the broker of those that do so through memory.

use super::How;
use super::peer::{CALL, SERVE};
use crate::Plan;
use crate::error::{BenchError, io};
use crate::scratch::Scratch;
use net::broker::{Bounds, Sharing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{BufRead, BufReader, ErrorKind, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

const LIBRARY: &str = "liblichen_socket.so";

/// A broker in this process, until this is dropped.
pub struct Broker {
    library: PathBuf,
    pub folder: Scratch,
    stop: Option<PipeWriter>,
    serving: Option<JoinHandle<()>>,
}

impl Broker {
    pub fn start(program: &Path) -> Result<Self, BenchError> {
        Self::sharing(program, Sharing::Pair)
    }

    /// One by which these have a memory together.
    pub fn sharing(program: &Path, sharing: Sharing) -> Result<Self, BenchError> {
        Self::with(program, Bounds { sharing, ..Bounds::default() }, |broker| broker)
    }

    /// One for programs of any user, in the halves of the networks that are remembered in `networks`.
    pub fn of_all(program: &Path, networks: &Path) -> Result<Self, BenchError> {
        let broker = Self::with(program, Bounds::default(), |broker| broker.over(networks))?;
        for (path, mode) in [(broker.folder.path().to_owned(), 0o755), (broker.folder.path().join("broker"), 0o777)] {
            let opened = std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
            opened.map_err(io("the broker of sockets could not be opened to others"))?;
        }
        Ok(broker)
    }

    fn with(
        program: &Path,
        bounds: Bounds,
        ways: impl FnOnce(net::broker::Broker) -> net::broker::Broker,
    ) -> Result<Self, BenchError> {
        let folder = Scratch::new()?;
        let library = program.parent().unwrap_or(Path::new(".")).join(LIBRARY);
        if !library.exists() {
            return Err(BenchError::Broken(format!("{} is not there: build all of Lichen", library.display())));
        }
        let broker = net::broker::Broker::bind(&folder.path().join("broker"), bounds);
        let mut broker = ways(broker.map_err(io("the broker of sockets cannot listen"))?);
        let (stopped, stop) = std::io::pipe().map_err(io("a pipe could not be made"))?;
        let serving = std::thread::spawn(move || {
            // Who waits for it finds out that it is gone.
            let _ = broker.run(stopped.as_fd());
        });
        Ok(Self { library, folder, stop: Some(stop), serving: Some(serving) })
    }
}

impl Broker {
    /// Has a program have the library, where it is to.
    pub fn dress(&self, command: &mut Command, how: How) {
        if how.library {
            command.env("LD_PRELOAD", &self.library);
            command.env("LICHEN_SOCKET_BROKER", self.folder.path().join("broker"));
        }
        if let Some(look) = how.look {
            command.env("LICHEN_SOCKET_LOOK_US", look.to_string());
        }
        if let Some(after) = how.after {
            command.env("LICHEN_SOCKET_AFTER", after.to_string());
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.serving.take().map(JoinHandle::join);
    }
}

/// How long a caller may say nothing.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// A process that does what its input says, and tells how long that took ([`super::orders`]).
pub struct Orders {
    orders: ChildStdin,
    results: BufReader<ChildStdout>,
}

/// Programs that end with this, and with the bench.
pub struct Programs(Vec<Child>);

impl Programs {
    fn start(&mut self, mut command: Command) -> Result<&mut Child, BenchError> {
        let program = command.get_program().into();
        os::child::end_with_parent(&mut command);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let child = child.map_err(|source| BenchError::Program { program, source })?;
        Ok(self.0.push_mut(child))
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        for process in &mut self.0 {
            // One that has ended by itself is fine.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// One who serves and one who calls.
pub struct Pair {
    pub name: String,
    processes: Programs,
    orders: Orders,
}

impl Pair {
    pub fn start(
        plan: &Plan<'_>,
        broker: &Broker,
        relay: Option<&os::bpf::Relay>,
        how: How,
        (seats, processors): (&str, [usize; 2]),
    ) -> Result<Self, BenchError> {
        let program = |role: &str, address: &str, processor: usize| {
            let mut command = Command::new(&plan.program);
            command.args(["bench-peer", role, address, &processor.to_string()]);
            broker.dress(&mut command, how);
            if let Some(relay) = relay.filter(|_| how.medium == super::JOINED) {
                let relay = relay.as_fd().try_clone_to_owned().map_err(io("sockets cannot be joined"))?;
                os::child::hand_over(&mut command, vec![relay]);
            }
            Ok::<_, BenchError>(command)
        };
        let mut processes = Programs(Vec::new());
        let place = format!("{}:{}", how.medium, broker.folder.path().display());
        let server = processes.start(program(SERVE, &place, processors[0])?)?;
        let mut address = String::new();
        let silent = || io("a program that serves has not said where");
        if let Some(output) = server.stdout.take() {
            BufReader::new(output).read_line(&mut address).map_err(silent())?;
        }
        let caller = program(CALL, &format!("{}:{}", how.medium, address.trim()), processors[1])?;
        let orders = Orders::of(processes.start(caller)?)?;
        Ok(Self { name: format!("{}, {seats}", how.name), processes, orders })
    }

    /// The server's process and the caller's.
    pub fn processes(&self) -> &[Child] {
        &self.processes.0
    }

    /// Has the caller do something: the nanoseconds that it tells.
    pub fn call(&mut self, order: &str) -> Result<Vec<u64>, BenchError> {
        self.orders.call(&format!("the program over {}", self.name), order)
    }
}

impl Orders {
    /// Of a process whose input and output are pipes.
    pub fn of(process: &mut Child) -> Result<Self, BenchError> {
        match (process.stdin.take(), process.stdout.take()) {
            (Some(orders), Some(results)) => Ok(Self { orders, results: BufReader::new(results) }),
            _ => Err(BenchError::Broken("a program that was started has no pipes".into())),
        }
    }

    /// Has it do something: the nanoseconds that it tells. [`PATIENCE`] is how long it may take.
    pub fn call(&mut self, who: &str, order: &str) -> Result<Vec<u64>, BenchError> {
        let mut call = || {
            writeln!(self.orders, "{order}")?;
            let told = poll(&mut [PollFd::new(self.results.get_ref(), PollFlags::IN)], Some(&PATIENCE))?;
            if told == 0 {
                return Err(ErrorKind::TimedOut.into());
            }
            let mut word = [0; 8];
            self.results.read_exact(&mut word)?;
            let mut samples = Vec::new();
            for _ in 0..u64::from_le_bytes(word) {
                self.results.read_exact(&mut word)?;
                samples.push(u64::from_le_bytes(word));
            }
            Ok(samples)
        };
        let result: std::io::Result<_> = call();
        result.map_err(|source| BenchError::Silent { who: who.to_owned(), source })
    }
}
