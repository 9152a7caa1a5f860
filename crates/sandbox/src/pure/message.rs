//! What the worker, the nursery of engines and the engines say to each other.

use crate::spec::Kind;
use serde::{Deserialize, Serialize};

/// Worker to nursery: make a process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Make {
    pub id: u64,
    pub what: What,
    /// The user that it is outside; nothing where the worker is an ordinary user, which is the only one then.
    pub outside: Option<u32>,
    /// Processes, where no cgroup limits them.
    pub processes: Option<u32>,
}

/// Which process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum What {
    /// Accompanied by: its socket, and the entrances of its cgroup. `for_long`: whether others on its processor go first.
    Engine { cpu: Option<u32>, crew: Crew, for_long: bool },
    /// Makes code ready, once. Accompanied by: the code, where the artefact goes, where it says why not, and the entrances.
    Compiler { kind: Kind },
}

/// Which engines a process is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Crew {
    /// WebAssembly, and native programs in processes.
    Usual,
    /// Native programs in virtual machines, where an empty run takes no longer than this.
    Machines { limit_us: u64 },
}

/// Worker to engine.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToEngine {
    /// Accompanied by the artefact. Ends in [`FromEngine::Loaded`].
    Load {
        program: u64,
        kind: ::engine::Kind,
    },
    Unload {
        program: u64,
    },
    /// Accompanied by the guest's end of the channel (region, down, up), the log, and the sets of its package if it has some.
    Attach {
        instance: u64,
        program: u64,
        terms: Terms,
    },
    /// Ends in [`FromEngine::Ended`], unless that was said already.
    Detach {
        instance: u64,
    },
    /// Whether there is an engine for long runs on its processor: then it goes first as soon as it is wanted.
    BesideLong {
        there: bool,
    },
    /// What it is called by the engines of its unit, and those that there were before it.
    Name {
        number: u32,
        others: Vec<u32>,
    },
    /// Accompanied by the table of another engine. Ends in [`FromEngine::Watches`].
    Watch {
        number: u32,
    },
    /// Accompanied by the arena of one that watches it.
    Lend {
        number: u32,
    },
    /// Another engine has ended.
    Part {
        number: u32,
    },
    /// Items of a flow's run are wanted no more; all of them, and those to come, where none is named.
    Release {
        run: [u8; 16],
        items: Option<Vec<u64>>,
    },
    /// End, unless items of a flow's run are held.
    Leave,
}

/// What holds for the runs of an instance: see `engine::serve::Terms`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub name: String,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub outputs: Vec<String>,
    pub timeout_ms: u64,
    /// Bytes.
    pub memory: u64,
    pub output_bytes: u64,
    pub text_bytes: u64,
    pub deterministic: bool,
}

/// Kinds that an engine does not run, and why.
pub type Missing = Vec<(::engine::Kind, String)>;

/// Engine to worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromEngine {
    /// First of all: what it runs, and why it does not run what it does not. Accompanied by its arena and its table, to be
    /// read by others.
    Ready {
        kinds: Vec<::engine::Kind>,
        missing: Missing,
    },
    Loaded {
        program: u64,
        result: Result<(), NotLoaded>,
    },
    /// It gives up nothing that this one may be reading.
    Watches {
        number: u32,
    },
    /// The instance is served no more.
    Ended {
        instance: u64,
        broken: bool,
    },
}

/// Why a program was not loaded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotLoaded {
    /// Whether the code is to be made ready anew.
    pub stale: bool,
    pub reason: String,
}
