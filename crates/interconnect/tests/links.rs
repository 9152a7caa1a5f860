//! What every link must do, checked on each of them by the same code: [`suite`].
//!
//! What only one kind of link can do wrong (garbage in its memory, a stolen certificate) is checked beside that kind.

mod suite;

use interconnect::link::shm::Shm;
use interconnect::link::sim::Network;
use std::time::Duration;
use suite::{Fixture, Pair};

/// Two ends whose messages take some virtual milliseconds.
struct Sim;

impl Fixture for Sim {
    fn pair(&self) -> Pair {
        let network = Network::new(7, Duration::from_millis(1)..Duration::from_millis(9));
        let (_, a, b) = network.link().unwrap();
        let turn = move || {
            if let Some(next) = network.next() {
                network.advance(next);
            }
        };
        Pair { a: Box::new(a), b: Box::new(b), turn: Box::new(turn) }
    }

    const DESCRIPTORS: bool = true;
}

suite::conformance!(sim, Sim);

/// Two ends over a socket pair.
struct Memory;

impl Fixture for Memory {
    fn pair(&self) -> Pair {
        let (one, other) = os::seqpacket::pair().unwrap();
        let a = Shm::offer(one).unwrap();
        let b = Shm::accept(other, Duration::from_secs(1)).unwrap();
        Pair { a: Box::new(a), b: Box::new(b), turn: Box::new(|| ()) }
    }

    const DESCRIPTORS: bool = true;
}

suite::conformance!(shm, Memory);
