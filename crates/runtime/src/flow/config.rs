//! What a node bears of flows: the `[flows]` section of `lichen.toml`.

#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowConfig {
    /// Runs at once; more are refused with 429.
    pub runs: usize,
    /// Shards of one run at once.
    pub window: usize,
    /// Parts of sets that flows leave to the platform to divide (`anyEach`, `anyKeyed`); 0 for as many as there are cores.
    pub spread: usize,
    /// Shards of one run, all in all.
    pub shards_max: u64,
    /// MiB of items that one run may hold at a time, and all runs together.
    pub run_mib: u64,
    pub node_mib: u64,
    /// KiB from which on items stay with the engine that makes them, where all who take them run there; 0: none do.
    pub hold_kib: u32,
    /// Seconds for a flow that does not say.
    pub timeout_s: u32,
    /// For how many seconds it is kept what became of a run, for how many runs, and how many MiB of results.
    pub keep_s: u64,
    pub keep_runs: usize,
    pub keep_mib: u64,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            runs: 256,
            window: 32,
            spread: 0,
            shards_max: 1_000_000,
            run_mib: 256,
            node_mib: 1024,
            hold_kib: 4,
            timeout_s: 300,
            keep_s: 3600,
            keep_runs: 1000,
            keep_mib: 64,
        }
    }
}
