//! All mappings of a node, each with its poller while it is enabled.
//!
//! ```text
//!            created, changed, enabled            deleted, disabled, the node ends
//!  disabled ─────────────────────────► polling ────────────────────────────────► disabled
//!                                         ▲ │ changed: what is under way ends first
//!                                         ╰─╯
//! ```

use crate::invoker::Invoker;
use crate::mapping::{Kind, Mapping};
use crate::store::{Store, StoreError};
use crate::work::{Progress, Work};
use crate::{kafka, sqs, stream};
use aws::Aws;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a mapping is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its poller has not looked at the source yet.
    Starting,
    Enabled,
    Disabled,
}

/// A mapping and its poller.
struct Held {
    mapping: Arc<Mapping>,
    progress: Arc<Progress>,
    stop: watch::Sender<bool>,
    /// Of the poller, or of its end.
    task: Option<JoinHandle<()>>,
}

/// What pollers need beside their mappings; there once the node runs.
struct Means {
    aws: Arc<Aws>,
    invoker: Arc<dyn Invoker>,
}

/// The mappings of a node.
pub struct Sources {
    store: Arc<Store>,
    held: Mutex<BTreeMap<String, Held>>,
    means: Mutex<Option<Means>>,
}

impl Sources {
    /// Opens the mappings at `path`. Nothing is read before [`Sources::start`]. Blocks on the disk.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Arc::new(Store::open(path)?);
        let held = store.mappings()?.into_iter().map(|mapping| (mapping.uuid.clone(), Held::new(mapping.into())));
        let held = Mutex::new(held.collect());
        Ok(Self { store, held, means: Mutex::default() })
    }

    /// Begins to read all that is enabled. Within a tokio runtime.
    pub fn start(&self, aws: Aws, invoker: Arc<dyn Invoker>) {
        *self.means.lock().unwrap_or_else(PoisonError::into_inner) = Some(Means { aws: Arc::new(aws), invoker });
        let mut held = self.held();
        held.values_mut().for_each(|held| self.poll(held, None));
    }

    /// Reads nothing more, and waits for what is under way; whether it ended in time.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.means.lock().unwrap_or_else(PoisonError::into_inner).take();
        let tasks: Vec<JoinHandle<()>> = self.held().values_mut().filter_map(Held::end).collect();
        let all = async {
            for task in tasks {
                // A poller that has panicked has ended, too.
                let _ = task.await;
            }
        };
        tokio::time::timeout(patience, all).await.is_ok()
    }

    pub fn get(&self, uuid: &str) -> Option<Arc<Mapping>> {
        self.held().get(uuid).map(|held| held.mapping.clone())
    }

    /// All mappings, in the order of their UUIDs.
    pub fn all(&self) -> Vec<Arc<Mapping>> {
        self.held().values().map(|held| held.mapping.clone()).collect()
    }

    /// What a mapping is doing, and what its last batch came to.
    pub fn state(&self, uuid: &str) -> Option<(State, String)> {
        let held = self.held();
        let held = held.get(uuid)?;
        let state = match (held.mapping.enabled, held.progress.is_ready()) {
            (false, _) => State::Disabled,
            (true, true) => State::Enabled,
            (true, false) => State::Starting,
        };
        Some((state, held.progress.result()))
    }

    /// Makes a mapping, or replaces the one of its UUID; its poller begins, or begins anew. Blocks on the disk; within a
    /// tokio runtime.
    pub fn put(&self, mapping: Mapping) -> Result<Arc<Mapping>, StoreError> {
        let mut all = self.held();
        self.store.write(&mapping)?;
        let mapping = Arc::new(mapping);
        let mut new = Held::new(mapping.clone());
        let before = all.get_mut(&mapping.uuid).and_then(Held::end);
        self.poll(&mut new, before);
        all.insert(mapping.uuid.clone(), new);
        Ok(mapping)
    }

    /// Changes what is kept of a mapping beside what its poller reads. Blocks on the disk.
    pub fn annotate(&self, uuid: &str, change: impl FnOnce(&mut Mapping)) -> Result<bool, StoreError> {
        let mut all = self.held();
        let Some(held) = all.get_mut(uuid) else { return Ok(false) };
        let mut mapping = (*held.mapping).clone();
        change(&mut mapping);
        self.store.write(&mapping)?;
        held.mapping = Arc::new(mapping);
        Ok(true)
    }

    /// Deletes a mapping: the one that was there. What its poller has under way ends by itself. Blocks on the disk.
    pub fn delete(&self, uuid: &str) -> Result<Option<Arc<Mapping>>, StoreError> {
        let mut all = self.held();
        if !all.contains_key(uuid) {
            return Ok(None);
        }
        self.store.delete(uuid)?;
        Ok(all.remove(uuid).map(|mut held| {
            held.end();
            held.mapping.clone()
        }))
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a mapping's poller where it is to have one, when the one before it has ended.
    fn poll(&self, held: &mut Held, before: Option<JoinHandle<()>>) {
        let means = self.means.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Means { aws, invoker }) = means.as_ref() else { return };
        if !held.mapping.enabled {
            held.task = before;
            return;
        }
        let work = Work {
            filters: held.mapping.filters().into(),
            mapping: held.mapping.clone(),
            aws: aws.clone(),
            invoker: invoker.clone(),
            store: self.store.clone(),
            progress: held.progress.clone(),
            stop: held.stop.subscribe(),
        };
        held.task = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            match work.mapping.kind {
                Kind::Sqs => sqs::poll(work).await,
                Kind::Kinesis | Kind::DynamoDb => stream::poll(work).await,
                Kind::Kafka => kafka::poll(work).await,
            }
        }));
    }
}

impl Held {
    fn new(mapping: Arc<Mapping>) -> Self {
        Self { mapping, progress: Arc::new(Progress::new()), stop: watch::Sender::new(false), task: None }
    }

    /// Tells the poller to end: its task.
    fn end(&mut self) -> Option<JoinHandle<()>> {
        self.stop.send_replace(true);
        self.task.take()
    }
}
