//! How many requests a second: `wrk` where it is installed, else clients of our own.

use crate::error::{BenchError, io};
use crate::http::{Crowd, Request};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Something that makes load.
pub enum Generator {
    /// `wrk`, with a folder for its scripts.
    Wrk(TempDir),
    Own,
}

impl Generator {
    /// The best there is.
    pub fn find() -> Result<Self, BenchError> {
        let found = Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !found {
            return Ok(Self::Own);
        }
        TempDir::with_prefix("lichen-bench-").map(Self::Wrk).map_err(io("a temporary folder could not be made"))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Wrk(_) => "wrk",
            Self::Own => "own clients",
        }
    }

    /// Requests a second over `time`, by so many clients.
    pub fn run(&self, request: &Request, clients: usize, time: Duration) -> Result<f64, BenchError> {
        match self {
            Self::Wrk(folder) => wrk(folder, request, clients, time),
            Self::Own => {
                let crowd = Crowd { clients, request: request.clone() };
                let load =
                    crowd.ask_for(time).map_err(|source| BenchError::Silent { who: "a server".into(), source })?;
                match load.refused {
                    0 => Ok(load.per_second()),
                    refused => Err(BenchError::Broken(format!("{refused} requests were refused under load"))),
                }
            }
        }
    }
}

fn wrk(folder: &TempDir, request: &Request, clients: usize, time: Duration) -> Result<f64, BenchError> {
    let text = String::from_utf8_lossy(&request.bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut start = head.split(' ');
    let (method, path) = (start.next().unwrap_or("GET"), start.next().unwrap_or("/"));
    let script = folder.path().join("request.lua");
    let lua =
        format!("wrk.method = {method:?}\nwrk.body = {body:?}\nwrk.headers[\"Content-Type\"] = \"application/json\"\n");
    fs::write(&script, lua).map_err(io("a script for wrk could not be written"))?;
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", &format!("-c{clients}"), &format!("-d{}s", time.as_secs().max(1))]).arg("-s").arg(&script);
    let done = wrk.arg(format!("http://{}{path}", request.to)).stdin(Stdio::null()).output();
    let done = done.map_err(|source| BenchError::Program { program: "wrk".into(), source })?;
    per_second(&String::from_utf8_lossy(&done.stdout))
}

fn per_second(said: &str) -> Result<f64, BenchError> {
    let field = |name: &str| said.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    if let Some(bad) = field("Non-2xx or 3xx responses:") {
        return Err(BenchError::Broken(format!("{bad} requests were refused under load")));
    }
    let number = field("Requests/sec:").and_then(|number| number.parse().ok());
    number.ok_or_else(|| BenchError::Broken(format!("wrk told no rate, but:\n{said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says() {
        let said = "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 16 connections\nRequests/sec:  12345.67\nTransfer/sec: 1MB\n";
        assert_eq!(per_second(said).unwrap(), 12345.67);
        assert!(per_second(&format!("{said}  Non-2xx or 3xx responses: 3\n")).unwrap_err().to_string().contains('3'));
        assert!(per_second("unable to connect").is_err());
    }
}
