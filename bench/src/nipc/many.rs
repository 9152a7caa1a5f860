//! Ten thousand FIFOs, open at once on one PU: what connecting to one takes, and what one that is idle occupies.
//!
//! ```text
//!   openers (processes that the shim has started): create, connect both ends, one message each ─▶ times, memory ─▶ wait
//! ```
//!
//! A process may not have as many descriptors, so there are a few, one after the other: what is measured is a call of one
//! process, not how several wait for each other. All keep what they opened until the last has told.

use super::shims::{Pus, parent};
use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::machine::Machine;
use std::io;
use std::time::{Duration, Instant};
use xpucall::id::{FifoId, PuId, Rights};
use xpucall::wire::{Program, Transport};
use xpucall::{Fifo, Limits};

/// What the peer's command line calls an opener.
pub const MANY: &str = "xpu-many";
const FIFOS: usize = 10_000;
const OPENERS: usize = 4;
const EACH: usize = FIFOS / OPENERS;
/// What an opener has to begin with, and then for each FIFO.
const DESCRIPTORS: u64 = 100 + 5 * EACH as u64;
const PATIENCE: Duration = Duration::from_secs(120);

pub fn measure(plan: &Plan<'_>, machine: &Machine, pus: &Pus) -> Result<Option<Figure>, BenchError> {
    if os::process::raise_descriptors() < DESCRIPTORS {
        (plan.tell)(&format!("skipped: {FIFOS} FIFOs, as a process may not have {DESCRIPTORS} descriptors"));
        return Ok(None);
    }
    (plan.tell)(&format!("{FIFOS} FIFOs at once"));
    let broken = |error: &dyn std::error::Error| BenchError::Broken(error.to_string());
    let process = pus.attach(Transport::Adaptive)?;
    let told = Fifo::create(&process, Limits::default()).map_err(|error| broken(&error))?;
    let mut reader = told.reader().map_err(|error| broken(&error))?;
    let (mut connects, mut mib, mut kept) = (Vec::new(), 0.0, Vec::new());
    let (mut message, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    for _ in 0..OPENERS {
        let address = format!("{}:{}", process.pid().0, told.id().0);
        let program = Program {
            path: plan.program.display().to_string(),
            arguments: ["lichen", "bench-peer", MANY, &address, "0"].map(str::to_owned).into(),
            environment: Vec::new(),
            capabilities: vec![(told.id(), Rights::WRITE)],
        };
        process.spawn(PuId(0), program).map_err(|error| broken(&error))?;
        reader.read_into(&mut message, Some(deadline)).map_err(|error| broken(&error))?;
        let mut numbers = message.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight")));
        let (Some(down), Some(kib)) = (numbers.next(), numbers.next()) else {
            return Err(BenchError::Broken("an opener has told nothing".into()));
        };
        mib += kib as f64 / 1024.0;
        connects.extend(numbers.map(|nanoseconds| nanoseconds as f64 / 1000.0));
        kept.push(process.connect_writer(FifoId(down)).map_err(|error| broken(&error))?);
    }
    let arms = [
        Arm::of("connect one end, up to 10,000 FIFOs open", Unit::Microseconds, &connects),
        Arm::of("10,000 idle FIFOs, memory of their lanes", Unit::Mebibytes, &[mib]),
    ];
    let notes = ["Four processes on one PU open 2,500 FIFOs each, one process after the other, both ends, send one \
                  message through each and keep them. Memory: the pages that have come to be shared thereby."];
    let figure =
        Figure::new("nipc-many", "not in a paper: FIFOs at once", machine, arms.into_iter().flatten().collect());
    Ok(Some(figure.with_notes(notes)))
}

/// An opener, until the measuring process is done with it.
pub fn open(address: &str) -> io::Result<()> {
    os::process::raise_descriptors();
    let (process, parent, told) = parent(address)?;
    let down = Fifo::create(&process, Limits::default()).map_err(io::Error::other)?;
    down.grant(parent, Rights::WRITE).map_err(io::Error::other)?;
    let before = shared_kib();
    let (mut numbers, mut kept, mut message) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..EACH {
        let fifo = Fifo::create(&process, Limits::default()).map_err(io::Error::other)?;
        let began = Instant::now();
        let mut reader = fifo.reader().map_err(io::Error::other)?;
        numbers.push(began.elapsed().as_nanos() as u64);
        let began = Instant::now();
        let mut writer = fifo.writer().map_err(io::Error::other)?;
        numbers.push(began.elapsed().as_nanos() as u64);
        writer.write(b"one of many").map_err(io::Error::other)?;
        reader.read_into(&mut message, None).map_err(io::Error::other)?;
        kept.push((fifo, reader, writer));
    }
    let told_of = [down.id().0, shared_kib() - before].into_iter().chain(numbers);
    let told_of: Vec<u8> = told_of.flat_map(u64::to_le_bytes).collect();
    process.connect_writer(told).map_err(io::Error::other)?.write(&told_of).map_err(io::Error::other)?;
    // An end, or an error: either way nobody wants it any more.
    let _ = down.reader().map_err(io::Error::other)?.event();
    Ok(())
}

/// KiB of shared memory that this process has touched.
fn shared_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}
