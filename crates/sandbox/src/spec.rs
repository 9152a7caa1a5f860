//! What a sandbox is made for and what it may use: plain data that travels between the control plane and a worker.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a function is made of, and so which backend runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A Python handler on the forkable Python runtime.
    Python,
    /// A JavaScript handler on the forkable Node.js runtime.
    Node,
    /// Programs that speak AWS's Runtime API, on the native runtime.
    Provided,
    /// A WebAssembly program or component: a pure function.
    Wasm,
    /// A static program for this machine's processor: a pure function.
    Native,
}

impl Kind {
    /// Whether such functions only compute: sets of items in, sets of items out, and nothing else.
    pub fn is_pure(self) -> bool {
        matches!(self, Self::Wasm | Self::Native)
    }
}

/// What runs a native function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NativeEngine {
    /// An empty process for each run.
    #[default]
    Process,
    /// A virtual machine without a kernel, where this machine has one that passes its self-test.
    Kvm,
}

/// Which version of a language, as far as AWS's names of runtimes tell: `python3.12` is 3.12, `nodejs20.x` 20.0. Zeroes
/// stand for any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    pub major: u16,
    pub minor: u16,
}

impl Version {
    /// That of a runtime's name, or of what an interpreter says of itself.
    pub fn of(kind: Kind, text: &str) -> Self {
        if !matches!(kind, Kind::Python | Kind::Node) {
            return Self::default();
        }
        let mut numbers = text.trim_start_matches(|c: char| !c.is_ascii_digit()).split('.');
        let mut next = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or_default();
        let (major, minor) = (next(), next());
        Self { major, minor: if kind == Kind::Node { 0 } else { minor } }
    }

    /// The one of those that are there which comes nearest to what is wanted: itself; else the next, which understands
    /// most of what was written for an older one; else the last before. The first where any will do.
    pub fn nearest(self, there: &[Self]) -> Option<Self> {
        let exact = there.iter().copied().find(|version| self.is(*version));
        let next = there.iter().copied().filter(|version| *version > self).min();
        exact.or(next).or_else(|| there.iter().copied().max())
    }

    /// Whether another is this one, as far as this one says.
    pub fn is(self, other: Self) -> bool {
        self.major == 0 || (self.major == other.major && (self.minor == 0 || self.minor == other.minor))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { major: 0, .. } => Ok(()),
            Self { major, minor: 0 } => write!(f, "{major}"),
            Self { major, minor } => write!(f, "{major}.{minor}"),
        }
    }
}

/// Which network an instance sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Its own loopback.
    #[default]
    None,
    /// The outside too, by address translation: neither this host's own services, nor link-local addresses (so no cloud
    /// metadata), nor other sandboxes.
    Egress,
}

/// What an instance may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, files in `/tmp` included.
    pub memory: u64,
    /// Bytes of `/tmp`.
    pub tmp: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Processor time: thousandths of one core.
    pub cpu_millis: u32,
}

impl Limits {
    /// The limits of a function with `mib` MiB of memory. Processor time follows memory as on AWS (1,769 MiB for a core),
    /// but is never below one core: a small function on an idle machine need not be slow.
    pub fn for_memory(mib: u32, tmp_mib: u32) -> Self {
        let cpu_millis = (u64::from(mib) * 1000 / 1769).max(1000) as u32;
        Self { memory: u64::from(mib) << 20, tmp: u64::from(tmp_mib) << 20, pids: 1024, cpu_millis }
    }
}

/// A function's code and what its runtime has to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// The folder shown as `/var/task`.
    pub folder: PathBuf,
    /// The folder shown as `/opt`, where there is one: the function's layers.
    pub layers: Option<PathBuf>,
    /// The instance's configuration, JSON: see `lang/README.md`.
    pub config: String,
}

/// A template to prepare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSpec {
    pub kind: Kind,
    /// One that the backend has said to be there, or any.
    pub version: Version,
    /// Modules that the runtime loads before the fork point.
    pub preload: Vec<String>,
    /// The function that a dedicated template has loaded; nothing for a generic one, whose children load theirs.
    pub function: Option<Code>,
    /// Of the template itself and, for a dedicated one, of each instance.
    pub limits: Limits,
    pub network: Network,
}

/// One instance to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSpec {
    /// Chosen by the control plane, never used twice.
    pub instance: u64,
    /// What to load, from a generic template; nothing from a dedicated one.
    pub code: Option<Code>,
    pub limits: Limits,
    /// Of pure functions: which engine of its processor it is of.
    pub class: EngineClass,
    /// Of pure functions: a processor whose engine it had better not be of.
    pub apart: Option<u32>,
}

/// Which of the engines of a processor: one runs one request after the other, each to its end, and others wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineClass {
    /// The one for runs that are done soon.
    #[default]
    Short,
    /// The one for runs that take long, which lets others go first.
    Long,
    /// One for runs that others of those would wait for too long for: of a function's own, as far as there are numbers,
    /// which are below [`OWN_ENGINES`].
    Own(u8),
}

impl EngineClass {
    /// Whether it is for runs that take long.
    pub fn is_long(self) -> bool {
        self != Self::Short
    }

    /// The number of a function's own.
    pub fn number(self) -> Option<u8> {
        match self {
            Self::Own(number) => Some(number),
            Self::Short | Self::Long => None,
        }
    }
}

/// Engines of functions' own on each processor, at most.
pub const OWN_ENGINES: usize = 8;

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Its process ended by itself, with this status.
    Exit(i32),
    /// Its process was ended by this signal.
    Signal(i32),
    /// The kernel ended it because it reached its memory limit.
    OutOfMemory,
    /// Its template or its worker is gone, and it went with them.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(text: &str) -> Version {
        Version::of(Kind::Python, text)
    }

    #[test]
    fn versions_are_read_from_names() {
        assert_eq!((python("python3.12"), python("3.12.1")), (Version { major: 3, minor: 12 }, python("python3.12")));
        assert_eq!(Version::of(Kind::Node, "nodejs20.x"), Version::of(Kind::Node, "20.20.2"));
        assert_eq!((python("python"), python("python3").minor), (Version::default(), 0));
        assert_eq!(Version::of(Kind::Provided, "provided.al2023"), Version::default());
        assert_eq!(
            (python("3.9").to_string(), Version::of(Kind::Node, "v22.1").to_string()),
            ("3.9".into(), "22".into())
        );
    }

    #[test]
    fn the_nearest_version() {
        let there = ["3.12", "3.11", "3.14"].map(python);
        let nearest = |wanted: &str| python(wanted).nearest(&there).unwrap().to_string();
        for (wanted, found) in
            [("3.11", "3.11"), ("3.13", "3.14"), ("3.9", "3.11"), ("3.15", "3.14"), ("3", "3.12"), ("", "3.12")]
        {
            assert_eq!(nearest(wanted), found, "{wanted}");
        }
        assert_eq!(python("3.11").nearest(&[]), None);
        assert!(python("3").is(python("3.12")) && !python("3.11").is(python("3.12")));
    }
}
