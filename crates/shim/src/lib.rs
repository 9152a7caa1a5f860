//! XPU-Shim: the daemon on each processing unit that keeps capabilities, FIFOs and processes, one view on every PU.
//!
//! It carries no data between processes that share memory: those have lanes of their own.
#![forbid(unsafe_code)]

pub mod protocol;
