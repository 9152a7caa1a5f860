//! Lichen's control plane on one node.
#![forbid(unsafe_code)]
pub mod function;
