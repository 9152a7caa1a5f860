//! Runs pure functions: input sets in, output sets out, no I/O, a fresh memory for every run.
//!
//! ```text
//!  code ──compile──▶ Artefact ──Engine::load──▶ Program ──run(inputs, limits, deadline)──▶ Finished
//!  at deploy         a file, mapped             in one engine process                       outputs, text, or why not
//! ```
//!
//! An engine runs one function at a time, to its end, on the thread that asks: *engines are cores*. The siblings `wasm`,
//! `process` and `kvm` have the same file names.
//!
//! | module | what it is |
//! |---|---|
//! | [`artefact`] | code made ready, as it lies on disk |
//! | [`run`] | what a run is given, and what comes of it |
//! | [`error`] | what can go wrong, in words that a person can act on |
//! | [`blob`], [`arena`] | bytes that are shared, not copied |
//! | [`held`] | items that stay with their engine between the runs of a flow |
//! | [`stop`] | how a run is ended from outside |
//! | [`files`] | the files of one run, in memory |
//! | [`wipe`] | what a run leaves in this process, taken away |
//! | [`wasm`] | WebAssembly |
//! | [`native`] | native programs: what both of their engines have in common |
//! | [`process`], [`kvm`] | native programs in empty processes, and in virtual machines |
//! | [`serve`] | the loop of an engine process: requests from channels |
//!
//! Not here: who starts engine processes and confines them (`sandbox::pure`), and who decides what runs where
//! (`runtime::dispatch`).

mod all;
pub mod arena;
pub mod artefact;
pub mod blob;
pub mod error;
pub mod files;
pub mod held;
#[cfg(target_arch = "x86_64")]
pub mod kvm;
#[cfg(target_arch = "x86_64")]
pub mod native;
#[cfg(target_arch = "x86_64")]
pub mod process;
pub mod run;
pub mod serve;
pub mod stop;
pub mod wasm;
pub mod wipe;

pub use all::{Crew, Made, Prepared, compile, device, prepare};
pub use arena::Arena;
pub use artefact::{Artefact, Kind};
pub use blob::{Blob, Paged};
pub use error::{CompileError, LoadError, RunError, SelfTestError, TrapKind};
pub use run::{Finished, Folder, Limits, Run, Streams};
pub use stop::{Stop, Why};
pub use wipe::Wiping;

/// One way of running pure functions, in this process.
pub trait Engine {
    fn kind(&self) -> Kind;

    /// Whether this machine can do it, and quickly enough: asked once, before the first load.
    fn self_test(&mut self) -> Result<(), SelfTestError>;

    /// Takes code in: tens of microseconds, since the artefact is mapped. What is dropped is out again.
    fn load(&mut self, code: &Artefact) -> Result<Box<dyn Program>, LoadError>;
}

/// Code that an engine has loaded.
pub trait Program {
    /// Runs it once, in a memory of its own that nothing of another run was ever in. Returns when it is over: at the end,
    /// at the deadline, or soon after `run.stop` was told so.
    fn run(&mut self, run: &Run<'_>) -> Finished;

    /// Takes away what the last run has left: to be called when it has been answered, and before anything else is done.
    fn clear(&mut self) {}
}
