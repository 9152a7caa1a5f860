//! `[functions]`: what a function may ask of this node. The defaults are Lambda's; all of them can be raised.

use sandbox::spec::Network;
use serde::Deserialize;

/// Limits and defaults for functions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// The network of functions that do not say which.
    pub network: Network,
    /// Seconds.
    pub timeout_max_s: u32,
    pub memory_max_mib: u32,
    /// MiB of `/tmp`.
    pub tmp_max_mib: u32,
    /// Bytes of all environment variables together.
    pub environment_max: usize,
    pub tags_max: usize,
    /// Bytes of a resource's policy.
    pub policy_max: usize,
    /// Bytes of a request that brings code.
    pub request_max: usize,
    /// Concurrency that cannot be reserved: it stays for functions that have reserved none.
    pub unreserved_concurrency: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            network: Network::None,
            timeout_max_s: 900,
            memory_max_mib: 10_240,
            tmp_max_mib: 10_240,
            environment_max: 4096,
            tags_max: 50,
            policy_max: 20_480,
            request_max: 70_167_211,
            unreserved_concurrency: 100,
        }
    }
}
