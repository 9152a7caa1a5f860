//! Lichen's control plane on one node.
#![forbid(unsafe_code)]

pub mod billing;
pub mod dispatch;
pub mod function;
pub mod logs;
