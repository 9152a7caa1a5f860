//! `socket`: what connections between two programs of one machine cost: TCP, polled TCP, Unix sockets, and the same program over
//! TCP with `liblichen_socket.so` before its libc.
//!
//! Each arm is two processes that know of nothing but sockets: one serves, one calls. Arms take turns, block by block.

mod group;
mod many;
mod memory;
mod modes;
mod pair;
mod peer;
mod programs;
mod ring;

use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Arm, Figure, Unit};
use crate::machine::Machine;
use pair::Pair;

pub(crate) use pair::{Broker, Orders};
pub use peer::{CALL, SERVE, run as run_peer};
pub(crate) use peer::{orders, timed};

/// Lengths of messages: for round trips, and in one direction.
const TRIPS: [usize; 4] = [16, 2 << 10, 8 << 10, 256 << 10];
const STREAMS: [usize; 4] = [16, 2 << 10, 8 << 10, 256 << 10];
/// Round trips of one arm before it is the next one's turn.
const BLOCK: usize = 500;
/// Bytes that a sample of a rate is measured over, and messages at most.
const VOLUME: usize = 128 << 20;
const VOLUME_MESSAGES: usize = 100_000;

/// How the two processes of an arm talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct How {
    name: &'static str,
    /// What the programs are told: `tcp`, `joined`, `polled`, `unix`, `async`, `memory`, or `ring` and its bytes.
    medium: &'static str,
    library: bool,
    /// Microseconds for which the library looks before it sleeps, where that is not its own choice.
    look: Option<u32>,
    /// Calls after which a connection is offered memory, where that is not its own choice.
    after: Option<u32>,
}

const fn how(name: &'static str, medium: &'static str, library: bool) -> How {
    How { name, medium, library, look: None, after: None }
}

const TCP: How = how("TCP", "tcp", false);
pub(crate) const OURS: How = how("hetero-socket", "tcp", true);
/// Sockets that the kernel joins.
const JOINED: &str = "joined";
const SOCKMAP: &str = "TCP, sockmap";
const ALL: [How; 11] = [
    TCP,
    how(SOCKMAP, JOINED, false),
    how("TCP, polled", "polled", false),
    how("Unix socket", "unix", false),
    OURS,
    How { look: Some(0), ..how("hetero-socket, asleep", "tcp", true) },
    how("TCP, epoll", "async", false),
    how("hetero-socket, epoll", "async", true),
    how("memory alone", "memory", false),
    how("reserved, 1 MiB", "ring1048576", false),
    how("reserved, 16 MiB", "ring16777216", false),
];

/// Connections that are offered memory by their first calls.
const EAGER: [How; 2] = [
    How { after: Some(1), ..how("hetero-socket, memory at once", "tcp", true) },
    How { after: Some(1), ..how("hetero-socket, epoll, memory at once", "async", true) },
];

/// The processors of who serves and who calls.
const SEATS: [(&str, [usize; 2]); 2] = [("two cores", [0, 1]), ("one core", [0, 0])];

/// Whether a medium is memory that both ends poll, without sockets.
fn is_bare(medium: &str) -> bool {
    medium == "memory" || medium.starts_with("ring")
}

pub const FIGURES: &[&str] = &[
    "socket-latency",
    "socket-rate",
    "socket-connect",
    "socket-many",
    "socket-programs",
    "socket-envoy",
    "socket-modes",
];

pub fn run(plan: &Plan<'_>, machine: &Machine) -> Result<Vec<Figure>, BenchError> {
    let broker = Broker::start(&plan.program)?;
    let mut figures = Vec::new();
    if plan.wants(&FIGURES[..3]) {
        figures.extend(two(plan, machine, &broker)?);
    }
    if plan.wants(&["socket-many"]) {
        figures.push(many::measure(plan, machine, &broker)?);
    }
    if plan.wants(&["socket-programs"]) {
        figures.push(programs::measure(plan, machine, &broker)?);
    }
    if plan.wants(&["socket-envoy"]) {
        figures.push(programs::between(plan, machine, &broker)?);
    }
    if plan.wants(&["socket-modes"]) {
        figures.push(modes::measure(plan, machine)?);
    }
    Ok(figures)
}

/// One connection of two programs.
fn two(plan: &Plan<'_>, machine: &Machine, broker: &Broker) -> Result<Vec<Figure>, BenchError> {
    let relay = os::bpf::Relay::new(1 << 16).map_err(|error| (plan.tell)(&format!("no sockmap: {error}"))).ok();
    let mut pairs = Vec::new();
    for (seats, processors) in SEATS.into_iter().filter(|(_, seats)| machine.cores > seats[1]) {
        for how in ALL {
            // Who polls never lets the other one have their processor.
            let polls = how.medium == "polled" || is_bare(how.medium);
            let can = how.medium != JOINED || relay.is_some();
            if can && (!polls || processors[0] != processors[1]) {
                pairs.push(Pair::start(plan, broker, relay.as_ref(), how, (seats, processors))?);
            }
        }
    }
    let mut figures = Vec::new();
    if plan.wants(&["socket-latency"]) {
        figures.push(trips(plan, machine, &mut pairs)?);
    }
    if plan.wants(&["socket-rate"]) {
        figures.push(streams(plan, machine, &mut pairs)?);
    }
    if !plan.wants(&["socket-connect"]) {
        return Ok(figures);
    }
    for (seats, processors) in SEATS.into_iter().filter(|(_, seats)| machine.cores > seats[1]) {
        for how in EAGER {
            pairs.push(Pair::start(plan, broker, None, how, (seats, processors))?);
        }
    }
    figures.push(connects(plan, machine, &mut pairs)?);
    Ok(figures)
}

/// Has all pairs do the same, `turns` times one after the other: an arm for each. Sockets that the kernel joins may stop for
/// ever, on some kernels: that pair is ended, and said to be left out.
fn in_turns(
    plan: &Plan<'_>,
    pairs: &mut Vec<Pair>,
    turns: usize,
    (what, unit): (&str, Unit),
    mut act: impl FnMut(&mut Pair) -> Result<Vec<f64>, BenchError>,
) -> Result<Vec<Arm>, BenchError> {
    let mut samples = vec![Vec::new(); pairs.len()];
    for _ in 0..turns {
        let mut at = 0;
        while let Some(pair) = pairs.get_mut(at) {
            match act(pair) {
                Ok(more) => {
                    samples[at].extend(more);
                    at += 1;
                }
                Err(error) if pair.name.starts_with(SOCKMAP) => {
                    (plan.tell)(&format!("left out from here on, at {what}: {error}"));
                    pairs.remove(at);
                    samples.remove(at);
                }
                Err(error) => return Err(error),
            }
        }
    }
    let arm = |(pair, samples): (&Pair, &Vec<f64>)| Arm::of(format!("{}, {what}", pair.name), unit, samples);
    Ok(pairs.iter().zip(&samples).filter_map(arm).collect())
}

fn trips(plan: &Plan<'_>, machine: &Machine, pairs: &mut Vec<Pair>) -> Result<Figure, BenchError> {
    let mut arms = Vec::new();
    for length in TRIPS {
        (plan.tell)(&format!("round trips of {}", bytes(length)));
        let turns = plan.samples(5000).div_ceil(BLOCK);
        let each = |pair: &mut Pair| {
            let nanoseconds = pair.call(&format!("trips {length} {BLOCK}"))?;
            Ok(nanoseconds.into_iter().map(|time| time as f64 / 1000.0).collect())
        };
        arms.extend(in_turns(plan, pairs, turns, (&bytes(length), Unit::Microseconds), each)?);
    }
    let notes = [
        "Round trips: a message there, and the same back. Polled: calls that do not wait, in a loop, at both ends. \
                  Asleep: the library never looks before it sleeps. Epoll: the same program by an event loop (tokio). \
                  Sockmap: the kernel joins the two sockets; where nothing moves for 30 s, such a pair is left out. Memory alone: what is left of it without sockets: the bytes copied in and out, polled. \
                  Reserved: a ring of that size for each direction, polled likewise.",
    ];
    Ok(Figure::new("socket-latency", "HeteroPod, Figure 12 a, b", machine, arms).with_notes(notes))
}

fn streams(plan: &Plan<'_>, machine: &Machine, pairs: &mut Vec<Pair>) -> Result<Figure, BenchError> {
    let mut arms = Vec::new();
    for length in STREAMS {
        (plan.tell)(&format!("streams of {}", bytes(length)));
        let count = (VOLUME / length).clamp(1, VOLUME_MESSAGES);
        let each = |pair: &mut Pair| {
            let nanoseconds = pair.call(&format!("stream {length} {count}"))?;
            let rate = |time: &u64| (count * length) as f64 / (1 << 20) as f64 / (*time as f64 / 1e9);
            Ok(nanoseconds.iter().map(rate).collect())
        };
        arms.extend(in_turns(plan, pairs, plan.samples(10).max(3), (&bytes(length), Unit::MebibytesPerSecond), each)?);
    }
    let notes = ["One direction, by calls of that length at both ends, until the last byte was received."];
    Ok(Figure::new("socket-rate", "HeteroPod, Figure 12 c, d", machine, arms).with_notes(notes))
}

fn connects(plan: &Plan<'_>, machine: &Machine, pairs: &mut Vec<Pair>) -> Result<Figure, BenchError> {
    (plan.tell)("connections of one round trip");
    let each = |pair: &mut Pair| {
        // The one has no connections, the other's ends have to wait for each other before anything is sent.
        if ["memory", "reserved", SOCKMAP].iter().any(|name| pair.name.starts_with(name)) {
            return Ok(Vec::new());
        }
        let nanoseconds = pair.call("connects 100")?;
        Ok(nanoseconds.into_iter().map(|time| time as f64 / 1000.0).collect())
    };
    let arms = in_turns(plan, pairs, plan.samples(10), ("connect, 16 B both ways, close", Unit::Microseconds), each)?;
    let notes = [
        "Such a connection ends before it gets memory: what the library adds to it is what it counts. Memory at once: \
                  `LICHEN_SOCKET_AFTER=1`.",
    ];
    Ok(Figure::new("socket-connect", "not in the paper: short connections", machine, arms).with_notes(notes))
}

fn bytes(length: usize) -> String {
    if length < 1024 { format!("{length} B") } else { format!("{} KiB", length >> 10) }
}
