//! Flows: plans carried out.
//!
//! ```text
//!   run ──► plan ──► shards, a window of them at a time ──► functions
//!             ▲                     │
//!             ╰───── outcomes ◄─────╯
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | what a node bears |
//! | `abreast` | shards that go on beside each other |
//! | `drive` | one run, from its inputs to its outputs |
//! | [`shard`] | one shard, by the kind of its function |
//! | [`datum`] | items' data, and the room that there is for it |
//! | `keeping` | which items stay with the engines that make them |
//! | [`run`] | what is known of runs |
//!
//! Not here: which functions there are (whoever asks for a run has found them), and chains of handlers, which pass their
//! results on by memory: [`crate::dispatch::chain`].

mod abreast;
pub mod config;
pub mod datum;
mod drive;
mod keeping;
pub mod run;
pub mod shard;
#[cfg(test)]
mod tests;

pub use config::FlowConfig;
pub use datum::Datum;
pub use run::{Run, Runs, State};
pub use shard::{Functions, Hand, Perform};

use bytes::Bytes;
use datum::{Purse, Room};
use drive::Drive;
use flow::Program;
use flow::plan::{Bounds, UnknownSet};
use keeping::Keeping;
use sets::Sets;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Why a run came to nothing.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("{0} flows run on this node at present, which is its limit (`runs` in `[flows]`): try again")]
    Busy(usize),
    #[error("the items of all flows on this node come to its limit of {0} bytes (`node_mib` in `[flows]`): try again")]
    NodeFull(u64),
    #[error(transparent)]
    UnknownSet(#[from] UnknownSet),
    #[error("the flow's items come to more than {0} bytes at a time (`run_mib` in `[flows]`)")]
    TooMuch(u64),
    #[error("the flow has more than {0} shards (`shards_max` in `[flows]`)")]
    TooMany(u64),
    #[error("the flow's time is over")]
    Timeout,
    #[error("the run was cancelled")]
    Cancelled,
    /// An error object: a shard's, with where in the flow it is.
    #[error("a function of the flow has failed")]
    Failed(Bytes),
}

impl RunError {
    /// Whether nothing is wrong with the flow, and it may be tried again.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::NodeFull(_))
    }

    /// An error object in Lambda's form.
    pub fn object(&self) -> Bytes {
        let kind = match self {
            Self::Failed(object) => return object.clone(),
            Self::Busy(_) | Self::NodeFull(_) => "Flow.Busy",
            Self::UnknownSet(_) => "Flow.UnknownSet",
            Self::TooMuch(_) => "Flow.TooMuch",
            Self::TooMany(_) => "Flow.TooManyShards",
            Self::Timeout => "Flow.Timeout",
            Self::Cancelled => "Flow.Cancelled",
        };
        shard::object(kind, &self.to_string())
    }
}

/// Who asks for a run, and how long it may take.
#[derive(Clone, Debug)]
pub struct Order {
    /// A request id: unique.
    pub id: String,
    /// The flow's ARN.
    pub flow: String,
    pub trace_id: String,
    pub timeout: Duration,
    /// Whether the outputs are kept for who asks later.
    pub keeps: bool,
}

/// The flows of a node.
#[derive(Debug)]
pub struct Flows {
    pub config: FlowConfig,
    pub runs: Runs,
    room: Arc<Room>,
    turns: Semaphore,
}

impl Flows {
    pub fn new(config: FlowConfig) -> Self {
        let (runs, room) = (Runs::new(&config), Room::new(config.node_mib << 20));
        let turns = Semaphore::new(config.runs.clamp(1, Semaphore::MAX_PERMITS));
        Self { config, runs, room, turns }
    }

    /// Bytes of items that runs hold.
    pub fn held(&self) -> u64 {
        self.room.used()
    }

    /// Runs a flow. Dropping the future cancels it.
    pub async fn run(
        &self,
        program: Arc<Program>,
        performer: Arc<dyn Perform>,
        inputs: Sets<Bytes>,
        order: Order,
    ) -> Result<Sets<Bytes>, RunError> {
        let _turn = self.turns.try_acquire().map_err(|_| RunError::Busy(self.config.runs))?;
        if self.room.is_full() {
            return Err(RunError::NodeFull(self.room.limit()));
        }
        let run = self.runs.enter(&order.id, &order.flow, order.keeps);
        let over = Over { flows: self, run: run.clone(), state: State::Cancelled };
        if run.is_cancelled() {
            return Err(RunError::Cancelled);
        }
        run.begin(&program);
        let purse = Purse { run: Room::new(self.config.run_mib << 20), node: self.room.clone() };
        let deadline = Instant::now() + order.timeout;
        let keeping = match self.config.hold_kib {
            0 => Keeping::default(),
            kib => Keeping::of(&program, &*performer, kib.saturating_mul(1024)),
        };
        let drive = Drive { run, program, performer, purse, keeping, bounds: self.bounds(), order, deadline };
        let result = drive.run(inputs).await;
        over.with(&result);
        result
    }

    fn bounds(&self) -> Bounds {
        let spread = if self.config.spread == 0 { daemon::pu::processors() as usize } else { self.config.spread };
        Bounds { window: self.config.window.max(1), spread, shards: self.config.shards_max }
    }
}

/// Notes how a run has ended, also where nobody waits for it any more.
struct Over<'a> {
    flows: &'a Flows,
    run: Arc<Run>,
    state: State,
}

impl Over<'_> {
    fn with(mut self, result: &Result<Sets<Bytes>, RunError>) {
        self.state = match result {
            Ok(outputs) => State::Done(self.run.keeps.then(|| Arc::new(outputs.clone()))),
            Err(RunError::Cancelled) => State::Cancelled,
            Err(error) => State::Failed(error.object()),
        };
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Cancelled);
        self.flows.runs.end(&self.run, state);
    }
}
