//! One module per verb: what it takes, and what it does.

pub mod bench;
mod carrier;
pub mod completions;
pub mod deploy;
pub mod dlq;
pub mod doctor;
pub mod flow;
pub mod invite;
pub mod invoke;
pub mod join;
pub mod logs;
pub mod ls;
pub mod man;
pub mod net;
pub mod new;
pub mod pier;
mod program;
pub mod pu;
pub mod rm;
pub mod roles;
pub mod run;
pub mod sdk;
pub mod serve;
mod settings;
pub mod shim;
pub mod socket;
pub mod top;
