//! Native functions, each run in an empty process: memory, and one system call, which ends it.
//!
//! ```text
//!  engine ──clone──▶ zygote: a page of code, no memory of the engine's          installs the filter, once
//!                      │ clone, ahead of time
//!                      ▼
//!                    blank: waits in the stub ──told──▶ maps what it is told, closes everything, unmaps the stub ──▶ guest
//!  engine ◀── end: exit code, or a report of the fault ──────────────────────────────────────────────────────────╯
//! ```
//!
//! A blank serves one run. The filter lets mapping calls through only from the stub's page, which is gone before the guest's
//! first instruction; from anywhere else there is the end, and `arch_prctl(ARCH_SET_FS)` for thread-local storage.
//! Whatever else a guest tries is not done, and reported by name.
//!
//! Not here: namespaces and cgroups, which blanks inherit from the engine process (`sandbox::pure`).

pub(crate) mod fault;
mod filter;
mod habit;
mod nursery;
mod program;
mod stub;
pub(crate) mod syscalls;
mod zygote;

pub use program::Process;
