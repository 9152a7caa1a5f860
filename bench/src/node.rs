//! A throw-away node: the `lichen` program itself, in a temporary folder and on a free port. Nothing of it is left when it
//! is dropped.

use crate::baseline::Language;
use crate::error::{BenchError, io};
use crate::http::Request;
use crate::spans::HEADER;
use api::Client;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Starting a node, preparing a template.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Lines of a node's log that are shown when it fails.
const LAST_LINES: usize = 20;

/// What a node is to be like.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Lines of the section `[dispatch]`.
    pub dispatch: String,
    /// The PATH on which it finds its interpreters.
    pub path: String,
    /// Units of the namespace tier beside the host: `pu1` and so on.
    pub pus: usize,
    /// Whether there is one more, of the tier `remote`: see [`Node::join`].
    pub remote: bool,
}

/// What the unit is called that joins.
const REMOTE: &str = "far";

impl Settings {
    fn config(&self) -> Result<String, BenchError> {
        let pus: String = (1..=self.pus).map(|number| format!("[[pu]]\nname = \"pu{number}\"\n")).collect();
        let remote = match self.remote {
            true => {
                // It is waited for at this port and its own number.
                let port = free_port()?.saturating_sub(self.pus as u16 + 1);
                let listen = Ipv4Addr::LOCALHOST;
                format!("[[pu]]\nname = \"{REMOTE}\"\ntier = \"remote\"\n[remote]\nlisten = \"{listen}:{port}\"\n")
            }
            false => String::new(),
        };
        Ok(format!("[dispatch]\n{}\n{pus}{remote}", self.dispatch))
    }
}

/// A running node.
pub struct Node {
    program: PathBuf,
    path: String,
    folder: TempDir,
    child: Child,
    pub address: SocketAddr,
    pub client: Client,
}

impl Node {
    /// Starts a node and waits until it takes invocations.
    pub fn start(program: &Path, settings: &Settings) -> Result<Self, BenchError> {
        let folder = TempDir::with_prefix("lichen-bench-").map_err(io("a temporary folder could not be made"))?;
        // Sandboxes have users of their own, who must find their way to the node's folder.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).map_err(io("a temporary folder could not be opened to others"))?;
        let config = folder.path().join("lichen.toml");
        fs::write(&config, settings.config()?).map_err(io("lichen.toml could not be written"))?;
        let log = File::create(folder.path().join("log")).map_err(io("the node's log could not be made"))?;
        let mut serve = Command::new(program);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--log-level", "warn", "--config"]).arg(&config);
        serve.arg("--data-dir").arg(folder.path().join("data")).env("PATH", &settings.path);
        serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        os::child::end_with_parent(&mut serve);
        let mut child = serve.spawn().map_err(|source| BenchError::Program { program: program.to_owned(), source })?;
        let said = child.stdout.take().map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok));
        // The first line is the greeting of a node that is ready; there is none when it is not.
        let endpoint = said.and_then(|mut lines| lines.find_map(|line| endpoint_in(&line)));
        let Some((endpoint, address)) = endpoint else {
            end(&mut child);
            return Err(BenchError::NotReady { said: last_lines(&folder.path().join("log")) });
        };
        let client = Client::new(&endpoint).map_err(|error| BenchError::Broken(error.to_string()))?;
        Ok(Self { program: program.to_owned(), path: settings.path.clone(), folder, child, address, client })
    }

    /// Has this machine join itself as the remote unit, with data of its own: what passes between the two goes over TCP, within
    /// TLS.
    pub fn join(&self) -> Result<Joined, BenchError> {
        let home = TempDir::with_prefix("lichen-bench-").map_err(io("a temporary folder could not be made"))?;
        let mut token = Command::new(&self.program);
        token.args(["pu", "token", REMOTE, "--address", &Ipv4Addr::LOCALHOST.to_string()]).stdin(Stdio::null());
        token.arg("--data-dir").arg(self.folder.path().join("data"));
        token.arg("--config").arg(self.folder.path().join("lichen.toml"));
        let started = |source| BenchError::Program { program: self.program.clone(), source };
        let told = token.output().map_err(started)?;
        if !told.status.success() {
            return Err(BenchError::Broken(String::from_utf8_lossy(&told.stderr).into_owned()));
        }
        let mut join = Command::new(&self.program);
        join.arg("join").arg(String::from_utf8_lossy(&told.stdout).trim()).arg("--data-dir").arg(home.path());
        join.args(["--log-level", "warn"]).stdin(Stdio::null()).stdout(Stdio::null()).env("PATH", &self.path);
        join.stderr(File::create(home.path().join("log")).map_err(io("a log could not be made"))?);
        os::child::end_with_parent(&mut join);
        let joined = Joined { child: join.spawn().map_err(started)?, home };
        let until = Instant::now() + PATIENCE;
        while !self.client.pus()?.iter().any(|pu| pu.name == REMOTE && pu.ready) {
            if Instant::now() > until {
                return Err(BenchError::NotReady { said: last_lines(&joined.home.path().join("log")) });
            }
            crate::pause(LOOK_AGAIN);
        }
        Ok(joined)
    }

    /// The process of its supervisor.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `lichen deploy`, as a person does it.
    pub fn deploy(&self, name: &str, code: &Path, options: &[&str]) -> Result<(), BenchError> {
        let mut deploy = Command::new(&self.program);
        deploy.arg("deploy").arg(code).args(["--name", name, "--endpoint", self.client.endpoint()]).args(options);
        let done = deploy.env("PATH", &self.path).stdin(Stdio::null()).output();
        let done = done.map_err(|source| BenchError::Program { program: self.program.clone(), source })?;
        if done.status.success() {
            return Ok(());
        }
        Err(BenchError::NotDeployed { name: name.to_owned(), said: String::from_utf8_lossy(&done.stderr).into_owned() })
    }

    /// Waits until the function has a template of its own.
    pub fn await_template(&self, name: &str) -> Result<(), BenchError> {
        self.await_templates(|template| template.function.as_deref() == Some(name))
    }

    /// Waits until the generic template for this language is there.
    pub fn await_generic_template(&self, language: Language) -> Result<(), BenchError> {
        self.await_templates(|template| template.function.is_none() && template.kind == language.as_str())
    }

    fn await_templates(&self, which: impl Fn(&api::node::Template) -> bool) -> Result<(), BenchError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let all = self.client.templates()?;
            let mut wanted = all.iter().filter(|template| which(template)).peekable();
            let there = wanted.peek().is_some();
            let late = Instant::now() > until;
            if let Some(refused) = wanted.clone().find(|template| template.phase == "refused" || late) {
                let name = refused.function.clone().unwrap_or_else(|| refused.kind.clone());
                let reason = refused.reason.clone().unwrap_or_else(|| format!("it is {} still", refused.phase));
                return Err(BenchError::NoTemplate { name, reason });
            }
            if there && wanted.all(|template| template.phase == "ready") {
                return Ok(());
            }
            if late {
                return Err(BenchError::NoTemplate { name: "?".to_owned(), reason: "nobody asked for it".to_owned() });
            }
            crate::pause(LOOK_AGAIN);
        }
    }

    /// Where processes attach to the shim of the host.
    pub fn shim(&self) -> PathBuf {
        self.folder.path().join("data").join("shims").join("host").join("shim.sock")
    }

    /// An invocation of the function that tells its spans.
    pub fn invocation(&self, name: &str, event: &[u8]) -> Request {
        let path = format!("/2015-03-31/functions/{name}/invocations");
        Request::new(self.address, "POST", &path, &[(HEADER, "1")], event)
    }

    /// The folder of the function's unpacked code: for baselines that run the very same files.
    pub fn code(&self, name: &str) -> Result<PathBuf, BenchError> {
        let sha256 = self.client.function(name)?.code_sha256;
        let bytes =
            BASE64.decode(&sha256).map_err(|_| BenchError::Broken(format!("{sha256} is no SHA-256 in base64")))?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.folder.path().join("data").join("code").join(hex))
    }
}

/// A unit that has joined. It leaves when dropped.
pub struct Joined {
    child: Child,
    home: TempDir,
}

impl Drop for Joined {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Waits for its end: a node gives its invocations time, but here none runs.
fn end(child: &mut Child) {
    ask_to_end(child);
    let _ = child.wait();
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, BenchError> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    Ok(free.map_err(io("there is no free port"))?.port())
}

/// SIGTERM.
pub fn ask_to_end(child: &Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended already.
        let _ = kill_process(pid, Signal::TERM);
    }
}

fn endpoint_in(line: &str) -> Option<(String, SocketAddr)> {
    let rest = &line[line.find("http://")?..];
    let endpoint = rest.split([',', ' ']).next()?;
    Some((endpoint.to_owned(), endpoint.strip_prefix("http://")?.parse().ok()?))
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_in_the_greeting() {
        let greeting = "lichen is ready at http://127.0.0.1:4321, with its data in /tmp/x";
        assert_eq!(endpoint_in(greeting), Some(("http://127.0.0.1:4321".into(), "127.0.0.1:4321".parse().unwrap())));
        assert_eq!(endpoint_in("lichen: no"), None);
    }
}
