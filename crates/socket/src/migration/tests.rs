//! Two ends and a queue that plays TCP: no byte lost, doubled or out of order, however often the stream changes its way.

use super::*;
use crate::memory;
use std::collections::VecDeque;

struct Rig {
    out: Outgoing,
    inc: Incoming,
    tcp: VecDeque<u8>,
    sent: u64,
    received: u64,
}

/// The byte at a position of the stream.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9) >> 7) as u8
}

impl Rig {
    fn new() -> Self {
        let file = memory::create().unwrap();
        let (a, b) = (Memory::map(&file, 0).unwrap(), Memory::map(&file, 1).unwrap());
        Self { out: Outgoing::new(a, 0), inc: Incoming::new(b, 0), tcp: VecDeque::new(), sent: 0, received: 0 }
    }

    fn send(&mut self, len: usize) {
        let bytes: Vec<u8> = (0..len as u64).map(|i| byte(self.sent + i)).collect();
        // SAFETY: a slice of this frame.
        let put = unsafe { self.out.put(&[Part::of(&bytes)], 0) };
        if put < len {
            self.out.sink();
            self.out.fly();
            self.tcp.extend(&bytes[put..]);
            self.out.land(len - put);
        }
        self.sent += len as u64;
        if self.out.in_memory() && self.out.owes_bell() {
            self.tcp.push_back(0xBE);
            self.out.ring();
        }
    }

    /// What a reader with `room` bytes gets; bells are stripped as they come.
    fn receive(&mut self, room: usize) -> usize {
        let mut bytes = vec![0; room];
        let there = self.tcp.len() as u64;
        let got = match self.inc.look().unwrap() {
            Stretch::Memory { ready: 0, .. } => {
                let bells = self.inc.bells().min(there);
                self.tcp.drain(..bells as usize).for_each(|bell| assert_eq!(bell, 0xBE));
                self.inc.took(bells);
                self.inc.wake();
                0
            }
            // SAFETY: a slice of this frame.
            Stretch::Memory { ready, .. } => unsafe { self.inc.take(ready, &[Part::into(&mut bytes)], 0, false) },
            Stretch::Tcp { left } => {
                let take = left.unwrap_or(u64::MAX).min(there).min(room as u64) as usize;
                self.tcp.drain(..take).zip(&mut bytes).for_each(|(from, to)| *to = from);
                self.inc.took(take as u64);
                take
            }
        };
        for (i, got) in bytes[..got].iter().enumerate() {
            assert_eq!(*got, byte(self.received + i as u64), "at {}", self.received + i as u64);
        }
        self.received += got as u64;
        got
    }
}

#[test]
fn a_stream_changes_its_way_any_number_of_times() {
    let (mut rig, mut state) = (Rig::new(), 7u64);
    let mut turns = 0;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (what, size) = (state >> 60, (state >> 20) as usize % 9_000 + 1);
        match what {
            0..=6 => rig.send(size),
            7 => rig.out.sink(),
            8 | 9 => turns += u32::from(rig.out.rise()),
            10 => rig.inc.nap(),
            _ => {
                rig.receive(size);
            }
        }
    }
    while rig.received < rig.sent {
        rig.receive(4096);
    }
    assert!(turns > 100, "{turns} turns");
}

#[test]
fn what_was_not_taken_goes_over_tcp() {
    let mut rig = Rig::new();
    assert!(rig.out.rise());
    rig.send(1000);
    while rig.receive(300) == 0 {}
    rig.inc.recall();
    let (from, left) = rig.out.withdraw().unwrap();
    assert_eq!(left, 700);
    let mut back = vec![0; left];
    rig.out.memory.take_back(from, &mut back);
    rig.tcp.extend(back);
    while rig.received < 1000 {
        rig.receive(4096);
    }
    assert!(!rig.out.rise() && rig.out.withdraw().is_none());
}

/// The receiver has not looked since the sender ended its stretch over TCP.
#[test]
fn what_lies_behind_an_end_that_nobody_has_seen_is_there() {
    let mut rig = Rig::new();
    rig.send(10);
    while rig.receive(10) > 0 {}
    assert!(!rig.inc.has_bytes());
    rig.inc.wake();
    assert!(rig.out.rise());
    rig.send(10);
    assert!(rig.inc.has_bytes());
}

#[test]
fn a_bell_for_each_nap() {
    let mut rig = Rig::new();
    assert!(rig.out.rise());
    assert!(rig.out.owes_bell() && !rig.out.owes_bell());
    rig.inc.wake();
    assert!(!rig.out.owes_bell());
    rig.inc.nap();
    assert!(rig.out.owes_bell() && !rig.out.owes_bell());
}

/// Garbage in every word: an error, or bytes, but neither a panic nor an end without one.
#[test]
fn a_peer_that_lies_breaks_its_own_connection() {
    let mut state = 11u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if state >> 63 == 0 { state >> 33 } else { (state >> 33) % (2 * RING as u64) }
    };
    let mut broken = 0;
    for _ in 0..5_000 {
        let mut rig = Rig::new();
        let (liar, words) = (rig.out.memory, rig.inc.memory);
        for turn in &liar.sender(true).turns {
            turn.end.store(next(), Relaxed);
            turn.tcp.store(next(), Relaxed);
        }
        liar.sender(true).tail.store(next(), Relaxed);
        liar.sender(true).turn.store(next() as u32 % 16, Relaxed);
        words.receiver(false).head.store(next(), Relaxed);
        words.receiver(false).turn.store(next() as u32, Relaxed);
        let mut bytes = [0; 64];
        for _ in 0..20 {
            match rig.inc.look() {
                Ok(Stretch::Memory { ready, .. }) => {
                    // SAFETY: a slice of this frame.
                    unsafe { rig.inc.take(ready, &[Part::into(&mut bytes)], 0, false) };
                }
                Ok(Stretch::Tcp { .. }) => rig.inc.took(next() % 64),
                Err(Broken) => broken += 1,
            }
            rig.out.rise();
            // SAFETY: a slice of this frame.
            unsafe { rig.out.put(&[Part::of(&bytes)], 0) };
        }
        // SAFETY: the rig ends here.
        unsafe { (liar.unmap(), words.unmap()) };
    }
    assert!(broken > 1000, "{broken}");
}
