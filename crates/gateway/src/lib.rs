//! Lichen's HTTP faces: AWS Lambda's API, function URLs, Lichen's own API, metrics and health.
//!
//! | module | what it is |
//! |---|---|
//! | [`run`] | the role `lichen gateway`, from its descriptors to its drain |
//! | [`config`] | all sections of `lichen.toml` |
//! | [`gateway`] | what every request can reach |
//! | [`route`] | from a request to an operation |
//! | [`http`] | connections, bodies, paths, which pages may call |
//! | [`auth`] | whose requests are answered, where the node has keys |
//! | [`delivery`], [`destination`] | from the queue to functions, and to other services |
//! | [`sources`] | from event sources to functions |
//! | [`spans`] | when an invocation passed its stations, for who asks |
//! | [`target`] | `POST /`: CloudWatch Logs or EventBridge |
//! | [`lambda`], [`logs`], [`events`], [`url`], [`v1`], [`metrics`], [`health`] | the faces |
//!
//! What runs functions is `runtime`; nothing here knows what an instance is.
#![forbid(unsafe_code)]

mod auth;
pub mod config;
mod delivery;
mod destination;
mod events;
mod gateway;
mod health;
mod http;
mod lambda;
mod logs;
mod metrics;
mod route;
pub mod run;
mod sources;
mod spans;
mod supervisor;
mod target;
mod url;
mod v1;

pub use config::Config;
pub use gateway::OpenError;
pub use run::{Neighbours, RunError, run};
