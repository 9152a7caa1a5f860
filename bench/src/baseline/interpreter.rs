//! The interpreters that baselines run: the same ones that a node finds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a function is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    Python,
    Node,
}

impl Language {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
        }
    }

    /// The handler of every function here.
    pub fn handler(self) -> &'static str {
        match self {
            Self::Python => "app.handler",
            Self::Node => "index.handler",
        }
    }
}

/// An interpreter of this machine.
#[derive(Clone, Debug)]
pub struct Interpreter {
    pub language: Language,
    pub program: PathBuf,
    pub version: String,
    /// Folders that it needs, beside the system's.
    pub folders: Vec<PathBuf>,
}

const ASK_PYTHON: &str = "import sys, platform\n\
                          print(sys.executable, platform.python_version(), sys.prefix, sys.base_prefix, sep='\\n')";
const ASK_NODE: &str =
    "[process.execPath, process.versions.node, require('path').dirname(process.execPath)].join('\\n')";

impl Interpreter {
    /// The first one on `path` (as in the variable PATH).
    pub fn find(language: Language, path: &str) -> Option<Self> {
        let (program, arguments) = match language {
            Language::Python => ("python3", ["-c", ASK_PYTHON]),
            Language::Node => ("node", ["-p", ASK_NODE]),
        };
        let program = path.split(':').map(|folder| Path::new(folder).join(program)).find(|program| program.exists())?;
        let asked = Command::new(program).args(arguments).env("PATH", path).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(asked.stdout).ok()?;
        let mut lines = text.lines();
        let (program, version) = (PathBuf::from(lines.next()?), lines.next()?.to_owned());
        let usual = |folder: &PathBuf| ["/usr", "/bin", "/lib"].iter().any(|usual| folder.starts_with(usual));
        let mut folders: Vec<PathBuf> = lines.map(PathBuf::from).filter(|folder| !usual(folder)).collect();
        folders.dedup();
        Some(Self { language, program, version, folders })
    }

    /// The arguments with which it runs `runner`, the baseline's own script, on a function in the current folder.
    pub fn arguments(&self, runner: &Path) -> Vec<String> {
        let options: &[&str] = match self.language {
            Language::Python => &["-s", "-P", "-B"],
            Language::Node => &[],
        };
        let runner = runner.display().to_string();
        let rest = [runner, self.language.handler().to_owned()];
        options.iter().map(|&option| option.to_owned()).chain(rest).collect()
    }

    /// The text of the baseline's script, and a name for it.
    pub fn runner(&self) -> (&'static str, &'static str) {
        match self.language {
            Language::Python => ("runner.py", include_str!("runner.py")),
            Language::Node => ("runner.cjs", include_str!("runner.cjs")),
        }
    }

    /// For people: `Python 3.11.7`.
    pub fn describe(&self) -> String {
        let name = match self.language {
            Language::Python => "Python",
            Language::Node => "Node.js",
        };
        format!("{name} {}", self.version)
    }
}
