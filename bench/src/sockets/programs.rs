//! Programs that many use, unmodified: Redis with redis-benchmark, nginx with wrk. What is not installed is left out.

use super::pair::Broker;
use super::{How, OURS, TCP};
use crate::Plan;
use crate::error::{BenchError, io};
use crate::figure::{Arm, Figure, Unit};
use crate::machine::Machine;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests of one run of redis-benchmark.
const REQUESTS: usize = 100_000;
/// What wrk asks for: a name, bytes, connections.
const PAGES: [(&str, usize, u32); 3] = [("1 KiB", 1 << 10, 16), ("1 KiB", 1 << 10, 1), ("200 KiB", 200 << 10, 8)];

/// A server, killed at the end.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended by itself is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(
        broker: &Broker,
        how: How,
        program: &Path,
        dress: impl FnOnce(&mut Command, u16),
    ) -> Result<Self, BenchError> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(io("a port could not be had"))?.port();
        let mut command = Command::new(program);
        dress(&mut command, port);
        broker.dress(&mut command, how);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = command.spawn().map_err(|source| BenchError::Program { program: program.into(), source });
        let server = Self { child: started?, port };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > until {
                return Err(BenchError::Broken(format!("{} does not listen", program.display())));
            }
            crate::pause(Duration::from_millis(10));
        }
        Ok(server)
    }
}

/// What a program of the system says.
fn ask(broker: &Broker, how: How, program: &Path, arguments: &[&str]) -> Result<String, BenchError> {
    let mut command = Command::new(program);
    broker.dress(command.args(arguments).stdin(Stdio::null()), how);
    let output = command.output().map_err(|source| BenchError::Program { program: program.into(), source })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn installed(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Rates and 99th percentiles, of the ways in turns.
#[derive(Default)]
struct Samples(Vec<(String, Vec<f64>, Vec<f64>)>);

impl Samples {
    fn add(&mut self, what: String, (rate, p99): (f64, f64)) {
        match self.0.iter_mut().find(|(known, ..)| *known == what) {
            Some((_, rates, slow)) => {
                rates.push(rate);
                slow.push(p99);
            }
            None => self.0.push((what, vec![rate], vec![p99])),
        }
    }

    fn arms(&self) -> Vec<Arm> {
        let arms = self.0.iter().flat_map(|(what, rates, slow)| {
            let slow = Arm::of(format!("{what}, 99th percentile"), Unit::Milliseconds, slow);
            [Arm::of(what.clone(), Unit::PerSecond, rates), slow]
        });
        arms.flatten().collect()
    }
}

pub fn measure(plan: &Plan<'_>, machine: &Machine, broker: &Broker) -> Result<Figure, BenchError> {
    let (mut arms, mut notes) = (Vec::new(), Vec::new());
    let turns = plan.samples(10).max(3);
    match (installed("redis-server"), installed("redis-benchmark")) {
        (Some(server), Some(caller)) => {
            (plan.tell)("Redis");
            arms.extend(redis(turns, broker, &server, &caller)?);
        }
        _ => notes.push("Redis is not installed, and left out.".to_owned()),
    }
    match (installed("nginx"), installed("wrk")) {
        (Some(server), Some(caller)) => {
            (plan.tell)("nginx and wrk");
            arms.extend(nginx(turns, broker, &server, &caller)?);
        }
        _ => notes.push("nginx or wrk is not installed, and left out.".to_owned()),
    }
    notes.push(
        "Servers run throughout, and callers take turns. The programs move between the processors as they like. Sockmap has no arm: \
         the kernel joins sockets that somebody shows it, and these programs show nobody theirs."
            .to_owned(),
    );
    Ok(Figure::new("socket-programs", "not in the paper: programs", machine, arms).with_notes(notes))
}

fn redis(turns: usize, broker: &Broker, server: &Path, caller: &Path) -> Result<Vec<Arm>, BenchError> {
    let start = |how| {
        Server::start(broker, how, server, |command, port| {
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        })
    };
    let servers = [(TCP, start(TCP)?), (OURS, start(OURS)?)];
    let mut samples = Samples::default();
    for _ in 0..turns {
        for what in ["set", "get"] {
            for (how, server) in &servers {
                let (port, requests) = (server.port.to_string(), REQUESTS.to_string());
                let arguments = ["-p", &port, "-t", what, "-n", &requests, "-c", "20", "-d", "16", "--csv"];
                let said = ask(broker, *how, caller, &arguments)?;
                let name = format!("redis-benchmark, 20 clients, {}, {}", what.to_uppercase(), how.name);
                samples.add(name, of_redis(&said).ok_or_else(|| unclear(caller, &said))?);
            }
        }
    }
    Ok(samples.arms())
}

fn unclear(program: &Path, said: &str) -> BenchError {
    BenchError::Broken(format!("{} said: {said}", program.display()))
}

/// Requests a second, and the 99th percentile in milliseconds: of "SET","123.4",average,least,p50,p95,p99,most.
fn of_redis(said: &str) -> Option<(f64, f64)> {
    let line = said.lines().last()?;
    let number = |at: usize| line.split(',').nth(at)?.trim_matches('"').parse().ok();
    Some((number(1)?, number(6)?))
}

fn nginx(turns: usize, broker: &Broker, server: &Path, caller: &Path) -> Result<Vec<Arm>, BenchError> {
    let folder = tempfile::tempdir().map_err(io("a folder for nginx could not be made"))?;
    let place = folder.path();
    for (_, bytes, _) in PAGES {
        std::fs::write(place.join(bytes.to_string()), vec![b'x'; bytes]).map_err(io("a page could not be written"))?;
    }
    // Whoever nginx becomes is to read them.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place, open).map_err(io("a folder could not be opened"))?;
    let start = |how: How| {
        Server::start(broker, how, server, |command, port| {
            let file = place.join(format!("{port}.conf"));
            let text = format!(
                "daemon off; master_process off; error_log /dev/null; pid {place}/{port}.pid; events {{ worker_connections 512; }}
                 http {{ access_log off; sendfile on; keepalive_requests 1000000000; client_body_temp_path {place}/{port}.body;
                 server {{ listen 127.0.0.1:{port}; root {place}; }} }}",
                place = place.display()
            );
            // A file that is not there is said by nginx, which does not listen.
            let _ = std::fs::write(&file, text);
            command.arg("-c").arg(file);
        })
    };
    let servers = [(TCP, start(TCP)?), (OURS, start(OURS)?)];
    let mut samples = Samples::default();
    for _ in 0..turns {
        for (page, bytes, connections) in PAGES {
            for (how, server) in &servers {
                let address = format!("http://127.0.0.1:{}/{bytes}", server.port);
                let arguments = ["-t1", &format!("-c{connections}"), "-d1s", "--latency", &address];
                let said = ask(broker, *how, caller, &arguments)?;
                let s = if connections == 1 { "" } else { "s" };
                let name = format!("wrk, {connections} connection{s}, {page}, {}", how.name);
                samples.add(name, of_wrk(&said).ok_or_else(|| unclear(caller, &said))?);
            }
        }
    }
    Ok(samples.arms())
}

fn of_wrk(said: &str) -> Option<(f64, f64)> {
    let behind = |what: &str| said.lines().find_map(|line| line.trim().strip_prefix(what)).map(str::trim);
    let rate = behind("Requests/sec:")?.parse().ok()?;
    let slow = behind("99%")?;
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
    let (number, unit) = units.into_iter().find_map(|(unit, ms)| Some((slow.strip_suffix(unit)?, ms)))?;
    Some((rate, number.parse::<f64>().ok()? * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_say_is_understood() {
        let csv = "\"test\",\"rps\"\n\"SET\",\"54894.78\",\"0.2\",\"0.1\",\"0.2\",\"0.3\",\"0.487\",\"1.0\"\n";
        assert_eq!(of_redis(csv), Some((54894.78, 0.487)));
        let wrk =
            "  Latency Distribution\n     50%   12.00us\n     99%  250.00us\n  1 requests\nRequests/sec:  16097.76\n";
        assert_eq!(of_wrk(wrk), Some((16097.76, 0.25)));
        assert_eq!(of_wrk("Requests/sec: 1\n 99% 1.50s"), Some((1.0, 1500.0)));
        assert_eq!((of_redis(""), of_wrk("refused")), (None, None));
    }
}
