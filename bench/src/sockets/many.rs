//! A thousand connections between two processes: how much goes through them in turns, what memory they hold, what they take
//! while nothing moves.

use super::memory::{Memory, Polled};
use super::pair::{Broker, Pair};
use super::peer::{ring_bytes, timed};
use super::ring::Reserved;
use super::{How, OURS, TCP};
use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::machine::Machine;
use crate::pause;
use socket::fixed::Rings;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::process::Child;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};

const CONNECTIONS: usize = 1000;
const LENGTHS: [usize; 2] = [8 << 10, 256 << 10];
/// Bytes that a sample of a rate is measured over.
const VOLUME: usize = 512 << 20;
/// Small messages on each, by which connections get memory.
const WARM: usize = 60;
const ROOM: usize = 256 << 10;

/// Fixed reservations, and what is ours without sockets: memory that both ends poll.
const BARE: [How; 4] = [
    super::how("memory alone", "many-memory", false),
    super::how("reserved, 256 KiB", "many-ring262144", false),
    super::how("reserved, 1 MiB", "many-ring1048576", false),
    super::how("reserved, 16 MiB", "many-ring16777216", false),
];
/// MiB of memory that there must be for the last of them, of which no more is touched than goes through it.
const PLENTY: f64 = 10_000.0;

pub fn measure(plan: &Plan<'_>, machine: &Machine, broker: &Broker) -> Result<Figure, BenchError> {
    (plan.tell)("a thousand connections");
    let (mut arms, mut pairs) = (Vec::new(), Vec::new());
    let processors = [0, machine.cores.saturating_sub(1).min(1)];
    let mut notes = vec![
        "Messages on 1,000 connections, one after the other; the server is an event loop of one thread. \
         Memory: shared pages that the server has touched; what TCP keeps in the kernel is not counted. Memory alone and reserved: \
         1,000 connections of records, or of rings of that size each way, which both ends poll, without sockets; \
         of rings, all memory is counted, as it is theirs from the beginning."
            .to_owned(),
    ];
    for how in [How { medium: "many", ..TCP }, How { medium: "many", ..OURS }].into_iter().chain(BARE) {
        if ring_bytes(how.medium) >= 16 << 20 && how.medium != "many" && available() < PLENTY {
            notes.push(format!("{} is left out: this machine has too little memory.", how.name));
            continue;
        }
        let mut pair = Pair::start(plan, broker, None, how, ("two cores", processors))?;
        pair.call(&format!("open {CONNECTIONS}"))?;
        if how.medium == "many" {
            let before = processor_time(pair.processes());
            pause(Duration::from_secs(2));
            let idle = processor_time(pair.processes()) - before;
            arms.extend(Arm::of(format!("{}, idle, memory", pair.name), Unit::Mebibytes, &[memory(how, &pair)]));
            let name = format!("{}, idle, processor, of 1 s", pair.name);
            arms.extend(Arm::of(name, Unit::Milliseconds, &[idle / 2.0]));
        }
        pairs.push((how, pair));
    }
    for length in LENGTHS {
        let (mut rates, count) = (vec![Vec::new(); pairs.len()], VOLUME / length / CONNECTIONS);
        for _ in 0..plan.samples(5).max(3) {
            for ((_, pair), rates) in pairs.iter_mut().zip(&mut rates) {
                let nanoseconds = pair.call(&format!("pour {length} {count}"))?;
                let bytes = (CONNECTIONS * count * length) as f64;
                rates.extend(nanoseconds.iter().map(|time| bytes / (1 << 20) as f64 / (*time as f64 / 1e9)));
            }
        }
        for ((how, pair), rates) in pairs.iter().zip(&rates) {
            let what = format!("{}, {}", pair.name, super::bytes(length));
            arms.extend(Arm::of(what.clone(), Unit::MebibytesPerSecond, rates));
            arms.extend(Arm::of(format!("{what}, memory"), Unit::Mebibytes, &[memory(*how, pair)]));
        }
    }
    Ok(Figure::new("socket-many", "HeteroPod, section 7: memory", machine, arms).with_notes(notes))
}

/// MiB that an arm's connections take.
fn memory(how: How, pair: &Pair) -> f64 {
    match how.medium {
        ring if ring.starts_with("many-ring") => (2 * CONNECTIONS * ring_bytes(ring)) as f64 / (1 << 20) as f64,
        _ => shared(&pair.processes()[0]),
    }
}

/// MiB of memory that nobody uses.
fn available() -> f64 {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"));
    line.and_then(|kib| kib.trim().parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Milliseconds that these have run, ever.
fn processor_time(processes: &[Child]) -> f64 {
    let of = |process: &Child| {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", process.id())).unwrap_or_default();
        text.split(' ').next().and_then(|time| time.parse::<f64>().ok()).unwrap_or(0.0) / 1e6
    };
    processes.iter().map(of).sum()
}

/// MiB of shared memory that a process has touched.
fn shared(process: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// What the server does.
pub fn serve(medium: &str) -> io::Result<()> {
    if medium == "many-memory" {
        let (memory, place, _file) = Memory::publish()?;
        println!("{place}");
        return sweep((0..CONNECTIONS).map(|_| memory.open()).collect::<io::Result<_>>()?);
    }
    if medium.starts_with("many-ring") {
        let (rings, place, _file) = Rings::publish(ring_bytes(medium), CONNECTIONS)?;
        println!("{place}");
        return sweep((0..CONNECTIONS).map(|at| Reserved(rings.open(at))).collect());
    }
    attend()
}

/// Looks at all connections in turns, and answers as [`attend`].
fn sweep<P: Polled>(mut open: Vec<P>) -> io::Result<()> {
    let (mut buffer, mut quiet) = (vec![0; ROOM], 0u32);
    loop {
        quiet = quiet.saturating_add(1);
        for end in &mut open {
            let Some(got @ 1..) = end.try_read(&mut buffer)? else { continue };
            quiet = 0;
            if buffer[got - 1] == 1 {
                end.write_all(&[1])?;
            }
        }
        // Others are measured in between.
        if quiet > 500 {
            pause(Duration::from_micros(500));
        }
    }
}

/// Answers every message that ends with a 1 by a byte, of as many connections as come. All are received into one buffer, as those
/// are that are polled.
fn attend() -> io::Result<()> {
    let events = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let buffer = Rc::new(RefCell::new(vec![0; ROOM]));
    tokio::task::LocalSet::new().block_on(&events, async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (mut stream, _) = listener.accept().await?;
            let buffer = buffer.clone();
            tokio::task::spawn_local(async move {
                while let Ok(Some(last)) = poll_fn(|task| last_of(&mut stream, task, &mut buffer.borrow_mut())).await {
                    // What is poured is zeroes.
                    if last == 1 && stream.write_all(&[1]).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
}

/// The last byte of what has come; none at the end.
fn last_of(
    stream: &mut tokio::net::TcpStream,
    task: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<Option<u8>>> {
    let mut room = ReadBuf::new(buffer);
    Pin::new(stream).poll_read(task, &mut room).map_ok(|()| room.filled().last().copied())
}

/// What the caller does.
pub fn call(medium: &str, address: &str) -> io::Result<()> {
    if medium == "many-memory" {
        let memory = Memory::find(address)?;
        return super::peer::orders(pour(|_| memory.open()));
    }
    if medium.starts_with("many-ring") {
        let rings = Rings::find(address, ring_bytes(medium), CONNECTIONS)?;
        return super::peer::orders(pour(|at| Ok(Reserved(rings.open(at)))));
    }
    super::peer::orders(pour(|_| {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }))
}

/// Does what it is told, with connections that `connect` makes.
fn pour<S: Read + Write>(connect: impl Fn(usize) -> io::Result<S>) -> impl Fn(&str) -> io::Result<Vec<u64>> {
    let open = RefCell::new(Vec::new());
    move |order| {
        let words: Vec<&str> = order.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(1);
        let mut open = open.borrow_mut();
        if words[0] == "open" {
            for at in 0..number(1) {
                open.push(connect(at)?);
            }
            for _ in 0..WARM {
                open.iter_mut().try_for_each(ask)?;
            }
            return Ok(Vec::new());
        }
        let message = vec![0; number(1)];
        let poured = timed(|| {
            for _ in 0..number(2) {
                open.iter_mut().try_for_each(|stream| stream.write_all(&message))?;
            }
            open.iter_mut().try_for_each(ask)
        });
        Ok(vec![poured?])
    }
}

/// Until what was sent has been received.
fn ask(stream: &mut (impl Read + Write)) -> io::Result<()> {
    stream.write_all(&[1])?;
    stream.read_exact(&mut [0])
}
