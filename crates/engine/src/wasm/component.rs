//! Components: not taken yet.

use crate::CompileError;
use wasmtime::Engine;

pub fn check(_: &Engine, _: &[u8]) -> Result<(), CompileError> {
    let hint = "Build it for wasm32-wasip1";
    Err(CompileError::Unavailable { what: "the component model".into(), hint })
}
