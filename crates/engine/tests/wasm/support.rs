//! A program from its text to its answer.

use engine::{Arena, Artefact, Blob, Engine, Finished, Kind, Limits, Program, Run, Stop, wasm};
use sets::{Item, Set, Sets};
use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Imports of WASI that tests call, and a memory of two pages.
pub const WASI: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 2)
"#;

/// One engine for all tests of this process, as in an engine process.
pub fn engine() -> wasm::Wasm {
    static ENGINE: OnceLock<wasm::Wasm> = OnceLock::new();
    ENGINE.get_or_init(|| wasm::Wasm::new(arena().clone()).unwrap()).clone()
}

pub fn arena() -> &'static Arena {
    static ARENA: OnceLock<Arena> = OnceLock::new();
    ARENA.get_or_init(|| Arena::new(256 << 20).unwrap())
}

pub fn artefact(bytes: &[u8]) -> Artefact {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Artefact { kind: Kind::Wasm, file }
}

pub fn load(code: &[u8]) -> Box<dyn Program> {
    engine().load(&artefact(&wasm::compile(code).unwrap())).unwrap()
}

/// A program of WASI's imports and `body`.
pub fn program(body: &str) -> Box<dyn Program> {
    load(&wat::parse_str(format!("(module {WASI} {body})")).unwrap())
}

/// What a test gives to a run; the rest is as usual.
pub struct Given {
    pub inputs: Sets<Blob>,
    pub outputs: Vec<String>,
    pub folders: Vec<engine::Folder>,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub stdin: Option<Blob>,
    pub limits: Limits,
    pub time: Duration,
    pub deterministic: bool,
    pub stop: Stop,
}

pub fn given() -> Given {
    Given {
        inputs: Vec::new(),
        outputs: Vec::new(),
        folders: Vec::new(),
        arguments: vec!["program".into()],
        environment: Vec::new(),
        stdin: None,
        limits: Limits::default(),
        time: Duration::from_secs(20),
        deterministic: false,
        stop: Stop::new().unwrap(),
    }
}

impl Given {
    pub fn run(&self, program: &mut dyn Program) -> Finished {
        self.stop.begin();
        self.go_on(program)
    }

    /// The run has been begun already.
    pub fn go_on(&self, program: &mut dyn Program) -> Finished {
        let finished = program.run(&Run {
            inputs: &self.inputs,
            outputs: &self.outputs,
            folders: &self.folders,
            arguments: &self.arguments,
            environment: &self.environment,
            stdin: self.stdin.as_ref(),
            streams: None,
            limits: self.limits,
            deadline: Instant::now() + self.time,
            stop: &self.stop,
            deterministic: self.deterministic,
        });
        program.clear();
        finished
    }
}

pub fn text(text: &str) -> Blob {
    Blob::from(text.as_bytes().to_vec())
}

pub fn set(name: &str, items: &[(&str, u64, &str)]) -> Set<Blob> {
    Set::new(name, items.iter().map(|(name, key, data)| Item::new(*name, *key, text(data))).collect())
}

/// A set's name, and its items' names, keys and texts.
pub type Plain = (String, Vec<(String, u64, String)>);

/// Outputs as tests compare them.
pub fn plain(finished: &Finished) -> Vec<Plain> {
    let outputs = finished.outcome.as_ref().unwrap_or_else(|error| {
        panic!("{error}; stdout {:?}, stderr {:?}", lossy(&finished.stdout), lossy(&finished.stderr))
    });
    let item = |item: &Item<Blob>| (item.name.clone(), item.key, lossy(&item.data));
    let mut sets: Vec<_> =
        outputs.iter().map(|set| (set.name.clone(), set.items.iter().map(item).collect::<Vec<_>>())).collect();
    sets.iter_mut().for_each(|set| set.1.sort());
    sets
}

pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
