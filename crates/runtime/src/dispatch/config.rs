//! How a node dispatches: the `[dispatch]` section of `lichen.toml`.

use sandbox::spec::Kind;
use std::collections::HashMap;
use std::time::Duration;

/// Whether wake-ups are to be fast or idle power low.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Latency {
    /// Idle processors sleep as they like.
    Saving,
    /// On small virtual machines, where idle processors halt, they poll until 2 ms after the last request came: they are awake
    /// ten times as fast.
    #[default]
    Normal,
    /// They poll until a second after the last request came, on any machine.
    Low,
}

/// Limits and policies. The defaults are Lambda's where Lambda has one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DispatchConfig {
    /// Invocations at once, all functions together.
    pub concurrency: u32,
    /// Instances at once, idle ones included; beyond it, those idle for longest end first.
    pub instances: u32,
    /// Starts in flight at once, for each core.
    pub starts_per_core: u32,
    /// Seconds after which an idle instance ends.
    pub keep_alive_s: u64,
    /// MiB for templates and stems together, by estimate.
    pub memory_budget_mib: u64,
    /// The most stems of one function.
    pub stems: u32,
    /// Bytes of an event.
    pub payload_max: usize,
    /// Bytes of an answer that is wanted whole.
    pub response_max: usize,
    /// Bytes of an answer that is read in parts.
    pub stream_max: usize,
    /// MiB that one invocation may print.
    pub log_max_mib: u64,
    /// Seconds for loading a function, where its own timeout is not longer.
    pub init_timeout_s: u64,
    /// Seconds for which a request waits for a worker that is being restarted.
    pub worker_wait_s: u64,
    /// MiB for outputs of pure functions that ask for theirs to be kept; 0 keeps none.
    pub results_mib: u32,
    /// Modules that generic templates load beforehand, by kind.
    pub preload: HashMap<Kind, Vec<String>>,
    pub latency: Latency,
    /// Processors of each PU of this machine that compute pure functions at once; 0: as many as the load has it.
    pub computing: u32,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        Self {
            concurrency: 1000,
            instances: 1500,
            starts_per_core: 4,
            keep_alive_s: 600,
            memory_budget_mib: 1024,
            stems: 64,
            payload_max: 6 << 20,
            response_max: (6 << 20) + 100,
            stream_max: 200 << 20,
            log_max_mib: 64,
            init_timeout_s: 10,
            worker_wait_s: 5,
            results_mib: 256,
            preload: HashMap::new(),
            latency: Latency::Normal,
            computing: 0,
        }
    }
}

impl DispatchConfig {
    pub(super) fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive_s)
    }

    pub(super) fn init_timeout(&self) -> Duration {
        Duration::from_secs(self.init_timeout_s)
    }

    pub(super) fn worker_wait(&self) -> Duration {
        Duration::from_secs(self.worker_wait_s)
    }
}
