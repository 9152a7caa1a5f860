//! A small client of the services that functions' events come from and go to, at the endpoints that `[aws]` names.
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | the section `[aws]`: endpoints and keys |
//! | [`client`] | a signed request out, an answer in; time limits, back-off |
//! | [`http`] | one request over one connection |
//! | [`tls`] | whom it trusts |
//! | [`fault`] | why a call came to nothing, and whether trying again helps |
//! | [`arn`] | names of other services' things |
//! | [`s3`], [`sqs`], [`sns`], [`events`], [`kinesis`], [`dynamodb`] | the few operations that are needed |
//!
//! Not here: credentials that change, and every operation that nothing of Lichen's calls. AWS's own SDK has all of that, and takes longer to build than Lichen.
#![forbid(unsafe_code)]

pub mod arn;
pub mod client;
pub mod config;
pub mod dynamodb;
pub mod events;
pub mod fault;
mod http;
pub mod kinesis;
pub mod s3;
pub mod sns;
pub mod sqs;
#[cfg(test)]
mod tests;
pub mod tls;
mod xml;

pub use arn::Arn;
pub use client::{Aws, Service};
pub use config::AwsConfig;
pub use fault::CallError;
