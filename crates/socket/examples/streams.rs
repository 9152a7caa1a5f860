//! What streams over the memory of a pair cost, beside a plain ring of fixed size and beside copying alone.
//!
//! `streams one` streams and round trips of one connection; `streams many [CONNECTIONS] [GIGABYTES]` one message after the
//! other on each of many connections, with the memory that is there afterwards. Two threads stand for two processes, each
//! with a mapping of its own; each stays on a processor of its own. Both look, neither sleeps.

use os::mapping::Mapping;
use socket::records::Quota;
use socket::region::{Pair, Receiver, Sender};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One way of sending bytes to another thread.
trait Way: Send {
    /// How many bytes there was room for.
    fn write(&mut self, bytes: &[u8]) -> usize;
    fn read(&mut self, bytes: &mut [u8]) -> usize;
}

struct Stream(Option<Sender>, Option<Receiver>);

impl Way for Stream {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.as_mut().expect("a sender").write(&[IoSlice::new(bytes)]).expect("an honest peer")
    }

    fn read(&mut self, bytes: &mut [u8]) -> usize {
        self.1.as_mut().expect("a receiver").read(&mut [IoSliceMut::new(bytes)], false).expect("an honest peer")
    }
}

/// A ring with a reservation of its own, as plain as can be.
struct Ring {
    memory: Arc<Mapping>,
    at: usize,
    size: usize,
    position: u64,
    other: u64,
}

impl Ring {
    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both words lie in the mapping, aligned.
        unsafe { &*self.memory.at(self.at + offset).cast() }
    }

    fn run(&self, len: usize) -> (*mut u8, usize) {
        let at = self.position as usize % self.size;
        (self.memory.at(self.at + 4096 + at), len.min(self.size - at).min(16 * 1024))
    }
}

impl Way for Ring {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            if self.position - self.other == self.size as u64 {
                self.other = self.word(128).load(Ordering::Acquire);
            }
            let room = self.size - (self.position - self.other) as usize;
            let (to, len) = self.run(room.min(bytes.len() - done));
            if len == 0 {
                break;
            }
            // SAFETY: `len` bytes of the ring that the reader has left.
            unsafe { std::ptr::copy_nonoverlapping(bytes[done..].as_ptr(), to, len) };
            self.position += len as u64;
            done += len;
            self.word(0).store(self.position, Ordering::Release);
        }
        done
    }

    fn read(&mut self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            if self.position == self.other {
                self.other = self.word(0).load(Ordering::Acquire);
            }
            let (from, len) = self.run(((self.other - self.position) as usize).min(bytes.len() - done));
            if len == 0 {
                break;
            }
            // SAFETY: `len` bytes of the ring that the writer has left.
            unsafe { std::ptr::copy_nonoverlapping(from, bytes[done..].as_mut_ptr(), len) };
            self.position += len as u64;
            done += len;
            self.word(128).store(self.position, Ordering::Release);
        }
        done
    }
}

/// What a number of connections stand on, and which they are.
struct Rig {
    file: OwnedFd,
    /// Of each connection: A's sending and receiving end, then B's.
    ends: Vec<[Box<dyn Way>; 4]>,
    quota: Option<Arc<Quota>>,
    _keep: Vec<Pair>,
}

fn streams(count: usize) -> Rig {
    let quota = Quota::own().unwrap();
    let (a, file) = Pair::create(&quota).expect("memory");
    let b = Pair::join(&file, &quota).expect("a pair");
    let open = |connection| {
        let ((one, two), (three, four)) = (a.open(connection).expect("free"), b.open(connection).expect("free"));
        let stream = |sender, receiver| -> Box<dyn Way> { Box::new(Stream(sender, receiver)) };
        [stream(Some(one), None), stream(None, Some(two)), stream(Some(three), None), stream(None, Some(four))]
    };
    let ends = (0..count).map(open).collect();
    Rig { file, ends, quota: Some(quota), _keep: vec![a, b] }
}

fn rings(count: usize, size: usize) -> Rig {
    let whole = count * 2 * (4096 + size);
    let file = os::memfd::sealed("bench", whole as u64).expect("memory");
    let maps = [0, 1].map(|_| Arc::new(Mapping::shared(&file, whole).expect("memory")));
    let ring = |side: usize, way: usize| -> Box<dyn Way> {
        Box::new(Ring { memory: maps[side].clone(), at: way * (4096 + size), size, position: 0, other: 0 })
    };
    let ends = (0..count).map(|i| [ring(0, 2 * i), ring(0, 2 * i + 1), ring(1, 2 * i + 1), ring(1, 2 * i)]).collect();
    Rig { file, ends, quota: None, _keep: Vec::new() }
}

fn resident(file: impl AsFd) -> f64 {
    rustix::fs::fstat(file).expect("a file").st_blocks as f64 * 512.0 / 1e6
}

fn stay_on(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).expect("a processor");
}

fn write_all(way: &mut dyn Way, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let sent = way.write(bytes);
        bytes = &bytes[sent..];
        if sent == 0 {
            std::hint::spin_loop();
        }
    }
}

fn read_all(way: &mut dyn Way, bytes: &mut [u8]) {
    let mut got = 0;
    while got < bytes.len() {
        let more = way.read(&mut bytes[got..]);
        got += more;
        if more == 0 {
            std::hint::spin_loop();
        }
    }
}

/// Messages of `len` bytes to each connection in turn, `bytes` in all: GB/s of the best of eight shares, and of all.
fn rate(rig: &mut Rig, len: usize, bytes: usize) -> (f64, f64) {
    let lap = (bytes / len / 8).max(1);
    let (mut out, mut inward): (Vec<_>, Vec<_>) =
        rig.ends.iter_mut().map(|[send, _, _, receive]| (send, receive)).unzip();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            stay_on(1);
            let (mut buffer, mut best, mut next) = (vec![0; len], Duration::MAX, 0);
            let start = Instant::now();
            for _ in 0..8 {
                let start = Instant::now();
                for _ in 0..lap {
                    read_all(inward[next].as_mut(), &mut buffer);
                    next = (next + 1) % inward.len();
                }
                best = best.min(start.elapsed());
            }
            let rate = |bytes: usize, time: Duration| bytes as f64 / time.as_nanos() as f64;
            (rate(lap * len, best), rate(8 * lap * len, start.elapsed()))
        });
        stay_on(0);
        let (bytes, mut next) = (vec![7; len], 0);
        for _ in 0..8 * lap {
            write_all(out[next].as_mut(), &bytes);
            next = (next + 1) % out.len();
        }
        reader.join().expect("a reader")
    })
}

/// Microseconds of a round trip, the middle one and the 99th of a hundred.
fn round_trips(rig: &mut Rig, len: usize, count: usize) -> (f64, f64) {
    let [send, receive, answer, take] = &mut rig.ends[0];
    std::thread::scope(|scope| {
        scope.spawn(move || {
            stay_on(1);
            let mut buffer = vec![0; len];
            for _ in 0..count {
                read_all(take.as_mut(), &mut buffer);
                write_all(answer.as_mut(), &buffer);
            }
        });
        stay_on(0);
        let (mut buffer, mut times) = (vec![0; len], Vec::with_capacity(count));
        for _ in 0..count {
            let start = Instant::now();
            write_all(send.as_mut(), &buffer);
            read_all(receive.as_mut(), &mut buffer);
            times.push(start.elapsed().as_nanos() as f64 / 1000.0);
        }
        times.sort_by(f64::total_cmp);
        (times[count / 2], times[count * 99 / 100])
    })
}

fn one(gigabytes: f64) {
    let kinds = [
        ("streams", None),
        ("ring of 64 KiB", Some(64 << 10)),
        ("ring of 1 MiB", Some(1 << 20)),
        ("ring of 16 MiB", Some(16 << 20)),
    ];
    let rig = |size: Option<usize>| size.map_or_else(|| streams(1), |size| rings(1, size));
    for len in [16, 64, 2 << 10, 8 << 10, 64 << 10, 256 << 10] {
        let bytes = (gigabytes * 1e9) as usize / if len < 1024 { 16 } else { 1 };
        for (name, size) in kinds {
            let (best, mean) = rate(&mut rig(size), len, bytes);
            let millions = mean * 1000.0 / len as f64;
            println!("{len:7} B  {name:<16} {mean:7.2} GB/s (best eighth {best:6.2}), {millions:6.2} M messages/s");
        }
    }
    for len in [16, 2 << 10, 8 << 10, 256 << 10] {
        for (name, size) in kinds {
            let (p50, p99) = round_trips(&mut rig(size), len, 400_000_000 / (len + 4000));
            println!("{len:7} B  {name:<16} round trip p50 {p50:7.2} us, p99 {p99:7.2} us");
        }
    }
    let (from, mut to) = (vec![3u8; 256 << 10], vec![0u8; 256 << 10]);
    let (start, laps) = (Instant::now(), 20_000);
    for _ in 0..laps {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
    }
    println!("copying alone, 256 KiB: {:.2} GB/s", (laps * from.len()) as f64 / start.elapsed().as_nanos() as f64);
}

fn many(count: usize, gigabytes: f64) {
    let sizes = [("256 KiB", 256 << 10), ("1 MiB", 1 << 20), ("4 MiB", 4 << 20)];
    let rig = |size: Option<usize>| size.map_or_else(|| streams(count), |size| rings(count, size));
    for len in [2 << 10, 8 << 10, 256 << 10] {
        for (name, size) in sizes.map(|(name, size)| (name, Some(size))).into_iter().chain([("streams", None)]) {
            let mut rig = rig(size);
            // Once without the clock: first touches are not what is compared.
            rate(&mut rig, len, (gigabytes * 0.4e9) as usize);
            let (best, mean) = rate(&mut rig, len, (gigabytes * 1e9) as usize);
            let taken = rig.quota.as_ref().map_or(0, |quota| quota.taken());
            println!(
                "{count} connections, {len:6} B, {name:<8} {mean:6.2} GB/s (best eighth {best:6.2}), {:8.1} MB resident, {taken} records taken",
                resident(&rig.file)
            );
        }
    }
    let mut rig = streams(count);
    rate(&mut rig, 16, count * 16 * 5000);
    println!("{count} connections after 5000 messages of 16 B each: {:.1} MB resident", resident(&rig.file));
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |i: usize, default: f64| arguments.get(i).map_or(default, |text| text.parse().expect("a number"));
    match arguments.get(1).map(String::as_str) {
        Some("many") => many(number(2, 1000.0) as usize, number(3, 10.0)),
        _ => one(number(2, 8.0)),
    }
}
