//! The daemon on each PU that runs sandboxes, and the client by which the control plane speaks to it.
#![forbid(unsafe_code)]

pub mod client;
pub mod protocol;

pub use client::Client;
