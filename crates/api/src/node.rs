//! Lichen's own API under `/v1`: what a node says of itself. Times are milliseconds since 1970 unless a name says else.

use crate::pu::{Price, Profile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/node`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub version: String,
    pub account: String,
    pub region: String,
    pub started: u64,
    /// What keeps the node from being ready; empty when it is.
    pub waiting_for: Vec<String>,
    /// What this machine cannot enforce or does not have: sentences for people.
    pub missing: Vec<String>,
    pub concurrency: Concurrency,
}

/// How much of the node is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    pub busy: u64,
    pub limit: u64,
}

/// `GET /v1/functions`: a list of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Function {
    pub account: String,
    pub region: String,
    pub name: String,
    pub version: String,
    pub runtime: String,
    pub memory_mib: u32,
    /// Processing units on which it may run, the one that it likes best first; empty for those like the node's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pu: Vec<Profile>,
    pub modified: u64,
    pub code_bytes: u64,
    #[serde(default)]
    pub instances: Instances,
    /// Invocations since the node started.
    #[serde(default)]
    pub counters: Counters,
}

/// A function's instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances {
    pub idle: u64,
    pub busy: u64,
    pub starting: u64,
    /// Forked ahead of time; they have served nothing yet.
    pub stems: u64,
    /// Invocations that wait for an instance.
    pub queued: u64,
}

/// What became of a function's invocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub invocations: u64,
    pub errors: u64,
    pub throttles: u64,
    /// Invocations that the node could not serve.
    pub platform_errors: u64,
    pub cold_starts: u64,
    /// Of pure functions: requests that outputs were kept for, and those that ran.
    #[serde(default)]
    pub cache_hits: u64,
    #[serde(default)]
    pub cache_misses: u64,
    pub stem_starts: u64,
    pub warm_starts: u64,
    pub duration_us: u64,
}

/// `GET /v1/instances`: a list of these, one for each revision of a function that has instances or may have some.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub account: String,
    pub region: String,
    pub function: String,
    pub version: String,
    pub revision: String,
    /// Replaced or deleted: ends with its last instance.
    pub closed: bool,
    pub instances: Instances,
}

/// `GET /v1/queue`: asynchronous invocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Events that wait or run.
    pub depth: u64,
    pub running: u64,
    pub oldest_age_ms: u64,
    pub dead: u64,
    /// Since the node started, as the next one is.
    pub retries: u64,
    pub accepted: u64,
    /// Bytes of all events, the dead included.
    pub bytes: u64,
}

/// `GET /v1/dlq`: a list of these, without payloads; `GET /v1/dlq/REQUEST`: one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadEvent {
    pub request: String,
    /// The ARN of what it was meant for.
    pub target: String,
    pub accepted: u64,
    pub died: u64,
    /// How often the function has failed with it.
    pub attempts: u32,
    pub reason: String,
    /// The last answer, or what the node says.
    pub error: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
}

/// `POST /v1/dlq/redrive` and `DELETE /v1/dlq`: how many events it was done to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub count: u64,
}

/// `GET /v1/templates`: a list of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The name of its PU.
    #[serde(default)]
    pub pu: String,
    /// What it runs: `python`, `node`.
    pub kind: String,
    /// `none` or `egress`.
    pub network: String,
    /// The function of a dedicated template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// `waiting`, `preparing`, `ready` or `refused`.
    pub phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepare_us: Option<u64>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /v1/flows`: a text in the flow language, or a chain of functions, each of which gets the result of the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowSpec {
    pub name: String,
    /// Names or ARNs of functions, with or without versions and aliases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// In the flow language; the flow in it that has this name is run, else the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The files that the text names, by their paths in it: one, or those of a folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Vec<FlowFile>>,
    /// Seconds; of a chain the sum of its stages' where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
}

/// A file for a set of fixed items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowFile {
    pub name: String,
    /// Base64.
    pub data: String,
}

/// `GET /v1/flows`: a list of these; `GET /v1/flows/NAME` and `POST /v1/flows`: one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    pub account: String,
    pub region: String,
    pub name: String,
    pub arn: String,
    /// ARNs, with the qualifiers that were given.
    pub chain: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The functions that a text applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<String>,
    /// Changes with every change of the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u32>,
    pub modified: u64,
    /// What is to be said about a text that was just put, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// `GET /v1/flows/NAME/runs`: a list of these; `GET /v1/runs/ID`: one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRun {
    pub run: String,
    /// The flow's ARN.
    pub flow: String,
    /// `queued`, `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    pub accepted: u64,
    pub took_us: u64,
    pub applications: Vec<FlowApplication>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<serde_json::Value>,
}

/// What has been done of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowApplication {
    /// As the text calls it; one of a flow within the flow has that one's name before it.
    pub application: String,
    pub line: usize,
    pub running: u64,
    pub done: u64,
    pub failed: u64,
    /// All shards together.
    pub busy_us: u64,
}

/// `GET /v1/pus`: a list of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pu {
    pub id: u32,
    /// `cpu`, `dpu`, `gpu` or `fpga`.
    pub kind: String,
    pub name: String,
    /// `host`, `namespace` or `remote`.
    #[serde(default)]
    pub tier: String,
    /// What its processors call themselves.
    #[serde(default)]
    pub model: String,
    pub cores: u32,
    /// The numbers of its processors, where they are not all of the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Whether its worker is there.
    pub ready: bool,
    /// How often its worker has been lost.
    #[serde(default)]
    pub losses: u64,
    /// MiB, where it has a limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// MiB that its instances may use, all together.
    #[serde(default)]
    pub reserved_mib: u64,
    /// Of a GB-second.
    #[serde(default)]
    pub price: Price,
    /// Instances that are there, and how many of them wait.
    #[serde(default)]
    pub instances: u64,
    #[serde(default)]
    pub waiting: u64,
    /// Templates that are ready.
    #[serde(default)]
    pub templates: u64,
    /// Instances at work for each processor.
    #[serde(default)]
    pub load: f64,
    /// What it runs: `python`, `node`, `provided`.
    #[serde(default)]
    pub runs: Vec<String>,
    /// Its engines for pure functions, those that have run something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<Engine>,
    /// What it cannot enforce or does not have: sentences for people.
    #[serde(default)]
    pub missing: Vec<String>,
}

/// An engine for pure functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// On which it stays.
    pub processor: u32,
    /// Whether it is for runs that take long.
    #[serde(default)]
    pub for_long: bool,
    /// Which one, of those for the very long runs of some functions alone; nothing for the one that all others share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u8>,
    /// Whether it is to do nothing at present, so that requests and answers have its processor.
    #[serde(default)]
    pub rests: bool,
    /// Requests that it runs, or that wait for it.
    pub requests: u64,
    pub runs: u64,
    /// What they took, all together.
    pub busy_us: u64,
}

/// `GET /v1/connections`: what the broker of sockets knows (`lichen socket run`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// Whether there is one.
    pub broker: bool,
    /// That it serves.
    pub processes: u64,
    /// Connections whose ends it has ever brought together.
    pub met: u64,
    /// Those that are there.
    pub connections: Vec<Connection>,
}

/// A connection between two programs of this machine, of which one end at least has the library.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// `memory`: one end sends through memory now, or both do; else `tcp`.
    pub tier: String,
    pub ends: [ConnectionEnd; 2],
    /// Memory that both ends have taken for it, beyond what each connection has.
    pub record_bytes: u64,
}

/// An end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionEnd {
    /// `ADDRESS:PORT`.
    pub address: String,
    /// Its process and that one's name; not known of an end without the library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// `memory` or `tcp`: how what it sends goes now.
    pub sends: String,
}

/// One line of `GET /v1/functions/NAME/logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    pub time: u64,
    pub stream: String,
    /// Empty for what was printed outside of an invocation.
    pub request: String,
    pub message: String,
}

/// `GET /v1/functions/NAME/bills`: a list of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bill {
    pub time: u64,
    pub function: String,
    pub version: String,
    pub request: String,
    /// `cold`, `stem` or `warm`.
    pub start: String,
    pub failed: bool,
    pub duration_us: u64,
    pub billed_ms: u64,
    pub memory_mib: u32,
    /// Bytes; 0 where unknown.
    pub memory_peak: u64,
    /// The name of the PU on which it ran; empty of old.
    #[serde(default)]
    pub pu: String,
    /// Of a GB-second there.
    #[serde(default)]
    pub price: Price,
    /// Millionths of the price's unit.
    #[serde(default)]
    pub cost_micros: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_us: Option<u64>,
}

/// `GET /v1/usage`: a list of these, one for each day and function.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// `2025-01-31`, UTC.
    pub day: String,
    pub account: String,
    pub region: String,
    pub function: String,
    pub version: String,
    pub invocations: u64,
    pub failures: u64,
    pub cold: u64,
    pub stem: u64,
    pub duration_us: u64,
    pub billed_ms: u64,
    /// Memory reserved times milliseconds billed.
    pub mib_ms: u64,
    /// Millionths of the prices' unit.
    #[serde(default)]
    pub cost_micros: u64,
}
