//! `stream`: answers that come in parts: how soon the first byte is there, how fast 200 MiB are, and what they cost in
//! memory on their way.

use crate::Plan;
use crate::census::{self, Census, Part};
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::functions::{STREAM_NODE, Shelf};
use crate::machine::Machine;
use crate::node::{Node, Settings};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// MiB of a long answer: just below the limit.
const LONG: usize = 199;
/// Bytes read at a time.
const PIECE: usize = 256 * 1024;
/// A node that is silent for so long is broken.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    (plan.tell)("starting a node");
    let path = std::env::var("PATH").unwrap_or_default();
    let node = Node::start(&plan.program, &Settings { dispatch: "stems = 0".to_owned(), path, ..Settings::default() })?;
    let shelf = Shelf::new()?;
    node.deploy(STREAM_NODE.name, &shelf.put(&STREAM_NODE)?, &["--timeout", "60"])?;
    node.await_template(STREAM_NODE.name)?;
    (plan.tell)("first bytes");
    let mut first = Vec::new();
    for _ in 0..plan.samples(500).max(10) {
        first.push(answer(&node, 0)?.first_us);
    }
    (plan.tell)("200 MiB");
    let before = memory(&node);
    let mut rates = Vec::new();
    for _ in 0..plan.samples(20).max(3) {
        rates.push(answer(&node, LONG)?.mib_per_second);
    }
    let after = memory(&node);
    let arms = [
        Arm::of("first byte, after the function wrote it", Unit::Microseconds, &first),
        Arm::of("200 MiB (MiB per second)", Unit::PerSecond, &rates),
        Arm::of("what the gateway has grown by", Unit::Mebibytes, &[after.0 - before.0]),
        Arm::of("what the instance has grown by", Unit::Mebibytes, &[after.1 - before.1]),
    ];
    let notes = ["Through a function URL, over HTTP, to a client that reads as fast as it can."];
    let arms = arms.into_iter().flatten().collect();
    Ok(vec![Figure::new("stream", "none: answers in parts", machine, arms).with_notes(notes)])
}

/// MiB that gateway and instance occupy.
fn memory(node: &Node) -> (f64, f64) {
    let all = Census::take(node.pid());
    let of = |part| all.of(part).map(|process| census::pss_mib(process.pid)).sum();
    (of(Part::Gateway), all.instances_mib().iter().sum())
}

/// What was seen of one answer.
struct Seen {
    first_us: f64,
    mib_per_second: f64,
}

fn answer(node: &Node, mib: usize) -> Result<Seen, BenchError> {
    read(node, mib).map_err(|source| BenchError::Silent { who: STREAM_NODE.name.into(), source })
}

/// Reads an answer as it comes, chunk by chunk.
fn read(node: &Node, mib: usize) -> io::Result<Seen> {
    let mut stream = TcpStream::connect(node.address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!("GET /f/{}/?mib={mib} HTTP/1.1\r\nHost: {}\r\n\r\n", STREAM_NODE.name, node.address);
    stream.write_all(head.as_bytes())?;
    let mut reader = BufReader::with_capacity(PIECE, stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let (mut length, mut began, mut first_us) = (0, Instant::now(), 0.0);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let chunk = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if chunk == 0 {
            break;
        }
        let mut body = vec![0; chunk + 2];
        reader.read_exact(&mut body)?;
        if length == 0 {
            let now = os::monotonic_ns();
            let said = std::str::from_utf8(&body[..chunk]).ok().and_then(|text| text.trim().parse::<u64>().ok());
            first_us = now.saturating_sub(said.ok_or(io::ErrorKind::InvalidData)?) as f64 / 1000.0;
            began = Instant::now();
        }
        length += chunk;
    }
    if length < mib << 20 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Seen { first_us, mib_per_second: mib as f64 / began.elapsed().as_secs_f64() })
}
