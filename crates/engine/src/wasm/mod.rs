//! WebAssembly: modules with WASI preview 1, and components, compiled at deploy and run by wasmtime.
//!
//! | module | what it is |
//! |---|---|
//! | [`compile`] | from WebAssembly to an artefact |
//! | [`label`] | what stands at an artefact's end |
//! | [`settings`] | what compiler and runner agree on |
//! | [`program`] | an artefact loaded, and run |
//! | [`expose`], [`renew`] | instances made as new after a run |
//! | [`context`], [`memory_limit`] | what belongs to one run |
//! | [`preview1`], [`component`] | what a guest can call |
//! | [`console`] | the standard streams of a program that a person runs |
//! | [`watch`], [`landing`] | deadlines that cost nothing |
//!
//! Not here: threads, sockets, clocks finer than a millisecond.
//!
//! Who confines an engine process makes the engine first: it opens `/proc/self/pagemap`. From then on it makes these system
//! calls: to load `fstat pread64 fcntl mmap mprotect munmap memfd_create ftruncate lseek write`; to run `mmap munmap mprotect
//! madvise ioctl` (of that descriptor) `fallocate timer_create timer_settime timer_delete rt_sigreturn rt_sigaction
//! rt_sigprocmask sigaltstack gettid getpid getrandom clock_gettime ppoll poll tgkill read write`. `SIGTRAP` and one
//! real-time signal are its own.

pub mod compile;
pub mod component;
mod console;
mod context;
mod expose;
pub mod label;
mod landing;
mod memory_limit;
pub mod preview1;
pub mod program;
mod renew;
pub mod settings;
mod watch;

use crate::{Arena, Artefact, Engine, Kind, LoadError, Program, SelfTestError};
pub use compile::{compile, fit, is_wasm};
use context::Context;
use landing::Landing;
use program::Loaded;
use renew::Renewal;
use std::sync::Arc;
use wasmtime::Linker;

/// The engine of this process. Its clones share the pool of memories.
#[derive(Clone)]
pub struct Wasm {
    engine: wasmtime::Engine,
    linker: Linker<Context>,
    components: wasmtime::component::Linker<Context>,
    landing: Landing,
    arena: Arena,
    fit: label::Fit,
    renewal: Option<Arc<Renewal>>,
}

impl Wasm {
    /// Large outputs lie in `arena`.
    pub fn new(arena: Arena) -> Result<Self, SelfTestError> {
        let lacks = |error: wasmtime::Error| SelfTestError::Lacks(format!("what the engine needs: {error:#}"));
        let engine = settings::runner().map_err(lacks)?;
        let mut linker = Linker::new(&engine);
        preview1::link(&mut linker).map_err(lacks)?;
        let mut components = wasmtime::component::Linker::new(&engine);
        component::link(&mut components).map_err(lacks)?;
        let landing = Landing::new(&engine).map_err(lacks)?;
        let fit = settings::fit(&engine);
        Ok(Self { engine, linker, components, landing, arena, fit, renewal: Renewal::new() })
    }
}

impl Engine for Wasm {
    fn kind(&self) -> Kind {
        Kind::Wasm
    }

    /// Making the engine has run a guest, and seen it trap.
    fn self_test(&mut self) -> Result<(), SelfTestError> {
        Ok(())
    }

    fn load(&mut self, code: &Artefact) -> Result<Box<dyn Program>, LoadError> {
        if code.kind != Kind::Wasm {
            return Err(LoadError::Kind { found: code.kind, here: Kind::Wasm });
        }
        Ok(Box::new(Loaded::new(self, &code.file)?))
    }
}

/// For tests: numbers below what is asked for, others in each run; what they follow from is printed.
#[cfg(test)]
fn dice() -> impl FnMut(usize) -> usize {
    let mut state = os::monotonic_ns() | 1;
    println!("state {state}");
    move |end| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % end
    }
}
