//! All engines that this machine may have: the one place where each is named.

use crate::{Arena, CompileError, Engine, Kind, SelfTestError};

/// Bytes of outputs and inputs that an engine process holds at the same time.
const ARENA: u64 = 256 << 20;

/// One of each kind, not tested yet, or why there is none. To be called on the thread that will run them, in a process
/// that is confined.
pub fn all() -> Vec<Result<Box<dyn Engine>, SelfTestError>> {
    vec![process()]
}

#[cfg(target_arch = "x86_64")]
fn process() -> Result<Box<dyn Engine>, SelfTestError> {
    let lacks = |error: std::io::Error| SelfTestError::Lacks(format!("what native functions need: {error}"));
    let arena = Arena::new(ARENA).map_err(lacks)?;
    Ok(Box::new(crate::process::Process::new(arena).map_err(lacks)?))
}

#[cfg(not(target_arch = "x86_64"))]
fn process() -> Result<Box<dyn Engine>, SelfTestError> {
    Err(SelfTestError::Lacks("a processor for which native functions are made: they are x86-64 programs".into()))
}

/// Makes code ready for engines of this kind on this machine: what `Engine::load` takes as its artefact's file. Takes as
/// long and as much memory as the code wants: for a process of its own.
pub fn compile(kind: Kind, code: &[u8]) -> Result<Vec<u8>, CompileError> {
    let found = || code.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    match kind {
        Kind::Wasm => Err(CompileError::NotThis { expected: "a WebAssembly program", found: found() }),
        #[cfg(target_arch = "x86_64")]
        Kind::Process | Kind::Kvm => crate::native::elf::compile(code),
        #[cfg(not(target_arch = "x86_64"))]
        Kind::Process | Kind::Kvm => {
            Err(CompileError::NotThis { expected: "a program for this machine", found: found() })
        }
    }
}
