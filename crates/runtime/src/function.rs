//! A function as the control plane knows it: one immutable state of it, replaced as a whole when it changes.

use sandbox::spec::{Kind, Network};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// How far an instance goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// An instance serves one invocation after the other, as Lambda does.
    #[default]
    Instance,
    /// Every invocation gets a new fork.
    Request,
}

/// Which function, in which of its states.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionKey {
    pub account: String,
    pub region: String,
    pub name: String,
    /// `$LATEST` or a number.
    pub version: String,
}

/// All that dispatch needs to run a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub key: FunctionKey,
    /// `arn:aws:lambda:REGION:ACCOUNT:function:NAME`.
    pub arn: String,
    /// Changes with every change of code or configuration.
    pub revision: String,
    pub kind: Kind,
    /// As the caller named it: `python3.11`, `nodejs20.x`.
    pub runtime: String,
    pub handler: String,
    /// The unpacked code.
    pub code: PathBuf,
    /// Its unpacked layers, where it has some.
    pub layers: Option<PathBuf>,
    pub memory_mib: u32,
    pub tmp_mib: u32,
    pub timeout_s: u32,
    pub environment: BTreeMap<String, String>,
    pub isolation: Isolation,
    pub network: Network,
    /// Instances kept ready whatever the load.
    pub min_warm: u32,
    /// Reserved concurrency: the most invocations at once; nothing for the node's limit.
    pub max_concurrency: Option<u32>,
    /// `/aws/lambda/NAME` unless configured otherwise.
    pub log_group: String,
}
