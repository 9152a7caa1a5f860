//! Files that are no programs, or broken ones: refused in words, and never the end of who reads them.

use crate::native::elf as guest;
use engine::native::elf::compile;
use engine::native::image::Image;

const FIXED: [&str; 4] = ["-static", "-fno-pie", "-no-pie", "-Wl,-Ttext-segment=0x10000"];

fn refusal(elf: &[u8]) -> String {
    compile(elf).unwrap_err().to_string()
}

#[test]
fn what_is_refused_is_told_why() {
    let whole = guest(&FIXED);
    assert!(compile(&whole).is_ok());
    assert!(refusal(b"#!/bin/sh\n").contains("23 21 2f 62"));
    assert!(refusal(&whole[..40]).contains("in the middle of"));
    assert!(refusal(&std::fs::read("/bin/true").unwrap()).contains("-static"));
    let mut arm = whole.clone();
    arm[18] = 183;
    assert!(refusal(&arm).contains("x86-64"));
    assert!(refusal(&guest(&["-static", "-fno-pie", "-no-pie", "-Wl,-Ttext-segment=0x1000"])).contains("--image-base"));
    assert!(refusal(&guest(&[&FIXED[..], &["-Wl,-N"]].concat())).contains("both written and executed"));
    assert!(refusal(&guest(&[&FIXED[..], &["-s"]].concat())).contains("do not strip"));
}

/// Numbers that mean something to whoever wrote the checks.
const PROBES: [u64; 10] = [0, 1, 0xfff, 0x1000, 0xffff_ffff, 1 << 32, 1 << 47, 1 << 63, u64::MAX - 4095, u64::MAX];

#[test]
fn whatever_is_changed_it_is_taken_whole_or_refused() {
    for elf in [guest(&FIXED), guest(&["-static-pie", "-fpie"])] {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = |most: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % most as u64) as usize
        };
        for round in 0..20_000 {
            let mut broken = elf.clone();
            for _ in 0..1 + next(4) {
                // Heads most of the time, since nobody looks at code.
                let at = if round % 4 == 0 { next(elf.len() - 8) } else { next(0x300) };
                let at = at.min(broken.len() - 8);
                match next(3) {
                    0 => broken[at] = next(256) as u8,
                    1 => broken[at..at + 8].copy_from_slice(&PROBES[next(PROBES.len())].to_le_bytes()),
                    _ => broken.truncate(at.max(64)),
                }
                broken.resize(broken.len().max(elf.len().min(0x400)), 0);
            }
            if let Ok(artefact) = compile(&broken) {
                assert!(artefact.len() < 4 * elf.len() + (1 << 20), "a small file becomes large");
                Image::decode(&artefact).expect("what is made can be read");
                let mut damaged = artefact;
                let at = next(0x100);
                damaged[at] ^= 1 << next(8);
                drop(Image::decode(&damaged));
            }
        }
    }
}
