//! What every request can reach.

use crate::auth::Auth;
use crate::config::Config;
use crate::http::body::Bodies;
use crate::http::guard::Guard;
use crate::v1::Programs;
use aws::Aws;
use daemon::drain::Signal;
use daemon::readiness::Readiness;
use fetch::Fetch;
use runtime::dispatch::Dispatcher;
use runtime::flow::Flows;
use runtime::ledger::Ledger;
use runtime::logs::LogStore;
use runtime::queue::Queue;
use runtime::registry::{Change, Registry};
use sources::Sources;
use sources::schedule::Rules;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

/// Packages that are fetched at once.
const FETCHES: usize = 2;

/// Why a node's parts could not be put together.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the data folder {folder:?} cannot be made")]
    Folder { folder: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Code(#[from] runtime::codestore::OpenError),
    #[error(transparent)]
    Registry(#[from] runtime::registry::OpenError),
    #[error(transparent)]
    Ledger(#[from] runtime::ledger::OpenError),
    #[error(transparent)]
    Logs(#[from] runtime::logs::OpenError),
    #[error(transparent)]
    Queue(#[from] runtime::queue::OpenError),
    #[error(transparent)]
    Sources(#[from] sources::store::StoreError),
    #[error(transparent)]
    Rules(#[from] sources::schedule::rules::RulesError),
    #[error(transparent)]
    Trust(#[from] fetch::TrustError),
}

/// A node, as its gateway sees it.
pub struct Gateway {
    pub config: Config,
    pub registry: Registry,
    pub dispatcher: Arc<Dispatcher>,
    pub logs: Arc<LogStore>,
    pub ledger: Ledger,
    pub queue: Arc<Queue>,
    pub flows: Flows,
    /// Texts of flows, read.
    pub programs: Programs,
    pub sources: Sources,
    pub rules: Arc<Rules>,
    /// Held while it is looked whether a mapping may be made, and it is made.
    mapping_turn: Mutex<()>,
    /// The services beside functions, where there are any.
    pub aws: Aws,
    /// I/O functions.
    pub fetch: Fetch,
    /// Turns to fetch a package: it is in memory until it is stored.
    pub fetches: Semaphore,
    pub readiness: Readiness,
    pub bodies: Bodies,
    pub guard: Guard,
    pub auth: Auth,
    pub drain: Signal,
    /// Where the broker of sockets listens, if there is to be one.
    pub broker: OnceLock<PathBuf>,
    /// Milliseconds since 1970.
    pub started: u64,
    pub tally: Tally,
}

/// What is counted of HTTP.
#[derive(Default)]
pub struct Tally {
    /// Requests by the first digit of their answer's status, less one.
    pub statuses: [AtomicU64; 5],
}

impl Tally {
    pub fn count(&self, status: u16) {
        let class = usize::from(status / 100).clamp(1, self.statuses.len());
        self.statuses[class - 1].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were answered.
    pub fn total(&self) -> u64 {
        self.statuses.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Gateway {
    /// Opens everything that a node keeps, and puts its parts together. Within a tokio runtime; blocks on the disk.
    pub fn open(config: Config, local: SocketAddr, drain: Signal) -> Result<Arc<Self>, OpenError> {
        let folder = &config.node.data_dir;
        std::fs::create_dir_all(folder).map_err(|source| OpenError::Folder { folder: folder.clone(), source })?;
        let code = runtime::codestore::CodeStore::open(&folder.join("code"), config.code.clone())?;
        let registry = Registry::open(&folder.join("registry.db"), code)?;
        let names = config.pus.all().iter().map(|pu| pu.name.clone()).collect();
        let ledger = Ledger::open(&folder.join("bills.db"), config.bills.clone(), names)?;
        let logs = LogStore::open(&folder.join("logs"), config.logs.clone())?;
        let queue = Queue::open(&folder.join("queue.db"), config.queue.clone())?;
        let sources = Sources::open(&folder.join("sources.db"))?;
        let rules = Rules::open(&folder.join("rules.db"))?;
        let dispatcher = Dispatcher::over(&config.pus, config.dispatch.clone(), logs.clone(), ledger.clone());
        let deployer = dispatcher.clone();
        registry.observe(move |change| match change {
            Change::Deployed(function) => deployer.deploy(function),
            Change::Withdrawn(key) => deployer.withdraw(&key),
        });
        let aws = Aws::open(config.aws.clone())?;
        Ok(Arc::new(Self {
            registry,
            dispatcher,
            logs,
            ledger,
            queue,
            flows: Flows::new(config.flows.clone()),
            programs: Programs::default(),
            sources,
            rules: Arc::new(rules),
            mapping_turn: Mutex::default(),
            fetch: Fetch::open(&config.fetch, aws.clone(), config.node.region.as_str())?,
            aws,
            fetches: Semaphore::new(FETCHES),
            readiness: Readiness::default(),
            bodies: Bodies::new(
                config.http.bodies_mib,
                Duration::from_secs(config.http.stall_s),
                config.http.body_rate_min,
            ),
            guard: Guard::new(local.ip().is_loopback(), &config.http.hosts),
            auth: Auth::new(&config.auth),
            drain,
            broker: OnceLock::new(),
            started: api::time::now_ms(),
            tally: Tally::default(),
            config,
        }))
    }

    /// One change of the mappings at a time.
    pub fn mapping_turn(&self) -> MutexGuard<'_, ()> {
        self.mapping_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What keeps the node from being ready; empty when it is.
    pub fn waiting_for(&self) -> Vec<&'static str> {
        let mut waiting = self.readiness.missing();
        if !self.dispatcher.worker_ready() {
            waiting.push("worker");
        }
        if self.drain.has_begun() {
            waiting.push("nothing: the node is shutting down");
        }
        waiting
    }

    /// Does what waits for the disk where nobody else waits for it.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let gateway = self.clone();
        tokio::task::spawn_blocking(move || work(&gateway)).await
    }
}
