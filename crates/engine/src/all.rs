//! All engines that this machine may have: the one place where each is named.

use crate::{CompileError, Engine, Kind, SelfTestError};

/// One of each kind, not tested yet, or why there is none. To be called on the thread that will run them, in a process that is confined.
pub fn all() -> Vec<Result<Box<dyn Engine>, SelfTestError>> {
    Vec::new()
}

/// Makes code ready for engines of this kind on this machine: what `Engine::load` takes as its artefact's file. Takes as
/// long and as much memory as the code wants: for a process of its own.
pub fn compile(kind: Kind, code: &[u8]) -> Result<Vec<u8>, CompileError> {
    let found = code.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let expected = match kind {
        Kind::Wasm => "a WebAssembly program",
        Kind::Process | Kind::Kvm => "a static program",
    };
    Err(CompileError::NotThis { expected, found })
}
