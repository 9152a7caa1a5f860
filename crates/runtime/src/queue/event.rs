//! What is in the queue, and what becomes of it.

use bytes::Bytes;
use std::pin::Pin;

/// An event's number: events are numbered in the order in which they were accepted.
pub type Id = i64;

/// One asynchronous invocation, or one message to a destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Stays the same however often the event is delivered.
    pub request_id: String,
    /// ARN of a function, with the qualifier that was given, or of another service's queue, topic or bus.
    pub target: String,
    /// JSON.
    pub payload: Bytes,
    /// The caller's client context; for a message to a destination, what accompanies it. JSON or empty.
    pub context: String,
    pub trace_id: String,
    pub tenant_id: String,
    /// Milliseconds since 1970.
    pub accepted_ms: u64,
    /// How often the function has failed with it.
    pub attempts: u32,
}

impl Event {
    /// What it takes of the queue's room.
    pub fn bytes(&self) -> u64 {
        (self.payload.len() + self.context.len()) as u64
    }
}

/// How the events of a target are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub retries: u32,
    pub age_max_ms: u64,
    /// The most at once that the target is known to bear.
    pub concurrency: Option<u32>,
    /// ARNs; empty for nowhere.
    pub on_success: String,
    pub on_failure: String,
    pub dead_letters: String,
}

impl Policy {
    /// No retries, no age, no destinations.
    pub fn nowhere() -> Self {
        let [on_success, on_failure, dead_letters] = [const { String::new() }; 3];
        Self { retries: 0, age_max_ms: 0, concurrency: None, on_success, on_failure, dead_letters }
    }
}

/// What came of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Performed {
    /// The function answered, with an error object where it `failed`.
    Answered { body: Bytes, failed: bool, version: String },
    /// There was no room for it: nothing has run.
    Throttled,
    /// The platform could not do it, and may be able to later.
    Broken { reason: String },
    /// It can never be done: the target does not exist, or cannot be reached from this node.
    Impossible { reason: String },
}

pub type Performance = Pin<Box<dyn Future<Output = Performed> + Send>>;

/// Who delivers events, and knows how targets want theirs treated.
pub trait Performer: Send + Sync + 'static {
    fn policy(&self, target: &str) -> Policy;
    fn perform(&self, event: Event) -> Performance;
}

/// Why an event is dead; the words are Lambda's where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    RetriesExhausted,
    EventAgeExceeded,
    TargetUnavailable,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "RetriesExhausted",
            Self::EventAgeExceeded => "EventAgeExceeded",
            Self::TargetUnavailable => "TargetUnavailable",
        }
    }
}

/// An event that was given up, and had nowhere to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    pub event: Event,
    pub reason: String,
    /// The last answer, or what the platform says.
    pub error: Bytes,
    /// Milliseconds since 1970.
    pub died_ms: u64,
}
