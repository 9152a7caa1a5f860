//! A gateway in a temporary folder, and requests to it.

use api::Client;
use api::client::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use daemon::config::Source;
use gateway::Config;
use serde_json::{Value, json};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

pub const FUNCTIONS: &str = "/2015-03-31/functions";

/// A running gateway. Dropped, it has ended, and without an error.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub address: SocketAddr,
    running: Option<(OwnedFd, JoinHandle<Result<(), gateway::RunError>>)>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Lambda's code for an error; empty where there is none.
    pub code: String,
    pub body: Vec<u8>,
    pub json: Value,
}

impl Answer {
    pub fn text(&self) -> &str {
        ["message", "Message"].into_iter().find_map(|member| self.json[member].as_str()).unwrap_or_default()
    }
}

impl Place {
    pub fn new() -> Self {
        Self::with("")
    }

    /// A gateway with this configuration.
    pub fn with(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (running, address) = start(folder.path(), configuration);
        Self { folder, address, running: Some(running) }
    }

    /// Ends the gateway and starts another on the same data.
    pub fn restart(&mut self) {
        self.end();
        let (running, address) = start(self.folder.path(), "");
        (self.running, self.address) = (Some(running), address);
    }

    /// Ends the gateway.
    pub fn end(&mut self) {
        let Some((supervisor, thread)) = self.running.take() else { return };
        drop(supervisor);
        thread.join().unwrap().unwrap();
    }

    pub fn client(&self) -> Client {
        Client::new(&format!("http://{}", self.address)).unwrap()
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let request = Request::new(method, path).with_headers(headers).with_body(body);
        let mut response = self.client().open(&request).unwrap();
        let body = response.read_to_end().unwrap();
        assert_eq!(response.header("x-amzn-requestid").unwrap().len(), 36);
        let code = response.header("x-amzn-errortype").unwrap_or_default().to_owned();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        Answer { status: response.status, code, body, json }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[], body.to_string().as_bytes())
    }

    /// `CreateFunction`, with these members beside or instead of the usual ones.
    pub fn create(&self, name: &str, more: Value) -> Answer {
        self.create_as(&[], name, more)
    }

    pub fn create_as(&self, headers: &[(&str, &str)], name: &str, more: Value) -> Answer {
        let mut request = json!({
            "FunctionName": name, "Role": "arn:aws:iam::000000000000:role/r", "Runtime": "python3.11",
            "Handler": "app.handler", "Code": { "ZipFile": zip("app.py", "1") },
        });
        let members = more.as_object().unwrap().clone();
        request.as_object_mut().unwrap().extend(members);
        self.send("POST", FUNCTIONS, headers, request.to_string().as_bytes())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

type Running = (OwnedFd, JoinHandle<Result<(), gateway::RunError>>);

fn start(folder: &std::path::Path, configuration: &str) -> (Running, SocketAddr) {
    let mut config = Config::from_source(&Source::of("lichen.toml", configuration)).unwrap();
    config.node.data_dir = folder.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = os::seqpacket::pair().unwrap();
    let thread =
        std::thread::spawn(move || gateway::run(config, listener.into(), theirs, gateway::Neighbours::default()));
    ((ours, thread), address)
}

/// A zip file with one file in it, in base64.
pub fn zip(name: &str, content: &str) -> String {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(content.as_bytes()).unwrap();
    BASE64.encode(zip.finish().unwrap().into_inner())
}
