//! The daemon on each PU that runs sandboxes, and the client by which the control plane speaks to it.
//!
//! The worker is the only part of Lichen that needs privileges. It listens to nobody but the control plane it was started
//! with, and ends, with everything that it has made, when that is gone.
#![forbid(unsafe_code)]

pub mod client;
pub mod kits;
pub mod orders;
pub mod protocol;
pub mod remote;
pub mod role;
mod serve;

pub use client::{Client, Server, TalkError};
pub use serve::serve;
