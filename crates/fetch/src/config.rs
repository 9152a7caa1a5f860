//! `[fetch]`: what functions reach of the network, and how much of it.

use crate::policy::Rule;
use serde::Deserialize;
use std::path::PathBuf;

/// What the I/O functions may do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FetchConfig {
    /// What is reached beside public addresses.
    pub allow: Vec<Rule>,
    /// What is not reached, whatever `allow` says.
    pub deny: Vec<Rule>,
    /// Ports of public addresses; empty for all.
    pub ports: Vec<u16>,
    /// Buckets, or `BUCKET/PREFIX`, of the S3 in `[aws]` that flows may read and write; `*` for all.
    pub buckets: Vec<String>,
    /// Certificates in PEM that TLS trusts; without one, the system's.
    pub ca_file: PathBuf,
    /// Seconds for a connection to come about, names looked up and TLS agreed on.
    pub connect_s: u64,
    /// Seconds from a request until its answer's head.
    pub first_byte_s: u64,
    /// Seconds for all of it, redirects and bodies too.
    pub total_s: u64,
    /// Redirects that are followed.
    pub redirects: u32,
    /// Bytes of a request's head, and of an answer's.
    pub head_max: usize,
    /// Bytes of an answer's body.
    pub body_max: usize,
    /// MiB for answers' bodies that are in memory, all together.
    pub bodies_mib: u32,
    /// Requests at once, of all functions together.
    pub concurrency: usize,
    /// Requests at once of one application of a function.
    pub each: usize,
    /// Connections that are kept for the next request.
    pub idle: usize,
    /// Seconds after which such a connection closes.
    pub idle_s: u64,
    /// Keys that a list of objects has at most.
    pub list_max: usize,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            ports: vec![80, 443],
            buckets: Vec::new(),
            ca_file: PathBuf::new(),
            connect_s: 5,
            first_byte_s: 30,
            total_s: 60,
            redirects: 5,
            head_max: 64 << 10,
            body_max: 64 << 20,
            bodies_mib: 512,
            concurrency: 256,
            each: 32,
            idle: 64,
            idle_s: 30,
            list_max: 10_000,
        }
    }
}
