//! The process at the other end: it echoes, or swallows, as each message's first byte says.

use super::many::{self, MANY};
use super::shims::{Fifos, Pus, XPU};
use super::wire::{Medium, Wire, join};
use crate::error::{BenchError, io};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use xpucall::Process;
use xpucall::id::PuId;
use xpucall::wire::{Program, Transport};

/// Send it back.
pub const ECHO: u8 = b'e';
/// Keep it.
pub const SWALLOW: u8 = b's';
/// Answer with one byte: all before it has been read.
pub const COUNT: u8 = b'c';

/// A peer of something that Linux has.
pub enum Peer {
    /// Ends when this is dropped.
    Child(Child),
    /// Started by the host's shim, as the peers of FIFOs are; ends with its node.
    Spawned { _starter: Process },
}

impl Peer {
    /// Starts one that joins a way of `medium` at `address`, on this processor.
    pub fn start(program: &Path, medium: Medium, address: &str, cpu: usize) -> Result<Self, BenchError> {
        let mut command = Command::new(program);
        command.args(["bench-peer", medium.word(), address, &cpu.to_string()]).stdin(Stdio::null());
        let child = command.spawn().map_err(|source| BenchError::Program { program: program.to_owned(), source })?;
        Ok(Self::Child(child))
    }

    /// The same, started by the host's shim.
    pub fn spawn(program: &Path, pus: &Pus, medium: Medium, address: &str, cpu: usize) -> Result<Self, BenchError> {
        let starter = pus.attach(Transport::Adaptive)?;
        let program = Program {
            path: program.display().to_string(),
            arguments: ["lichen", "bench-peer", medium.word(), address, &cpu.to_string()].map(str::to_owned).into(),
            environment: Vec::new(),
            capabilities: Vec::new(),
        };
        starter.spawn(PuId(0), program).map_err(|error| BenchError::Broken(error.to_string()))?;
        Ok(Self::Spawned { _starter: starter })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let Self::Child(child) = self else { return };
        // One that has ended by itself is fine.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// What the peer's process does until its other end is gone.
pub fn run(medium: &str, address: &str, cpu: usize) -> Result<(), BenchError> {
    stay_on(cpu).map_err(io("the processor that was asked for cannot be had"))?;
    if medium == MANY {
        return many::open(address).map_err(io("many FIFOs could not be opened"));
    }
    let joined = match Medium::of(medium) {
        Some(medium) => join(medium, address),
        None if medium == XPU => Fifos::join(address).map(|fifos| Box::new(fifos) as Box<dyn Wire>),
        None => return Err(BenchError::Broken(format!("there is no way called {medium}"))),
    };
    let mut wire = joined.map_err(io("the way to the measuring process cannot be joined"))?;
    match serve(&mut *wire) {
        Err(error) if !is_end(&error) => Err(io("the way to the measuring process broke")(error)),
        _ => Ok(()),
    }
}

fn serve(wire: &mut dyn Wire) -> io::Result<()> {
    let mut message = Vec::new();
    loop {
        wire.receive(&mut message)?;
        match message.first() {
            Some(&ECHO) => wire.send(&message)?,
            Some(&COUNT) => wire.send(&[COUNT])?,
            _ => {}
        }
    }
}

/// One that only looks at memory learns of an end by seeing nothing for long.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | TimedOut | UnexpectedEof)
}

/// Keeps this thread, and what it starts from now on, on one processor.
pub fn stay_on(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
