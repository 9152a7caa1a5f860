//! What a run of a WebAssembly program costs: everything from inputs to outputs, a fresh memory each time; and how often it asks
//! for memory.
//!
//! `cargo run --release -p engine --example cycle [PROGRAM.wasm RUNS [EXPORT]]` also times a program of one's own, with no
//! inputs; with EXPORT, beside that function of it called in a plain instance without deadlines, in the same process.

use anyhow::Context as _;
use engine::{Arena, Artefact, Blob, Engine, Kind, Limits, Program, Run, Stop, Wiping, wasm};
use sets::{Item, Set, Sets};
use std::alloc::{GlobalAlloc, Layout};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// An engine process's allocator, counted.
struct Counting {
    wiping: Wiping,
    count: AtomicU64,
}

// SAFETY: passed on as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { self.wiping.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.wiping.dealloc(at, layout) };
    }
}

#[global_allocator]
static MEMORY: Counting = Counting { wiping: Wiping::new(), count: AtomicU64::new(0) };

const EMPTY: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// `/in/a/x` to `/out/b/y`, by one read and one write.
const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 18)
    (data (i32.const 0) "in/a/x") (data (i32.const 16) "out/b/y")
    (data (i32.const 64) "\00\10\00\00\00\00\11\00")
    (func (export "_start")
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 80)))
        (drop (call $read (i32.load (i32.const 80)) (i32.const 64) (i32.const 1) (i32.const 68)))
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 1)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 84)))
        (drop (call $write (i32.load (i32.const 84)) (i32.const 64) (i32.const 1) (i32.const 88)))))"#;

fn main() -> anyhow::Result<()> {
    MEMORY.wiping.switch_on();
    let arena = Arena::new(256 << 20)?;
    let mut engine = wasm::Wasm::new(arena)?;
    let mut empty = load(&mut engine, &wat::parse_str(EMPTY)?)?;
    let mut echo = load(&mut engine, &wat::parse_str(ECHO)?)?;
    let none = Vec::new();
    measure("empty program", 50_000, || run(&mut *empty, &none));
    for bytes in [8, 1 << 10, 16 << 10, 64 << 10, 1 << 20] {
        let input = vec![Set::new("a", vec![Item::new("x", 0, Blob::from(vec![7; bytes]))])];
        let runs = if bytes > 100_000 { 2_000 } else { 20_000 };
        measure(&format!("set to set, {bytes} bytes"), runs, || run(&mut *echo, &input));
    }
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else { return Ok(()) };
    let runs = arguments.next().context("say how many runs")?.parse()?;
    let code = std::fs::read(&path).context(path)?;
    let mut program = load(&mut engine, &code)?;
    measure("the program", runs, || run(&mut *program, &none));
    let Some(export) = arguments.next() else { return Ok(()) };
    plain(&code, &export, runs)
}

/// The same function in an instance that is made once, and never stopped.
fn plain(code: &[u8], export: &str, runs: usize) -> anyhow::Result<()> {
    let engine = wasmtime::Engine::default();
    let module = wasmtime::Module::new(&engine, code).map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let mut linker = wasmtime::Linker::new(&engine);
    let mut store = wasmtime::Store::new(&engine, ());
    let mut call = || -> wasmtime::Result<_> {
        linker.define_unknown_imports_as_traps(&module)?;
        linker.instantiate(&mut store, &module)?.get_typed_func::<(), ()>(&mut store, export)
    };
    let call = call().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    measure(&format!("{export} in a plain instance"), runs, || call.call(&mut store, ()).expect("it returns"));
    Ok(())
}

fn load(engine: &mut wasm::Wasm, code: &[u8]) -> anyhow::Result<Box<dyn Program>> {
    let mut file = tempfile::tempfile()?;
    file.write_all(&wasm::compile(code)?)?;
    let artefact = Artefact { kind: Kind::Wasm, file };
    measure("load", 200, || drop(engine.load(&artefact)));
    Ok(engine.load(&artefact)?)
}

fn run(program: &mut dyn Program, inputs: &Sets<Blob>) {
    thread_local! { static STOP: Stop = Stop::new().expect("an eventfd"); }
    STOP.with(|stop| {
        stop.begin();
        let finished = program.run(&Run {
            inputs,
            outputs: &["b".to_owned()],
            folders: &[],
            arguments: &[],
            environment: &[],
            stdin: None,
            streams: None,
            limits: Limits::default(),
            deadline: Instant::now() + Duration::from_secs(10),
            stop,
            deterministic: false,
        });
        finished.outcome.expect("it ends well");
        program.clear();
    });
}

fn measure(name: &str, runs: usize, mut once: impl FnMut()) {
    (0..runs.div_ceil(10)).for_each(|_| once());
    let before = MEMORY.count.load(Relaxed);
    once();
    let count = MEMORY.count.load(Relaxed) - before;
    let mut times: Vec<u64> = (0..runs)
        .map(|_| {
            let began = Instant::now();
            once();
            began.elapsed().as_nanos() as u64
        })
        .collect();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize] as f64 / 1000.0;
    println!(
        "{name:32} p50 {:8.2} µs   p99 {:8.2} µs   min {:8.2} µs   {count} allocations",
        at(0.5),
        at(0.99),
        at(0.0)
    );
}
