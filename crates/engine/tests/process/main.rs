//! Native functions in empty processes: good ones, hostile ones, and what is left of them.
#![cfg(target_arch = "x86_64")]

mod elf;
#[path = "../native/mod.rs"]
mod native;
mod programs;

use engine::process::Process;
use engine::{Arena, Blob, Engine, RunError};
use native::Fixture;
use sets::Item;
use std::time::{Duration, Instant};

fn engine(arena: Arena) -> Box<dyn Engine> {
    Box::new(Process::new(arena).unwrap())
}

fn fixture() -> Fixture {
    Fixture::new(engine, native::guest())
}

/// The items of the one output set.
fn items(fixture: &mut Fixture, order: &str, items: &[Blob]) -> Vec<Item<Blob>> {
    let mut sets = fixture.run(order, items).outcome.unwrap_or_else(|error| panic!("{order}: {error}"));
    assert_eq!((sets.len(), sets[0].name.as_str()), (1, "out"), "{order}");
    sets.remove(0).items
}

/// A blob in pages.
fn paged(arena: &Arena, bytes: &[u8]) -> Blob {
    let mut extent = arena.extent(bytes.len() as u64).unwrap();
    extent.range_mut(0, bytes.len()).unwrap().copy_from_slice(bytes);
    extent.freeze()
}

#[test]
fn items_come_back_as_they_went_in() {
    let mut fixture = fixture();
    for order in ["e", "i"] {
        let small = Blob::from(vec![3; 1000]);
        let large = Blob::from(vec![4; 300_000]);
        let pages: Vec<u8> = (0..700_001_u32).map(|n| (n % 251) as u8).collect();
        let apart = paged(&fixture.arena, &pages);
        let them = items(&mut fixture, order, &[small.clone(), large.clone(), apart.clone(), Blob::default()]);
        let [first, one, two, three, four] = them.as_slice() else { panic!("{} items", them.len()) };
        assert_eq!((first.name.as_str(), &first.data[..]), ("order", order.as_bytes()));
        assert_eq!((one.name.as_str(), one.key, &one.data), ("item0", 0, &small));
        assert_eq!((two.key, &two.data), (1, &large));
        assert_eq!((three.key, &three.data), (2, &apart));
        assert_eq!(
            three.data.pages().map(|pages| pages.1),
            apart.pages().map(|pages| pages.1),
            "handed on without a copy"
        );
        assert!(four.data.is_empty());
    }
}

#[test]
fn outputs_of_all_sizes() {
    let mut fixture = fixture();
    for len in [1_usize, 4096, 65_537, 262_143, 262_144, 262_145, 1_000_000, 20_000_000] {
        let them = items(&mut fixture, &format!("k{len}"), &[]);
        assert_eq!((them.len(), them[0].key, them[0].data.len()), (1, 5, len));
        assert!(them[0].data.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8), "{len}");
        assert_eq!(them[0].data.pages().is_some(), len >= 256 << 10, "{len}");
    }
    assert_eq!(items(&mut fixture, "c", &[])[0].data[..], *b"constant");
    assert_eq!(items(&mut fixture, "m", &[])[0].data[..], [1]);
    assert_eq!(items(&mut fixture, "f", &[])[0].data[..], [77]);
}

#[test]
fn every_run_has_a_memory_of_its_own() {
    let mut fixture = fixture();
    // Fills a good part of the heap, and then all of it; the next one counts what is not zero.
    for order in ["k3000000", "m", "4", "x7"] {
        drop(fixture.run(order, &[]));
        assert_eq!(items(&mut fixture, "z", &[])[0].data.len(), 0, "after {order}");
    }
}

#[test]
fn text_is_apart() {
    let mut fixture = fixture();
    let finished = fixture.run("t", &[]);
    assert_eq!((finished.stdout.as_slice(), finished.stderr.as_slice()), (&b"hello\n"[..], &b""[..]));
    assert_eq!(finished.outcome.unwrap()[0].items[0].data[..], *b"constant");
    assert!(finished.memory_peak > 0);
}

#[test]
fn many_items() {
    let mut fixture = fixture();
    let blobs: Vec<_> = (0..20_000_u32).map(|n| Blob::from(n.to_le_bytes().to_vec())).collect();
    let them = items(&mut fixture, "e", &blobs);
    assert_eq!(them.len(), 20_001);
    assert!(them[1..].iter().zip(&blobs).all(|(item, blob)| item.data == *blob));
}

#[test]
fn faults_are_named() {
    let mut fixture = fixture();
    let limit = fixture.limits.memory;
    let signal = |error: RunError| if let RunError::Signal { signal, .. } = error { signal } else { panic!("{error}") };
    assert_eq!(signal(fixture.error("u")), libc::SIGILL);
    assert_eq!(signal(fixture.error("n")), libc::SIGSEGV);
    assert_eq!(signal(fixture.error("d1")), libc::SIGFPE);
    assert_eq!(signal(fixture.error("b")), libc::SIGTRAP);
    assert_eq!(signal(fixture.error("h")), libc::SIGSEGV);
    assert_eq!(signal(fixture.error("W")), libc::SIGSEGV);
    assert_eq!(signal(fixture.error("j")), libc::SIGSEGV);
    assert_eq!(signal(fixture.error("P")), libc::SIGSEGV);
    assert_eq!(fixture.error("r"), RunError::StackOverflow);
    assert_eq!(fixture.error("4"), RunError::OutOfMemory { limit });
    assert_eq!(fixture.error("x7"), RunError::Exit(7));
    assert_eq!(fixture.error("x255"), RunError::Exit(255));
    assert_eq!(fixture.error("x254"), RunError::Exit(254));
    assert_eq!(fixture.error("X9"), RunError::Exit(9));
    let large = paged(&fixture.arena, &[9; 300_000]);
    let written = fixture.run("w", std::slice::from_ref(&large)).outcome.unwrap_err();
    assert!(matches!(written, RunError::Signal { signal: libc::SIGSEGV, .. }), "{written}");
    assert!(large.iter().all(|byte| *byte == 9));
    assert!(fixture.run("e", &[]).outcome.is_ok());
}

#[test]
fn no_system_call_by_any_gate() {
    let mut fixture = fixture();
    for (order, name) in [
        ("s0", "the system call read"),
        ("s2", "the system call open"),
        ("s9", "the system call mmap"),
        ("s41", "the system call socket"),
        ("s57", "the system call fork"),
        ("s59", "the system call execve"),
        ("s158", "the system call arch_prctl"),
        ("s15", "the system call rt_sigreturn"),
        ("s202", "the system call futex"),
        ("s435", "the system call clone3"),
        ("S", "the 32-bit system call number 20"),
        ("Y", "the system call getpid (by the x32 interface)"),
    ] {
        assert_eq!(fixture.error(order), RunError::Forbidden(name.to_owned()), "{order}");
    }
    // What the processor or the kernel makes of these differs between machines; a number it never is.
    for order in ["y", "v", "p"] {
        let error = fixture.error(order);
        assert!(matches!(error, RunError::Signal { .. } | RunError::Forbidden(_)), "{order}: {error}");
    }
}

#[test]
fn what_is_left_is_not_believed() {
    let mut fixture = fixture();
    let (bytes, most) = (fixture.limits.output_bytes, fixture.limits.output_items);
    let huge = (1_u64 << 42).to_string();
    let all = u64::MAX.to_string();
    for (order, argument) in [
        ("A", huge.as_str()),
        ("C", &huge),
        ("C", &all),
        ("D", ""),
        ("E", ""),
        ("F", &all),
        ("F", "8"),
        ("G", ""),
        ("I", ""),
        ("J", "0"),
        ("J", &all),
        ("K", ""),
        ("L", ""),
        ("N", ""),
        ("O", ""),
        ("A", "256"),
    ] {
        let error = fixture.error(&format!("{order}{argument}"));
        assert!(matches!(error, RunError::BadOutput(_)), "{order}{argument}: {error}");
    }
    assert_eq!(fixture.error(&format!("B{huge}")), RunError::OutputTooLarge { limit: bytes });
    assert_eq!(fixture.error(&format!("H{huge}")), RunError::TooManyItems { limit: most });
    assert_eq!(fixture.error(&format!("H{all}")), RunError::TooManyItems { limit: most });
    assert_eq!(fixture.error("M1000"), RunError::OutputTooLarge { limit: bytes });
    let own = fixture.error("R");
    assert!(matches!(own, RunError::Forbidden(_)), "{own}");
    assert_eq!(items(&mut fixture, "M64", &[]).len(), 64, "the same bytes many times are fine, within the limit");
}

#[test]
fn endless_functions_end() {
    let mut fixture = fixture();
    fixture.deadline = Duration::from_millis(100);
    let begin = Instant::now();
    assert_eq!(fixture.error("l"), RunError::Timeout);
    assert!(begin.elapsed() >= Duration::from_millis(100) && begin.elapsed() < Duration::from_secs(10));
    fixture.deadline = Duration::from_secs(60);
    let stop = fixture.stop.clone();
    let canceller = std::thread::spawn(move || {
        // The run that goes on is the one after the first.
        while !stop.is_cancelled() {
            stop.cancel(2);
            std::thread::yield_now();
        }
    });
    assert_eq!(fixture.error("l"), RunError::Cancelled);
    canceller.join().unwrap();
    assert!(fixture.run("e", &[]).outcome.is_ok());
}

#[test]
fn programs_that_can_be_moved() {
    let elf = native::elf(&["-static-pie", "-fpie"]);
    let mut fixture = Fixture::new(engine, &elf);
    assert_eq!(items(&mut fixture, "e", &[])[0].data[..], *b"e");
    assert_eq!(items(&mut fixture, "c", &[])[0].data[..], *b"constant");
    assert_eq!(fixture.run("t", &[]).stdout, b"hello\n");
}
