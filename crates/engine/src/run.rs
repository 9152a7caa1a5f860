//! What a run is given, and what comes of it.

use crate::{Blob, RunError, Stop};
use sets::{Set, Sets};
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// One run of a pure function.
///
/// A guest sees an item as the file `/in/SET/ITEM`, with `@KEY` after its name where the key is not 0. What an item's
/// name writes as `%2F` is a folder there, and `%25` is a `%`: whole trees can be handed over as one set.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub inputs: &'a [Set<Blob>],
    /// The sets that the function says it leaves. Their folders exist; each is among the outputs, if need be empty.
    /// None: whatever it leaves.
    pub outputs: &'a [String],
    /// Input sets that the guest sees elsewhere, and may change.
    pub folders: &'a [Folder],
    /// The program's name first, as everywhere.
    pub arguments: &'a [String],
    pub environment: &'a [(String, String)],
    pub stdin: Option<&'a Blob>,
    /// Of a program that a person runs: instead of `stdin`, and of text that is kept. WebAssembly only.
    pub streams: Option<Streams<'a>>,
    pub limits: Limits,
    pub deadline: Instant,
    pub stop: &'a Stop,
    /// Clocks stand still and randomness is always the same: equal inputs give equal outputs.
    pub deterministic: bool,
}

/// Standard input, output and errors, which a program reads and writes while it runs.
#[derive(Debug, Clone, Copy)]
pub struct Streams<'a> {
    pub descriptors: [BorrowedFd<'a>; 3],
    pub terminals: [bool; 3],
}

/// A folder of a program that knows nothing of sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The input set that lies there at first, if there is one of this name; the output set that is left.
    pub set: String,
    /// Where the guest sees it, and as what it finds it open.
    pub path: String,
}

/// How much a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory, the program's own data and stack counted.
    pub memory: u64,
    /// Bytes of all files that it makes, and so of its outputs.
    pub output_bytes: u64,
    /// Files and folders that it makes, and so items.
    pub output_items: usize,
    /// Bytes that are kept of each of stdout and stderr; the rest is dropped, and a line says so.
    pub text_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 128 << 20, output_bytes: 64 << 20, output_items: 65_536, text_bytes: 256 << 10 }
    }
}

/// What came of a run. Text is there whether it went well or not.
#[derive(Debug)]
pub struct Finished {
    pub outcome: Result<Sets<Blob>, RunError>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Bytes of memory at the most.
    pub memory_peak: u64,
}

impl Finished {
    /// A run that did not get as far as to print anything.
    pub fn failed(error: RunError) -> Self {
        Self { outcome: Err(error), stdout: Vec::new(), stderr: Vec::new(), memory_peak: 0 }
    }
}
