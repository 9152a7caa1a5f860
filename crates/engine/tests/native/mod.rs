//! A native guest, built from C by the machine's compiler, and one thread that runs it.

use engine::{Arena, Artefact, Blob, Engine, Finished, Kind, Limits, Program, Run, RunError, Stop};
use sets::{Item, Set};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What a test is about.
pub struct Fixture {
    pub arena: Arena,
    pub stop: Arc<Stop>,
    pub program: Box<dyn Program>,
    pub limits: Limits,
    pub deadline: Duration,
}

/// The guest as an ELF, built with these arguments besides.
pub fn elf(arguments: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("guest");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest/guest.c");
    let mut command = Command::new("cc");
    command
        .args(["-O1", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-o"])
        .arg(&out)
        .arg(source)
        .args(arguments);
    let built = command.output().expect("a C compiler, which building Lichen takes, too");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    std::fs::read(out).unwrap()
}

/// The guest, as Dandelion links.
pub fn guest() -> &'static [u8] {
    static GUEST: OnceLock<Vec<u8>> = OnceLock::new();
    GUEST.get_or_init(|| elf(&["-static", "-fno-pie", "-no-pie", "-Wl,-Ttext-segment=0x10000"]))
}

/// An artefact of this ELF.
pub fn artefact(kind: Kind, elf: &[u8]) -> Artefact {
    let bytes = engine::native::elf::compile(elf).unwrap();
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    Artefact { kind, file }
}

impl Fixture {
    pub fn new(make: impl FnOnce(Arena) -> Box<dyn Engine>, elf: &[u8]) -> Self {
        let arena = Arena::new(256 << 20).unwrap();
        let mut engine = make(arena.clone());
        let program = engine.load(&artefact(engine.kind(), elf)).unwrap();
        let limits = Limits { memory: 32 << 20, ..Limits::default() };
        Self { arena, stop: Arc::new(Stop::new().unwrap()), program, limits, deadline: Duration::from_secs(20) }
    }

    /// Runs an order, with more items beside it.
    pub fn run(&mut self, order: &str, items: &[Blob]) -> Finished {
        let first = Item::new("order", 0, Blob::from(order.as_bytes().to_vec()));
        let more = items.iter().enumerate().map(|(n, data)| Item::new(format!("item{n}"), n as u64, data.clone()));
        let inputs = [Set::new("in", std::iter::once(first).chain(more).collect())];
        self.run_on(&inputs)
    }

    pub fn run_on(&mut self, inputs: &[Set<Blob>]) -> Finished {
        let outputs = ["out".to_owned()];
        let arguments = ["guest".to_owned()];
        self.stop.begin();
        let run = Run {
            inputs,
            outputs: &outputs,
            folders: &[],
            arguments: &arguments,
            environment: &[],
            stdin: None,
            streams: None,
            limits: self.limits,
            deadline: Instant::now() + self.deadline,
            stop: &self.stop,
            deterministic: false,
        };
        self.program.run(&run)
    }

    pub fn error(&mut self, order: &str) -> RunError {
        self.run(order, &[Blob::from(vec![1; 16])]).outcome.err().unwrap_or_else(|| panic!("{order} went well"))
    }
}
