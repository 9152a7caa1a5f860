//! AWS Lambda's shapes, as far as Lichen's own clients read them.
//!
//! The gateway keeps a function's configuration as the JSON it was given, so that members it does not know are echoed;
//! these types are a client's view of it.

use crate::pu::Profile;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The version that every operation of this form of the API works on.
pub const LATEST: &str = "$LATEST";
/// The longest name of a function.
pub const NAME_MAX: usize = 64;

/// How far an instance goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// It serves one invocation after the other, as Lambda's do.
    #[default]
    Instance,
    /// Every invocation gets a new one.
    Request,
}

/// Which network an instance sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Its own loopback.
    #[default]
    None,
    /// The outside too, but neither this host nor other sandboxes.
    Egress,
}

/// What runs a native function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NativeEngine {
    /// An empty process for each run.
    #[default]
    Process,
    /// A virtual machine without a kernel.
    Kvm,
}

/// What Lichen has and Lambda's API has no word for: the member `Lichen` of a function's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Instances kept ready whatever the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_warm: Option<u32>,
    /// Processing units on which the function may run, the one that it likes best first; empty for those like the
    /// node's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pu: Vec<Profile>,
    /// Of pure functions: input sets by name, the one first that a body is put into that names none; output sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<String>>,
    /// Whether a pure function's clock stands still and its random numbers are the same in every run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deterministic: Option<bool>,
    /// Whether results of a pure function may be kept for the next run with the same inputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
    /// What runs a native function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<NativeEngine>,
}

/// A function's configuration, as every operation on functions answers it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FunctionConfiguration {
    pub function_name: String,
    pub function_arn: String,
    pub runtime: String,
    pub handler: String,
    pub description: String,
    /// Seconds.
    pub timeout: u32,
    /// MiB.
    pub memory_size: u32,
    /// Bytes of the package.
    pub code_size: u64,
    /// Base64.
    #[serde(rename = "CodeSha256")]
    pub code_sha256: String,
    pub last_modified: String,
    pub revision_id: String,
    pub version: String,
    pub state: String,
    pub last_update_status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lichen: Option<Options>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Environment variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Environment {
    pub variables: BTreeMap<String, String>,
}

/// One page of functions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct FunctionPage {
    pub functions: Vec<FunctionConfiguration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
}

/// What a function answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invoked {
    pub body: Vec<u8>,
    /// The function failed (`Unhandled`); `body` then is Lambda's error object.
    pub error: Option<String>,
    /// The end of the invocation's log, when it was asked for.
    pub log_tail: Option<Vec<u8>>,
    pub request_id: String,
}
