//! What runs in a virtual machine leave behind: nothing. Alone in its process, since it counts all that this has.
#![cfg(target_arch = "x86_64")]

mod leaks;
mod native;

use engine::kvm::Kvm;
use engine::{Arena, Engine, RunError};
use leaks::{descriptors, pages, secrets_are_gone};
use native::Fixture;
use std::time::Duration;

/// Runs of each kind: some hundred microseconds each at the best.
const RUNS: usize = 50;

fn engine(arena: Arena) -> Result<Kvm, String> {
    let made = engine::device().and_then(|device| Kvm::new(arena, device, u64::MAX));
    let mut kvm = made.map_err(|error| format!("no virtual machine: {error}"))?;
    kvm.self_test().map_err(|error| error.to_string())?;
    Ok(kvm)
}

#[test]
fn nothing_is_left() {
    if let Err(reason) = engine(Arena::new(16 << 20).unwrap()) {
        println!("skipped: {reason}");
        return;
    }
    let mut fixture = Fixture::new(|arena| Box::new(engine(arena).unwrap()), native::guest());
    fixture.limits.memory = 4 << 20;
    let is_well = |fixture: &mut Fixture| assert!(fixture.run("e", &[]).outcome.is_ok());
    is_well(&mut fixture);
    let before = (descriptors(), fixture.arena.held());
    for order in ["e", "u", "n", "s2", "x7", "r", "4", "B99999999999", "k100000", "m", "f"] {
        for _ in 0..RUNS {
            drop(fixture.run(order, &[]));
        }
        is_well(&mut fixture);
        assert_eq!((descriptors(), fixture.arena.held()), before, "{order}");
        assert!(pages(&fixture.arena) < 3 << 20, "{order}: {} bytes are left in memory", pages(&fixture.arena));
    }
    fixture.deadline = Duration::from_millis(1);
    for _ in 0..RUNS {
        assert_eq!(fixture.error("l"), RunError::Timeout);
    }
    fixture.deadline = Duration::from_secs(20);
    is_well(&mut fixture);
    // A run finds neither memory nor registers of the one before.
    for order in ["k3000000", "m", "4", "x7", "l"] {
        fixture.deadline = if order == "l" { Duration::from_millis(5) } else { Duration::from_secs(20) };
        drop(fixture.run(order, &[]));
        fixture.deadline = Duration::from_secs(20);
        assert_eq!(fixture.run("z", &[]).outcome.unwrap()[0].items[0].data.len(), 0, "after {order}");
    }
    secrets_are_gone(&mut fixture);
}
