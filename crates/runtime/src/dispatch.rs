//! From an invocation to an instance and back.
//!
//! | module | what it is |
//! |---|---|
//! | [`call`] | what goes into an invocation and what comes out |
//! | [`config`] | limits and policies of a node |
//! | [`counters`] | what is counted |
//! | [`snapshot`] | what a node looks like at a moment |

pub mod call;
pub mod config;
pub mod counters;
pub mod snapshot;

pub use call::{Call, InvokeError, Outcome, PlatformError, Report, Spans, StartKind, ThrottleReason};
pub use config::{DispatchConfig, Latency};
pub use snapshot::NodeState;

use crate::billing::BillSink;
use crate::function::{Function, FunctionKey};
use crate::logs::LogStore;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Runs functions on this node: owns every instance, and speaks to the worker.
pub struct Dispatcher {
    config: DispatchConfig,
}

impl Dispatcher {
    /// Must be called within a tokio runtime, on which all further work takes place.
    pub fn new(config: DispatchConfig, _logs: Arc<LogStore>, _bills: impl BillSink) -> Arc<Self> {
        Arc::new(Self { config })
    }

    /// Takes over the connection to a worker, at the start and whenever the supervisor has restarted it. What an earlier
    /// worker ran is lost.
    pub fn attach_worker(self: &Arc<Self>, socket: OwnedFd) {
        drop(socket);
    }

    /// Whether a worker has said that it is there.
    pub fn worker_ready(&self) -> bool {
        false
    }

    /// Announces a new or changed function: its template is prepared, its minimum of warm instances kept, and instances
    /// of its older revisions end when they are idle.
    pub fn deploy(self: &Arc<Self>, function: Arc<Function>) {
        drop(function);
    }

    /// Ends what a function has: idle instances now, busy ones when they have answered.
    pub fn withdraw(&self, _key: &FunctionKey) {}

    /// Runs a function once. Dropping the future does not stop the invocation, as on Lambda.
    pub async fn invoke(self: &Arc<Self>, _function: &Arc<Function>, _call: Call) -> Result<Outcome, InvokeError> {
        Err(InvokeError::NoWorker)
    }

    /// The node at this moment.
    pub fn snapshot(&self) -> NodeState {
        NodeState {
            worker: snapshot::WorkerState::default(),
            draining: false,
            in_flight: 0,
            concurrency: self.config.concurrency,
            starting: 0,
            functions: Vec::new(),
            templates: Vec::new(),
        }
    }

    /// Refuses new invocations and waits until the running ones have ended, for `limit` at most; then ends all instances.
    pub async fn drain(&self, _limit: Duration) {}
}
