//! A node with three PUs, and FIFOs between two processes on them.

use super::wire::Wire;
use crate::error::BenchError;
use crate::node::{Joined, Node, Settings};
use std::io;
use std::path::Path;
use xpucall::id::{FifoId, PuId, Rights, XpuPid};
use xpucall::wire::{Program, Transport};
use xpucall::{Fifo, Limits, Process, Reader, Writer};

/// What the peer's command line calls a way through FIFOs of shims.
pub const XPU: &str = "xpu";

/// A node: its host, a unit of the namespace tier, and one that is behind a link over TCP.
pub struct Pus {
    // Leaves before its node ends.
    _remote: Joined,
    node: Node,
}

impl Pus {
    pub fn start(program: &Path) -> Result<Self, BenchError> {
        let path = std::env::var("PATH").unwrap_or_default();
        let node = Node::start(program, &Settings { pus: 1, remote: true, path, ..Settings::default() })?;
        Ok(Self { _remote: node.join()?, node })
    }

    /// Attaches this process to the host's shim.
    pub fn attach(&self, transport: Transport) -> Result<Process, BenchError> {
        Process::attach(&self.node.shim(), transport).map_err(|error| BenchError::Broken(error.to_string()))
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
    /// With a peer on that PU, on this processor; rings of so many bytes, 0 for the usual.
    pub fn with_peer(program: &Path, process: Process, pu: PuId, cpu: usize, ring: u64) -> Result<Self, BenchError> {
        let broken = |error: &dyn std::error::Error| BenchError::Broken(error.to_string());
        let up = Fifo::create(&process, Limits { ring, ..Limits::default() }).map_err(|error| broken(&error))?;
        let mut reader = up.reader().map_err(|error| broken(&error))?;
        let address = format!("{}:{}:{ring}", process.pid().0, up.id().0);
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

    /// The peer's side: the address is whose peer it is, the FIFO that leads there, and the size of rings.
    pub fn join(address: &str) -> io::Result<Self> {
        let (address, ring) = address.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let (process, parent, up) = parent(address)?;
        let ring = ring.parse().map_err(io::Error::other)?;
        let down = Fifo::create(&process, Limits { ring, ..Limits::default() }).map_err(io::Error::other)?;
        down.grant(parent, Rights::WRITE).map_err(io::Error::other)?;
        let mut reader = down.reader().map_err(io::Error::other)?;
        let mut writer = process.connect_writer(up).map_err(io::Error::other)?;
        writer.write(&down.id().0.to_le_bytes()).map_err(io::Error::other)?;
        reader.read().map_err(io::Error::other)?;
        Ok(Self { reader, writer, _up: down, _process: process })
    }
}

/// This process, as its shim has started it; whose peer it is, and the FIFO that leads there.
pub fn parent(address: &str) -> io::Result<(Process, XpuPid, FifoId)> {
    let numbers = address.split_once(':').and_then(|(pid, fifo)| Some((pid.parse().ok()?, fifo.parse().ok()?)));
    let (pid, fifo) = numbers.ok_or(io::ErrorKind::InvalidInput)?;
    let process = Process::inherited(Transport::Adaptive).map_err(io::Error::other)?;
    let process = process.ok_or_else(|| io::Error::other("no shim has started this process"))?;
    Ok((process, XpuPid(pid), FifoId(fifo)))
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
