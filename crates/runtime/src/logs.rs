//! What functions print, and what the platform writes beside it: kept in append-only files, bounded in size and age.
//!
//! ```text
//!  invocation ──append──► queue ──batch──► writer thread ──► group's files (segments)
//!                (bounded)                      │                    │
//!                                               ╰──► followers       ╰──► read
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`record`] | one line, and how it is written in a file |
//! | [`group`] | what is known of a group beside its lines |
//! | [`select`], [`pattern`] | pages of events, as CloudWatch Logs has them |
//! | `operations` | what can be done to groups and streams |
//! | [`queue`] | what waits to be written |
//! | [`segments`] | a group's files |
//! | [`writer`] | the thread that writes |
//!
//! Nothing is lost because a reader or the disk is slow: whoever appends much waits for [`LogStore::poll_room`]. What a
//! full disk refuses is lost, and counted.

pub mod group;
mod operations;
pub mod pattern;
pub mod queue;
pub mod record;
pub mod segments;
pub mod select;
pub mod writer;

pub use group::{Details, GroupError, Listed};
pub use queue::{Entry, Put};
pub use record::{LogGroup, Record};

use group::Groups;
use queue::{Queue, Removal};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use thiserror::Error;
use tokio::sync::{broadcast, oneshot};

/// Records that a follower can be behind before it misses some.
const FOLLOWERS_LAG: usize = 4096;

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

/// Those who follow a group.
type Followers = Mutex<HashMap<LogGroup, broadcast::Sender<Record>>>;

/// The logs of this node.
#[derive(Debug)]
pub struct LogStore {
    groups: Arc<Groups>,
    queue: Arc<Queue>,
    followers: Arc<Followers>,
    writer: Option<JoinHandle<()>>,
}

impl LogStore {
    /// Opens the store in `folder`, which is made where it is missing.
    pub fn open(folder: &Path, config: LogConfig) -> Result<Arc<Self>, OpenError> {
        let failed = |source| OpenError { folder: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let (queue, followers) = (Arc::new(Queue::default()), Arc::new(Followers::default()));
        let groups = Arc::new(Groups::new(folder.to_owned()));
        let writer = writer::Writer::new(groups.clone(), &config, queue.clone(), followers.clone());
        let thread = std::thread::Builder::new().name("logs".into()).spawn(move || writer.run()).map_err(failed)?;
        Ok(Arc::new(Self { groups, queue, followers, writer: Some(thread) }))
    }

    /// Appends one or more lines of an invocation. Never waits; see [`LogStore::poll_room`].
    pub fn append(&self, entry: Entry) {
        self.queue.push(entry);
    }

    /// Ready while what waits to be written is little enough to append more; else wakes when it is.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.queue.poll_room(cx)
    }

    /// Records of a group, oldest first, everything included that was appended before the call.
    pub async fn read(self: &Arc<Self>, group: &LogGroup, query: Query) -> Result<Vec<Record>, ReadError> {
        self.flush().await;
        let folder = self.groups.folder(group);
        let read = tokio::task::spawn_blocking(move || segments::read(&folder, &query));
        let read = read.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        read.map_err(|source| ReadError { group: group.name.clone(), source })
    }

    /// Returns when everything is in its file that was appended before the call.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        self.queue.flush(done);
        // The writer ends with this store only: it answers.
        let _ = written.await;
    }

    /// Records of a group from now on. A reader that is too slow misses some, and is told how many.
    pub fn follow(&self, group: &LogGroup) -> broadcast::Receiver<Record> {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.entry(group.clone()).or_insert_with(|| broadcast::channel(FOLLOWERS_LAG).0).subscribe()
    }

    /// Deletes what there is of a group.
    pub fn remove(&self, group: &LogGroup) {
        self.queue.remove(Removal::Group(group.clone()));
    }

    /// Bytes that could not be written, because the disk was full or failed.
    pub fn lost_bytes(&self) -> u64 {
        self.queue.lost_bytes()
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(Err(_)) = self.writer.take().map(JoinHandle::join) {
            tracing::error!("the log writer had panicked: some logs were not written");
        }
    }
}

#[cfg(test)]
mod tests;
