//! Delivering records to one subscriber: gathered for a while, then sent to a port of the sandbox's own loopback.
//!
//! A thread of its own, so that a subscriber that is slow, or gone, is nobody's business. What cannot be delivered is lost.

use serde::Deserialize;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long a subscriber may take for a batch.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names by which an extension may call its own sandbox.
const HOSTS: [&str; 4] = ["sandbox.localdomain", "sandbox", "localhost", "127.0.0.1"];
/// Batches that may wait, by their bytes.
const BATCHES: usize = 2;
const STACK: usize = 64 * 1024;

/// How records are gathered: AWS's defaults and ranges.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Buffering {
    max_items: usize,
    max_bytes: usize,
    timeout_ms: u64,
}

impl Default for Buffering {
    fn default() -> Self {
        Self { max_items: 10_000, max_bytes: 262_144, timeout_ms: 1000 }
    }
}

impl Buffering {
    pub fn check(&self) -> Result<(), String> {
        let wrong = |name: &str, least: u64, most: u64| Err(format!("buffering.{name} is from {least} to {most}"));
        match self {
            Self { max_items, .. } if !(1000..=10_000).contains(max_items) => wrong("maxItems", 1000, 10_000),
            Self { max_bytes, .. } if !(262_144..=1_048_576).contains(max_bytes) => {
                wrong("maxBytes", 262_144, 1_048_576)
            }
            Self { timeout_ms, .. } if !(25..=30_000).contains(timeout_ms) => wrong("timeoutMs", 25, 30_000),
            _ => Ok(()),
        }
    }
}

/// Where records go.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    Http { port: u16, host: String, path: String },
    Tcp { port: u16 },
}

impl Target {
    /// `http://sandbox.localdomain:PORT/PATH`.
    pub fn http(uri: &str) -> Result<Self, String> {
        let wrong = || format!("destination.URI is http://sandbox.localdomain:PORT/PATH, not {uri}");
        let rest = uri.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (name, port) = host.split_once(':').unwrap_or((host, "80"));
        if !HOSTS.contains(&name) || path.contains(char::is_whitespace) || path.contains(char::is_control) {
            return Err(wrong());
        }
        let port = port.parse().map_err(|_| wrong())?;
        Ok(Self::Http { port, host: host.to_owned(), path: format!("/{path}") })
    }

    pub fn tcp(port: u16) -> Result<Self, String> {
        if port == 0 { Err("destination.port is from 1 to 65535".to_owned()) } else { Ok(Self::Tcp { port }) }
    }

    fn connect(port: u16) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn send(&self, batch: &[Arc<str>], kept: &mut Option<TcpStream>) -> io::Result<()> {
        match self {
            Self::Http { port, host, path } => {
                let body = format!("[{}]", batch.join(","));
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let mut stream = Self::connect(*port)?;
                stream.write_all(head.as_bytes())?;
                stream.write_all(body.as_bytes())?;
                // What it says does not matter, that it has read does.
                stream.read(&mut [0; 512]).map(drop)
            }
            Self::Tcp { port } => {
                let mut stream = match kept.take() {
                    Some(stream) => stream,
                    None => Self::connect(*port)?,
                };
                let lines: String = batch.iter().flat_map(|text| [text, "\n"]).collect();
                stream.write_all(lines.as_bytes())?;
                *kept = Some(stream);
                Ok(())
            }
        }
    }
}

enum Parcel {
    Record(Arc<str>),
    /// Nothing more is worth waiting for. Whoever asks is told once all before it is delivered.
    Flush(SyncSender<()>),
}

/// The way to one subscriber.
pub struct Delivery {
    parcels: SyncSender<Parcel>,
    /// Bytes on the way, and how many may be.
    on_the_way: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl Delivery {
    pub fn start(target: Target, buffering: Buffering) -> io::Result<Self> {
        let (parcels, received) = sync_channel(buffering.max_items);
        let on_the_way = Arc::new(AtomicUsize::new(0));
        let bytes_max = BATCHES * buffering.max_bytes;
        let left = on_the_way.clone();
        let work = move || deliver(&received, &target, &buffering, &left);
        std::thread::Builder::new().stack_size(STACK).spawn(work)?;
        Ok(Self { parcels, on_the_way, bytes_max })
    }

    /// Whether there was room for it.
    pub fn send(&self, record: Arc<str>) -> bool {
        let len = record.len();
        if self.on_the_way.load(Relaxed) + len > self.bytes_max
            || self.parcels.try_send(Parcel::Record(record)).is_err()
        {
            return false;
        }
        self.on_the_way.fetch_add(len, Relaxed);
        true
    }

    /// Delivers at once what waits. The answer hears when that is done; nothing where the queue is full, which is
    /// delivered at once anyway.
    pub fn flush(&self) -> Option<Receiver<()>> {
        let (done, heard) = sync_channel(1);
        self.parcels.try_send(Parcel::Flush(done)).ok().map(|()| heard)
    }
}

fn deliver(received: &Receiver<Parcel>, target: &Target, buffering: &Buffering, on_the_way: &AtomicUsize) {
    let mut kept = None;
    while let Ok(first) = received.recv() {
        let due = Instant::now() + Duration::from_millis(buffering.timeout_ms);
        let (mut batch, mut bytes, mut parcel) = (Vec::new(), 0, first);
        let mut asked = None;
        loop {
            match parcel {
                Parcel::Record(text) => {
                    bytes += text.len();
                    batch.push(text);
                }
                Parcel::Flush(done) => {
                    asked = Some(done);
                    break;
                }
            }
            if batch.len() >= buffering.max_items || bytes >= buffering.max_bytes {
                break;
            }
            match received.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(next) => parcel = next,
                Err(_) => break,
            }
        }
        if !batch.is_empty() {
            // Lost where it cannot be delivered.
            let _ = target.send(&batch, &mut kept);
        }
        on_the_way.fetch_sub(bytes, Relaxed);
        if let Some(done) = asked {
            // Nobody hears where whoever asked has waited for long enough.
            let _ = done.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufRead;
    use std::net::TcpListener;

    #[test]
    fn destinations_are_in_the_sandbox() {
        let http = |port, host: &str, path: &str| Ok(Target::Http { port, host: host.into(), path: path.into() });
        assert_eq!(Target::http("http://sandbox.localdomain:8080/a/b"), http(8080, "sandbox.localdomain:8080", "/a/b"));
        assert_eq!(Target::http("http://sandbox"), http(80, "sandbox", "/"));
        for wrong in ["https://sandbox:1/", "http://example.com:80/", "http://sandbox:x/", "http://sandbox:1/a b", ""] {
            assert!(Target::http(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_flush_ends_the_gathering() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp { port: listener.local_addr().unwrap().port() };
        let delivery = Delivery::start(target, Buffering { timeout_ms: 30_000, ..Buffering::default() }).unwrap();
        assert!(delivery.send("one".into()) && delivery.send("two".into()));
        let delivered = delivery.flush().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let lines: Vec<String> = io::BufReader::new(stream).lines().take(2).map(Result::unwrap).collect();
        assert_eq!(lines, ["one", "two"]);
        delivered.recv_timeout(PATIENCE).expect("whoever asked is told");
        assert!(!delivery.send("x".repeat(1 << 20).into()), "it is bounded");
    }
}
