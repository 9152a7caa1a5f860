//! XPU-Shim: the daemon on each processing unit that keeps capabilities, FIFOs and processes, one view on every PU.
//!
//! | module | what it is |
//! |---|---|
//! | [`protocol`] | what shims agree on: pure, without I/O |
//! | [`config`], [`control`] | what a shim is told: once, and by its supervisor |
//! | `serve`, `poller` | its one thread: looks while there is work, sleeps while there is none |
//! | `shim`, `act` | the protocol driven: what happened in, what is to be done out |
//! | `calls`, `answers`, `process`, `admission` | attached processes, what they ask, what they may have |
//! | `ends`, `lanes`, `slots` | ends of FIFOs: made, handed over, cut |
//! | `links`, `relay` | other shims, and lanes to where no memory is shared |
//! | `remote` | shims on other machines: those that come, and the one that is called |
//! | `spawn` | programs started for processes elsewhere |
//!
//! It carries no data between processes that share memory: those have lanes of their own. What a process writes is hostile;
//! the shim waits for no process, and ends what does not keep to the rules.
#![forbid(unsafe_code)]

mod act;
mod admission;
mod answers;
mod apart;
mod calls;
pub mod config;
pub mod control;
mod ends;
mod lanes;
mod links;
mod poller;
mod process;
pub mod protocol;
mod relay;
mod remote;
mod serve;
mod shim;
mod slots;
mod spawn;

pub use config::Config;
pub use serve::OpenError;
pub use shim::Shim;
