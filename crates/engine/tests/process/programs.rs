//! Programs made with the SDKs and with Dandelion's interface, in empty processes. `make guest` builds them.

use crate::native::Fixture;
use engine::process::Process;
use engine::{Blob, RunError};
use sets::{Item, Set};
use std::path::PathBuf;

/// The program of this name, if it was built.
fn program(name: &str) -> Option<Fixture> {
    let folder = std::env::var_os("LICHEN_GUEST").map_or_else(|| PathBuf::from("../../.build/guest"), PathBuf::from);
    let path = folder.join(name);
    match std::fs::read(&path) {
        Ok(elf) => Some(Fixture::new(|arena| Box::new(Process::new(arena).unwrap()), &elf)),
        Err(error) => {
            println!("skipped: {}: {error}. `make guest` makes it, where there is a C compiler", path.display());
            None
        }
    }
}

fn run(fixture: &mut Fixture, body: &[u8]) -> Result<Vec<Item<Blob>>, RunError> {
    let inputs = [Set::new("in", vec![Item::new("body", 9, Blob::from(body.to_vec()))])];
    Ok(fixture.run_on(&inputs).outcome?.remove(0).items)
}

#[test]
fn programs_of_dandelion() {
    for name in ["dandelion-exit.elf", "dandelion-int.elf"] {
        let Some(mut fixture) = program(name) else { continue };
        let items = run(&mut fixture, b"some bytes").unwrap();
        assert_eq!(
            (items[0].name.as_str(), items[0].key, &items[0].data[..]),
            ("copy", 9, &b"some bytes"[..]),
            "{name}"
        );
    }
}

#[test]
fn programs_of_our_own() {
    let rows = 16_usize;
    let matrix: Vec<i64> = (0..rows * rows).map(|n| n as i64 - 77).collect();
    let bytes = |numbers: &[i64]| {
        [rows as i64].iter().chain(numbers).flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()
    };
    let cell = |n: usize| (0..rows).map(|k| matrix[n / rows * rows + k] * matrix[n % rows * rows + k]).sum();
    let product: Vec<i64> = (0..rows * rows).map(cell).collect();
    for name in ["matmul.elf", "matmul-rust.elf"] {
        let Some(mut fixture) = program(name) else { continue };
        assert_eq!(run(&mut fixture, &bytes(&matrix)).unwrap()[0].data[..], bytes(&product), "{name}");
    }
    for name in ["echo.elf", "echo-rust.elf"] {
        let Some(mut fixture) = program(name) else { continue };
        let items = run(&mut fixture, &[7; 100_000]).unwrap();
        assert_eq!((items[0].name.as_str(), &items[0].data[..]), ("body", &[7; 100_000][..]), "{name}");
    }
}

#[test]
fn hostile_programs() {
    let Some(mut fixture) = program("hostile.elf") else { return };
    let mut code = |order: &str| run(&mut fixture, order.as_bytes()).err().map_or("", |error| error.code());
    for (order, expected) in [
        ("fine", ""),
        ("trap", "Signal"),
        ("divide", "Signal"),
        ("null", "Signal"),
        ("stack", "StackOverflow"),
        ("exit7", "Exit"),
        ("panic", "Exit"),
        ("overlap", "OutputTooLarge"),
        ("leave", "BadOutput"),
        ("leave:3", "Exit"),
        ("syscall:0", "Forbidden"),
        ("syscall:57", "Forbidden"),
        ("syscall:59", "Forbidden"),
        ("x32:1", "Forbidden"),
        ("int80:1", "Forbidden"),
        ("write-code", "Signal"),
        ("execute-data", "Signal"),
        ("port", "Signal"),
        ("halt", "Signal"),
        ("jump-kernel", "Signal"),
        ("data-null", "BadOutput"),
        ("data-kernel", "BadOutput"),
        ("data-noncanonical", "BadOutput"),
        ("len-huge", "OutputTooLarge"),
        ("len-wraps", "OutputTooLarge"),
        ("name-null", "BadOutput"),
        ("name-long", "BadOutput"),
        ("name-empty", ""),
        ("name-slash", ""),
        ("name-dots", "BadOutput"),
        ("name-nul", "BadOutput"),
        ("name-binary", "BadOutput"),
        ("bufs-null", "BadOutput"),
        ("bufs-above", "BadOutput"),
        ("count-huge", "TooManyItems"),
        ("count-wraps", "TooManyItems"),
        ("count-backwards", "BadOutput"),
        ("first-huge", "BadOutput"),
        ("sets-null", "BadOutput"),
        ("sets-many", "BadOutput"),
    ] {
        assert_eq!(code(order), expected, "{order}");
    }
}
