//! What passes between Lichen's gateway and its clients: one description of it, that both sides compile against.
//!
//! Nothing here decides anything; what a request may ask is the gateway's to judge.
#![forbid(unsafe_code)]

pub mod client;
pub mod lambda;
pub mod manifest;
pub mod node;
pub mod pu;
pub mod sigv4;
pub mod time;

pub use client::Client;
pub use manifest::Manifest;
