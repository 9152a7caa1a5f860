//! Event sources: what brings events to functions without anybody calling them.
//!
//! ```text
//!  queue, stream ─► poller ─► filter ─► batch ─► invoker ─► function
//!        ▲            ▲                             │
//!        ╰────────────┴── deleted, or passed ◄──────╯ which records went well
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`mapping`] | which source feeds which function, and how |
//! | [`store`] | the disk: mappings, and how far each has come |
//! | [`sources`] | all mappings of a node, each with its poller |
//! | [`invoker`] | who runs functions; this crate does not know what one is |
//! | [`filter`] | patterns of records that are wanted |
//! | [`response`] | which records of a batch a function says have failed |
//! | [`sqs`], [`stream`], [`kafka`] | the pollers |
//! | [`readers`] | a task for each part of a source, for those that have parts |
//! | [`schedule`] | rules that send events at times |
//!
//! Every record is delivered at least once: what was read is deleted, or passed, when the function has had it. What a
//! request may ask for is the gateway's to check.
#![forbid(unsafe_code)]

pub mod filter;
pub mod invoker;
mod kafka;
pub mod mapping;
mod readers;
pub mod response;
pub mod schedule;
pub mod sources;
mod sqs;
#[cfg(test)]
mod stage;
pub mod store;
mod stream;
mod work;

pub use filter::Pattern;
pub use invoker::{Invoked, Invoker};
pub use mapping::{Kind, Mapping};
pub use sources::{Sources, State};
