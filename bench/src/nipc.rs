//! `nipc`: what a message between two processes costs, by its length: FIFOs of shims beside what Linux has.
//!
//! Each arm is two processes: this one sends, and a peer of its own echoes. Arms take turns, block by block.

mod calls;
mod many;
mod peer;
mod shims;
mod wire;

use crate::Plan;
use crate::error::{BenchError, io};
use crate::figure::{Arm, Figure, Unit};
use crate::machine::Machine;
use crate::scratch::Scratch;
use peer::{COUNT, ECHO, Peer, SWALLOW};
use shims::{Fifos, Pus};
use std::io;
use std::time::Instant;
use wire::{Medium, Waiting, Wire};
use xpucall::id::PuId;
use xpucall::wire::Transport;

pub(crate) use peer::stay_on;

pub use peer::run as run_peer;

/// Lengths of messages for latencies, and for rates.
const SHORT: [usize; 3] = [64, 1024, 4096];
const LONG: [usize; 4] = [64, 4096, 64 << 10, 1 << 20];
/// A ring for streams: more than a processor's own cache.
const LARGE: u64 = 4 << 20;
/// Messages of one arm before it is the next one's turn, and of each arm at least.
const BLOCK: usize = 500;
const LEAST: usize = 4000;
/// Bytes that a sample of a rate is measured over, and messages at most; and over a link, which is many times slower.
const VOLUME: usize = 64 << 20;
const LINK_VOLUME: usize = 8 << 20;
const VOLUME_MESSAGES: usize = 50_000;

/// Where the two ends of a way run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seats {
    OneCore,
    TwoCores,
}

impl Seats {
    fn name(self) -> &'static str {
        match self {
            Self::OneCore => "one core",
            Self::TwoCores => "two cores",
        }
    }
}

/// One way, from this end.
struct Way {
    name: String,
    wire: Box<dyn Wire>,
    /// Whether messages have a length here.
    carries: bool,
    /// Bytes of a sample of a rate.
    volume: usize,
    /// Of ways that no shim has made.
    _peer: Option<(Peer, Scratch)>,
}

impl Way {
    fn new(plan: &Plan<'_>, pus: &Pus, medium: Medium, seats: Seats) -> Result<Self, BenchError> {
        let folder = Scratch::new()?;
        let waiting = Waiting::new(medium, folder.path()).map_err(io("a way between processes could not be made"))?;
        let address = waiting.address().map_err(io("a way between processes has no address"))?;
        let cpu = usize::from(seats == Seats::TwoCores);
        // Between processes that share no group of the scheduler, as the ends of FIFOs do not, each switch costs more.
        let peer = match medium {
            Medium::Futex => Peer::spawn(&plan.program, pus, medium, &address, cpu)?,
            _ => Peer::start(&plan.program, medium, &address, cpu)?,
        };
        let name = format!("{}, {}", medium.name(), seats.name());
        let wire = waiting.meet().map_err(io("the peer of a way did not come"))?;
        Ok(Self { name, wire, carries: medium.carries(), volume: VOLUME, _peer: Some((peer, folder)) })
    }

    /// Through FIFOs of shims: with a peer on the same PU, or on the other.
    fn xpu(plan: &Plan<'_>, pus: &Pus, pu: PuId, seats: Seats, ring: u64) -> Result<Self, BenchError> {
        let process = pus.attach(Transport::Adaptive)?;
        let fifos = Fifos::with_peer(&plan.program, process, pu, usize::from(seats == Seats::TwoCores), ring)?;
        let place = match pu {
            PuId(0) => "one PU",
            PuId(1) => "across PUs",
            _ => "to a remote PU (TCP, TLS)",
        };
        let volume = if pu == PuId(2) { LINK_VOLUME } else { VOLUME };
        let size = if ring == 0 { String::new() } else { format!(", ring of {}", bytes(ring as usize)) };
        let name = format!("XPU-FIFO{size}, {place}, {}", seats.name());
        Ok(Self { name, wire: Box::new(fifos), carries: true, volume, _peer: None })
    }

    /// What its messages of this length are called.
    fn arm(&self, length: usize) -> String {
        if self.carries { format!("{}, {}", self.name, bytes(length)) } else { self.name.clone() }
    }

    fn silent(&self) -> impl FnOnce(io::Error) -> BenchError + use<> {
        let who = format!("the peer over {}", self.name);
        |source| BenchError::Silent { who, source }
    }

    /// Microseconds of `count` round trips of `length` bytes.
    fn round_trips(&mut self, length: usize, count: usize) -> Result<Vec<f64>, BenchError> {
        let (message, mut echo) = (message(ECHO, length), Vec::new());
        self.wire.rouse();
        let mut trips = || {
            (0..count)
                .map(|_| {
                    let began = Instant::now();
                    self.wire.send(&message)?;
                    self.wire.receive(&mut echo)?;
                    Ok(began.elapsed().as_nanos() as f64 / 1000.0)
                })
                .collect::<io::Result<Vec<f64>>>()
        };
        let result = trips();
        result.map_err(self.silent())
    }

    /// MiB per second of messages of `length` bytes in one direction, until the peer has read the last.
    fn rate(&mut self, length: usize) -> Result<f64, BenchError> {
        let count = (self.volume / length).clamp(1, VOLUME_MESSAGES);
        self.wire.rouse();
        let (message, mut echo, began) = (message(SWALLOW, length), Vec::new(), Instant::now());
        let mut stream = || {
            (0..count).try_for_each(|_| self.wire.send(&message))?;
            self.wire.send(&[COUNT])?;
            self.wire.receive(&mut echo)
        };
        let result = stream();
        result.map_err(self.silent())?;
        Ok((count * length) as f64 / (1 << 20) as f64 / began.elapsed().as_secs_f64())
    }
}

fn message(what: u8, length: usize) -> Vec<u8> {
    let mut message = vec![0x5a; length.max(1)];
    message[0] = what;
    message
}

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    let both = if machine.cores > 1 { &[Seats::OneCore, Seats::TwoCores][..] } else { &[Seats::OneCore] };
    let pus = Pus::start(&plan.program)?;
    // The node's processes stay where they like.
    stay_on(0).map_err(io("the first processor cannot be had"))?;
    let mut ways = Vec::new();
    for &seats in both {
        for (pu, ring) in [(PuId(0), 0), (PuId(1), 0), (PuId(1), LARGE), (PuId(2), 0)] {
            ways.push(Way::xpu(plan, &pus, pu, seats, ring)?);
        }
        let floors = if seats == Seats::TwoCores { &Medium::FLOORS[..] } else { &[] };
        for &medium in Medium::ALL.iter().chain(floors) {
            ways.push(Way::new(plan, &pus, medium, seats)?);
        }
    }
    let machine = &machine.with_unit();
    let mut figures = vec![
        calls::measure(plan, machine, &pus)?,
        latencies(plan, machine, &mut ways)?,
        rates(plan, machine, &mut ways)?,
    ];
    drop(ways);
    figures.extend(many::measure(plan, machine, &pus)?);
    Ok(figures)
}

fn latencies(plan: &Plan<'_>, machine: &Machine, ways: &mut [Way]) -> Result<Figure, BenchError> {
    let mut arms = Vec::new();
    for length in SHORT {
        (plan.tell)(&format!("round trips of {length} bytes"));
        let mut ways: Vec<&mut Way> = ways.iter_mut().filter(|way| way.carries || length == SHORT[0]).collect();
        let mut samples = vec![Vec::new(); ways.len()];
        ways.iter_mut().try_for_each(|way| way.round_trips(length, BLOCK).map(drop))?;
        // What is compared has to have had its turn at each of the processor's speeds, which change by the second.
        for _ in 0..plan.samples(10_000).max(LEAST).div_ceil(BLOCK) {
            for (way, samples) in ways.iter_mut().zip(&mut samples) {
                samples.extend(way.round_trips(length, BLOCK)?);
            }
        }
        let arm = |(way, samples): (&&mut Way, &Vec<f64>)| Arm::of(way.arm(length), Unit::Microseconds, samples);
        arms.extend(ways.iter().zip(&samples).filter_map(arm));
    }
    let notes = [
        "Round trips: a message there, and the same back, between two processes. Two words and a plain ring are \
                  what the machine can do: their ends look at memory, and cannot sleep, be cut or be hostile. A futex is \
                  what it can do where both ends sleep, as all do on one core; its peer is started by the shim, as those of \
                  FIFOs are, so that both ends are in the same two groups of the scheduler.",
    ];
    Ok(Figure::new("nipc-latency", "Molecule (ASPLOS '22), Figure 9b", machine, arms).with_notes(notes))
}

fn rates(plan: &Plan<'_>, machine: &Machine, ways: &mut [Way]) -> Result<Figure, BenchError> {
    let mut arms = Vec::new();
    for length in LONG {
        (plan.tell)(&format!("streams of {length} bytes"));
        let mut ways: Vec<&mut Way> = ways.iter_mut().filter(|way| way.carries).collect();
        let mut samples = vec![Vec::new(); ways.len()];
        for _ in 0..plan.samples(10).max(3) {
            for (way, samples) in ways.iter_mut().zip(&mut samples) {
                samples.push(way.rate(length)?);
            }
        }
        let arm = |(way, samples): (&&mut Way, &Vec<f64>)| Arm::of(way.arm(length), Unit::MebibytesPerSecond, samples);
        arms.extend(ways.iter().zip(&samples).filter_map(arm));
    }
    let notes =
        ["One direction: from the first message sent to the last one read by the peer. The remote PU is on this \
                  machine: two shims more are on the way, on the same processors."];
    Ok(Figure::new("nipc-rate", "Molecule (ASPLOS '22), section 6.3: messages in one direction", machine, arms)
        .with_notes(notes))
}

fn bytes(length: usize) -> String {
    match length {
        0..1024 => format!("{length} B"),
        1024..1_048_576 => format!("{} KiB", length >> 10),
        _ => format!("{} MiB", length >> 20),
    }
}
