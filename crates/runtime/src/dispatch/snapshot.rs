//! What a node looks like at a moment: for `ls`, `top`, `/v1` and `/metrics`.

use super::counters::Tally;
use crate::function::FunctionKey;
use sandbox::spec::{Kind, Network};

/// The whole node.
#[derive(Clone, Debug)]
pub struct NodeState {
    pub worker: WorkerState,
    pub draining: bool,
    /// Invocations that are running or waiting for an instance.
    pub in_flight: u32,
    /// The node's limit of them.
    pub concurrency: u32,
    /// Instances being started.
    pub starting: u32,
    /// Sorted by key.
    pub functions: Vec<FunctionState>,
    pub templates: Vec<TemplateState>,
}

/// The worker, as far as it has said.
#[derive(Clone, Debug, Default)]
pub struct WorkerState {
    pub ready: bool,
    /// What it runs.
    pub kinds: Vec<Kind>,
    /// What it cannot enforce here, as sentences.
    pub missing: Vec<String>,
    /// How often a worker has been lost.
    pub losses: u64,
}

/// One function in one of its revisions.
#[derive(Clone, Debug)]
pub struct FunctionState {
    pub key: FunctionKey,
    pub revision: String,
    /// Replaced by a newer revision, or withdrawn: ends with its last instance.
    pub closed: bool,
    /// Instances that have served and wait.
    pub idle: u32,
    /// Instances that have served nobody yet and wait.
    pub stems: u32,
    pub busy: u32,
    pub starting: u32,
    /// Requests that wait for an instance.
    pub queued: u32,
    /// Over all revisions of the function, since the node's start.
    pub tally: Tally,
}

/// One template.
#[derive(Clone, Debug)]
pub struct TemplateState {
    pub kind: Kind,
    pub network: Network,
    /// The function of a dedicated template.
    pub function: Option<FunctionKey>,
    pub phase: TemplatePhase,
}

/// How far a template is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePhase {
    /// Wanted, but others are prepared first.
    Waiting,
    Preparing,
    /// `prepare_us` microseconds were spent on it.
    Ready {
        prepare_us: u64,
    },
    /// Instances load the function themselves, for this reason.
    Refused {
        reason: String,
    },
}
