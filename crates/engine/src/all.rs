//! All engines that this machine may have: the one place where each is named.

use crate::held::{Shelf, Window};
use crate::wasm::{self, Wasm};
use crate::{Arena, CompileError, Engine, Kind, SelfTestError};
use std::io;

/// Bytes of outputs and inputs that an engine process holds at the same time.
const ARENA: u64 = 256 << 20;
/// Those of them that stay between the runs of flows.
const HELD: u64 = ARENA / 2;

/// An engine, or why there is none.
pub type Made = Result<Box<dyn Engine>, SelfTestError>;

/// What has to be made before the process is confined: it looks at files.
pub struct Prepared {
    arena: io::Result<Arena>,
    /// What it will hold, and what other engines see it by.
    pub shelf: Option<(Shelf, Option<Window>)>,
    wasm: Result<Wasm, SelfTestError>,
}

fn lacks(error: &io::Error) -> SelfTestError {
    SelfTestError::Lacks(format!("memory for the functions' outputs: {error}"))
}

/// Makes it, in the process that will be the engine's.
pub fn prepare() -> Prepared {
    let arena = Arena::new(ARENA);
    let wasm = arena.as_ref().map_err(lacks).and_then(|arena| Wasm::new(arena.clone()));
    let shelf = arena.as_ref().ok().and_then(|arena| Shelf::new(arena.clone(), HELD).ok());
    Prepared { arena, shelf, wasm }
}

impl Prepared {
    /// That of WebAssembly alone.
    pub fn wasm(self) -> Made {
        self.wasm.map(|wasm| Box::new(wasm) as Box<dyn Engine>)
    }

    /// One of each kind, not tested yet, or why there is none. To be called on the thread that will run them, once the
    /// process is confined.
    pub fn engines(self) -> Vec<Made> {
        let native = self.arena.as_ref().map_err(lacks).and_then(native);
        vec![self.wasm.map(|wasm| Box::new(wasm) as Box<dyn Engine>), native]
    }
}

#[cfg(target_arch = "x86_64")]
fn native(arena: &Arena) -> Made {
    let lacks = |error: io::Error| SelfTestError::Lacks(format!("processes for native functions: {error}"));
    Ok(Box::new(crate::process::Process::new(arena.clone()).map_err(lacks)?))
}

#[cfg(not(target_arch = "x86_64"))]
fn native(_: &Arena) -> Made {
    Err(SelfTestError::Lacks("the processor for which native functions are made: they are x86-64 programs".into()))
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
