//! Code made ready, as it lies on disk.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;

/// How a pure function is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// WebAssembly, compiled ahead of time.
    Wasm,
    /// A static ELF in an empty process.
    Process,
    /// A static ELF in a virtual machine without an operating system.
    Kvm,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wasm => "wasm",
            Self::Process => "process",
            Self::Kvm => "kvm",
        })
    }
}

/// A file that `compile` of the engine's kind has made. It is mapped, and must not be changed while it is.
#[derive(Debug)]
pub struct Artefact {
    pub kind: Kind,
    pub file: File,
}
