//! The program that the engine runs, in an instance of wasmtime that is there already: what the computation itself takes there.
//!
//! A loop in a process of its own, which is this program again: the module's exported product, of numbers that lie in its
//! memory. Compiled as engines' code is; nothing that a run needs besides is there.

use super::programs::{self, Loops};
use crate::error::{BenchError, io};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wasmtime::{Linker, Module, Store, TypedFunc};

/// What the command line calls it.
pub const LOOP: &str = "wasm-loop";
/// The export: numbers, where their product goes, rows.
const EXPORT: &str = "multiply";
const PAGE: usize = 64 << 10;
/// Times that are told of one loop.
const TOLD: usize = 10_000;

/// Who starts loops.
pub struct Bare<'a> {
    program: &'a Path,
    module: PathBuf,
}

impl<'a> Bare<'a> {
    /// Fails where the program is not here, or is an older one that exports no product.
    pub fn find(program: &'a Path) -> Result<Self, BenchError> {
        let module = programs::guest("matmul.wasm");
        Loaded::new(&module, 1)?;
        Ok(Self { program, module })
    }

    /// Runs so many at once, for some seconds.
    pub fn run(&self, n: u64, processes: usize, seconds: u64) -> Result<Loops, BenchError> {
        let what = format!("{n}:{seconds}:{}", self.module.display());
        Loops::of(self.program, &["bench-peer".into(), LOOP.into(), what, "0".into()], processes, seconds)
    }
}

/// An instance, and the numbers in its memory.
struct Loaded {
    store: Store<()>,
    multiply: TypedFunc<(i32, i32, i32), ()>,
    arguments: (i32, i32, i32),
}

fn broken(error: wasmtime::Error) -> BenchError {
    BenchError::Broken(format!("bare wasmtime: {error:#}"))
}

impl Loaded {
    fn new(module: &Path, n: u64) -> Result<Self, BenchError> {
        let engine = engine::wasm::settings::compiler().map_err(broken)?;
        let code = std::fs::read(module).map_err(io("the program for wasmtime could not be read"))?;
        let module = Module::new(&engine, code).map_err(broken)?;
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&module).map_err(broken)?;
        let mut store = Store::new(&engine, ());
        let instance = linker.instantiate(&mut store, &module).map_err(broken)?;
        let multiply = instance.get_typed_func(&mut store, EXPORT).map_err(broken)?;
        let memory = instance
            .get_memory(&mut store, "memory")
            .ok_or_else(|| BenchError::Broken("the program exports no memory".into()))?;
        let numbers = &programs::matrix(n)[8..];
        let pages = (2 * numbers.len()).div_ceil(PAGE) as u64;
        let at = memory.grow(&mut store, pages).map_err(broken)? as usize * PAGE;
        memory.data_mut(&mut store)[at..at + numbers.len()].copy_from_slice(numbers);
        let product = at + numbers.len();
        Ok(Self { store, multiply, arguments: (at as i32, product as i32, n as i32) })
    }
}

/// One of the loops: prints how many runs there were, and the nanoseconds of some of them, as the native one does.
pub fn run(what: &str) -> Result<(), BenchError> {
    let parts: Vec<&str> = what.splitn(3, ':').collect();
    let [Some(n), Some(seconds)] = [0, 1].map(|at| parts.get(at)?.parse().ok()) else {
        return Err(BenchError::Broken(format!("{what} is no loop")));
    };
    let mut loaded = Loaded::new(Path::new(parts.get(2).copied().unwrap_or_default()), n)?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut taken = Vec::new();
    let mut begun = Instant::now();
    while begun < until {
        loaded.multiply.call(&mut loaded.store, loaded.arguments).map_err(broken)?;
        let next = Instant::now();
        taken.push((next - begun).as_nanos());
        begun = next;
    }
    println!("{}", taken.len());
    taken.iter().step_by(1 + taken.len() / TOLD).for_each(|nanoseconds| println!("{nanoseconds}"));
    Ok(())
}
