//! Streams between two sides in one process: order, marks, room, records that come back.

use super::*;
use crate::layout::{CONNECTIONS, LOCAL, RECORD, SEGMENTS};
use crate::notice::Told;
use crate::records::Quota;
use crate::region::{OpenError, Pair, Pod, Receiver, Sender};
use interconnect::lane::Word;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub fn pair() -> (Pair, Pair, Arc<Quota>) {
    let quota = Quota::own().unwrap();
    let (a, file) = Pair::create(&quota).unwrap();
    let b = Pair::join(&file, &quota).unwrap();
    (a, b, quota)
}

fn ends() -> (Sender, Receiver, (Pair, Pair, Arc<Quota>)) {
    let (a, b, quota) = pair();
    let (sender, receiver) = (a.open(0).unwrap().0, b.open(0).unwrap().1);
    (sender, receiver, (a, b, quota))
}

/// A quota, its limit (0) and whether it is frozen.
fn told() -> (Arc<Quota>, Word, Word) {
    let told = Told { limit: Word::own(), frozen: Word::own(), asleep: Word::own() };
    let (limit, frozen) = (told.limit.clone(), told.frozen.clone());
    (Quota::new(told, None).unwrap(), limit, frozen)
}

fn write(sender: &mut Sender, bytes: &[u8]) -> usize {
    sender.write(&[IoSlice::new(bytes)]).unwrap()
}

fn read(receiver: &mut Receiver, bytes: &mut [u8]) -> usize {
    receiver.read(&mut [IoSliceMut::new(bytes)], false).unwrap()
}

/// The byte at a position of a stream that repeats late enough to show what is out of place.
fn byte(position: u64) -> u8 {
    (position % 251) as u8 ^ (position / 251 % 241) as u8
}

fn text(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(byte).collect()
}

#[test]
fn what_is_sent_is_received_in_order() {
    let (mut sender, mut receiver, (_a, _b, quota)) = ends();
    let (mut chance, mut buffer) = (0x9e37_79b9_7f4a_7c15u64, vec![0; 300_000]);
    for _ in 0..400 {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let longest = [16, 3000, 70_000, 300_000][(chance >> 62) as usize];
        let len = (chance >> 20) as usize % longest;
        let bytes = text(sender.sent(), len);
        let (one, two) = bytes.split_at(len / 3);
        sender.write(&[IoSlice::new(one), IoSlice::new(&[]), IoSlice::new(two)]).unwrap();
        let len = (chance >> 40) as usize % longest;
        let (before, peek) = (receiver.received(), chance & 1 << 33 != 0);
        let got = receiver.read(&mut [IoSliceMut::new(&mut buffer[..len])], peek).unwrap();
        assert_eq!(buffer[..got], text(before, got));
        assert_eq!(receiver.received(), before + if peek { 0 } else { got as u64 });
    }
    while read(&mut receiver, &mut buffer) > 0 {}
    assert_eq!(receiver.received(), sender.sent());
    assert!(sender.is_received().unwrap());
    assert_eq!(quota.taken(), 0);
}

#[test]
fn a_full_stream_says_so_and_goes_on() {
    let (mut sender, mut receiver, _pair) = ends();
    let bytes = vec![1; 100_000];
    let mut sent = 0;
    loop {
        let took = write(&mut sender, &bytes);
        if took == 0 {
            break;
        }
        sent += took;
    }
    assert!(sent > LOCAL + (SEGMENTS - 4) * RECORD, "{sent}");
    assert!(!sender.has_room().unwrap());
    assert_eq!(receiver.unread(), Ok(sent));
    let mut buffer = vec![0; 100_000];
    assert_eq!(read(&mut receiver, &mut buffer), 100_000);
    assert!(sender.has_room().unwrap());
    assert!(write(&mut sender, &bytes) > 0);
}

/// Short writes, whose bytes lie beside the sender's words as well: whole, in parts, looked at first, several at a time.
#[test]
fn short_writes_are_received_however_they_are_read() {
    let (mut sender, mut receiver, _pair) = ends();
    let mut buffer = [0; 64];
    for turn in 0..20_000u64 {
        let (len, at) = (turn as usize % 43 + 1, sender.sent());
        assert_eq!(write(&mut sender, &text(at, len)), len);
        match turn % 5 {
            0 => {
                let got = receiver.read(&mut [IoSliceMut::new(&mut buffer)], true).unwrap();
                assert_eq!(buffer[..got], text(at, len));
            }
            1 => {
                let next = sender.sent();
                write(&mut sender, &text(next, 3));
            }
            2 => {
                let (one, two) = buffer.split_at_mut(1);
                let got = receiver.read(&mut [IoSliceMut::new(one), IoSliceMut::new(&mut two[..1])], false).unwrap();
                assert_eq!(buffer[..got], text(at, len.min(2)));
            }
            3 => assert_eq!(sender.mark(4), Ok(true)),
            _ => {}
        }
        while receiver.received() < sender.sent() {
            let before = receiver.received();
            let got = read(&mut receiver, &mut buffer);
            assert_eq!(buffer[..got], text(before, got));
        }
        receiver.pass();
    }
}

/// Who answers nothing for long is sent to through records, in turns, and again through the local one when he does.
#[test]
fn who_only_listens_is_sent_to_through_records() {
    let (mut sender, mut receiver, (a, ..)) = ends();
    let mut buffer = vec![0; LOCAL];
    let mut rounds = 0;
    // Not if this thread is kept from its processor, which looks as if the sender had paused.
    while a.store().taken() == 0 {
        let bytes = text(sender.sent(), 40 * 2048);
        let mut got = vec![0; bytes.len()];
        for (turn, bytes) in bytes.chunks(2048).enumerate() {
            write(&mut sender, bytes);
            if turn > 1 {
                assert_eq!(read(&mut receiver, &mut got[(turn - 2) * 2048..][..2048]), 2048);
            }
        }
        assert_eq!(got[..38 * 2048], bytes[..38 * 2048]);
        let left = read(&mut receiver, &mut got[38 * 2048..]);
        assert!(left == 2 * 2048 && got == bytes);
        rounds += 1;
        assert!(rounds < 1000, "no record was taken");
    }
    while read(&mut receiver, &mut buffer) > 0 {}
    sender.answered();
    // What is left of the last record is used, then it is seen that all was received.
    for _ in 0..RECORD / 2048 {
        write(&mut sender, &[1; 2048]);
        while read(&mut receiver, &mut buffer) > 0 {}
    }
    assert!(sender.is_received().unwrap());
    assert_eq!(a.store().taken(), 0);
}

/// Who sends again after a while finds everything received, and stays in the first pages of the local record.
#[test]
fn who_listens_at_times_is_sent_to_through_the_same_pages() {
    let (mut sender, mut receiver, (a, ..)) = ends();
    let mut buffer = vec![0; 8192];
    for turn in 0..100u64 {
        let since = std::time::Instant::now();
        assert_eq!(write(&mut sender, &text(turn * 8192, 8192)), 8192);
        assert_eq!(read(&mut receiver, &mut buffer), 8192);
        assert_eq!(buffer, text(turn * 8192, 8192));
        // What is waited for is the processor's clock, which no one else moves.
        while cfg!(target_arch = "x86_64") && since.elapsed() < std::time::Duration::from_micros(500) {
            std::hint::spin_loop();
        }
    }
    assert!(a.store().taken() == 0 || cfg!(not(target_arch = "x86_64")));
}

/// Where much was sent and not received, streams that have more of that than others are held back, until it was received.
#[test]
fn streams_wait_for_receivers_where_much_is_on_its_way() {
    let (a, b, quota) = pair();
    let mut ends: Vec<_> = (0..2000).map(|at| (a.open(at).unwrap().0, b.open(at).unwrap().1)).collect();
    let paced = |sender: &mut Sender, bytes: &[u8]| sender.write_paced(&[IoSlice::new(bytes)]).unwrap();
    let mut buffer = vec![0; 8 * LOCAL];
    // One stream alone may have all that fits.
    let (first, first_receiver) = &mut ends[0];
    while paced(first, &text(0, LOCAL)) > 0 {}
    assert!(!first.is_far() && first.unreceived() > (SEGMENTS as u64 - 4) * RECORD as u64);
    while read(first_receiver, &mut buffer) > 0 {}
    // Of many, each has one message on its way, whatever it is given.
    for round in 0..4 {
        for (at, (sender, receiver)) in ends.iter_mut().enumerate() {
            let (before, is_held) = (sender.sent(), sender.is_far());
            let sent = paced(sender, &text(before, 4096));
            assert_eq!(sent == 0, is_held, "stream {at}, round {round}");
            if is_held {
                assert!(round > 0);
                assert!(write(sender, &text(before, 4096)) == 4096, "who will not wait need not");
                while read(receiver, &mut buffer) > 0 {}
                assert!(!sender.is_far() && paced(sender, &text(sender.sent(), 4096)) == 4096);
            }
        }
    }
    assert!(quota.ahead().0 > super::sender::AHEAD);
    // In the middle of a write, a little is on its way.
    let (sender, receiver) = &mut ends[1999];
    while read(receiver, &mut buffer) > 0 {}
    let sent = paced(sender, &vec![1; 8 * LOCAL]);
    assert!((LOCAL..4 * LOCAL).contains(&sent) && sender.is_far(), "{sent}");
    for (_, receiver) in &mut ends {
        while read(receiver, &mut buffer) > 0 {}
    }
    drop(ends);
    assert_eq!(quota.ahead(), (0, 0));
}

#[test]
fn beyond_the_quota_a_stream_has_its_local_record() {
    let (quota, limit, _) = told();
    let (a, file) = Pair::create(&quota).unwrap();
    let b = Pair::join(&file, &quota).unwrap();
    let (mut sender, mut receiver) = (a.open(0).unwrap().0, b.open(0).unwrap().1);
    let bytes = vec![2; 10 * RECORD];
    assert_eq!(write(&mut sender, &bytes), LOCAL);
    assert!(a.store().refused() > 0);
    limit.store(3, Ordering::Relaxed);
    assert_eq!(write(&mut sender, &bytes), 3 * RECORD);
    assert_eq!(quota.taken(), 3);
    let mut buffer = vec![0; bytes.len()];
    assert_eq!(read(&mut receiver, &mut buffer), LOCAL + 3 * RECORD);
    assert!(sender.is_received().unwrap());
    assert_eq!(quota.taken(), 0);
}

#[test]
fn no_record_is_written_while_they_are_frozen() {
    let (quota, limit, frozen) = told();
    limit.store(10, Ordering::Relaxed);
    let (a, file) = Pair::create(&quota).unwrap();
    let b = Pair::join(&file, &quota).unwrap();
    let (mut sender, mut receiver) = (a.open(0).unwrap().0, b.open(0).unwrap().1);
    let half = LOCAL / 2;
    write(&mut sender, &text(0, half));
    write(&mut sender, &text(half as u64, half));
    write(&mut sender, &text(LOCAL as u64, 100));
    frozen.store(1, Ordering::Relaxed);
    assert_eq!(write(&mut sender, &[1]), 0);
    let mut buffer = vec![0; 2 * LOCAL];
    assert_eq!(read(&mut receiver, &mut buffer), LOCAL + 100);
    write(&mut sender, &text(LOCAL as u64 + 100, 200));
    assert_eq!(read(&mut receiver, &mut buffer[LOCAL + 100..]), 200);
    assert_eq!(buffer[..LOCAL + 300], text(0, LOCAL + 300));
}

#[test]
fn marks_stand_where_they_were_put() {
    let (mut sender, mut receiver, _pair) = ends();
    write(&mut sender, b"one");
    assert_eq!(sender.mark(7), Ok(true));
    assert_eq!(sender.mark(8), Ok(true));
    write(&mut sender, b"two");
    assert_eq!(receiver.mark(), Ok(None));
    let mut buffer = [0; 16];
    assert_eq!(read(&mut receiver, &mut buffer), 3);
    assert_eq!(read(&mut receiver, &mut buffer), 0);
    assert_eq!(receiver.mark(), Ok(Some(7)));
    receiver.pass();
    assert_eq!(receiver.mark(), Ok(Some(8)));
    assert_eq!(read(&mut receiver, &mut buffer), 0);
    receiver.pass();
    assert_eq!(read(&mut receiver, &mut buffer), 3);
    assert_eq!(&buffer[..3], b"two");
    assert_eq!((sender.sent(), receiver.received()), (6, 6));
}

#[test]
fn a_number_serves_one_connection_after_another() {
    let (a, b, quota) = pair();
    for round in 0..300u64 {
        assert!(a.is_quiet(5));
        let ((mut sender, back), (answer, mut receiver)) = (a.open(5).unwrap(), b.open(5).unwrap());
        assert!(!a.is_quiet(5) && !b.is_quiet(5));
        let bytes = text(round, 3 * LOCAL);
        assert_eq!(write(&mut sender, &bytes), bytes.len());
        let mut buffer = vec![0; round as usize * 331 % (4 * LOCAL)];
        let got = read(&mut receiver, &mut buffer);
        assert_eq!(buffer[..got], bytes[..got]);
        if round % 2 == 0 {
            drop((sender, back, answer, receiver));
        } else {
            drop((receiver, answer, back, sender));
        }
    }
    // What was never received does not stay taken.
    let (mut sender, _) = a.open(5).unwrap();
    write(&mut sender, &vec![0; LOCAL + RECORD]);
    assert!(quota.taken() < 64, "{} records are taken", quota.taken());
}

#[test]
fn what_was_not_received_can_be_had_again() {
    let (mut sender, mut receiver, _pair) = ends();
    let bytes = text(0, 3 * LOCAL);
    let parts = [IoSlice::new(b"none"), IoSlice::new(&bytes[..10]), IoSlice::new(&bytes[10..])];
    assert_eq!(sender.write_from(&parts, 4), Ok(bytes.len()));
    assert_eq!(sender.mark(1), Ok(true));
    assert_eq!(sender.write_from(&parts, 8 + bytes.len()), Ok(0));
    assert_eq!(write(&mut sender, &text(bytes.len() as u64, 100)), 100);
    let mut buffer = vec![0; LOCAL + 7];
    assert_eq!(read(&mut receiver, &mut buffer), LOCAL + 7);
    assert!(!sender.is_received().unwrap());
    let mut back = vec![0; 3 * LOCAL];
    assert_eq!(sender.take_back(5, &mut back), 2 * LOCAL - 12 + 100);
    assert_eq!(back[..2 * LOCAL + 88], text(LOCAL as u64 + 12, 2 * LOCAL + 88));
    assert_eq!(sender.take_back(2 * LOCAL, &mut back[..7]), 7);
    assert_eq!(back[..7], text(3 * LOCAL as u64 + 7, 7));
}

#[test]
fn who_sends_to_nobody_is_told() {
    let (mut sender, receiver, (_a, _b, quota)) = ends();
    write(&mut sender, &vec![0; 4 * LOCAL]);
    drop(receiver);
    assert_eq!(sender.has_room(), Err(Fault::Gone));
    assert_eq!(sender.write(&[IoSlice::new(b"x")]), Err(Fault::Gone));
    drop(sender);
    assert_eq!(quota.taken(), 0);
}

#[test]
fn what_a_sender_left_is_received() {
    let (mut sender, mut receiver, (a, _b, quota)) = ends();
    let bytes = text(0, 5 * LOCAL);
    write(&mut sender, &bytes);
    drop(sender);
    let mut buffer = vec![0; bytes.len() + 1];
    assert_eq!(read(&mut receiver, &mut buffer), bytes.len());
    assert_eq!(buffer[..bytes.len()], bytes);
    assert!(quota.taken() > 0);
    drop(receiver);
    drop(a);
}

#[test]
fn connections_have_one_owner() {
    let (a, _b, _quota) = pair();
    let open = a.open(1).unwrap();
    assert_eq!(a.open(1).err(), Some(OpenError::Busy(1)));
    drop(open);
    a.open(1).unwrap();
    assert_eq!(a.open(CONNECTIONS).err(), Some(OpenError::Unknown(CONNECTIONS)));
}

#[test]
fn only_a_pair_is_joined() {
    let quota = Quota::own().unwrap();
    let other = os::memfd::sealed("test", 4096).unwrap();
    assert!(Pair::join(&other, &quota).is_err());
    let blank = os::memfd::sealed("test", crate::layout::whole(2) as u64).unwrap();
    assert!(Pair::join(&blank, &quota).is_err());
}

#[test]
fn a_pod_has_connections_between_any_two() {
    let quota = Quota::own().unwrap();
    let (a, file) = Pod::create(&quota).unwrap();
    let (b, c) = (Pod::join(&file, 1, &quota).unwrap(), Pod::join(&file, 2, &quota).unwrap());
    assert!(Pod::join(&file, 16, &quota).is_err() && Pair::join(&file, &quota).is_err());
    let pairs = [(&a, 0, &b, 1), (&b, 1, &c, 2), (&c, 2, &a, 0)];
    let mut connections = Vec::new();
    for (connection, (one, first, two, second)) in pairs.into_iter().enumerate() {
        let (sender, _back) = one.open(connection, 0, second).unwrap();
        let (_answer, receiver) = two.open(connection, 1, first).unwrap();
        assert!(!two.is_quiet(connection));
        connections.push((sender, receiver));
    }
    for (at, (sender, _)) in connections.iter_mut().enumerate() {
        write(sender, &text(at as u64, 3 * LOCAL));
    }
    assert!(a.store().taken() > 0 && b.store().taken() > 0 && c.store().taken() > 0);
    for (at, (_, receiver)) in connections.iter_mut().enumerate() {
        let mut buffer = vec![0; 3 * LOCAL];
        assert_eq!(read(receiver, &mut buffer), 3 * LOCAL);
        assert_eq!(buffer, text(at as u64, 3 * LOCAL));
    }
    assert!(a.open(9, 2, 1).is_err() && a.open(9, 0, 16).is_err());
}

#[test]
fn what_was_sent_before_a_store_ended_is_not_overwritten_by_the_next() {
    let quota = Quota::own().unwrap();
    let (a, file) = Pod::create(&quota).unwrap();
    let b = Pod::join(&file, 1, &quota).unwrap();
    let (mut sender, back) = a.open(0, 0, 1).unwrap();
    let (_answer, mut receiver) = b.open(0, 1, 0).unwrap();
    let first = text(1, 12 * LOCAL);
    write(&mut sender, &first);
    // All that this process has with the other is closed, as far as it is concerned.
    drop((sender, back, a));
    for turn in 2..5 {
        let a = Pod::join(&file, 0, &quota).unwrap();
        let (mut sender, _back) = a.open(turn, 0, 1).unwrap();
        let (_answer, mut receiver) = b.open(turn, 1, 0).unwrap();
        let next = text(turn as u64, 12 * LOCAL);
        write(&mut sender, &next);
        let mut buffer = vec![0; 12 * LOCAL];
        assert_eq!(read(&mut receiver, &mut buffer), 12 * LOCAL);
        assert_eq!(buffer, next);
    }
    let mut buffer = vec![0; 12 * LOCAL];
    assert_eq!(read(&mut receiver, &mut buffer), 12 * LOCAL);
    assert_eq!(buffer, first);
    // What was received meanwhile is used again.
    let a = Pod::join(&file, 0, &quota).unwrap();
    let (mut sender, _back) = a.open(9, 0, 1).unwrap();
    write(&mut sender, &text(9, 4 * LOCAL));
    assert!(a.store().taken() > 0);
}
