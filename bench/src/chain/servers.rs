//! The handlers of a chain as servers that call each other, each a process of its own.

use super::stamps::{self, Stamps};
use crate::error::{BenchError, io};
use crate::functions::{HOP_NODE, HOP_PYTHON, Shelf};
use crate::http::{Connection, Request};
use crate::packages;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FLASK: [&str; 2] = ["flask==3.1.1", "gunicorn==23.0.0"];
const EXPRESS: [&str; 1] = ["express@5.1.0"];
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Servers in a chain; they end when dropped.
pub struct Servers {
    first: SocketAddr,
    children: Vec<Child>,
}

impl Servers {
    pub fn express(shelf: &Shelf, stages: usize) -> Result<Self, BenchError> {
        let modules = packages::node_modules(&EXPRESS)?.join("node_modules");
        let folder = shelf.put(&HOP_NODE)?;
        let script = "express_stage.cjs";
        fs::write(folder.join(script), include_str!("../../rivals/express_stage.cjs")).map_err(written())?;
        Self::start("Express", stages, |address, next| {
            let mut node = Command::new("node");
            node.arg(script).arg(address.port().to_string()).args(next.map(|next| next.port().to_string()));
            node.current_dir(&folder).env("NODE_PATH", &modules).env("NODE_ENV", "production");
            node
        })
    }

    /// Each with one process and one thread, which keeps connections.
    pub fn flask(shelf: &Shelf, stages: usize) -> Result<Self, BenchError> {
        let path = packages::path_with(&FLASK)?;
        let folder = shelf.put(&HOP_PYTHON)?;
        fs::write(folder.join("flask_stage.py"), include_str!("../../rivals/flask_stage.py")).map_err(written())?;
        Self::start("gunicorn + Flask", stages, |address, next| {
            let mut gunicorn = Command::new("gunicorn");
            gunicorn.args(["--workers=1", "--worker-class=gthread", "--threads=1", "--keep-alive=75", "--bind"]);
            gunicorn.args([&address.to_string(), "flask_stage:app"]).current_dir(&folder).env("PATH", &path);
            gunicorn.envs(next.map(|next| ("NEXT", next.port().to_string())));
            gunicorn
        })
    }

    fn start(
        name: &str,
        stages: usize,
        command: impl Fn(SocketAddr, Option<SocketAddr>) -> Command,
    ) -> Result<Self, BenchError> {
        let addresses = free_ports(stages)?;
        let mut servers = Self { first: addresses[0], children: Vec::new() };
        for at in 0..stages {
            let mut command = command(addresses[at], addresses.get(at + 1).copied());
            os::child::end_with_parent(&mut command);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let program = command.get_program().into();
            servers.children.push(command.spawn().map_err(|source| BenchError::Program { program, source })?);
        }
        servers.await_answer(name, stages)?;
        Ok(servers)
    }

    pub fn request(&self) -> Request {
        Request::new(self.first, "POST", "/", &[("Content-Type", "application/json")], stamps::EVENT)
    }

    /// Waits until the chain answers as a whole: the last of them may be the last to start.
    fn await_answer(&self, name: &str, stages: usize) -> Result<(), BenchError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = Connection::new().call(&self.request());
            match answer {
                Ok(answer) if Stamps::parse(&answer.body).is_some_and(|stamps| stamps.stages() == stages) => {
                    return Ok(());
                }
                Ok(answer) if Instant::now() > until => {
                    let body = String::from_utf8_lossy(&answer.body).into_owned();
                    return Err(BenchError::Refused { who: name.to_owned(), status: answer.status, body });
                }
                Err(source) if Instant::now() > until => {
                    return Err(BenchError::Silent { who: name.to_owned(), source });
                }
                _ => crate::pause(LOOK_AGAIN),
            }
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // gunicorn ends its workers when it is asked to end, and only then.
        self.children.iter().for_each(crate::node::ask_to_end);
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

fn written() -> impl FnOnce(std::io::Error) -> BenchError {
    io("a server's file could not be written")
}

/// Ports that were free a moment ago, all of them at once.
fn free_ports(count: usize) -> Result<Vec<SocketAddr>, BenchError> {
    let listeners = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listeners: Vec<_> = listeners.collect::<Result<_, _>>().map_err(io("there is no free port"))?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>();
    addresses.map_err(io("there is no free port"))
}
