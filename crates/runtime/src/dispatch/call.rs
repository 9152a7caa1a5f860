//! What goes into an invocation and what comes out of it.

use super::holding::Hold;
use bytes::Bytes;
use cfork::invocation::Cause;
use interconnect::channel::{OpenError, Tail};
use std::io;
use std::time::Duration;
use thiserror::Error;

/// One invocation, as its caller wants it. Absent strings are empty.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Unique; appears in the log, the bill and the function's context.
    pub request_id: String,
    /// The event, JSON; of a pure function, its message.
    pub payload: Bytes,
    /// What follows in a pure function's message: bytes that lie elsewhere and are not put together before they are sent.
    pub rest: Vec<Bytes>,
    /// The ARN by which the function was called, with the qualifier that its caller gave.
    pub invoked_arn: String,
    /// JSON, as the mobile SDKs make it, no longer in base64.
    pub client_context: String,
    pub cognito_identity: String,
    pub tenant_id: String,
    /// The `X-Amzn-Trace-Id`.
    pub trace_id: String,
    /// Whether the last 4 KB of the log are wanted with the answer.
    pub log_tail: bool,
    /// When the request arrived (`CLOCK_MONOTONIC`, nanoseconds); 0 for now.
    pub accepted: u64,
    /// Of a pure function: what its engine holds for the run of a flow that it is a part of.
    pub hold: Option<Hold>,
    /// Of a pure function: whether the end of its answer may stay where its engine has written it ([`Outcome::tail`]).
    pub lends: bool,
}

impl Call {
    /// What is sent, in its parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> + Clone {
        std::iter::once(&self.payload).chain(&self.rest).map(Bytes::as_ref)
    }

    /// Bytes of what is sent.
    pub(super) fn len(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }
}

/// How an invocation ended as far as the function is concerned.
#[derive(Debug)]
pub struct Outcome {
    /// The function's answer, or Lambda's error object.
    pub body: Bytes,
    /// The end of the answer, if it was to stay where it is.
    pub tail: Option<Tail>,
    /// Whether `body` is an error object (`X-Amz-Function-Error: Unhandled`).
    pub failed: bool,
    /// The last 4 KB of this invocation's log, where they were asked for.
    pub log_tail: Option<Vec<u8>>,
    pub report: Report,
}

/// Where the instance came from that served an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartKind {
    /// Forked for this invocation.
    Cold,
    /// Had served others.
    Warm,
    /// Had been forked ahead of time and served nobody yet.
    Stem,
}

/// What an invocation took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub start: StartKind,
    /// The instance that served it, as the worker knows it.
    pub instance: u64,
    /// The number of the PU on which that was.
    pub pu: u8,
    /// From the function's being loaded to its answer.
    pub duration: Duration,
    pub billed_ms: u64,
    /// Start and loading, where this invocation waited for them.
    pub init: Option<Duration>,
    /// Bytes used at most so far by the instance; 0 where the host does not tell.
    pub memory_peak: u64,
    /// Whether nothing ran: the outputs had been kept.
    pub remembered: bool,
    /// Of a pure function that has failed: who is to blame.
    pub cause: Cause,
    pub spans: Spans,
}

/// When an invocation passed its stations: nanoseconds of `CLOCK_MONOTONIC`, 0 for stations that it did not pass or
/// that the instance did not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Spans {
    /// The request had arrived.
    pub accepted: u64,
    /// An instance was chosen, or its start decided.
    pub decided: u64,
    /// First instruction of the instance (told by it, as the next four are).
    pub forked: u64,
    /// In its slot, fully isolated.
    pub entered: u64,
    /// The function's code was loaded.
    pub loaded: u64,
    /// Just before the handler's first line.
    pub begun: u64,
    /// Just after its last.
    pub ended: u64,
    /// The answer was here.
    pub received: u64,
}

/// Why no invocation took place: what the *platform* could not do. What a function does wrong is an [`Outcome`].
#[derive(Debug, Error)]
pub enum InvokeError {
    /// Lambda's text; the reason is a field of its own there.
    #[error("Rate Exceeded.")]
    Throttled { reason: ThrottleReason },
    #[error("this node is shutting down and takes no new invocations")]
    Draining,
    #[error("no worker runs on this node at present: it starts, or is being restarted. Try again")]
    NoWorker,
    #[error("the function runs on {kinds}, and no such PU is up at present: `lichen pu ls` tells more. Try again")]
    NoPu { kinds: String },
    #[error("the event of {len} bytes is longer than the limit of {limit}")]
    PayloadTooLarge { len: usize, limit: usize },
    #[error("client context, trace id and identity come to {len} bytes together: the limit is {limit}")]
    ContextTooLarge { len: usize, limit: usize },
    #[error("{reason}")]
    BadSets { reason: String },
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

/// Which limit a throttled invocation met; in Lambda's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThrottleReason {
    /// The function's reserved concurrency.
    ReservedFunctionConcurrentInvocationLimitExceeded,
    /// The node's.
    ConcurrentInvocationLimitExceeded,
}

impl ThrottleReason {
    /// The value of Lambda's `Reason` field.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReservedFunctionConcurrentInvocationLimitExceeded => {
                "ReservedFunctionConcurrentInvocationLimitExceeded"
            }
            Self::ConcurrentInvocationLimitExceeded => "ConcurrentInvocationLimitExceeded",
        }
    }
}

/// What broke on this node.
#[derive(Debug, Error)]
pub enum PlatformError {
    #[error("no instance could be started: {reason}")]
    NotStarted { reason: String },
    #[error("there is no template to start instances from: {reason}")]
    NoTemplate { reason: String },
    #[error("the worker that ran the instance is gone; whether the function had run is not known")]
    WorkerLost,
    #[error("no instance was free within {0:?}, and none could be started")]
    Overdue(Duration),
    #[error("stage {stage} of the chain ({function}) could not be connected: {reason}")]
    NotChained { stage: usize, function: String, reason: String },
    #[error("a channel to the instance could not be made")]
    Channel(#[source] OpenError),
    #[error("descriptors for the instance could not be had")]
    Descriptors(#[source] io::Error),
}
