//! Starting the function's programs: its extensions, and its runtime, which is its own or the language's.

use crate::config::{Config, Language, PATH, TASK_ROOT};
use serde::Deserialize;
use std::fs;
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const EXTENSIONS: &str = "/opt/extensions";
/// Where a function's own runtime may be, the first before the second.
const BOOTSTRAPS: [&str; 2] = ["/var/task/bootstrap", "/opt/bootstrap"];
const WRAPPER: &str = "AWS_LAMBDA_EXEC_WRAPPER";

/// One interpreter of this machine.
#[derive(Deserialize)]
struct Interpreter {
    language: Language,
    /// `3.11`, `20`.
    version: String,
    program: PathBuf,
    /// The virtual environment with its packages.
    environment: Option<PathBuf>,
}

/// Those that this machine has; of each language the first is for functions that want no other.
pub struct Interpreters(Vec<Interpreter>);

impl Interpreters {
    /// As the worker describes them in the template's environment.
    pub fn known() -> Self {
        let described = std::env::var("LICHEN_INTERPRETERS").unwrap_or_default();
        Self(serde_json::from_str(&described).unwrap_or_default())
    }

    /// The one for this function.
    fn of(&self, config: &Config) -> Result<&Interpreter, String> {
        let language = config.language();
        let there = || self.0.iter().filter(|found| found.language == language);
        let exact = there().find(|found| found.version == config.language_version);
        exact
            .or_else(|| there().next())
            .ok_or_else(|| format!("this machine has no interpreter for {}", config.runtime))
    }
}

/// A program that runs.
pub struct Program {
    pid: i32,
    /// Polls readable when it has ended.
    pub process: OwnedFd,
}

impl Program {
    /// How it has ended, which it has.
    pub fn end(&self) -> io::Result<os::process::End> {
        os::process::wait(self.pid)
    }

    /// The most memory that it has used so far, in MiB; 0 where that cannot be seen.
    pub fn memory_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak.and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib.div_ceil(1024))
    }

    /// Asks it to end, or ends it.
    pub fn signal(&self, gently: bool) {
        use rustix::process::{Signal, pidfd_send_signal};
        // One that has ended already needs neither.
        let _ = pidfd_send_signal(&self.process, if gently { Signal::TERM } else { Signal::KILL });
    }
}

/// The names of the extensions: the executable files of `/opt/extensions`.
pub fn extensions() -> Vec<String> {
    let Ok(entries) = fs::read_dir(EXTENSIONS) else { return Vec::new() };
    let is_program = |path: &Path| fs::metadata(path).is_ok_and(|about| about.is_file());
    let found = entries.flatten().filter(|entry| is_program(&entry.path()));
    let mut names: Vec<String> = found.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

/// Starts an extension; AWS's words for why it cannot be.
pub fn extension(config: &Config, name: &str, output: Option<&PipeWriter>) -> Result<Program, String> {
    let path = Path::new(EXTENSIONS).join(name);
    let mut command = Command::new(&path);
    command.env_clear().envs(config.environment_of_extensions());
    start(command, &path, output)
}

/// The status with which a wrapper that cannot be executed has ended: on AWS a shell executes it, and says why by that.
pub fn wrapper_fault(config: &Config) -> Option<i32> {
    let wrapper = config.variable(WRAPPER).filter(|_| config.language() != Language::Own)?;
    let is_there = fs::metadata(wrapper).is_ok_and(|about| about.is_file());
    let is_program = rustix::fs::access(wrapper, rustix::fs::Access::EXEC_OK).is_ok();
    match (is_there, is_program) {
        (false, _) => Some(127),
        (true, false) => Some(126),
        (true, true) => None,
    }
}

/// Starts the function's runtime; AWS's words for why it cannot be.
pub fn runtime(config: &Config, interpreters: &Interpreters, output: Option<&PipeWriter>) -> Result<Program, String> {
    let language = config.language();
    if language == Language::Own {
        let path = PathBuf::from(bootstrap()?);
        let mut command = Command::new(&path);
        command.env_clear().envs(config.environment());
        return start(command, &path, output);
    }
    let interpreter = interpreters.of(config)?;
    let arguments: &[&str] = match language {
        Language::Python => &["-B", "/var/runtime/python/bootstrap.py"],
        _ => &["/var/runtime/node/bootstrap.cjs"],
    };
    let mut line = vec![interpreter.program.clone()];
    line.extend(arguments.iter().map(PathBuf::from));
    if let Some(wrapper) = config.variable(WRAPPER) {
        line.insert(0, wrapper.into());
    }
    let path = line.remove(0);
    let mut command = Command::new(&path);
    command.args(line).env_clear().envs(config.environment());
    // Its own folder first: programs of Node.js's are scripts that look for it.
    if let Some(folder) = interpreter.program.parent()
        && language == Language::Node
        && config.variable("PATH").is_none()
    {
        command.env("PATH", format!("{}:{PATH}", folder.display()));
    }
    if let Some(packages) = &interpreter.environment {
        command.env("VIRTUAL_ENV", packages);
    }
    start(command, &path, output)
}

fn bootstrap() -> Result<&'static str, String> {
    let found = BOOTSTRAPS.into_iter().find(|path| fs::metadata(path).is_ok_and(|about| about.is_file()));
    found.ok_or_else(|| format!("Couldn't find valid bootstrap(s): [{}]", BOOTSTRAPS.join(" ")))
}

fn start(mut command: Command, path: &Path, output: Option<&PipeWriter>) -> Result<Program, String> {
    // AWS's words, for which a shell is not asked either.
    let said = |error: io::Error| {
        let what = match error.raw_os_error() {
            Some(code) if code == rustix::io::Errno::NOEXEC.raw_os_error() => "exec format error".to_owned(),
            Some(code) if code == rustix::io::Errno::ACCESS.raw_os_error() => "permission denied".to_owned(),
            Some(code) if code == rustix::io::Errno::NOENT.raw_os_error() => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        format!("fork/exec {}: {what}", path.display())
    };
    command.current_dir(TASK_ROOT).stdin(Stdio::null());
    if let Some(output) = output {
        let copy = || output.try_clone().map_err(|error| error.to_string());
        command.stdout(copy()?).stderr(copy()?);
    }
    let child = command.spawn().map_err(said)?;
    let pid = child.id() as i32;
    let process = os::pidfd::open(pid).map_err(|error| error.to_string())?;
    Ok(Program { pid, process })
}
