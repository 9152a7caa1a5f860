//! Servers that people use for the same: gunicorn with Flask, Express, and AWS's own Python runtime client.

use super::bridge::Bridge;
use crate::error::{BenchError, io};
use crate::functions::{HELLO_PYTHON, Shelf};
use crate::http::{Connection, Request};
use crate::packages;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FLASK: [&str; 2] = ["flask==3.1.1", "gunicorn==23.0.0"];
const EXPRESS: [&str; 1] = ["express@5.1.0"];
const RUNTIME_CLIENT: [&str; 1] = ["awslambdaric==3.1.1"];
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A server under measurement; it and its processes end when dropped.
pub struct Rival {
    pub name: String,
    pub address: SocketAddr,
    children: Vec<Child>,
    bridge: Option<Bridge>,
}

impl Rival {
    /// As many processes as there are cores, as gunicorn's documentation has it for small handlers.
    pub fn flask(folder: &Path, workers: usize) -> Result<Self, BenchError> {
        let path = packages::path_with(&FLASK)?;
        write(folder, "flask_app.py", include_str!("../../rivals/flask_app.py"))?;
        let address = free_port()?;
        let mut gunicorn = Command::new("gunicorn");
        gunicorn.args(["--workers", &workers.to_string(), "--bind", &address.to_string(), "flask_app:app"]);
        gunicorn.env("PATH", path).current_dir(folder);
        Self::start(format!("gunicorn -w {workers} + Flask"), address, vec![gunicorn], None)
    }

    pub fn express(folder: &Path) -> Result<Self, BenchError> {
        let modules = packages::node_modules(&EXPRESS)?;
        write(folder, "express_app.cjs", include_str!("../../rivals/express_app.cjs"))?;
        let address = free_port()?;
        let mut node = Command::new("node");
        node.args(["express_app.cjs", &address.port().to_string()]).current_dir(folder);
        node.env("NODE_PATH", modules.join("node_modules")).env("NODE_ENV", "production");
        Self::start("Express".to_owned(), address, vec![node], None)
    }

    /// The runtime client in so many processes, each of which asks a bridge for its next event.
    pub fn runtime_client(shelf: &Shelf, instances: usize) -> Result<Self, BenchError> {
        let path = packages::path_with(&RUNTIME_CLIENT)?;
        let code = shelf.put(&HELLO_PYTHON)?;
        let bridge = Bridge::start().map_err(io("the Runtime API could not be served"))?;
        let address = bridge.address;
        let instance = || {
            let mut python = Command::new("python3");
            python.args(["-m", "awslambdaric", "app.handler"]).current_dir(&code).env("PATH", &path);
            python.env("AWS_LAMBDA_RUNTIME_API", address.to_string()).env("PYTHONPATH", &code);
            python.env("AWS_LAMBDA_FUNCTION_NAME", "hello").env("AWS_REGION", "us-east-1");
            python
        };
        let commands = (0..instances).map(|_| instance()).collect();
        Self::start(format!("awslambdaric, {instances} processes"), address, commands, Some(bridge))
    }

    fn start(
        name: String,
        address: SocketAddr,
        commands: Vec<Command>,
        bridge: Option<Bridge>,
    ) -> Result<Self, BenchError> {
        let mut rival = Self { name, address, children: Vec::new(), bridge };
        for mut command in commands {
            os::child::end_with_parent(&mut command);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let program = command.get_program().into();
            rival.children.push(command.spawn().map_err(|source| BenchError::Program { program, source })?);
        }
        rival.await_answer()?;
        Ok(rival)
    }

    pub fn request(&self) -> Request {
        Request::new(self.address, "POST", "/", &[("Content-Type", "application/json")], b"{}")
    }

    fn await_answer(&self) -> Result<(), BenchError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Connection::new().call(&self.request()) {
                Ok(answer) if answer.status == 200 && answer.body == b"\"hello\"" => return Ok(()),
                Ok(answer) => {
                    let body = String::from_utf8_lossy(&answer.body).into_owned();
                    return Err(BenchError::Refused { who: self.name.clone(), status: answer.status, body });
                }
                Err(source) if Instant::now() > until => {
                    return Err(BenchError::Silent { who: self.name.clone(), source });
                }
                Err(_) => crate::pause(LOOK_AGAIN),
            }
        }
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        drop(self.bridge.take());
        for child in &mut self.children {
            // gunicorn ends its workers when it is asked to end, and only then.
            crate::node::ask_to_end(child);
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), BenchError> {
    fs::write(folder.join(name), text).map_err(io("a rival's file could not be written"))
}

/// A port that was free a moment ago.
fn free_port() -> Result<SocketAddr, BenchError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    listener.and_then(|listener| listener.local_addr()).map_err(io("there is no free port"))
}
