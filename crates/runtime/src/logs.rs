//! What functions print, and what the platform writes beside it: kept in append-only files, bounded in size and age.
//!
//! | module | what it is |
//! |---|---|
//! | [`record`] | one line, and how it is written in a file |

pub mod record;

pub use record::{LogGroup, Record};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::broadcast;

/// The `[logs]` section of `lichen.toml`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// MiB kept for each log group; the oldest go first.
    pub group_max_mib: u64,
    /// Days after which records go.
    pub retention_days: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { group_max_mib: 64, retention_days: 14 }
    }
}

/// Why there is no log store.
#[derive(Debug, Error)]
#[error("the log folder {folder} cannot be used: check that it exists or can be made, and that it is writable")]
pub struct OpenError {
    folder: PathBuf,
    #[source]
    source: io::Error,
}

/// Why a log could not be read.
#[derive(Debug, Error)]
#[error("the log of {group} could not be read")]
pub struct ReadError {
    group: String,
    #[source]
    source: io::Error,
}

/// Which records of a group.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// From this time on: milliseconds since 1970.
    pub since_ms: u64,
    /// Up to this time, exclusively; 0 for no end.
    pub until_ms: u64,
    /// Of this invocation only.
    pub request_id: Option<String>,
    /// The last so many of them; 0 for all.
    pub last: usize,
}

/// The logs of this node.
pub struct LogStore {}

impl LogStore {
    /// Opens the store in `folder`, which is made where it is missing.
    pub fn open(folder: &Path, _config: LogConfig) -> Result<Arc<Self>, OpenError> {
        let opened = std::fs::create_dir_all(folder);
        opened.map_err(|source| OpenError { folder: folder.to_owned(), source })?;
        Ok(Arc::new(Self {}))
    }

    /// Records of a group, oldest first, everything included that was appended before the call.
    pub async fn read(self: &Arc<Self>, group: &LogGroup, _query: Query) -> Result<Vec<Record>, ReadError> {
        let _ = group;
        Ok(Vec::new())
    }

    /// Records of a group from now on. A reader that is too slow misses some, and is told how many.
    pub fn follow(&self, _group: &LogGroup) -> broadcast::Receiver<Record> {
        broadcast::channel(1).1
    }

    /// Deletes what there is of a group.
    pub fn remove(&self, _group: &LogGroup) {}
}
