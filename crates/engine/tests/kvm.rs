//! Native functions in a virtual machine, where this machine has one that passes its self-test.
#![cfg(target_arch = "x86_64")]

mod native;

use engine::kvm::Kvm;
use engine::{Arena, Blob, Engine, RunError, SelfTestError};
use native::Fixture;
use std::time::Duration;

/// How slow an empty run may be for these tests, which are about what happens and not about how fast.
const SLOW: u64 = 1_000_000;

/// An engine, or why there is none.
fn engine(arena: Arena) -> Result<Kvm, String> {
    let made = engine::device().and_then(|device| Kvm::new(arena, device, SLOW));
    let mut kvm = made.map_err(|error| format!("no virtual machine: {error}"))?;
    kvm.self_test().map_err(|error| error.to_string())?;
    Ok(kvm)
}

fn fixture(elf: &[u8]) -> Option<Fixture> {
    match engine(Arena::new(16 << 20).unwrap()) {
        Ok(_) => Some(Fixture::new(|arena| Box::new(engine(arena).unwrap()), elf)),
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

#[test]
fn a_machine_that_is_slower_than_it_may_be_is_refused() {
    let made = engine::device().and_then(|device| Kvm::new(Arena::new(16 << 20).unwrap(), device, 0));
    let Ok(mut kvm) = made else {
        println!("skipped: there is no virtual machine");
        return;
    };
    match kvm.self_test() {
        Err(SelfTestError::Slow { took_us, limit_us: 0 }) => println!("an empty run takes {took_us} µs"),
        Err(SelfTestError::Wrong(what)) => println!("refused: {what}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn functions_run_as_in_a_process() {
    let Some(mut fixture) = fixture(native::guest()) else { return };
    let given = [Blob::from(vec![3; 1000]), Blob::from(vec![4; 300_000])];
    for order in ["e", "i"] {
        let sets = fixture.run(order, &given).outcome.unwrap();
        let data: Vec<_> = sets[0].items.iter().map(|item| item.data.clone()).collect();
        assert_eq!(data[1..], given, "{order}");
    }
    for len in [1_usize, 65_536, 1_000_000] {
        let sets = fixture.run(&format!("k{len}"), &[]).outcome.unwrap();
        assert!(sets[0].items[0].data.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8), "{len}");
    }
    assert_eq!(fixture.run("f", &[]).outcome.unwrap()[0].items[0].data[..], [77]);
    assert!(fixture.run("m", &[]).outcome.is_ok());
    assert!(fixture.run("z", &[]).outcome.unwrap()[0].items[0].data.is_empty(), "memory of its own");
    assert_eq!(fixture.run("t", &[]).stdout, b"hello\n");
    assert!(fixture.arena.held() < 1 << 20);
}

#[test]
fn what_goes_wrong_is_named_as_in_a_process() {
    let Some(mut fixture) = fixture(&native::elf(&["-static", "-fno-pie", "-no-pie", "-Wl,-Ttext-segment=0x10000"]))
    else {
        return;
    };
    let limit = fixture.limits.memory;
    let signal = |error: RunError| if let RunError::Signal { signal, .. } = error { signal } else { panic!("{error}") };
    for (order, expected) in [
        ("u", libc::SIGILL),
        ("n", libc::SIGSEGV),
        ("d1", libc::SIGFPE),
        ("h", libc::SIGSEGV),
        ("W", libc::SIGSEGV),
        ("j", libc::SIGSEGV),
    ] {
        assert_eq!(signal(fixture.error(order)), expected, "{order}");
    }
    assert_eq!(fixture.error("r"), RunError::StackOverflow);
    assert_eq!(fixture.error("4"), RunError::OutOfMemory { limit });
    assert_eq!(fixture.error("x7"), RunError::Exit(7));
    assert_eq!(fixture.error("s2"), RunError::Forbidden("the system call open".to_owned()));
    assert!(matches!(fixture.error("S"), RunError::Forbidden(_)));
    assert!(matches!(fixture.error("K"), RunError::BadOutput(_)));
    fixture.deadline = Duration::from_millis(50);
    assert_eq!(fixture.error("l"), RunError::Timeout);
    fixture.deadline = Duration::from_secs(60);
    let (stop, run) = (fixture.stop.clone(), fixture.stop.begin() + 1);
    let canceller = std::thread::spawn(move || {
        while !stop.is_cancelled() {
            stop.cancel(run);
            std::thread::yield_now();
        }
    });
    assert_eq!(fixture.error("l"), RunError::Cancelled);
    canceller.join().unwrap();
    assert!(fixture.run("e", &[]).outcome.is_ok());
}
