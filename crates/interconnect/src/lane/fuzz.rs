//! A peer that writes garbage into the region, at random and on purpose, while the end under test reads, writes and
//! waits. That end must come through: no crash, no read out of bounds (messages have lengths the lane allows), no hang
//! (every step is bounded), and a lane of its own with an honest peer loses nothing. `SEED=… cargo test` replays a run.

use super::tests::{Shim, open};
use super::*;
use crate::layout::LINE;
use os::mapping::Mapping;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What each fuzzing test takes, at most.
const BUDGET: Duration = Duration::from_millis(1500);
/// Rounds that are made however slow the machine is.
const ROUNDS_MIN: u64 = 10;
const SPEC: LaneSpec = LaneSpec { ring: 4096, message_max: 20_000 };
/// With a wide ring beside the usual one. Every other round is with this.
const WIDE: LaneSpec = LaneSpec { ring: 64 * 1024, message_max: 20_000 };

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

    /// A number that breaks things: close to a limit, or anything.
    fn wicked(&mut self, near: u32) -> u32 {
        let limits = [0, near, 4096, 20_000, 16, 1 << 31, u32::MAX, near.wrapping_add(4096)];
        match self.below(4) {
            0 => self.next() as u32,
            1 => near.wrapping_add(self.below(8) as u32 * 16),
            _ => limits[self.below(8) as usize].wrapping_add(self.below(5) as u32).wrapping_sub(2),
        }
    }
}

fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| os::monotonic_ns() | 1)
}

/// The hostile peer: its own view of the region.
struct Peer {
    region: Mapping,
    ring: usize,
    chance: Chance,
}

impl Peer {
    fn new(shim: &Shim, spec: LaneSpec, seed: u64) -> Self {
        let bytes = rustix::fs::fstat(&shim.region).unwrap().st_size as usize;
        Self { region: Mapping::shared(&shim.region, bytes).unwrap(), ring: spec.ring, chance: Chance(seed) }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the callers' offsets are aligned and in bounds; the mapping lives as long as `self`.
        unsafe { &*self.region.at(offset).cast() }
    }

    /// A frame where the reader will look for the next one, of a kind that exists or not, its numbers wicked or nearly
    /// right, and a mark that is its length or lies; after it, sometimes, another mark.
    fn frame(&mut self) {
        let wide = layout::wide_bytes(self.ring);
        let (base, ring, tail) = match self.chance.below(2) {
            0 if wide > 0 => (layout::RING + self.ring, wide, layout::WIDE_TAIL),
            _ => (layout::RING, self.ring, layout::TAIL),
        };
        let at = self.word(tail).load(Ordering::Relaxed) & (ring - LINE) as u32;
        let at = at.wrapping_add(self.chance.below(3) as u32 * LINE as u32);
        let len = if self.chance.below(2) == 0 { self.chance.below(600) as u32 } else { self.chance.wicked(at) };
        let (bulk, kind) = (self.chance.wicked(len), self.chance.below(6) as u32);
        let head = if self.chance.below(8) == 0 { self.chance.wicked(len) } else { 0 };
        let mark = if self.chance.below(4) == 0 { self.chance.wicked(len) } else { len.wrapping_add(1) };
        for (i, value) in [(1, head), (2, bulk), (3, kind), (0, mark)] {
            self.word(base + (at as usize + i * 4) % ring).store(value, Ordering::Release);
        }
        if self.chance.below(4) == 0 {
            let next = at.wrapping_add(16).wrapping_add(len % 4096).next_multiple_of(LINE as u32) as usize % ring;
            let mark = self.chance.wicked(len);
            self.word(base + next).store(mark, Ordering::Release);
        }
    }

    fn blow(&mut self) {
        let words = [
            layout::CALLS,
            layout::TAIL,
            layout::READER_SLEEPING,
            layout::WRITER_SLEEPING,
            layout::RELEASED,
            layout::HAND,
            layout::NOTICE,
            layout::WIDE_TAIL,
            layout::CALLED_AT,
            layout::CALLED_AT + 4,
            layout::CALLED_ON,
            0,
            8,
            16,
        ];
        match self.chance.below(6) {
            0 => {
                let at = self.chance.below(self.region.len() as u64) as usize;
                // SAFETY: in bounds. Others look at the byte meanwhile, which is what is tested.
                unsafe { self.region.at(at).write_volatile(self.chance.next() as u8) };
            }
            1 | 2 => {
                let at = words[self.chance.below(words.len() as u64) as usize];
                let near = self.word(at).load(Ordering::Relaxed);
                let value = self.chance.wicked(near);
                self.word(at).store(value, Ordering::Relaxed);
            }
            3 => {
                let at = words[self.chance.below(2) as usize];
                crate::doorbell::wake_all(self.word(at));
            }
            _ => self.frame(),
        }
    }
}

/// Runs `victim` again and again, on lanes whose other end is a peer gone mad, until the time is over.
fn under_fire(victim: impl Fn(Writer, Reader, &mut Chance) + Sync) {
    let first = seed();
    let end = Instant::now() + BUDGET;
    let mut round = 0;
    while round < ROUNDS_MIN || Instant::now() < end {
        let seed = first.wrapping_add(round).max(1);
        let spec = if seed % 2 == 0 { SPEC } else { WIDE };
        let (writer, reader, shim) = open(spec);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let peer = scope.spawn(|| {
                let mut peer = Peer::new(&shim, spec, seed);
                while !done.load(Ordering::Relaxed) {
                    peer.blow();
                }
            });
            let mut chance = Chance(seed ^ 0x9e37_79b9_7f4a_7c15);
            let run = std::panic::AssertUnwindSafe(|| victim(writer, reader, &mut chance));
            let result = std::panic::catch_unwind(run);
            done.store(true, Ordering::Relaxed);
            peer.join().unwrap();
            if let Err(panic) = result {
                eprintln!("SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        });
        round += 1;
    }
}

fn very_soon(chance: &mut Chance) -> Option<Instant> {
    Some(Instant::now() + Duration::from_micros(chance.below(200)))
}

#[test]
fn a_reader_comes_through_whatever_its_writer_does() {
    under_fire(|_writer, mut reader, chance| {
        let mut message = Vec::new();
        for _ in 0..400 {
            match reader.try_read(&mut message) {
                Ok(true) => assert!(message.len() <= SPEC.message_max, "a message of {} bytes", message.len()),
                Ok(false) if chance.below(3) == 0 => drop((reader.arm(), reader.disarm())),
                Ok(false) => reader.wait(Duration::from_micros(chance.below(3)), very_soon(chance), reader.news()),
                Err(error) => {
                    assert_eq!(error, ReadError::Broken);
                    assert_eq!(reader.try_read(&mut message), Err(ReadError::Broken));
                    return;
                }
            }
        }
    });
}

#[test]
fn a_writer_comes_through_whatever_its_reader_does() {
    under_fire(|mut writer, _reader, chance| {
        let text = vec![5; SPEC.message_max + 1];
        for _ in 0..400 {
            let lens = [0, 1, 16, 500, 513, 2048, 2049, 4096, 20_000, 20_001];
            let parts = [&text[..lens[chance.below(10) as usize]]];
            let result = match chance.below(3) {
                0 => writer.try_write(&parts),
                1 => writer.write(&parts, Duration::from_micros(chance.below(3)), very_soon(chance)),
                _ => writer.stage(&parts).and_then(|()| writer.flush()),
            };
            match result {
                Ok(()) | Err(WriteError::TooLong { len: 20_001, .. }) => {}
                Err(WriteError::Full) => drop((writer.arm(), writer.disarm())),
                Err(error) => return assert_eq!(error, WriteError::Broken),
            }
        }
    });
}

/// Both ends in one process, each of an honest lane and of one under fire: what is honest arrives, all of it, in order.
#[test]
fn an_honest_lane_beside_a_hostile_one_loses_nothing() {
    under_fire(|_writer, mut hostile, chance| {
        let (mut writer, mut reader, _shim) = open(SPEC);
        let mut message = Vec::new();
        let (mut sent, mut read) = (0u32, 0u32);
        for _ in 0..300 {
            let _ = hostile.try_read(&mut message);
            let text = sent.to_ne_bytes().repeat(1 + chance.below(900) as usize);
            sent += u32::from(writer.try_write(&[&text]).is_ok());
            let _ = hostile.try_read(&mut message);
            if reader.try_read(&mut message).unwrap() {
                assert!(message.chunks(4).all(|word| word == read.to_ne_bytes()), "message {read} is changed");
                read += 1;
            }
        }
        while reader.try_read(&mut message).unwrap() {
            read += 1;
        }
        assert_eq!(read, sent);
    });
}
