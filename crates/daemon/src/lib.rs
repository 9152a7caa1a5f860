//! What every Lichen daemon needs: configuration, telemetry, readiness, drain.
//!
//! Nothing of what a daemon does: the sections of the configuration are defined beside what they configure, and only
//! those that concern all daemons are here.
#![forbid(unsafe_code)]

pub mod config;
pub mod drain;
pub mod nearest;
pub mod node;
pub mod pu;
pub mod readiness;
pub mod remote;
pub mod secret;
pub mod sockets;
pub mod telemetry;
