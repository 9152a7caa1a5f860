//! The functions that are measured, as folders to deploy. They travel inside this program, so that a bench needs no
//! checkout of the repository.

use crate::baseline::Language;
use crate::error::{BenchError, io};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A function and its files.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    pub name: &'static str,
    pub language: Language,
    pub files: &'static [(&'static str, &'static str)],
}

/// Answers `"hello"`.
pub const HELLO_PYTHON: Function = Function {
    name: "hello-python",
    language: Language::Python,
    files: &[("app.py", include_str!("../functions/hello-python/app.py"))],
};
/// The same in JavaScript.
pub const HELLO_NODE: Function = Function {
    name: "hello-node",
    language: Language::Node,
    files: &[("index.js", include_str!("../functions/hello-node/index.js"))],
};
/// Answers in parts, as many MiB as it is asked for.
pub const STREAM_NODE: Function = Function {
    name: "stream-node",
    language: Language::Node,
    files: &[("index.js", include_str!("../functions/stream-node/index.js"))],
};
/// Imports numpy and Pillow and uses neither: what is measured is what imports cost.
pub const IMAGING: Function = Function {
    name: "imaging",
    language: Language::Python,
    files: &[("app.py", include_str!("../functions/imaging/app.py"))],
};
/// Uses Pillow, and keeps its instance for as long as the event says.
pub const PILLOW: Function = Function {
    name: "pillow",
    language: Language::Python,
    files: &[("app.py", include_str!("../functions/pillow/app.py"))],
};
/// Keeps its instance for as long as the event says.
pub const HOLD: Function = Function {
    name: "hold",
    language: Language::Python,
    files: &[("app.py", include_str!("../functions/hold/app.py"))],
};

/// Notes when it ran, and hands its event on.
pub const HOP_NODE: Function = Function {
    name: "hop-node",
    language: Language::Node,
    files: &[("index.js", include_str!("../functions/hop-node/index.js"))],
};
/// The same in Python.
pub const HOP_PYTHON: Function = Function {
    name: "hop-python",
    language: Language::Python,
    files: &[("app.py", include_str!("../functions/hop-python/app.py"))],
};

/// An event for those that hold: until this time from now.
pub fn hold_for(time: Duration) -> Vec<u8> {
    let until = os::monotonic_ns() as f64 / 1e9 + time.as_secs_f64();
    format!("{{\"until\": {until:.3}}}").into_bytes()
}

/// Folders of functions, gone when dropped.
pub struct Shelf(TempDir);

impl Shelf {
    pub fn new() -> Result<Self, BenchError> {
        TempDir::with_prefix("lichen-bench-").map(Self).map_err(io("a temporary folder could not be made"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The function's folder, made where it is not there yet.
    pub fn put(&self, function: &Function) -> Result<PathBuf, BenchError> {
        let folder = self.0.path().join(function.name);
        fs::create_dir_all(&folder).map_err(io("a function's folder could not be made"))?;
        for (name, text) in function.files {
            fs::write(folder.join(name), text).map_err(io("a function's file could not be written"))?;
        }
        Ok(folder)
    }
}
