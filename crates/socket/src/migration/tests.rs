//! Two ends and a queue that plays TCP: no byte lost, doubled or out of order, however often the stream changes its way.

use super::*;
use crate::layout::{RECORD, SEGMENTS};
use crate::records::Quota;
use crate::region::Pair;
use std::collections::VecDeque;

/// A meeting in a pair, in the order in which its ends are to be dropped.
struct Rig {
    out: Outgoing,
    inc: Incoming,
    _others: (Incoming, Outgoing),
    _pairs: (Pair, Pair),
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
        let (one, file) = Pair::create(&Quota::own().unwrap()).unwrap();
        Self::at(one, Pair::join(file, &Quota::own().unwrap()).unwrap(), (5, 5))
    }

    /// The ends of a connection, which know it by these numbers.
    fn at(one: Pair, two: Pair, meetings: (u64, u64)) -> Self {
        // SAFETY: the ends are dropped before the pairs.
        let ((send, receive), (back, forth)) = unsafe { (one.open_kept(7).unwrap(), two.open_kept(7).unwrap()) };
        let (out, inc) = (Outgoing::new(send, meetings.0, 0), Incoming::new(forth, meetings.1, 0));
        let others = (Incoming::new(receive, meetings.0, 0), Outgoing::new(back, meetings.1, 0));
        out.tell();
        inc.tell();
        Self { out, inc, _others: others, _pairs: (one, two), tcp: VecDeque::new(), sent: 0, received: 0 }
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
        if self.out.in_memory() && self.out.owes_bell().is_some() {
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
                rig.receive(2 * size);
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
    assert_eq!(rig.out.withdraw(), Some(700));
    let mut back = vec![0; 700];
    assert_eq!((rig.out.take_back(0, &mut back[..100]), rig.out.take_back(100, &mut back[100..])), (100, 600));
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
    assert!(rig.out.owes_bell().is_some() && rig.out.owes_bell().is_none());
    rig.inc.wake();
    assert!(rig.out.owes_bell().is_none());
    rig.inc.nap();
    assert!(rig.out.owes_bell().is_some() && rig.out.owes_bell().is_none());
}

/// Memory whose last connection was another's: what is left there of it is nobody's.
#[test]
fn those_who_know_it_by_different_numbers_do_not_meet() {
    let (one, file) = Pair::create(&Quota::own().unwrap()).unwrap();
    let mut rig = Rig::at(one, Pair::join(&file, &Quota::own().unwrap()).unwrap(), (5, 5));
    assert!(rig.out.rise());
    rig.send(10);
    let Rig { out, inc, _others: others, _pairs: (one, two), .. } = rig;
    drop((out, inc, others));
    let watched = crate::watch::Watched::new(file.into()).unwrap();
    assert!(!watched.is_free(7, 5, false), "the way back was told to nobody");
    assert!(watched.is_free(7, 5, true));
    let mut rig = Rig::at(one, two, (6, 7));
    assert!(!watched.is_free(7, 5, true));
    assert!(!rig.out.rise());
    assert_eq!(rig.inc.look(), Ok(Stretch::Tcp { left: None }));
}

/// A call of many parts, some of none, through more than the local record, and a peek at the same.
#[test]
fn parts_are_sent_and_received_in_order() {
    let mut rig = Rig::new();
    assert!(rig.out.rise());
    let bytes: Vec<u8> = (0..100_000).map(byte).collect();
    let mut parts: Vec<Part> = bytes.chunks(1009).map(Part::of).collect();
    parts.insert(3, Part { at: std::ptr::null_mut(), len: 0 });
    // SAFETY: slices of this frame.
    assert_eq!(unsafe { rig.out.put(&parts, 9) }, bytes.len() - 9);
    let Ok(Stretch::Memory { ready, then: None }) = rig.inc.look() else { panic!("it is in memory") };
    let mut room = vec![0; 100_000];
    let mut parts: Vec<Part> = room.chunks_mut(333).map(Part::into).collect();
    parts.insert(0, Part { at: std::ptr::null_mut(), len: 0 });
    // SAFETY: as above.
    assert!((1..=ready).contains(&unsafe { rig.inc.take(ready, &parts, 9, true) }));
    // SAFETY: as above.
    assert_eq!(unsafe { rig.inc.take(ready, &parts, 9, false) }, ready);
    assert_eq!(room[9..], bytes[9..]);
}

#[test]
fn what_does_not_fit_is_not_taken() {
    let mut rig = Rig::new();
    assert!(rig.out.rise());
    let bytes = vec![1; 2 * (SEGMENTS + 2) * RECORD];
    // SAFETY: a slice of this frame.
    let put = unsafe { rig.out.put(&[Part::of(&bytes)], 0) };
    assert!(put > RECORD && put <= MOST as usize, "{put}");
    assert_eq!(rig.out.room(), 0);
}

/// Garbage in every word: an error, or bytes, but neither a panic nor an end without one.
#[test]
fn a_peer_that_lies_breaks_its_own_connection() {
    let mut state = 11u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if state >> 63 == 0 { state >> 33 } else { (state >> 33) % (2 * MOST) }
    };
    let mut broken = 0;
    for _ in 0..300 {
        let mut rig = Rig::new();
        let (liar, words) = (rig.out.sender.own_rest(), rig.inc.receiver.own_rest());
        for note in &liar.notes[ENDS..] {
            note.store(next(), Relaxed);
        }
        liar.notes[TURN].store(next() % 8, Relaxed);
        words.notes[TURN].store(next(), Relaxed);
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
            rig.inc.beyond();
            rig.out.rise();
            // SAFETY: a slice of this frame.
            unsafe { rig.out.put(&[Part::of(&bytes)], 0) };
        }
    }
    assert!(broken > 100, "{broken}");
}
