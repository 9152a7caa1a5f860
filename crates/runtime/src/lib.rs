//! Lichen's control plane on one node.
#![forbid(unsafe_code)]

pub mod balance;
pub mod billing;
pub mod codestore;
pub mod dispatch;
pub mod flow;
pub mod function;
pub mod keepalive;
pub mod ledger;
pub mod logs;
pub mod placement;
pub mod pool;
pub mod queue;
pub mod registry;
pub mod results;
pub mod scaling;
pub mod templates;
