//! What runs of native functions leave behind, in the process that runs them: for tests that are alone in theirs.

use super::native::Fixture;
use engine::{Arena, Blob};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{Read, Seek, SeekFrom};

/// Overwrites what is freed, as the allocator of an engine process does.
struct Wiping;

// SAFETY: all memory is the system allocator's; it is overwritten before it is given back, when nobody uses it any more.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the block has this length; passed on as it came. Volatile, lest the writes be found useless.
        unsafe {
            (0..layout.size()).for_each(|n| at.add(n).write_volatile(0));
            System.dealloc(at, layout);
        }
    }
}

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Bytes of memory files that this process maps, as far as pages are there.
pub fn pages(arena: &Arena) -> u64 {
    let seen = rustix::fs::fstat(arena.file()).unwrap();
    seen.st_blocks as u64 * 512
}

/// Where the secret lies in this process's memory, but for the buffer that it is looked for with.
fn found(secret: &[u8]) -> Vec<u64> {
    const STEP: u64 = 1 << 20;
    let mut memory = fs::File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut bytes = vec![0; STEP as usize + secret.len()];
    let own = bytes.as_ptr() as u64..bytes.as_ptr() as u64 + bytes.len() as u64;
    let mut found = Vec::new();
    for map in maps.lines().filter(|map| map.contains(" rw")) {
        let (start, end) = map.split(' ').next().unwrap().split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        // The arena is sparse: its pages are looked at through its file.
        for at in (start..end).step_by(STEP as usize).filter(|_| end - start < 1 << 30) {
            let part = &mut bytes[..(end - at).min(STEP + secret.len() as u64) as usize];
            if memory.seek(SeekFrom::Start(at)).is_ok() && memory.read_exact(part).is_ok() {
                let here = part.windows(secret.len()).enumerate().filter(|(_, bytes)| bytes == &secret);
                found.extend(here.map(|(n, _)| at + n as u64).filter(|at| !own.contains(at)));
            }
            part.fill(0);
        }
    }
    found
}

/// Whether any page of the arena has the secret.
fn in_arena(arena: &Arena, secret: &[u8]) -> bool {
    let file = fs::File::from(arena.file().try_clone_to_owned().unwrap());
    let mut at = 0;
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data)).unwrap();
        let mut bytes = vec![0; (hole - data) as usize];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, data).unwrap();
        if bytes.windows(secret.len()).any(|bytes| bytes == secret) {
            return true;
        }
        at = hole;
    }
    false
}

/// A secret that a run was given, and left in all places that it could, is nowhere after it.
pub fn secrets_are_gone(fixture: &mut Fixture) {
    // Put together where no compiler sees it, and never in one piece but in the run's own item.
    let secret: Vec<u8> = (0..32_u8).map(|n| n.wrapping_mul(37) ^ 0x5a).collect();
    for times in [1, 1000, 20_000] {
        let given = Blob::from(secret.repeat(times));
        let finished = fixture.run("e", std::slice::from_ref(&given));
        assert!(finished.outcome.as_ref().is_ok_and(|sets| sets[0].items[1].data == given));
        drop((finished, given));
        fixture.program.clear();
        assert!(!in_arena(&fixture.arena, &secret), "{times}: in the arena");
        let own = secret.as_ptr() as u64;
        let elsewhere: Vec<_> = found(&secret).into_iter().filter(|at| *at != own).collect();
        assert!(elsewhere.is_empty(), "{times}: at {elsewhere:x?}");
    }
}
