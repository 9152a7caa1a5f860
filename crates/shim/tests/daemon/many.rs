//! Ten thousand FIFOs, open at once on one PU: made, used and idle.

use crate::bed::{Bed, event};
use crate::processes::program;
use std::time::Instant;
use xpucall::id::{FifoId, PuId, Rights};
use xpucall::{Event, Fifo, Limits, Process};

const FIFOS: usize = 10_000;
/// Processes that have them: none of them may have so many descriptors.
const PROCESSES: usize = 4;
/// Of the shim, and so of this process.
const DESCRIPTORS: u64 = 16_000;

/// KiB of shared memory that this process has touched.
fn shared() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssShmem")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The part of a process that opens many: says the median of what connecting took, in ns, and KiB of each; then waits.
pub fn open(process: &Process, says: FifoId, hears: FifoId) {
    os::process::raise_descriptors();
    let (before, count) = (shared(), FIFOS / PROCESSES);
    let mut taken = Vec::with_capacity(2 * count);
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let fifo = Fifo::create(process, Limits::default()).unwrap();
        let begun = Instant::now();
        let reader = fifo.reader().unwrap();
        taken.push(begun.elapsed());
        let begun = Instant::now();
        let writer = fifo.writer().unwrap();
        taken.push(begun.elapsed());
        all.push((fifo, reader, writer));
    }
    for (_, reader, writer) in &mut all {
        writer.write(b"one of many").unwrap();
        assert!(matches!(event(reader), Event::Message(message) if message.bytes == b"one of many"));
    }
    taken.sort_unstable();
    let numbers = [taken[count].as_nanos() as u64, (shared() - before) / count as u64];
    let mut hears = process.connect_reader(hears).unwrap();
    process.connect_writer(says).unwrap().write(&numbers.map(u64::to_le_bytes).concat()).unwrap();
    let _ = hears.event();
}

#[test]
fn ten_thousand_fifos_are_open_at_once() {
    if os::process::raise_descriptors() < DESCRIPTORS {
        return println!("skipped: this process may not have {DESCRIPTORS} descriptors");
    }
    let bed = Bed::new(1);
    let process = bed.attach(0);
    let says = Fifo::create(&process, Limits::default()).unwrap();
    let mut reader = says.reader().unwrap();
    let mut kept = Vec::new();
    for _ in 0..PROCESSES {
        let hears = Fifo::create(&process, Limits::default()).unwrap();
        let part = format!("open {} {}", says.id().0, hears.id().0);
        let capabilities = vec![(says.id(), Rights::WRITE), (hears.id(), Rights::READ)];
        process.spawn(PuId(0), program(&part, capabilities)).unwrap();
        kept.push(hears);
    }
    for _ in 0..PROCESSES {
        let numbers = loop {
            match reader.event_by(Instant::now() + std::time::Duration::from_secs(60)).unwrap() {
                Event::Message(message) => break message.bytes,
                Event::Ended { .. } => {}
            }
        };
        let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().unwrap());
        println!("connect p50 {} us, {} KiB each", number(0) / 1000, number(8));
        assert!(number(8) <= 256, "{} KiB each", number(8));
        // A bound for a machine that is busy, and a build that is not optimised.
        assert!(number(0) < 20_000_000, "{} ns", number(0));
    }
    process.get_xpupid().unwrap();
}
