//! What every link must do, checked on each of them by the same code: [`suite`].
//!
//! What only one kind of link can do wrong (garbage in its memory, a stolen certificate) is checked beside that kind.

mod suite;

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
