//! Container fork (Molecule, section 4.2), seen from the language runtime that forks.
//!
//! A *template* is a language runtime, in a sandbox of its own, that has done everything a start can do. It waits at its
//! [`ForkPoint`], with a *forker* in each of its *slots*, containers made beforehand. When one is told to, its child, a copy
//! of the template, comes to life there as an [`Instance`] that answers invocations through its channel.
//!
//! | module | what it is |
//! |---|---|
//! | [`protocol`] | what the worker and a template say to each other |
//! | [`invocation`] | what the gateway and an instance say to each other |
//! | [`chain`] | the same for instances that hand their results on to each other |
//! | [`forkpoint`] | the template's side |
//! | [`descriptors`] | what a template holds open, and what its children do about it |
//! | [`memory`] | what a template does with its memory so that forks are cheap |
//! | `enter` | how a child gets into its slot |
//! | `turn`, `resume` | what processes need that share their memory: a lock, and a way from one stack to another |
//! | [`instance`] | the instance's side |
//! | [`stage`] | the same where it is a stage of a chain |
//! | [`fifo`] | FIFOs, for a function's own code |
//!
//! No language is known here: `lang/python` and `lang/node` are.

pub mod chain;
pub mod descriptors;
mod enter;
pub mod fifo;
pub mod forkpoint;
pub mod instance;
pub mod invocation;
pub mod memory;
pub mod protocol;
mod resume;
pub mod stage;
mod turn;

pub use forkpoint::{Child, ForkPoint, Newborn};
pub use instance::{Heard, Instance, Request};
