//! Calls with arguments at random and on purpose, thousands in a row on the same files. Whatever a guest asks, the host
//! comes through: no crash, no hang, nothing over the run's limits. `SEED=…` is for other calls than those of every run.

use super::memory::Memory;
use super::{fd, listing, path, process};
use crate::files::{Answer, Refusal, layout};
use crate::wasm::context::Context;
use crate::{Arena, Blob, Limits, Run, RunError, Stop};
use sets::{Item, Set};
use std::time::{Duration, Instant};

/// What the test takes, at most.
const BUDGET: Duration = Duration::from_millis(1500);
const MEMORY: usize = 1 << 16;
const LIMITS: Limits = Limits { memory: 1 << 20, output_bytes: 1 << 20, output_items: 300, text_bytes: 1000 };

/// Paths that mean something, or once did. They lie at the beginning of memory, 64 bytes each.
const PATHS: [&str; 24] = [
    "in",
    "in/a/x",
    "in/a",
    "out",
    "out/s",
    "out/s/i",
    "out/s/j@7",
    "tmp",
    "tmp/f",
    "tmp/g",
    "tmp/d",
    "tmp/d/e",
    "tmp/d/e/f",
    "tmp/../out/s",
    "..",
    ".",
    "tmp/",
    "tmp/l",
    "tmp/l/x",
    "tmp//f",
    "/tmp/f",
    "tmp/./d/..",
    "\u{fc}",
    "a\0b",
];

/// Xorshift: enough to be different, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn seed() -> Self {
        Self(std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number but 0")))
    }

    /// A descriptor: often one that is open.
    fn fd(&mut self) -> u32 {
        if self.below(20) == 0 { self.next() as u32 } else { self.below(12) as u32 }
    }

    /// An address: often within memory.
    fn at(&mut self) -> u32 {
        match self.below(16) {
            0 => self.next() as u32,
            1 => (MEMORY as u32).wrapping_sub(self.below(80) as u32),
            _ => 4096 + self.below(MEMORY as u64 - 8192) as u32,
        }
    }

    fn count(&mut self) -> u32 {
        if self.below(16) == 0 { self.next() as u32 } else { self.below(6) as u32 }
    }

    /// Where a path lies, and its length.
    fn path(&mut self) -> (u32, u32) {
        if self.below(16) == 0 {
            return (self.at(), self.count());
        }
        let number = self.below(PATHS.len() as u64) as u32;
        (number * 64, PATHS[number as usize].len() as u32)
    }

    fn size(&mut self) -> u64 {
        let sizes = [0, 1, 100, 70_000, 1 << 20, 1 << 40, u64::MAX, i64::MAX as u64];
        if self.below(2) == 0 { self.below(3000) } else { sizes[self.below(8) as usize] }
    }
}

fn call(number: u64, k: &mut Chance, c: &mut Context, m: &mut Memory<'_>) -> Answer<()> {
    let ((p, n), (q, o)) = (k.path(), k.path());
    let (f, g, at, to, count) = (k.fd(), k.fd(), k.at(), k.at(), k.count());
    let (size, length, flags) = (k.size(), k.size(), k.below(20) as u32);
    match number {
        0 => process::args_get(c, m, at, to),
        1 => process::args_sizes_get(c, m, at, to),
        2 => process::environ_get(c, m, at, to),
        3 => process::clock_res_get(c, m, flags, at),
        4 => process::clock_time_get(c, m, flags, size, at),
        5 => process::poll_oneoff(c, m, at, to, count, 4096),
        6 => process::random_get(c, m, at, count),
        7 => process::sock_recv(c, m, f, at, count, flags, to, at),
        8 => fd::fd_advise(c, m, f, size, length, flags),
        9 => fd::fd_allocate(c, m, f, size, length),
        10 | 11 => fd::fd_close(c, m, f),
        12 => fd::fd_fdstat_get(c, m, f, at),
        13 => fd::fd_fdstat_set_flags(c, m, f, flags),
        14 if flags == 7 => fd::fd_fdstat_set_rights(c, m, f, size, length),
        15 => fd::fd_filestat_set_size(c, m, f, size),
        16 => fd::fd_pread(c, m, f, at, count, size, to),
        17 => fd::fd_prestat_get(c, m, f, at),
        18 => fd::fd_prestat_dir_name(c, m, f, at, count),
        19 => fd::fd_pwrite(c, m, f, at, count, size, to),
        20 => fd::fd_read(c, m, f, at, count, to),
        21 => fd::fd_renumber(c, m, f, g),
        22 => fd::fd_seek(c, m, f, size as i64, flags, at),
        23 => fd::fd_tell(c, m, f, at),
        24..=27 => fd::fd_write(c, m, f, at, count, to),
        28 => listing::fd_filestat_get(c, m, f, at),
        29 => listing::fd_filestat_set_times(c, m, f, size, length, flags),
        30 => listing::fd_readdir(c, m, f, at, count.wrapping_mul(40), size, to),
        31 => listing::path_filestat_get(c, m, f, flags & 1, p, n, at),
        32 => listing::path_filestat_set_times(c, m, f, flags & 1, p, n, size, length, flags),
        33 => path::path_create_directory(c, m, 3, p, n),
        34 => path::path_link(c, m, 3, flags & 1, p, n, 3, q, o),
        35..=39 => path::path_open(c, m, 3, flags & 1, p, n, flags, u64::MAX >> k.below(64), u64::MAX, flags, at),
        40 => path::path_readlink(c, m, 3, p, n, at, count, to),
        41 => path::path_remove_directory(c, m, 3, p, n),
        42 | 43 => path::path_rename(c, m, 3, p, n, 3, q, o),
        44 => path::path_symlink(c, m, p, n, 3, q, o),
        45 => path::path_unlink_file(c, m, 3, p, n),
        _ => path::path_open(c, m, f, flags & 1, p, n, flags, size, length, flags, at),
    }
}

/// Buffers that point into memory, here and there, so that calls with vectors get somewhere.
fn furnish(bytes: &mut [u8], k: &mut Chance) {
    for (number, path) in PATHS.iter().enumerate() {
        bytes[number * 64..number * 64 + path.len()].copy_from_slice(path.as_bytes());
    }
    for pair in bytes[4096..].chunks_exact_mut(8) {
        let (at, len) = (k.at() as u64, k.below(300));
        pair.copy_from_slice(&(at | len << 32).to_le_bytes());
    }
}

#[test]
fn any_calls_in_any_order() {
    let mut chance = Chance::seed();
    let arena = Arena::new(4 << 20).unwrap();
    let stop = Stop::new().unwrap();
    let inputs = [Set::new("a", vec![Item::new("x", 0, Blob::from(vec![1; 5000]))])];
    let arguments = ["p".to_owned(), "q".to_owned()];
    let environment = [("K".to_owned(), "v".to_owned())];
    let began = Instant::now();
    let (mut runs, mut well, mut ended) = (0, 0_u64, 0);
    while began.elapsed() < BUDGET || runs < 3 {
        let run = Run {
            inputs: &inputs,
            outputs: &[],
            folders: &[],
            arguments: &arguments,
            environment: &environment,
            stdin: None,
            streams: None,
            limits: LIMITS,
            deadline: Instant::now(),
            stop: &stop,
            // Clocks stand still: what would wait goes on at once.
            deterministic: true,
        };
        let mut context = Context::new(&run, &arena).unwrap();
        let mut bytes = vec![0; MEMORY];
        for round in 0..2000 {
            if round % 200 == 0 {
                furnish(&mut bytes, &mut chance);
            }
            match call(chance.below(48), &mut chance, &mut context, &mut Memory(&mut bytes)) {
                Ok(()) => well += 1,
                Err(Refusal::Errno(_)) => {}
                Err(Refusal::Over(RunError::OutputTooLarge { .. } | RunError::TooManyItems { .. })) => ended += 1,
                Err(Refusal::Over(other)) => panic!("{other}"),
            }
            assert!(arena.held() <= (1 << 20) + 4096 * 300, "{} bytes are held", arena.held());
        }
        let outputs = layout::collect(&mut context.files, &run, &mut context.stdout);
        for item in outputs.iter().flatten().flat_map(|set| &set.items) {
            assert!(sets::name::check(&item.name).is_ok(), "{item:?}");
        }
        drop((outputs, context));
        assert_eq!(arena.held(), 0);
        runs += 1;
    }
    println!("{runs} runs, {well} calls that did something, {ended} over the limits");
    assert!(well > 1000, "the calls get somewhere");
}
