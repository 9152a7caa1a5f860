//! What a sandbox is made for and what it may use: plain data that travels between the control plane and a worker.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a function is made of, and so which backend runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A Python handler on the forkable Python runtime.
    Python,
    /// A JavaScript handler on the forkable Node.js runtime.
    Node,
    /// Programs that speak AWS's Runtime API, on the native runtime.
    Provided,
}

/// Which network an instance sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Its own loopback.
    #[default]
    None,
    /// The outside too, by address translation: neither this host's own services, nor link-local addresses (so no cloud
    /// metadata), nor other sandboxes.
    Egress,
}

/// What an instance may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, files in `/tmp` included.
    pub memory: u64,
    /// Bytes of `/tmp`.
    pub tmp: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Processor time: thousandths of one core.
    pub cpu_millis: u32,
}

impl Limits {
    /// The limits of a function with `mib` MiB of memory. Processor time follows memory as on AWS (1,769 MiB for a core),
    /// but is never below one core: a small function on an idle machine need not be slow.
    pub fn for_memory(mib: u32, tmp_mib: u32) -> Self {
        let cpu_millis = (u64::from(mib) * 1000 / 1769).max(1000) as u32;
        Self { memory: u64::from(mib) << 20, tmp: u64::from(tmp_mib) << 20, pids: 1024, cpu_millis }
    }
}

/// A function's code and what its runtime has to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// The folder shown as `/var/task`.
    pub folder: PathBuf,
    /// The folder shown as `/opt`, where there is one: the function's layers.
    pub layers: Option<PathBuf>,
    /// The instance's configuration, JSON: see `lang/README.md`.
    pub config: String,
}

/// A template to prepare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSpec {
    pub kind: Kind,
    /// Modules that the runtime loads before the fork point.
    pub preload: Vec<String>,
    /// The function that a dedicated template has loaded; nothing for a generic one, whose children load theirs.
    pub function: Option<Code>,
    /// Of the template itself and, for a dedicated one, of each instance.
    pub limits: Limits,
    pub network: Network,
}

/// One instance to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSpec {
    /// Chosen by the control plane, never used twice.
    pub instance: u64,
    /// What to load, from a generic template; nothing from a dedicated one.
    pub code: Option<Code>,
    pub limits: Limits,
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Its process ended by itself, with this status.
    Exit(i32),
    /// Its process was ended by this signal.
    Signal(i32),
    /// The kernel ended it because it reached its memory limit.
    OutOfMemory,
    /// Its template or its worker is gone, and it went with them.
    Lost,
}
