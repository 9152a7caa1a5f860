//! What it costs who has a memory together: two processes (`pair`), the ends of one connection (`strict`), all of a Pod (`pod`).

use super::pair::{Broker, Pair};
use super::{How, OURS, bytes, in_turns};
use crate::Plan;
use crate::error::BenchError;
use crate::figure::{Figure, Unit};
use crate::machine::Machine;
use net::broker::Sharing;

const MODES: [(&str, Sharing); 3] = [("pair", Sharing::Pair), ("strict", Sharing::Strict), ("pod", Sharing::Pod)];
const TRIP: usize = 16;
const TRIPS: usize = 500;
const STREAM: usize = 256 << 10;
const STREAMS: usize = 512;
/// Round trips of a connection that ends then: so many that it gets memory.
const LONG: usize = 64;

pub fn measure(plan: &Plan<'_>, machine: &Machine) -> Result<Figure, BenchError> {
    (plan.tell)("who has a memory together");
    let (mut brokers, mut pairs) = (Vec::new(), Vec::new());
    for (name, sharing) in MODES {
        let broker = Broker::sharing(&plan.program, sharing)?;
        let how = How { name, ..OURS };
        pairs.push(Pair::start(plan, &broker, None, how, ("two cores", [0, machine.cores.saturating_sub(1).min(1)]))?);
        brokers.push(broker);
    }
    let trip = |pair: &mut Pair| {
        let nanoseconds = pair.call(&format!("trips {TRIP} {TRIPS}"))?;
        Ok(nanoseconds.into_iter().map(|time| time as f64 / 1000.0).collect())
    };
    let rate = |pair: &mut Pair| {
        let nanoseconds = pair.call(&format!("stream {STREAM} {STREAMS}"))?;
        let volume = (STREAM * STREAMS) as f64 / (1 << 20) as f64;
        Ok(nanoseconds.into_iter().map(|time| volume / (time as f64 / 1e9)).collect())
    };
    let life = |pair: &mut Pair| {
        let nanoseconds = pair.call(&format!("connects 50 {LONG}"))?;
        Ok(nanoseconds.into_iter().map(|time| time as f64 / 1000.0).collect())
    };
    let mut arms = in_turns(plan, &mut pairs, plan.samples(10).max(5), (&bytes(TRIP), Unit::Microseconds), trip)?;
    arms.extend(in_turns(plan, &mut pairs, plan.samples(10).max(5), (&bytes(STREAM), Unit::MebibytesPerSecond), rate)?);
    let what = format!("connect, {LONG} round trips of 16 B, close");
    arms.extend(in_turns(plan, &mut pairs, plan.samples(10).max(5), (&what, Unit::Microseconds), life)?);
    let notes =
        ["Connections of two processes, whose memory is theirs, each connection's own, or that of all processes of a \
                  network. What differs is how one begins: with a number, or with a file that is mapped."];
    Ok(Figure::new("socket-modes", "not in the paper: who can reach what", machine, arms).with_notes(notes))
}
