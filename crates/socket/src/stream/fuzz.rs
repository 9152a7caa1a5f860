//! A peer that writes garbage into the memory of a pair, at random and on purpose, while the end under test sends and
//! receives. That end must come through: no crash, no byte from outside the pair's memory, no hang. The same cases in every
//! run, others with `SEED=…`.

use super::tests::pair;
use crate::layout::{self, GONE, LOCAL, RECORDS, SEGMENTS, SenderLine};
use crate::records::Quota;
use crate::region::Pair;
use os::mapping::Mapping;
use std::io::{IoSlice, IoSliceMut};
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Where words of a way are.
const SEGMENTS_AT: usize = offset_of!(SenderLine, segments);
const ECHO_AT: usize = offset_of!(SenderLine, echo);
const BASE_AT: usize = offset_of!(SenderLine, base);
const LITTLE: [usize; 5] = [
    SEGMENTS_AT,
    offset_of!(SenderLine, hand),
    offset_of!(SenderLine, base_segments),
    offset_of!(SenderLine, open),
    136,
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

    /// A number that breaks things: close to `near` or to a limit, or anything.
    fn wicked(&mut self, near: u64) -> u64 {
        let limits = [0, near, LOCAL as u64, layout::MOST, GONE, u64::MAX, u64::from(u32::MAX), near | GONE];
        match self.below(4) {
            0 => self.next(),
            1 => near.wrapping_add(self.below(100_000)),
            _ => limits[self.below(8) as usize].wrapping_add(self.below(5)).wrapping_sub(2),
        }
    }
}

fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(0x1d87_2b41_7e6f_5a93)
}

/// The hostile peer: its own view of the memory, and its side's honest ends to begin from.
struct Peer {
    memory: Mapping,
    chance: Chance,
}

impl Peer {
    fn long(&self, at: usize) -> &AtomicU64 {
        // SAFETY: the callers' offsets are aligned and in bounds; the mapping lives as long as `self`.
        unsafe { &*self.memory.at(at).cast() }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as in `long`.
        unsafe { &*self.memory.at(at).cast() }
    }

    /// A part that begins near where the receiver is, and lies in a place that exists or not.
    fn part(&mut self, way: usize) {
        let tail = self.long(way + 128).load(Ordering::Relaxed);
        let taken = self.word(way + SEGMENTS_AT).load(Ordering::Relaxed);
        let slot = taken.wrapping_add(self.chance.below(4) as u32) as usize % SEGMENTS;
        let start =
            if self.chance.below(2) == 0 { tail.wrapping_add(self.chance.below(3)) } else { self.chance.wicked(tail) };
        let place = match self.chance.below(4) {
            0 => layout::LOCAL_AT | self.chance.below(2 * LOCAL as u64) as u32,
            1 => self.chance.below(2 * RECORDS as u64) as u32,
            2 => layout::MARK | self.chance.below(300) as u32,
            _ => self.chance.next() as u32,
        };
        self.long(way + 512 + slot * 8).store(u64::from(place) << 32 | (start & 0xffff_ffff), Ordering::Relaxed);
        let told = taken.wrapping_add(self.chance.below(3) as u32);
        self.word(way + SEGMENTS_AT).store(told, Ordering::Release);
    }

    fn blow(&mut self) {
        let way = layout::way(0, self.chance.below(2) as usize);
        match self.chance.below(8) {
            0 => {
                let at = self.chance.below(layout::WAY as u64) as usize;
                // SAFETY: in bounds. Others look at the byte meanwhile, which is what is tested.
                unsafe { self.memory.at(way + at).write_volatile(self.chance.next() as u8) };
            }
            1 => {
                let at = self.chance.below(layout::WAYS as u64) as usize;
                // SAFETY: as above.
                unsafe { self.memory.at(at).write_volatile(self.chance.next() as u8) };
            }
            // Heads, bases, tails: close to the truth, and not.
            2 | 3 => {
                let at = way + [0, BASE_AT, ECHO_AT, 128][self.chance.below(4) as usize];
                let near = self.long(at).load(Ordering::Relaxed);
                let value = self.chance.wicked(near);
                self.long(at).store(value, Ordering::Relaxed);
            }
            4 => {
                let value = self.long(way).load(Ordering::Relaxed).wrapping_add(self.chance.below(40_000));
                self.long(way).store(value, Ordering::Release);
            }
            5 => {
                let at = way + LITTLE[self.chance.below(5) as usize];
                let value = self.chance.wicked(u64::from(self.word(at).load(Ordering::Relaxed)));
                self.word(at).store(value as u32, Ordering::Relaxed);
            }
            _ => self.part(way),
        }
    }
}

fn attacked(seed: u64) -> (Pair, Peer) {
    let (honest, file) = Pair::create(&Quota::own().unwrap()).unwrap();
    (honest, Peer { memory: Mapping::shared(&file, layout::whole(2)).unwrap(), chance: Chance(seed.max(1)) })
}

/// Connections of a victim, one after the other as each breaks: what it does is bounded by what it asks for, whatever happens
/// to it meanwhile. How many there were.
fn victim(pair: &Pair, chance: &mut Chance, steps: u64, mut meanwhile: impl FnMut()) -> u64 {
    let (bytes, mut buffer) = (vec![5; 70_000], vec![0; 70_000]);
    let (mut connections, mut ends) = (1, pair.open(0).unwrap());
    for _ in 0..steps {
        meanwhile();
        let (sender, receiver) = &mut ends;
        let len = chance.below([2, 100, 5_000, 70_000][chance.0 as usize % 4]) as usize;
        let result = match chance.below(8) {
            0 | 1 => sender.write(&[IoSlice::new(&bytes[..len])]),
            2 => sender.mark(1).and(sender.is_received()).and(sender.has_room()).map(|_| 0),
            3 => receiver.mark().and(receiver.unread()).map(|_| 0),
            4 => {
                receiver.pass();
                Ok(0)
            }
            peek => receiver.read(&mut [IoSliceMut::new(&mut buffer[..len])], peek == 5),
        };
        match result {
            Ok(done) => assert!(done <= len, "{done} of {len} bytes"),
            Err(_) => {
                drop(ends);
                ends = pair.open(0).unwrap();
                connections += 1;
            }
        }
    }
    connections
}

#[test]
fn an_end_comes_through_whatever_its_peer_has_written() {
    let mut connections = 0;
    for round in 0..100 {
        let seed = seed().wrapping_add(round);
        let (pair, mut peer) = attacked(seed);
        let mut chance = Chance(seed ^ 0x9e37_79b9_7f4a_7c15);
        connections += victim(&pair, &mut chance, 1000, || peer.blow());
    }
    assert!(connections > 1000, "{connections} connections: the peer breaks too few to be one");
}

#[test]
fn an_end_comes_through_whatever_its_peer_is_writing() {
    for round in 0..8 {
        let seed = seed().wrapping_add(round);
        let (pair, mut peer) = attacked(seed);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let peer = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    peer.blow();
                }
            });
            for connection in 0..20 {
                let mut chance = Chance(seed ^ connection | 1);
                let run = std::panic::AssertUnwindSafe(|| victim(&pair, &mut chance, 500, || ()));
                if let Err(panic) = std::panic::catch_unwind(run) {
                    done.store(true, Ordering::Relaxed);
                    std::panic::resume_unwind(panic);
                }
            }
            done.store(true, Ordering::Relaxed);
            peer.join().unwrap();
        });
    }
}

/// What a hostile peer does to its pair, it does not to another.
#[test]
fn another_pair_is_untouched() {
    let (_victim, mut peer) = attacked(seed());
    let (a, b, _quota) = pair();
    let ((mut sender, _), (_, mut receiver)) = (a.open(0).unwrap(), b.open(0).unwrap());
    let mut buffer = [0; 100];
    for round in 0..1000u32 {
        peer.blow();
        let bytes = [round as u8; 100];
        assert_eq!(sender.write(&[IoSlice::new(&bytes)]), Ok(100));
        assert_eq!(receiver.read(&mut [IoSliceMut::new(&mut buffer)], false), Ok(100));
        assert_eq!(buffer, bytes);
    }
}
