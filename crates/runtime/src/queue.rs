//! Asynchronous invocations: accepted when they are on disk, delivered at least once, retried, and never forgotten.
//!
//! ```text
//!  accept ─► writer ═► disk ─► machine ─► driver ─► performer ─► function, queue, topic
//!               ▲                 ▲          │
//!               ╰─────────────────┴──────────╯ done, retry, dead; messages to destinations
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`event`] | what is in the queue, and who delivers it |
//! | [`config`] | limits of a node |
//! | [`machine`] | what happens when: pure |
//! | `driver` | the machine's decisions, done |
//! | `writer`, `store` | the disk |
//! | `record`, `room` | what destinations are told; how much there is room for |
//!
//! An event that ran when the node was killed runs again, with the same request id; a message to a destination is
//! written in the transaction that ends its event, so there is one, and it is there. Nothing here knows what a function
//! is: targets are ARNs, and the performer knows their meaning.

pub mod config;
mod driver;
pub mod event;
pub mod machine;
mod record;
mod room;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use config::QueueConfig;
pub use event::{Dead, Event, Performance, Performed, Performer, Policy};
pub use store::Which;

use machine::{Limits, Machine, Step};
use room::Room;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::Waiting;
use thiserror::Error;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use writer::{Accepted, Command, Conclusion, Writer};

/// Commands that the writer has not taken yet; whoever finds no room is told so, and nobody waits for it.
const COMMANDS_MAX: usize = 16_384;

/// Bytes that may be decided and not yet written. Beyond, as while the disk is full, nothing more is delivered: it could not
/// be noted, and would run again.
const OWED_MAX: u64 = 64 << 20;

/// Why there is no queue.
#[derive(Debug, Error)]
#[error("the queue {path:?} cannot be opened")]
pub struct OpenError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// Why an event was not accepted. It is then nowhere.
#[derive(Debug, Error)]
pub enum AcceptError {
    #[error("{len} byte payload is too large for the Event invocation type (limit {limit} bytes)")]
    TooLarge { len: usize, limit: usize },
    /// Lambda's text.
    #[error("Rate Exceeded.")]
    Full,
    #[error("the node has no room on disk for its queue: free some in its data folder, and try again")]
    DiskFull,
    #[error("the node could not write its queue: {0}")]
    Disk(Box<str>),
    #[error("this node is shutting down and takes no new invocations")]
    Stopped,
}

/// Why nothing could be done with dead events.
#[derive(Debug, Error)]
pub enum DeadError {
    #[error("the queue cannot be read or written")]
    Database(#[from] rusqlite::Error),
    #[error("this node is shutting down")]
    Stopped,
}

/// What the queue looks like at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Events that wait or run.
    pub depth: u64,
    pub running: u64,
    /// Milliseconds since the oldest was accepted.
    pub oldest_age_ms: u64,
    pub dead: u64,
    /// Retries since the node's start.
    pub retries: u64,
    /// Events accepted since the node's start.
    pub accepted: u64,
    /// Bytes of all of them, the dead included.
    pub bytes: u64,
    /// Events that wait or run, by target.
    pub targets: Vec<(String, u64)>,
}

/// What the queue's parts share.
struct Shared {
    machine: Mutex<Machine>,
    room: Room,
    /// What was decided and the writer has not taken yet.
    concluded: Mutex<Vec<Conclusion>>,
    /// Bytes of that, and of what the writer has taken and not written.
    owed: AtomicU64,
    changed: watch::Sender<()>,
    stopped: AtomicBool,
    dead: AtomicU64,
    retries: AtomicU64,
    accepted: AtomicU64,
}

/// A node's asynchronous invocations.
pub struct Queue {
    config: QueueConfig,
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    reader: Mutex<Connection>,
}

impl Queue {
    /// Opens the queue at `path`, or makes a new one; what was in it waits again. Nothing is delivered before
    /// [`Queue::start`].
    pub fn open(path: &Path, config: QueueConfig) -> Result<Arc<Self>, OpenError> {
        let failed = |source| OpenError { path: path.to_owned(), source };
        let connection = store::open(path, config.durable).map_err(failed)?;
        let reader = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        let waiting = store::waiting(&connection).map_err(failed)?;
        let (dead, dead_bytes) = store::dead_room(&connection).map_err(failed)?;
        let limits = Limits {
            concurrency: config.concurrency.max(1),
            retry_ms: config.retry_s.iter().map(|seconds| seconds.saturating_mul(1000)).collect(),
        };
        let shared = Arc::new(Shared {
            machine: Mutex::new(Machine::new(limits)),
            room: Room::new(config.events_max, config.bytes_max_mib << 20),
            concluded: Mutex::default(),
            owed: AtomicU64::new(0),
            changed: watch::Sender::new(()),
            stopped: AtomicBool::new(false),
            dead: AtomicU64::new(dead),
            retries: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
        });
        shared
            .room
            .force(dead + waiting.len() as u64, dead_bytes + waiting.iter().map(|event| event.bytes).sum::<u64>());
        shared.enter(&waiting);
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let lost = |error| failed(rusqlite::Error::ToSqlConversionFailure(Box::new(error)));
        let writer = Writer::new(connection, shared.clone()).map_err(lost)?;
        std::thread::Builder::new().name("queue".to_owned()).spawn(move || writer.run(received)).map_err(lost)?;
        Ok(Arc::new(Self { config, shared, commands, reader: Mutex::new(reader) }))
    }

    /// Begins to deliver. Within a tokio runtime.
    pub fn start(self: &Arc<Self>, performer: Arc<dyn Performer>) {
        tokio::spawn(driver::run(Arc::downgrade(self), performer));
    }

    /// Delivers nothing more; what runs goes on.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Relaxed);
        self.shared.changed();
    }

    /// Waits until nothing runs any more; whether that was so in time. What runs when the node ends runs again.
    pub async fn settle(&self, patience: Duration) -> bool {
        let mut changed = self.shared.changed.subscribe();
        let settled = async {
            while self.shared.machine().running() > 0 {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(patience, settled).await.is_ok()
    }

    /// Waits until everything so far is written; whether that was so in time.
    pub async fn flush(&self, patience: Duration) -> bool {
        let (done, written) = oneshot::channel();
        let asked = async { self.commands.send(Command::Flush(done)).await.is_ok() && written.await.is_ok() };
        tokio::time::timeout(patience, asked).await.unwrap_or(false)
    }

    pub fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// Takes an event. It is on disk when this has returned, or it was not taken.
    pub async fn accept(&self, event: Event) -> Result<(), AcceptError> {
        self.take(event, false).await
    }

    /// The same, unless an event with this request id was taken in this way within the last day: then that was it.
    pub async fn accept_once(&self, event: Event) -> Result<(), AcceptError> {
        self.take(event, true).await
    }

    async fn take(&self, event: Event, once: bool) -> Result<(), AcceptError> {
        let (len, limit) = (event.payload.len(), self.config.payload_max);
        if len > limit {
            return Err(AcceptError::TooLarge { len, limit });
        }
        if self.shared.stopped.load(Relaxed) {
            return Err(AcceptError::Stopped);
        }
        if !self.shared.room.take(event.bytes()) {
            return Err(AcceptError::Full);
        }
        let (reply, written) = oneshot::channel();
        let bytes = event.bytes();
        if let Err(refused) = self.commands.try_send(Command::Accept(Box::new(Accepted { event, once, reply }))) {
            self.shared.room.give_back(1, bytes);
            return Err(match refused {
                TrySendError::Full(_) => AcceptError::Full,
                TrySendError::Closed(_) => AcceptError::Stopped,
            });
        }
        written.await.map_err(|_| AcceptError::Stopped)??;
        self.shared.accepted.fetch_add(1, Relaxed);
        Ok(())
    }

    pub fn state(&self) -> QueueState {
        let machine = self.shared.machine();
        let oldest = machine.oldest_ms().map(|accepted| api::time::now_ms().saturating_sub(accepted));
        QueueState {
            depth: machine.depth(),
            running: machine.running().into(),
            oldest_age_ms: oldest.unwrap_or_default(),
            dead: self.shared.dead.load(Relaxed),
            retries: self.shared.retries.load(Relaxed),
            accepted: self.shared.accepted.load(Relaxed),
            bytes: self.shared.room.bytes(),
            targets: machine.depths().map(|(target, depth)| (target.to_owned(), depth)).collect(),
        }
    }

    /// Dead events without their payloads, the latest first. Blocks on the disk.
    pub fn dead(&self, which: &Which, limit: u32) -> Result<Vec<Dead>, DeadError> {
        Ok(store::dead(&self.reader(), which, limit, false)?)
    }

    /// The latest of the dead events that are meant, whole. Blocks on the disk.
    pub fn last_dead(&self, which: &Which) -> Result<Option<Dead>, DeadError> {
        Ok(store::dead(&self.reader(), which, 1, true)?.pop())
    }

    /// Has dead events delivered again: how many.
    pub async fn redrive(&self, which: Which) -> Result<u64, DeadError> {
        self.ask(|reply| Command::Redrive(which, reply)).await
    }

    /// Deletes dead events: how many.
    pub async fn purge(&self, which: Which) -> Result<u64, DeadError> {
        self.ask(|reply| Command::Purge(which, reply)).await
    }

    async fn ask(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<u64, DeadError>>) -> Command,
    ) -> Result<u64, DeadError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| DeadError::Stopped)?;
        answer.await.map_err(|_| DeadError::Stopped)?
    }

    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn concluded(&self) -> MutexGuard<'_, Vec<Conclusion>> {
        self.concluded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owe(&self, conclusion: Conclusion) {
        self.owed.fetch_add(conclusion.weight(), Relaxed);
        self.concluded().push(conclusion);
    }

    fn paid(&self, bytes: u64) {
        if self.owed.fetch_sub(bytes, Relaxed) >= OWED_MAX {
            self.changed();
        }
    }

    fn owes_too_much(&self) -> bool {
        self.owed.load(Relaxed) >= OWED_MAX
    }

    fn changed(&self) {
        self.changed.send_replace(());
    }

    fn enter(&self, waiting: &[Waiting]) {
        if waiting.is_empty() {
            return;
        }
        let mut machine = self.machine();
        waiting.iter().for_each(|event| machine.enter(&event.target, event.arrival));
        drop(machine);
        self.changed();
    }

    fn steps(&self, performer: &dyn Performer, most: usize) -> Vec<Step> {
        if self.owes_too_much() {
            return Vec::new();
        }
        let now = api::time::now_ms();
        let mut machine = self.machine();
        std::iter::from_fn(|| machine.next(now, |target| performer.policy(target))).take(most).collect()
    }

    /// How long nothing is to be done.
    fn pause(&self, most: Duration) -> Duration {
        let wake = self.machine().wake().filter(|_| !self.owes_too_much());
        let left = wake.map(|at| Duration::from_millis(at.saturating_sub(api::time::now_ms())));
        left.unwrap_or(most).min(most)
    }

    /// An event that is running and has no row any more.
    fn forget(&self, id: event::Id) {
        let policy = Policy::nowhere();
        self.machine().conclude(id, machine::Ending::Succeeded, api::time::now_ms(), &policy);
    }

    /// An event that is running and cannot be read at this moment.
    fn postpone(&self, id: event::Id) {
        let policy = Policy { age_max_ms: u64::MAX / 2, ..Policy::nowhere() };
        self.machine().conclude(id, machine::Ending::Broken, api::time::now_ms(), &policy);
    }
}
