//! All engines that this machine may have: the one place where each is named.

use crate::held::{Shelf, Window};
use crate::wasm::{self, Wasm};
use crate::{Arena, CompileError, Engine, Kind, SelfTestError};
use std::io;
use std::os::fd::OwnedFd;

/// Bytes of outputs and inputs that an engine process holds at the same time.
const ARENA: u64 = 256 << 20;
/// Those of them that stay between the runs of flows.
const HELD: u64 = ARENA / 2;

/// An engine, or why there is none.
pub type Made = Result<Box<dyn Engine>, SelfTestError>;

/// Which engines a process has. Who breaks out of one has what its process has: no other one has a device.
#[derive(Debug)]
pub enum Crew {
    /// WebAssembly, and native programs in empty processes.
    Usual,
    /// Native programs in virtual machines, made by this device.
    Machines {
        device: io::Result<OwnedFd>,
        /// The longest that an empty run may take in the self-test.
        limit_us: u64,
    },
}

/// What has to be made before the process is confined: it looks at files.
pub struct Prepared {
    arena: io::Result<Arena>,
    /// What it will hold, and what other engines see it by.
    pub shelf: Option<(Shelf, Option<Window>)>,
    crew: PreparedCrew,
}

enum PreparedCrew {
    Usual(Box<Result<Wasm, SelfTestError>>),
    Machines { device: io::Result<OwnedFd>, limit_us: u64 },
}

fn lacks(error: &io::Error) -> SelfTestError {
    SelfTestError::Lacks(format!("memory for the functions' outputs: {error}"))
}

/// The device that makes virtual machines, for whoever may open it.
pub fn device() -> io::Result<OwnedFd> {
    let device = std::fs::File::options().read(true).write(true).open("/dev/kvm")?;
    Ok(device.into())
}

/// Makes it, in the process that will be the engines'.
pub fn prepare(crew: Crew) -> Prepared {
    let arena = Arena::new(ARENA);
    let shelf = arena.as_ref().ok().and_then(|arena| Shelf::new(arena.clone(), HELD).ok());
    let crew = match crew {
        Crew::Usual => {
            PreparedCrew::Usual(Box::new(arena.as_ref().map_err(lacks).and_then(|arena| Wasm::new(arena.clone()))))
        }
        Crew::Machines { device, limit_us } => PreparedCrew::Machines { device, limit_us },
    };
    Prepared { arena, shelf, crew }
}

impl Prepared {
    /// That of WebAssembly alone.
    pub fn wasm(self) -> Made {
        match self.crew {
            PreparedCrew::Usual(wasm) => (*wasm).map(|wasm| Box::new(wasm) as Box<dyn Engine>),
            PreparedCrew::Machines { .. } => {
                Err(SelfTestError::Lacks("WebAssembly: this process was made for others".into()))
            }
        }
    }

    /// Its engines, not tested yet, or why there is none. To be called on the thread that will run them, once the
    /// process is confined.
    pub fn engines(self) -> Vec<(Kind, Made)> {
        let arena = self.arena.as_ref().map_err(lacks);
        match self.crew {
            PreparedCrew::Usual(wasm) => vec![
                (Kind::Wasm, (*wasm).map(|wasm| Box::new(wasm) as Box<dyn Engine>)),
                (Kind::Process, arena.and_then(process)),
            ],
            PreparedCrew::Machines { device, limit_us } => {
                vec![(Kind::Kvm, arena.and_then(|arena| kvm(arena, device, limit_us)))]
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn process(arena: &Arena) -> Made {
    let lacks = |error: io::Error| SelfTestError::Lacks(format!("processes for native functions: {error}"));
    Ok(Box::new(crate::process::Process::new(arena.clone()).map_err(lacks)?))
}

#[cfg(target_arch = "x86_64")]
fn kvm(arena: &Arena, device: io::Result<OwnedFd>, limit_us: u64) -> Made {
    let lacks = |error: io::Error| SelfTestError::Lacks(format!("virtual machines (/dev/kvm): {error}"));
    let engine = device.and_then(|device| crate::kvm::Kvm::new(arena.clone(), device, limit_us));
    Ok(Box::new(engine.map_err(lacks)?))
}

#[cfg(not(target_arch = "x86_64"))]
fn process(_: &Arena) -> Made {
    Err(SelfTestError::Lacks("the processor for which native functions are made: they are x86-64 programs".into()))
}

#[cfg(not(target_arch = "x86_64"))]
fn kvm(arena: &Arena, _: io::Result<OwnedFd>, _: u64) -> Made {
    process(arena)
}

/// Makes code ready for engines of this kind on this machine: what `Engine::load` takes as its artefact's file. Takes as
/// long and as much memory as the code wants: for a process of its own.
pub fn compile(kind: Kind, code: &[u8]) -> Result<Vec<u8>, CompileError> {
    match kind {
        Kind::Wasm => wasm::compile(code),
        #[cfg(target_arch = "x86_64")]
        Kind::Process | Kind::Kvm => crate::native::elf::compile(code),
        #[cfg(not(target_arch = "x86_64"))]
        Kind::Process | Kind::Kvm => {
            let found = code.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
            Err(CompileError::NotThis { expected: "a program for this machine", found })
        }
    }
}
