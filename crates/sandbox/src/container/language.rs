//! The language runtimes of this machine: where they are, and how a template runs one.

use crate::spec::{Kind, Version};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where sandboxes have the runtimes' own files.
pub const RUNTIME_DIR: &str = "/var/runtime";
/// The native runtime's program.
pub const NATIVE: &str = "lichen_provided";

/// A file to be put below [`RUNTIME_DIR`].
pub struct RuntimeFile {
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! script {
    ($from:literal, $to:literal, $name:literal) => {
        RuntimeFile {
            name: concat!($to, "/", $name),
            text: include_str!(concat!("../../../../lang/", $from, "/", $name)),
        }
    };
}

/// The scripts that templates run.
pub const SCRIPTS: &[RuntimeFile] = &[
    script!("python/runtime", "python", "bootstrap.py"),
    script!("python/runtime", "python", "lichen/__init__.py"),
    script!("python/runtime", "python", "lichen/fifo.py"),
    script!("python/runtime", "python", "lichen_answer.py"),
    script!("python/runtime", "python", "lichen_context.py"),
    script!("python/runtime", "python", "lichen_errors.py"),
    script!("python/runtime", "python", "lichen_forks.py"),
    script!("python/runtime", "python", "lichen_function.py"),
    script!("python/runtime", "python", "lichen_prepared.py"),
    script!("python/runtime", "python", "lichen_logging.py"),
    script!("python/runtime", "python", "lichen_rehearsal.py"),
    script!("python/runtime", "python", "lichen_snapshot.py"),
    script!("python/runtime", "python", "lichen_template.py"),
    script!("python/runtime", "python", "snapshot_restore_py.py"),
    script!("python/runtime", "python", "template.py"),
    script!("node/runtime", "node", "bootstrap.cjs"),
    script!("node/runtime", "node", "lichen_answer.cjs"),
    script!("node/runtime", "node", "lichen_builtins.cjs"),
    script!("node/runtime", "node", "lichen_context.cjs"),
    script!("node/runtime", "node", "lichen_errors.cjs"),
    script!("node/runtime", "node", "lichen_fifo.cjs"),
    script!("node/runtime", "node", "modules/lichen/index.js"),
    script!("node/runtime", "node", "lichen_forks.cjs"),
    script!("node/runtime", "node", "lichen_function.cjs"),
    script!("node/runtime", "node", "lichen_garbage.cjs"),
    script!("node/runtime", "node", "lichen_instance.cjs"),
    script!("node/runtime", "node", "lichen_logging.cjs"),
    script!("node/runtime", "node", "lichen_rehearsal.cjs"),
    script!("node/runtime", "node", "lichen_stream.cjs"),
    script!("node/runtime", "node", "lichen_template.cjs"),
    script!("node/runtime", "node", "lichen_wire.cjs"),
    script!("node/runtime", "node", "template.cjs"),
];

/// An interpreter found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    pub kind: Kind,
    pub program: PathBuf,
    /// As it names itself: `3.11.7`, `20.20.2`.
    pub version: String,
    /// Folders outside the usual ones that it needs.
    pub folders: Vec<PathBuf>,
    /// The virtual environment it belongs to, whose packages it has.
    pub environment: Option<PathBuf>,
}

/// The native runtime, which is a program of ours among the `libraries`; nothing where it was not built.
pub fn native(libraries: &Path) -> Option<Interpreter> {
    libraries.join(NATIVE).is_file().then(|| Interpreter {
        kind: Kind::Provided,
        program: Path::new(RUNTIME_DIR).join("provided").join(NATIVE),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        folders: Vec::new(),
        environment: None,
    })
}

/// Names under which interpreters may be on the PATH. The first is what functions get that want no other.
const PYTHONS: (&str, &[&str]) = ("python3", &["python3.11", "python3.12", "python3.13", "python3.14", "python3.15"]);
const NODES: (&str, &[&str]) = ("node", &["node18", "node20", "node22", "node24", "node26"]);
/// The oldest Python whose stable ABI our extension needs.
const PYTHON_MIN: Version = Version { major: 3, minor: 11 };

/// The interpreters of this kind on the PATH, and of `more`, one for each version. They are asked at once.
pub fn find(kind: Kind, more: &[PathBuf]) -> Vec<Interpreter> {
    let (first, others) = match kind {
        Kind::Python => PYTHONS,
        Kind::Node => NODES,
        Kind::Provided | Kind::Wasm | Kind::Native => return Vec::new(),
    };
    let mut programs = vec![PathBuf::from(first)];
    programs.extend(others.iter().filter_map(|name| on_path(name)));
    let prefix = if kind == Kind::Python { "python" } else { "node" };
    let is_of_kind = |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    programs.extend(more.iter().filter(is_of_kind).cloned());
    let asked: Vec<Child> = programs.iter().filter_map(|program| ask(kind, program)).collect();
    let mut found: Vec<Interpreter> = Vec::new();
    for child in asked {
        let Some(interpreter) = answer(kind, child) else { continue };
        let version = interpreter.number();
        let is_old = kind == Kind::Python && version < PYTHON_MIN && !found.is_empty();
        if !is_old && found.iter().all(|other| other.number() != version) {
            found.push(interpreter);
        }
    }
    found
}

/// A program on the PATH, unless it is a script: those of version managers take long to find out that they have nothing
/// to run.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let program = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())?;
    let mut magic = [0; 4];
    File::open(&program).and_then(|mut file| file.read_exact(&mut magic)).ok()?;
    (&magic == b"\x7fELF").then_some(program)
}

fn ask(kind: Kind, program: &Path) -> Option<Child> {
    let arguments = match kind {
        Kind::Python => [
            "-c",
            "import sys, platform\nprint(sys.executable, platform.python_version(), sys.prefix, sys.base_prefix, sep='\\n')",
        ],
        _ => ["-p", "[process.execPath, process.versions.node, process.execPath].join('\\n')"],
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()
}

fn answer(kind: Kind, child: Child) -> Option<Interpreter> {
    let output = child.wait_with_output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    let program = PathBuf::from(lines.next()?).canonicalize().ok()?;
    let version = lines.next()?.to_owned();
    let mut folders: Vec<PathBuf> = lines.map(PathBuf::from).collect();
    folders.dedup();
    // Python names its own folder, and then the one of the installation that it was made from.
    let environment = (folders.len() == 2).then(|| folders[0].clone());
    folders.retain(|folder| !usual(folder));
    Some(Interpreter { kind, program, version, folders, environment })
}

/// Whether every sandbox shows this path anyway.
fn usual(path: &Path) -> bool {
    ["/usr", "/bin", "/lib", "/lib64"].iter().any(|folder| path.starts_with(folder))
}

impl Interpreter {
    /// Its version, as functions ask for one.
    pub fn number(&self) -> Version {
        Version::of(self.kind, &self.version)
    }

    /// The command line of a template.
    pub fn arguments(&self) -> Vec<String> {
        let own: &[&str] = match self.kind {
            Kind::Python => &["-s", "-S", "-P", "-B", "-X", "utf8", "/var/runtime/python/template.py"],
            // V8's memory reducer acts by the clock, some seconds after the template has come to rest: in a child it would
            // hand work to a thread that only the template has.
            Kind::Node => {
                &["--v8-pool-size=0", "--single-threaded", "--no-memory-reducer", "/var/runtime/node/template.cjs"]
            }
            Kind::Provided | Kind::Wasm | Kind::Native => &[],
        };
        std::iter::once(self.program.to_string_lossy().into_owned()).chain(own.iter().map(|&a| a.to_owned())).collect()
    }

    /// What the native runtime has to know of an interpreter.
    pub fn described(&self) -> serde_json::Value {
        serde_json::json!({
            "language": if self.kind == Kind::Python { "python" } else { "node" },
            "version": self.number().to_string(),
            "program": self.program,
            "environment": self.environment,
        })
    }

    /// The environment of a template. A function's own comes with its configuration.
    pub fn environment(&self) -> Vec<String> {
        let path = self.program.parent().unwrap_or(Path::new("/usr/bin")).display();
        let fixed = [
            "LANG=C.UTF-8",
            "HOME=/tmp",
            "TZ=:UTC",
            // The loader reads this once: a function's libraries are found although its environment comes later.
            "LD_LIBRARY_PATH=/var/task:/var/task/lib:/opt/lib",
            // Symbols are bound in the template rather than in each of its children.
            "LD_BIND_NOW=1",
        ];
        let path = format!("PATH={path}:/usr/local/bin:/usr/bin:/bin");
        let packages = self.environment.as_ref().map(|folder| format!("VIRTUAL_ENV={}", folder.display()));
        fixed.into_iter().map(str::to_owned).chain([path]).chain(packages).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_is_found_with_its_folders() {
        let found = find(Kind::Python, &[]);
        let Some(python) = found.first() else {
            println!("skip: no python3 on this machine");
            return;
        };
        assert!(python.program.is_absolute() && python.version.starts_with("3."));
        assert!(python.folders.iter().all(|folder| folder.is_absolute()));
        // Each version once, whatever its programs are called; what is none is passed over.
        let again = find(Kind::Python, &[python.program.clone(), "/nowhere/python3".into(), "/bin/sh".into()]);
        assert_eq!(again, found);
    }
}
