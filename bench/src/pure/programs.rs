//! The program that is measured, as it was made for each engine, and its requests: M·Mᵀ of 64-bit integers, which
//! `make guest` compiles from one source.

use crate::error::{BenchError, io};
use crate::http::Request;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Where `make guest` puts programs; another folder by `LICHEN_GUEST`.
const GUEST: &str = ".build/guest";

/// An engine's name, and the program for it.
#[derive(Clone, Debug)]
pub struct Program {
    pub engine: &'static str,
    /// What `lichen deploy` is told of it.
    pub options: &'static [&'static str],
    pub file: PathBuf,
}

/// Where a program is, if it was made.
pub fn guest(name: &str) -> PathBuf {
    std::env::var_os("LICHEN_GUEST").map_or_else(|| PathBuf::from(GUEST), PathBuf::from).join(name)
}

/// Those that are here; a note for each of the others.
pub fn find(notes: &mut Vec<String>) -> Vec<Program> {
    let mut all = Vec::new();
    let known =
        [("wasm", &["--runtime", "wasm"][..], "matmul.wasm"), ("process", &["--runtime", "native"], "matmul.elf")];
    for (engine, options, name) in known {
        let file = guest(name);
        if file.is_file() {
            all.push(Program { engine, options, file });
        } else {
            notes.push(format!(
                "{engine} is left out: {} is not here; make guest, or LICHEN_GUEST=FOLDER",
                file.display()
            ));
        }
    }
    all
}

/// The same program for machines without an operating system, which a node may refuse to make.
pub fn for_kvm() -> Option<Program> {
    let file = guest("matmul.elf");
    let options = &["--runtime", "native", "--engine", "kvm"];
    file.is_file().then_some(Program { engine: "kvm", options, file })
}

/// A matrix as the program reads it.
pub fn matrix(n: u64) -> Vec<u8> {
    let numbers = (0..n * n).map(|i| i.wrapping_mul(2_654_435_761) % 1000);
    std::iter::once(n).chain(numbers).flat_map(u64::to_le_bytes).collect()
}

/// What is asked of a function of a node, or of a bare server.
pub fn request(to: SocketAddr, path: &str, n: u64) -> Request {
    Request::new(to, "POST", path, &[("Content-Type", "application/octet-stream")], &matrix(n))
}

/// The program's own source in a loop, compiled as the static program is.
pub struct Floor {
    folder: TempDir,
}

/// What a loop has told.
#[derive(Debug, Default)]
pub struct Loops {
    pub microseconds: Vec<f64>,
    /// Of all processes together.
    pub per_second: f64,
}

impl Floor {
    /// Fails where there is no C compiler.
    pub fn compile() -> Result<Self, BenchError> {
        let folder = TempDir::with_prefix("lichen-bench-").map_err(io("a temporary folder could not be made"))?;
        let files = [
            ("loop.c", include_str!("../../programs/loop.c")),
            ("matmul.c", include_str!("../../../guest/examples/matmul.c")),
            ("lichen.h", include_str!("../../../guest/c/lichen.h")),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).map_err(io("a program's source could not be written"))?;
        }
        let mut cc = Command::new("cc");
        cc.args(["-O3", "-march=x86-64-v3", "-o", "loop", "loop.c"]).current_dir(folder.path()).stdin(Stdio::null());
        let done = cc.output().map_err(|source| BenchError::Program { program: "cc".into(), source })?;
        match done.status.success() {
            true => Ok(Self { folder }),
            false => Err(BenchError::Broken(format!("cc refuses: {}", String::from_utf8_lossy(&done.stderr)))),
        }
    }

    /// Runs so many at once, for some seconds.
    pub fn run(&self, n: u64, processes: usize, seconds: u64) -> Result<Loops, BenchError> {
        let program = self.folder.path().join("loop");
        Loops::of(&program, &[n.to_string(), seconds.to_string()], processes, seconds)
    }
}

impl Loops {
    /// What so many processes tell that loop for some seconds: each how many runs there were, and the nanoseconds of some.
    pub fn of(program: &Path, arguments: &[String], processes: usize, seconds: u64) -> Result<Self, BenchError> {
        let children = (0..processes).map(|_| start(program, arguments)).collect::<Result<Vec<_>, _>>()?;
        let mut loops = Self::default();
        for child in children {
            let done = child.wait_with_output().map_err(io("a loop could not be heard"))?;
            let text = String::from_utf8_lossy(&done.stdout);
            let mut numbers = text.lines().filter_map(|line| line.parse::<f64>().ok());
            let runs = numbers.next().ok_or_else(|| BenchError::Broken("a loop has failed".into()))?;
            loops.per_second += runs / seconds as f64;
            loops.microseconds.extend(numbers.map(|nanoseconds| nanoseconds / 1000.0));
        }
        Ok(loops)
    }
}

fn start(program: &Path, arguments: &[String]) -> Result<Child, BenchError> {
    let mut run = Command::new(program);
    run.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    os::child::end_with_parent(&mut run);
    run.spawn().map_err(|source| BenchError::Program { program: program.to_owned(), source })
}
