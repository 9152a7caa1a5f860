//! `[runtime]`: what functions find beside their own code. `[engines]`: what runs pure ones.

use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What becomes of a function that asks for a version of its language which this machine does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Versions {
    /// It runs on the nearest one, and its log says on which.
    #[default]
    Nearest,
    /// It is refused.
    Exact,
}

/// Settings of the language runtimes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// The folder of AWS's SDKs for functions; empty for `sdk` in the data folder, where `lichen sdk` puts them.
    pub sdk: PathBuf,
    pub versions: Versions,
    /// Programs beside those on the PATH, whose names begin with `python` or `node`.
    pub interpreters: Vec<PathBuf>,
}

/// Settings of the engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnginesConfig {
    /// Microseconds that an empty run may take in a virtual machine; where it takes longer there are none. 0: there are none.
    pub kvm_limit_us: u64,
}

impl Default for EnginesConfig {
    fn default() -> Self {
        Self { kvm_limit_us: 200 }
    }
}

impl RuntimeConfig {
    /// The folder of AWS's SDKs.
    pub fn sdk(&self, data: &Path) -> Sdk {
        Sdk(if self.sdk.as_os_str().is_empty() { data.join("sdk") } else { self.sdk.clone() })
    }
}

/// Where AWS's SDKs are that functions find without bringing them.
#[derive(Clone, Debug)]
pub struct Sdk(PathBuf);

impl Sdk {
    /// Python's packages.
    pub fn python(&self) -> PathBuf {
        self.0.join("python")
    }

    /// The folder with Node.js's `node_modules`.
    pub fn node(&self) -> PathBuf {
        self.0.join("node")
    }

    pub fn node_modules(&self) -> PathBuf {
        self.node().join("node_modules")
    }
}
