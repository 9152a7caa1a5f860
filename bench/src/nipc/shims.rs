//! The shims of a computer with several PUs, as processes of their own, and FIFOs between two processes on them.

use super::wire::Wire;
use crate::error::{BenchError, io};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use shim::control::{Report, Supervisor};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use xpucall::id::{FifoId, PuId, Rights, XpuPid};
use xpucall::wire::{Program, Transport};
use xpucall::{Fifo, Limits, Process, Reader, Writer};

/// What the peer's command line calls a way through FIFOs of shims.
pub const XPU: &str = "xpu";

/// Shims that are linked in memory, the first of them the head.
pub struct Shims {
    folder: TempDir,
    running: Vec<(Supervisor, Child)>,
}

impl Shims {
    /// Starts so many, and waits until all of them serve.
    pub fn start(program: &Path, count: u8) -> Result<Self, BenchError> {
        let folder = TempDir::with_prefix("lichen-bench-").map_err(io("a temporary folder could not be made"))?;
        let mut shims = Self { folder, running: Vec::new() };
        for pu in (0..count).map(PuId) {
            let (supervisor, control) = Supervisor::pair().map_err(io("a socket to a shim could not be made"))?;
            let child = shims.launch(program, pu, control)?;
            let head = shims.running.first().map(|(head, _)| head);
            let linked = head.map_or(Ok(()), |head| head.link(&supervisor, PuId(0), pu));
            linked.map_err(io("two shims could not be linked"))?;
            let report = supervisor.hear().map_err(io("a shim does not report"))?;
            shims.running.push((supervisor, child));
            if !matches!(report, Some(Report::Serving { .. })) {
                return Err(BenchError::Broken(format!("the shim of PU {pu} does not serve: {report:?}")));
            }
        }
        Ok(shims)
    }

    fn launch(&self, program: &Path, pu: PuId, control: OwnedFd) -> Result<Child, BenchError> {
        let mut command = Command::new(program);
        command.args(["shim", "--pu", &pu.0.to_string(), "--log-level", "warn", "--data-dir"]).arg(self.folder.path());
        command.arg("--socket").arg(self.socket(pu)).arg("--memory").arg(self.folder.path().join("term"));
        os::child::hand_over(&mut command, vec![control]);
        os::child::end_with_parent(&mut command);
        let child = command.stdin(Stdio::null()).spawn();
        child.map_err(|source| BenchError::Program { program: program.to_owned(), source })
    }

    /// Keeps all of them on one processor.
    pub fn stay_on(&self, cpu: usize) -> io::Result<()> {
        let mut set = CpuSet::new();
        set.set(cpu);
        let pids = self.running.iter().filter_map(|(_, child)| Pid::from_raw(child.id() as i32));
        pids.into_iter().try_for_each(|pid| Ok(sched_setaffinity(Some(pid), &set)?))
    }

    fn socket(&self, pu: PuId) -> PathBuf {
        self.folder.path().join(format!("{pu}.sock"))
    }

    /// Attaches this process to the shim of PU 0.
    pub fn attach(&self, transport: Transport) -> Result<Process, BenchError> {
        Process::attach(&self.socket(PuId(0)), transport).map_err(|error| BenchError::Broken(error.to_string()))
    }
}

impl Drop for Shims {
    fn drop(&mut self) {
        for (supervisor, mut child) in self.running.drain(..).rev() {
            // A shim ends with its supervisor's socket.
            drop(supervisor);
            let _ = child.wait();
        }
    }
}

/// A FIFO each way between this process and a peer that a shim has started.
pub struct Fifos {
    reader: Reader,
    writer: Writer,
    _up: Fifo,
    _process: Process,
}

impl Fifos {
    /// With a peer on that PU, on this processor.
    pub fn with_peer(program: &Path, process: Process, pu: PuId, cpu: usize) -> Result<Self, BenchError> {
        let broken = |error: &dyn std::error::Error| BenchError::Broken(error.to_string());
        let up = Fifo::create(&process, Limits::default()).map_err(|error| broken(&error))?;
        let mut reader = up.reader().map_err(|error| broken(&error))?;
        let address = format!("{}:{}", process.pid().0, up.id().0);
        let arguments = ["lichen", "bench-peer", XPU, &address, &cpu.to_string()];
        let program = Program {
            path: program.display().to_string(),
            arguments: arguments.map(str::to_owned).into(),
            environment: Vec::new(),
            capabilities: vec![(up.id(), Rights::WRITE)],
        };
        process.spawn(pu, program).map_err(|error| broken(&error))?;
        let mut down = Vec::new();
        reader.read_into(&mut down, None).map_err(|error| broken(&error))?;
        let down = down.try_into().map(|bytes| FifoId(u64::from_le_bytes(bytes)));
        let down = down.map_err(|_| BenchError::Broken("the peer names no FIFO".into()))?;
        let mut writer = process.connect_writer(down).map_err(|error| broken(&error))?;
        writer.write(b"ready").map_err(|error| broken(&error))?;
        Ok(Self { reader, writer, _up: up, _process: process })
    }

    /// The peer's side: the address is whose peer it is, and the FIFO that leads there.
    pub fn join(address: &str) -> io::Result<Self> {
        let numbers = address.split_once(':').and_then(|(pid, fifo)| Some((pid.parse().ok()?, fifo.parse().ok()?)));
        let (parent, up) = numbers.ok_or(io::ErrorKind::InvalidInput)?;
        let (parent, up) = (XpuPid(parent), FifoId(up));
        let process = Process::inherited(Transport::Adaptive).map_err(io::Error::other)?;
        let process = process.ok_or_else(|| io::Error::other("no shim has started this process"))?;
        let down = Fifo::create(&process, Limits::default()).map_err(io::Error::other)?;
        down.grant(parent, Rights::WRITE).map_err(io::Error::other)?;
        let mut reader = down.reader().map_err(io::Error::other)?;
        let mut writer = process.connect_writer(up).map_err(io::Error::other)?;
        writer.write(&down.id().0.to_le_bytes()).map_err(io::Error::other)?;
        reader.read().map_err(io::Error::other)?;
        Ok(Self { reader, writer, _up: down, _process: process })
    }
}

impl Wire for Fifos {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.writer.write(message).map_err(io::Error::other)
    }

    fn receive(&mut self, message: &mut Vec<u8>) -> io::Result<()> {
        match self.reader.read_into(message, None) {
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::new(io::ErrorKind::BrokenPipe, error)),
        }
    }
}
