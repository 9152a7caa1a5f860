//! What a lane costs: round trips of both kinds and one-way bandwidth, beside what this machine can do at best: a raw
//! futex, a plain ring that is copied in and out of, and TCP over loopback.
//!
//! `cargo run --release -p interconnect --example lane [MILLISECONDS per measurement]`
//!
//! The ends are threads, each with a mapping of its own, kept on the first two processors. It checks nothing.

use interconnect::doorbell::{self, bells};
use interconnect::lane::{Guard, LaneSpec, Reader, Word, Writer, create};
use os::mapping::Mapping;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Long enough that an end that may look never sleeps.
const BUSY: Duration = Duration::from_millis(10);
/// What a chunk of the plain ring and the pieces of messages have in common.
const CHUNK: usize = 16 * 1024;
/// Of a lane as it usually is, and of the plain ring.
const RING: usize = 128 * 1024;

fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("a processor to stay on");
}

fn lane(spec: LaneSpec) -> (Writer, Reader) {
    let region = create(spec).expect("a region");
    let (a, b) = bells().expect("a bell");
    let writer = Writer::attach(&region, a, Guard::none(), Word::own()).expect("a writer");
    (writer, Reader::attach(&region, b, Guard::none()).expect("a reader"))
}

fn read(reader: &mut Reader, message: &mut Vec<u8>, spin: Duration) {
    while !reader.try_read(message).expect("a lane that lasts") {
        reader.wait(spin, None, reader.news());
    }
}

/// Runs `turn` for a while on processor 0: the 50th and 99th percentile in microseconds.
fn percentiles(budget: Duration, mut turn: impl FnMut()) -> (f64, f64, usize) {
    stay_on(0);
    (0..200).for_each(|_| turn());
    let (start, mut times) = (Instant::now(), Vec::with_capacity(1 << 20));
    while start.elapsed() < budget || times.len() < 1000 {
        let before = Instant::now();
        turn();
        times.push(before.elapsed().as_nanos() as f64 / 1000.0);
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100], times.len())
}

fn lane_round_trips(budget: Duration, len: usize, cpu: usize, spin: Duration) -> (f64, f64, usize) {
    let ((mut there, mut inward), (mut outward, mut back)) = (lane(LaneSpec::default()), lane(LaneSpec::default()));
    let echo = std::thread::spawn(move || {
        stay_on(cpu);
        let mut message = Vec::new();
        loop {
            read(&mut inward, &mut message, spin);
            if message.is_empty() {
                return;
            }
            outward.write(&[&message], spin, None).expect("a lane that lasts");
        }
    });
    let (text, mut message) = (vec![7; len], Vec::new());
    let result = percentiles(budget, || {
        there.write(&[&text], spin, None).expect("a lane that lasts");
        read(&mut back, &mut message, spin);
    });
    there.write(&[], spin, None).expect("a lane that lasts");
    echo.join().expect("an echo");
    result
}

fn futex_round_trips(budget: Duration, cpu: usize) -> (f64, f64, usize) {
    let page = Arc::new(Mapping::shared(os::memfd::sealed("bench", 4096).expect("memory"), 4096).expect("memory"));
    let words = [Word::new(&page, 0), Word::new(&page, 128)];
    let echo = {
        let words = words.clone();
        std::thread::spawn(move || {
            stay_on(cpu);
            for seen in 0..u32::MAX {
                if await_change(&words[0], seen) == u32::MAX {
                    return;
                }
                say(&words[1], seen + 1);
            }
        })
    };
    let mut count = 0;
    let result = percentiles(budget, || {
        count += 1;
        say(&words[0], count);
        await_change(&words[1], count - 1);
    });
    say(&words[0], u32::MAX);
    echo.join().expect("an echo");
    result
}

fn say(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    doorbell::wake(word);
}

fn await_change(word: &AtomicU32, seen: u32) -> u32 {
    while word.load(Ordering::Acquire) == seen {
        doorbell::sleep(word, seen, None);
    }
    word.load(Ordering::Acquire)
}

/// Two words and nothing else, both ends looking.
fn word_round_trips(budget: Duration) -> (f64, f64, usize) {
    let page = Arc::new(Mapping::shared(os::memfd::sealed("bench", 4096).expect("memory"), 4096).expect("memory"));
    let words = [Word::new(&page, 0), Word::new(&page, 128)];
    let echo = {
        let words = words.clone();
        std::thread::spawn(move || {
            stay_on(1);
            let mut seen = 0;
            while seen != u32::MAX {
                let now = words[0].load(Ordering::Acquire);
                if now != seen {
                    seen = now;
                    words[1].store(now, Ordering::Release);
                }
            }
        })
    };
    let mut count = 0;
    let result = percentiles(budget, || {
        count += 1;
        words[0].store(count, Ordering::Release);
        while words[1].load(Ordering::Acquire) != count {}
    });
    words[0].store(u32::MAX, Ordering::Release);
    echo.join().expect("an echo");
    result
}

/// Bytes per nanosecond of what `write` writes, `len` at a time, while `read` reads one message after the other: the best
/// of the shares of a second in which nobody else wanted the processors.
fn rate(budget: Duration, len: usize, mut write: impl FnMut(&[u8]) + Send, mut read: impl FnMut() + Send) -> f64 {
    let text = vec![7; len];
    let lap = ((24 << 20) / len).max(4);
    let laps = (budget.as_nanos() as usize * 4 / (lap * len)).max(10);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            stay_on(1);
            let mut best = Duration::MAX;
            for _ in 0..laps {
                let start = Instant::now();
                (0..lap).for_each(|_| read());
                best = best.min(start.elapsed());
            }
            (lap * len) as f64 / best.as_nanos() as f64
        });
        stay_on(0);
        (0..lap * laps).for_each(|_| write(&text));
        reader.join().expect("a reader")
    })
}

fn lane_rate(budget: Duration, len: usize, spin: Duration, ring: usize) -> f64 {
    let (mut writer, mut reader) = lane(LaneSpec { ring, ..LaneSpec::default() });
    let write = move |text: &[u8]| writer.write(&[text], spin, None).expect("a lane that lasts");
    let mut message = Vec::new();
    rate(budget, len, write, move || read(&mut reader, &mut message, spin))
}

/// Copied in by one thread and out by the other, in chunks, and nothing else.
fn plain_rate(budget: Duration, len: usize) -> f64 {
    let map = || Mapping::shared(os::memfd::sealed("bench", (4096 + RING) as u64).expect("memory"), 4096 + RING);
    let page = Arc::new(map().expect("memory"));
    let (head, tail) = (Word::new(&page, 0), Word::new(&page, 128));
    let (head_, tail_, page_) = (head.clone(), tail.clone(), page.clone());
    let mut at = 0u32;
    let write = move |text: &[u8]| {
        for chunk in text.chunks(CHUNK) {
            while at.wrapping_sub(tail.load(Ordering::Acquire)) as usize > RING - CHUNK {
                std::hint::spin_loop();
            }
            // SAFETY: chunks lie at multiples of their size within the ring, and the reader has left this one.
            unsafe {
                let to = page.at(4096 + at as usize % RING);
                std::ptr::copy_nonoverlapping(chunk.as_ptr(), to, chunk.len());
            }
            at = at.wrapping_add(CHUNK as u32);
            head.store(at, Ordering::Release);
        }
    };
    let (mut to, mut read_at) = (vec![0u8; len], 0u32);
    rate(budget, len, write, move || {
        for chunk in to.chunks_mut(CHUNK) {
            while head_.load(Ordering::Acquire) == read_at {
                std::hint::spin_loop();
            }
            // SAFETY: as above: the writer has left this chunk.
            unsafe {
                let from = page_.at(4096 + read_at as usize % RING);
                std::ptr::copy_nonoverlapping(from, chunk.as_mut_ptr(), chunk.len());
            }
            read_at = read_at.wrapping_add(CHUNK as u32);
            tail_.store(read_at, Ordering::Release);
        }
    })
}

fn tcp_rate(budget: Duration, len: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut out = TcpStream::connect(listener.local_addr().expect("a port")).expect("a connection");
    let (mut inward, _) = listener.accept().expect("a connection");
    let write = move |text: &[u8]| out.write_all(text).expect("a connection that lasts");
    let mut message = vec![0; len];
    rate(budget, len, write, move || inward.read_exact(&mut message).expect("a connection that lasts"))
}

fn main() {
    let milliseconds = std::env::args().nth(1).map_or(500, |text| text.parse().expect("a number of milliseconds"));
    let budget = Duration::from_millis(milliseconds);
    let only = std::env::args().nth(2);
    let time = |what: &str, (p50, p99, n): (f64, f64, usize)| {
        println!("{what:<48} p50 {p50:8.2} us  p99 {p99:8.2} us  n {n}");
    };
    if only.as_deref() != Some("b") {
        time("two words, both busy", word_round_trips(budget));
        for len in [8, 40, 64, 100, 1024, 16 * 1024, 64 * 1024] {
            time(&format!("lane, {len} B, both busy"), lane_round_trips(budget, len, 1, BUSY));
        }
        time("lane, 64 B, up to 20 us of looking", lane_round_trips(budget, 64, 1, Duration::from_micros(20)));
    }
    if only.as_deref() == Some("x") {
        return;
    }
    if only.is_none() {
        for (cpu, place) in [(0, "same processor"), (1, "other processor")] {
            time(&format!("futex, {place}"), futex_round_trips(budget, cpu));
            time(&format!("lane, 64 B, asleep, {place}"), lane_round_trips(budget, 64, cpu, Duration::ZERO));
            time(
                &format!("lane, 64 B, up to 20 us of looking, {place}"),
                lane_round_trips(budget, 64, cpu, Duration::from_micros(20)),
            );
        }
    }
    for (len, name) in [(1 << 10, "1 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB"), (6 << 20, "6 MiB")] {
        for (what, rate) in [
            ("lane, busy", lane_rate(budget, len, BUSY, RING)),
            ("lane, asleep", lane_rate(budget, len, Duration::ZERO, RING)),
            ("lane, ring of 1 MiB, busy", lane_rate(budget, len, BUSY, 1 << 20)),
            ("lane, ring of 4 MiB, busy", lane_rate(budget, len, BUSY, 4 << 20)),
            ("lane, ring of 8 MiB, busy", lane_rate(budget, len, BUSY, 8 << 20)),
            ("plain ring", plain_rate(budget, len)),
            ("TCP", tcp_rate(budget, len)),
        ] {
            println!("{:<48} {rate:8.2} GB/s", format!("{what}, {name}"));
        }
    }
}
