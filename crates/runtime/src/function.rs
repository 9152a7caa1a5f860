//! A function as the control plane knows it: one immutable state of it, replaced as a whole when it changes.

use api::pu::Profile;
use sandbox::spec::{Kind, NativeEngine, Network};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

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

/// How the platform's lines in a function's log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    /// Records of this level and above.
    Json(SystemLevel),
}

/// The levels of the platform's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SystemLevel {
    Debug,
    #[default]
    Info,
    Warn,
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

/// What pure functions have beside what all have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pure {
    /// Its input and output sets by name; the first input is where a body goes that names none.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// Whether its clock stands still and its random numbers are the same in every run.
    pub deterministic: bool,
    /// Whether the outputs of a run are those of every run with the same inputs, and may be kept.
    pub cache: bool,
    /// What runs it, if it is native.
    pub engine: NativeEngine,
}

/// All that dispatch needs to run a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub key: Arc<FunctionKey>,
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
    /// Processing units on which it may run, the one that it likes best first; none for those of the node's own kind.
    pub profiles: Vec<Profile>,
    pub pure: Pure,
    /// Reserved concurrency: the most invocations at once; nothing for the node's limit.
    pub max_concurrency: Option<u32>,
    /// `/aws/lambda/NAME` unless configured otherwise.
    pub log_group: String,
    pub log_format: LogFormat,
    /// Whether its instances count as restored from a snapshot: a version of a function that asks for it.
    pub snap_start: bool,
}

impl Function {
    /// How its instances come to be, in AWS's words.
    pub fn initialization_type(&self) -> &'static str {
        match self {
            Self { min_warm: 1.., .. } => "provisioned-concurrency",
            Self { snap_start: true, .. } => "snap-start",
            _ => "on-demand",
        }
    }
}
