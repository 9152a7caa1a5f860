//! Container fork (Molecule, section 4.2), seen from the language runtime that forks.
//!
//! A *template* is a language runtime, in a sandbox of its own, that has done everything a start can do. It waits at its
//! [`ForkPoint`]. For every fork request its child comes to life inside a *slot*, a container made beforehand, as an
//! [`Instance`] that answers invocations through its channel.
//!
//! | module | what it is |
//! |---|---|
//! | [`protocol`] | what the worker and a template say to each other |
//! | [`invocation`] | what the gateway and an instance say to each other |
//! | [`forkpoint`] | the template's side |
//! | [`descriptors`] | what a template holds open, and what its children do about it |
//! | [`memory`] | what a template does with its memory so that forks are cheap |
//! | [`enter`] | how a child gets into its slot |
//! | [`instance`] | the instance's side |
//!
//! No language is known here: `lang/python` and `lang/node` are.

pub mod descriptors;
pub mod enter;
pub mod forkpoint;
pub mod instance;
pub mod invocation;
pub mod memory;
pub mod protocol;

pub use forkpoint::{Child, ForkPoint};
pub use instance::{Heard, Instance, Request};
