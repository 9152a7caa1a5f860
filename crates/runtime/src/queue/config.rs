//! How a node keeps asynchronous invocations: the `[queue]` section of `lichen.toml`.

/// Limits and policies. The defaults are Lambda's where Lambda has one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueConfig {
    /// Events that wait, run or are dead, all functions together.
    pub events_max: u64,
    /// MiB of them.
    pub bytes_max_mib: u64,
    /// Bytes of one event.
    pub payload_max: usize,
    /// Events that run at once.
    pub concurrency: u32,
    /// Seconds before the first retry, the second, and so on; the last one counts for all that follow.
    pub retry_s: Vec<u64>,
    /// Retries of a function that does not say.
    pub retries: u32,
    /// Seconds after which an event is given up, for a function that does not say.
    pub age_max_s: u64,
    /// Whether an event is on disk before it is accepted. Without it, a power cut can lose the last ones; a crash cannot.
    pub durable: bool,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            events_max: 1_000_000,
            bytes_max_mib: 4096,
            payload_max: 1 << 20,
            concurrency: 100,
            retry_s: vec![60, 120],
            retries: 2,
            age_max_s: 21_600,
            durable: true,
        }
    }
}
