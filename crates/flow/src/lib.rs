//! Flows: functions composed by the sets that pass between them.
//!
//! | module | what it is |
//! |---|---|
//! | [`language`] | text to a checked [`graph::Program`], or what is wrong with the text |
//! | [`graph`] | a checked flow |
//! | [`plan`] | a run of it: a state machine, events in, actions out |
//! | [`svg`] | the graph as a picture, and a run's times in it |
//!
//! Pure: nothing here waits, reads or sends. Who does is `runtime::flow`; tests and simulations drive the same plan.
#![forbid(unsafe_code)]

pub mod graph;
pub mod language;
pub mod plan;
pub mod svg;

pub use graph::Program;
pub use language::{Checked, Known, Lookup, Offline, Signature, check};
