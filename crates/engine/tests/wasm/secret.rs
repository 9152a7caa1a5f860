//! Nothing of a run is left in this process: a secret is planted wherever a guest can put one, and looked for everywhere.
//!
//! The secret is never written down: each byte is made from the one in the text by an operation that only the guest and
//! the search do. Tests beside this one do not know it.

use crate::support::{WASI, given, load};
use engine::{Blob, Wiping};
use sets::{Item, Set};
use std::os::unix::fs::FileExt;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping::new();

const LEN: usize = 24;

/// What is looked for, made anew for every comparison.
fn secret(number: u8, at: usize) -> u8 {
    (at as u8).wrapping_mul(37).wrapping_add(number.wrapping_mul(101)).rotate_left(3) ^ 0xa7
}

fn make(number: u8) -> Vec<u8> {
    (0..LEN).map(|at| secret(number, at)).collect()
}

/// Pages of a mapping that are there, as ranges of addresses: the others hold nothing, and looking would make them.
fn present(start: u64, end: u64, pagemap: &std::fs::File) -> Vec<(u64, u64)> {
    const THERE: u64 = 3 << 62;
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut entries = vec![0; 1 << 16];
    let mut page = start / 4096;
    while page < end / 4096 {
        let some = ((end / 4096 - page) as usize * 8).min(entries.len());
        let got = pagemap.read_at(&mut entries[..some], page * 8).unwrap();
        for entry in entries[..got].chunks_exact(8) {
            if u64::from_ne_bytes(entry.try_into().unwrap()) & THERE != 0 {
                match ranges.last_mut() {
                    Some(last) if last.1 == page * 4096 => last.1 += 4096,
                    _ => ranges.push((page * 4096, page * 4096 + 4096)),
                }
            }
            page += 1;
        }
        if got == 0 {
            break;
        }
    }
    ranges
}

/// Where in this process's memory the secret lies: the mapping's line of each place.
fn places(number: u8) -> Vec<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    let mut found = Vec::new();
    // While the window is there it is not searched itself.
    let mut window = vec![0_u8; 1 << 20];
    let own = window.as_ptr() as u64..window.as_ptr() as u64 + window.len() as u64;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with('r'))) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let hex = |number| u64::from_str_radix(number, 16).unwrap();
        for (mut at, end) in present(hex(start), hex(end), &pagemap) {
            while at < end {
                let some = window.len().min((end - at) as usize);
                let Ok(got) = memory.read_at(&mut window[..some], at) else { break };
                for (offset, part) in window[..got].windows(LEN).enumerate() {
                    let here = at + offset as u64;
                    let hit = part.iter().enumerate().all(|(at, byte)| *byte == secret(number, at));
                    if hit && !own.contains(&here) {
                        found.push(format!("{here:#x} in {line}"));
                    }
                }
                // What lies across two windows is seen in the second.
                at += if some < window.len() { some } else { some - LEN } as u64;
            }
        }
    }
    window.fill(0);
    found
}

/// Puts what it reads from stdin into linear memory at several places, a global, a file, a folder's name, stdout, stderr,
/// deep into its stack and, by a copy, into registers; then it ends so.
fn guest(end: &str) -> Vec<u8> {
    let body = r#"
    (global $a (mut i64) (i64.const 0)) (global $b (mut i64) (i64.const 0)) (global $c (mut i64) (i64.const 0))
    (data (i32.const 0) "\00\10\00\00\18\00\00\00") (data (i32.const 16) "tmp/file")
    (func $deep (param $n i32) (param i64 i64 i64) (result i64)
        (if (result i64) (local.get $n)
            (then (i64.xor (i64.add (call $deep (i32.sub (local.get $n) (i32.const 1)) (local.get 1) (local.get 2) (local.get 3))
                (local.get 1)) (i64.add (local.get 2) (local.get 3))))
            (else (i64.const 0))))
    (func (export "_start")
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (memory.copy (i32.const 70000) (i32.const 4096) (i32.const 24))
        (memory.copy (i32.const 130000) (i32.const 4096) (i32.const 24))
        (global.set $a (i64.load (i32.const 4096))) (global.set $b (i64.load (i32.const 4104)))
        (global.set $c (i64.load (i32.const 4112)))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
        (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 8) (i32.const 1)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 80)))
        (loop (drop (call $fd_write (i32.load (i32.const 80)) (i32.const 0) (i32.const 1) (i32.const 8)))
            (i32.store (i32.const 84) (i32.add (i32.load (i32.const 84)) (i32.const 1)))
            (br_if 0 (i32.lt_u (i32.load (i32.const 84)) (i32.const 8000))))
        (drop (call $mkdir (i32.const 3) (i32.const 4096) (i32.const 24)))
        (drop (call $deep (i32.const 3000) (global.get $a) (global.get $b) (global.get $c)))
        (loop (memory.copy (i32.add (i32.const 8192) (i32.load (i32.const 88))) (i32.const 4096) (i32.const 24))
            (i32.store (i32.const 88) (i32.add (i32.load (i32.const 88)) (i32.const 24)))
            (br_if 0 (i32.lt_u (i32.load (i32.const 88)) (i32.const 2400))))
        (memory.copy (i32.const 12288) (i32.const 8192) (i32.const 2400))"#;
    wat::parse_str(format!("(module {WASI} {body} {end}))")).unwrap()
}

#[test]
fn nothing_is_left_in_memory() {
    ALLOCATOR.switch_on();
    // A trap is a signal, and so is a deadline; their stack gets the registers.
    let ends = [("", true), ("unreachable", false), ("(loop (br 0))", false)];
    let mut programs = ends.map(|(end, ends_well)| (load(&guest(end)), ends_well));
    for number in 1..10 {
        let (program, ends_well) = &mut programs[usize::from(number) % ends.len()];
        let mut given = given();
        given.time = Duration::from_secs(2);
        given.stdin = Some(Blob::from(make(number)));
        given.arguments.push(String::from_utf8_lossy(&make(number)).into_owned());
        given.inputs = vec![Set::new("a", vec![Item::new("x", 0, Blob::from(make(number)))])];
        assert!(!places(number).is_empty(), "the search finds what is there");
        let finished = given.run(&mut **program);
        assert_eq!(finished.stderr.len(), LEN);
        assert_eq!(finished.outcome.is_ok(), *ends_well, "{finished:?}");
        drop((finished, given));
        assert_eq!(places(number), Vec::<String>::new(), "left by run {number}");
    }
}
