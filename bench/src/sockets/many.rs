//! A thousand connections between two processes: how much goes through them in turns, what memory they hold, what they take
//! while nothing moves.

use super::pair::{Broker, Pair};
use super::peer::timed;
use super::{How, OURS, TCP};
use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::machine::Machine;
use crate::pause;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CONNECTIONS: usize = 1000;
const LENGTHS: [usize; 2] = [8 << 10, 256 << 10];
/// Bytes that a sample of a rate is measured over.
const VOLUME: usize = 512 << 20;
/// Small messages on each, by which connections get memory.
const WARM: usize = 20;
const ROOM: usize = 256 << 10;

pub fn measure(plan: &Plan<'_>, machine: &Machine, broker: &Broker) -> Result<Figure, BenchError> {
    (plan.tell)("a thousand connections");
    let mut arms = Vec::new();
    for how in [TCP, OURS] {
        let how = How { medium: "many", ..how };
        let mut pair =
            Pair::start(plan, broker, None, how, ("two cores", [0, machine.cores.saturating_sub(1).min(1)]))?;
        pair.call(&format!("open {CONNECTIONS}"))?;
        let before = processor_time(&pair.processes);
        pause(Duration::from_secs(2));
        let idle = processor_time(&pair.processes) - before;
        arms.extend(Arm::of(format!("{}, idle, memory", pair.name), Unit::Mebibytes, &[shared(&pair.processes[0])]));
        arms.extend(Arm::of(format!("{}, idle, processor, of 1 s", pair.name), Unit::Milliseconds, &[idle / 2.0]));
        for length in LENGTHS {
            let (mut rates, count) = (Vec::new(), VOLUME / length / CONNECTIONS);
            for _ in 0..plan.samples(10).max(3) {
                let nanoseconds = pair.call(&format!("pour {length} {count}"))?;
                let bytes = (CONNECTIONS * count * length) as f64;
                rates.extend(nanoseconds.iter().map(|time| bytes / (1 << 20) as f64 / (*time as f64 / 1e9)));
            }
            let what = format!("{}, {}", pair.name, super::bytes(length));
            arms.extend(Arm::of(what.clone(), Unit::MebibytesPerSecond, &rates));
            let memory = [shared(&pair.processes[0])];
            arms.extend(Arm::of(format!("{what}, memory"), Unit::Mebibytes, &memory));
        }
    }
    let notes = ["Messages on 1,000 connections, one after the other; the server is an event loop of one thread. \
                  Memory: shared pages that the server has touched; what TCP keeps in the kernel is not counted."];
    Ok(Figure::new("socket-many", "HeteroPod, section 7: memory", machine, arms).with_notes(notes))
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

/// Answers every message that begins with a 1 by a byte, of as many connections as come.
pub fn serve() -> io::Result<()> {
    let events = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    events.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (mut stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut buffer = vec![0; ROOM];
                while let Ok(got @ 1..) = stream.read(&mut buffer).await {
                    // What is poured is zeroes.
                    if buffer[got - 1] == 1 && stream.write_all(&[1]).await.is_err() {
                        return;
                    }
                }
            });
        }
    })
}

thread_local! {
    static OPEN: RefCell<Vec<TcpStream>> = const { RefCell::new(Vec::new()) };
}

/// What the caller does.
pub fn act(address: &str, order: &str) -> io::Result<Vec<u64>> {
    let words: Vec<&str> = order.split(' ').collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(1);
    OPEN.with_borrow_mut(|open| {
        if words[0] == "open" {
            for _ in 0..number(1) {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                open.push(stream);
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
    })
}

/// Until what was sent has been received.
fn ask(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[1])?;
    stream.read_exact(&mut [0])
}
