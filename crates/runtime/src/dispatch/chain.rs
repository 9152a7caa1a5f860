//! Requests through chains of functions: each stage's result goes to the next stage by memory, and the gateway is not on
//! its way.
//!
//! ```text
//!                invoke_flow ─► sets: take, build or wait ─► first stage ══► … ══► last stage ─► outcome
//!                                   ▲           │
//!                                   ╰── build ◄─╯   one instance per stage, taken or started as for any function, and
//!                                                   connected with each other
//! ```
//!
//! A *set* is one instance per stage, held together: one request at a time goes through it, and there are as many sets as
//! requests at once ask for. A set whose instance is gone is of no use, and ends with it; an idle one ends when idle
//! instances do.
//!
//! | module | what it is |
//! |---|---|
//! | [`sets`] | which sets there are, who waits for one, and how many are being built |
//! | [`set`] | the instances of one set |
//! | [`build`] | how a set comes to be |
//! | [`course`] | one request, from its admission to its bills |
//! | [`account`] | what each stage is told to have taken, and what that costs |

mod account;
mod build;
mod course;
mod set;
pub(super) mod sets;

use super::call::{Call, InvokeError, StartKind};
use super::keep_going::KeepGoing;
use super::{Dispatcher, PlatformError};
use crate::function::{Function, FunctionKey};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the ids that go along a chain: with them, the longest answer is no longer a message than shims carry.
const CONTEXT_MAX: usize = 512;

/// A chain, as one request finds it.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Unique on this node: its ARN.
    pub id: String,
    /// Two or more.
    pub stages: Vec<Stage>,
    /// For all stages together.
    pub timeout: Duration,
}

/// A stage of a chain.
#[derive(Clone, Debug)]
pub struct Stage {
    pub function: Arc<Function>,
    /// As the chain names it, with its qualifier.
    pub arn: String,
}

/// How a request has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowOutcome {
    /// The last stage's answer, or the error object of the stage that failed.
    pub body: Bytes,
    /// The stage that failed, counted from 0.
    pub failed: Option<usize>,
    /// What each stage took, as far as the request came.
    pub stages: Vec<StageReport>,
    /// Cold where the set was built for this request.
    pub start: StartKind,
    pub spans: FlowSpans,
}

/// What a stage took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageReport {
    /// As the worker knows it.
    pub instance: u64,
    /// Where it ran.
    pub pu: u8,
    /// Just before the handler's first line and just after its last, as the instance tells it: `CLOCK_MONOTONIC`,
    /// nanoseconds; 0 where it does not.
    pub begun: u64,
    pub ended: u64,
    /// From the request's coming to its going on.
    pub duration: Duration,
    pub billed_ms: u64,
}

/// When a request passed the gateway's stations: `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSpans {
    pub accepted: u64,
    /// There was a set.
    pub decided: u64,
    /// The answer was here.
    pub received: u64,
}

impl Flow {
    fn has(&self, key: &FunctionKey, is: impl Fn(&Function) -> bool) -> bool {
        self.stages.iter().any(|stage| *stage.function.key == *key && is(&stage.function))
    }

    /// Whether two requests found the same functions in the same state.
    fn is(&self, other: &Self) -> bool {
        let same = |(one, other): (&Stage, &Stage)| Arc::ptr_eq(&one.function, &other.function) && one.arn == other.arn;
        self.stages.len() == other.stages.len() && self.stages.iter().zip(&other.stages).all(same)
    }
}

impl Dispatcher {
    /// Runs a request through a chain. Dropping the future does not stop it.
    pub async fn invoke_flow(self: &Arc<Self>, flow: Arc<Flow>, call: Call) -> Result<FlowOutcome, InvokeError> {
        KeepGoing::new(self.runtime.clone(), course::run(self.clone(), flow, call)).await
    }

    /// A function is not what it was: sets with other states of it than this one end.
    pub(super) fn forget_sets(&self, key: &FunctionKey, revision: Option<&str>) {
        let stale = |flow: &Flow| flow.has(key, |function| Some(function.revision.as_str()) != revision);
        drop(self.sets.retire(stale));
    }

    /// A chain is not what it was: its sets end.
    pub fn withdraw_flow(&self, id: &str) {
        drop(self.sets.retire(|flow| flow.id == id));
    }

    /// An instance is gone: a set that waits with it ends.
    pub(super) fn bury_set(&self, instance: u64) {
        drop(self.sets.remove_with(instance));
    }
}

/// Why a request got no set.
enum Refusal {
    Platform(InvokeError),
    /// A stage cannot be loaded: its error object.
    Stage {
        at: usize,
        body: Bytes,
    },
}

impl From<PlatformError> for Refusal {
    fn from(error: PlatformError) -> Self {
        Self::Platform(error.into())
    }
}

impl From<InvokeError> for Refusal {
    fn from(error: InvokeError) -> Self {
        Self::Platform(error)
    }
}
