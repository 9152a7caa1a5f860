//! Lanes: messages of every length, ends that sleep, and the shim's hand.

use super::*;
use crate::doorbell::bells;
use os::mapping::Mapping;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the shim has of a lane.
pub struct Shim {
    pub region: OwnedFd,
    reader: Guard,
    writer: Guard,
    hand: Word,
}

impl Shim {
    fn cut(&self, cause: Cause) {
        for end in [&self.reader, &self.writer] {
            cut(&end.cut, &end.news, cause);
        }
    }
}

pub fn open(spec: LaneSpec) -> (Writer, Reader, Shim) {
    let region = create(spec).unwrap();
    let (writer_bell, reader_bell) = bells().unwrap();
    let page = Arc::new(Mapping::shared(os::memfd::sealed("notice", 4096).unwrap(), 4096).unwrap());
    let guard = |at| Guard { cut: Word::new(&page, at), news: Word::new(&page, at + 4) };
    let (reader, writer, hand) = (guard(0), guard(64), Word::new(&page, 128));
    let shim = Shim { region, reader: reader.clone(), writer: writer.clone(), hand: hand.clone() };
    (
        Writer::attach(&shim.region, writer_bell, writer, hand).unwrap(),
        Reader::attach(&shim.region, reader_bell, reader).unwrap(),
        shim,
    )
}

fn small() -> LaneSpec {
    LaneSpec { ring: 4096, message_max: 20_000 }
}

fn text(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i + seed) * 31 % 251) as u8).collect()
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(20))
}

/// The next message, waiting for it.
fn read(reader: &mut Reader, message: &mut Vec<u8>) -> Result<(), ReadError> {
    let deadline = soon();
    loop {
        let news = reader.news();
        if reader.try_read(message)? {
            return Ok(());
        }
        assert!(Instant::now() < deadline.unwrap(), "no message came");
        reader.wait(Duration::ZERO, deadline, news);
    }
}

#[test]
fn messages_of_every_length_arrive() {
    let (mut writer, mut reader, _shim) = open(LaneSpec { message_max: 1 << 20, ..LaneSpec::default() });
    let half = layout::ring_max(128 * 1024);
    let piece = layout::piece(128 * 1024);
    let mut message = Vec::new();
    for len in [0, 1, 15, 16, piece - 1, piece, piece + 1, 3 * piece, half - 1, half, half + 1, 1 << 20] {
        let sent = text(len, len);
        let (a, b) = sent.split_at(len / 3);
        writer.try_write(&[a, &[], b]).unwrap();
        assert!(reader.try_read(&mut message).unwrap());
        assert!(message == sent, "a message of {len} bytes arrives unchanged");
    }
    assert!(!reader.try_read(&mut message).unwrap());
    let error = writer.try_write(&[&vec![0; (1 << 20) + 1]]).unwrap_err();
    assert_eq!(error, WriteError::TooLong { len: (1 << 20) + 1, limit: 1 << 20 });
}

#[test]
fn specifications_out_of_range_are_refused() {
    for (ring, message_max) in [(0, 1), (4095, 1), (12 * 1024, 1), (2048, 1), (1 << 24, 1), (4096, (1 << 30) + 1)] {
        let spec = LaneSpec { ring, message_max };
        assert!(matches!(create(spec), Err(CreateError::Spec(refused)) if refused == spec));
    }
    create(LaneSpec { ring: 4096, message_max: 0 }).unwrap();
}

#[test]
fn a_full_lane_refuses_whole_messages_and_recovers() {
    let (mut writer, mut reader, _shim) = open(small());
    let mut sent = 0;
    while writer.try_write(&[&text(500, sent)]).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, (4096 - crate::layout::LINE) / layout::ring_bytes(4096, 500));
    let mut message = Vec::new();
    for number in 0..sent {
        assert!(reader.try_read(&mut message).unwrap());
        assert_eq!(message, text(500, number));
    }
    writer.try_write(&[b"again"]).unwrap();
    assert!(reader.try_read(&mut message).unwrap());
    assert_eq!(message, b"again");
}

#[test]
fn one_long_message_at_a_time() {
    let (mut writer, mut reader, _shim) = open(small());
    writer.try_write(&[&text(20_000, 1)]).unwrap();
    assert_eq!(writer.try_write(&[&text(20_000, 2)]), Err(WriteError::Full));
    writer.try_write(&[b"short ones pass"]).unwrap();
    let mut message = Vec::new();
    assert!(reader.try_read(&mut message).unwrap() && message == text(20_000, 1));
    writer.try_write(&[&text(20_000, 2)]).unwrap();
    assert!(reader.try_read(&mut message).unwrap() && message == b"short ones pass");
    assert!(reader.try_read(&mut message).unwrap() && message == text(20_000, 2));
}

#[test]
fn a_long_message_goes_on_where_it_was_and_one_given_up_is_never_seen() {
    let (mut writer, mut reader, _shim) = open(small());
    let (long, mut message, mut done) = (text(20_000, 1), Vec::new(), 0);
    while writer.resume(&[&long[..7000], &long[7000..]], &mut done).is_err() {
        assert!(done > 0 && done < 20_000);
        assert!(!reader.try_read(&mut message).unwrap());
    }
    assert!(reader.try_read(&mut message).unwrap() && message == long);

    assert_eq!(writer.resume(&[&long], &mut 0), Err(WriteError::Full));
    assert!(!reader.try_read(&mut message).unwrap());
    writer.try_write(&[b"another"]).unwrap();
    assert!(reader.try_read(&mut message).unwrap() && message == b"another");
}

#[test]
fn a_batch_is_seen_when_it_is_flushed() {
    let (mut writer, mut reader, _shim) = open(small());
    let mut message = Vec::new();
    for number in 0..10u8 {
        writer.stage(&[&[number]]).unwrap();
    }
    assert!(!reader.try_read(&mut message).unwrap());
    writer.flush().unwrap();
    for number in 0..10u8 {
        assert!(reader.try_read(&mut message).unwrap());
        assert_eq!(message, [number]);
    }
}

/// Both ends sleep whenever they can; lengths of every kind; nothing is lost, torn or reordered.
#[test]
fn ends_that_sleep_are_woken_every_time() {
    let (mut writer, mut reader, _shim) = open(small());
    let lens = [0, 10, 700, 2000, 5, 9000, 20_000, 1];
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..20_000 {
                let message = text(lens[number % lens.len()], number);
                writer.write(&[&message], Duration::from_micros(number as u64 % 7), soon()).unwrap();
            }
        });
        let mut message = Vec::new();
        for number in 0..20_000 {
            read(&mut reader, &mut message).unwrap();
            assert!(message == text(lens[number % lens.len()], number), "message {number}");
        }
    });
}

#[test]
fn ends_that_wait_for_their_bell_are_rung() {
    use rustix::event::{PollFd, PollFlags, poll};
    let rung = |bell: std::os::fd::BorrowedFd<'_>| {
        let mut polled = [PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        let limit = rustix::time::Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&limit)).unwrap(), 1);
    };
    let (mut writer, mut reader, _shim) = open(small());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..5_000 {
                let message = text(number % 3000, number);
                while writer.try_write(&[&message]) == Err(WriteError::Full) {
                    if writer.arm() {
                        rung(writer.bell());
                    }
                    assert!(writer.disarm());
                }
            }
        });
        let mut message = Vec::new();
        for number in 0..5_000 {
            while !reader.try_read(&mut message).unwrap() {
                if reader.arm() {
                    rung(reader.bell());
                }
                reader.disarm();
            }
            assert!(message == text(number % 3000, number), "message {number}");
        }
    });
}

#[test]
fn a_revoked_lane_delivers_nothing_more() {
    let (mut writer, mut reader, shim) = open(small());
    let mut message = Vec::new();
    writer.try_write(&[b"read in time"]).unwrap();
    writer.try_write(&[b"too late"]).unwrap();
    assert!(reader.try_read(&mut message).unwrap());
    shim.cut(Cause::Revoked);
    assert!(is_quiet(&shim.hand));
    assert_eq!(writer.try_write(&[b"more"]), Err(WriteError::Cut(Cause::Revoked)));
    assert_eq!(reader.try_read(&mut message), Err(ReadError::Cut(Cause::Revoked)));
    assert_eq!(reader.try_read(&mut message), Err(ReadError::Cut(Cause::Revoked)));
}

#[test]
fn what_was_written_before_the_end_is_read_and_then_the_end_is_told() {
    for cause in [Cause::Closed, Cause::Died] {
        let (mut writer, mut reader, shim) = open(small());
        let mut message = Vec::new();
        for number in 0..5u8 {
            writer.try_write(&[&[number]]).unwrap();
        }
        assert!(reader.try_read(&mut message).unwrap());
        shim.cut(cause);
        for number in 1..5u8 {
            assert!(reader.try_read(&mut message).unwrap());
            assert_eq!(message, [number]);
        }
        assert_eq!(reader.try_read(&mut message), Err(ReadError::Cut(cause)));
    }
}

/// A process that goes on writing after its end is not read for ever; and a right that is revoked after the end takes
/// what is left.
#[test]
fn an_end_is_an_end() {
    let (mut writer, mut reader, shim) = open(small());
    let mut message = Vec::new();
    for _ in 0..5 {
        writer.try_write(&[b"before"]).unwrap();
    }
    // The writer has not been told: it is one that does not obey.
    cut(&shim.reader.cut, &shim.reader.news, Cause::Died);
    for _ in 0..5 {
        assert!(reader.try_read(&mut message).unwrap());
        writer.try_write(&[b"after"]).unwrap();
        assert_eq!(message, b"before");
    }
    assert_eq!(reader.try_read(&mut message), Err(ReadError::Cut(Cause::Died)));

    let (mut writer, mut reader, shim) = open(small());
    writer.try_write(&[b"one"]).unwrap();
    writer.try_write(&[b"two"]).unwrap();
    shim.cut(Cause::Closed);
    assert!(reader.try_read(&mut message).unwrap());
    shim.cut(Cause::Revoked);
    assert_eq!(reader.try_read(&mut message), Err(ReadError::Cut(Cause::Revoked)));
}

#[test]
fn a_cut_wakes_both_ends() {
    let (mut writer, mut reader, shim) = open(small());
    while writer.try_write(&[&[0; 1000]]).is_ok() {}
    let (mut full, _keep, full_shim) = (writer, &shim, &shim);
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || full.write(&[&[0; 1000]], Duration::ZERO, soon()));
        full_shim.cut(Cause::Lost);
        assert_eq!(writing.join().unwrap(), Err(WriteError::Cut(Cause::Lost)));
    });
    assert_eq!(reader.try_read(&mut Vec::new()), Err(ReadError::Cut(Cause::Lost)));
    for round in 0..2_000 {
        let (_writer, mut reader, shim) = open(LaneSpec { ring: 4096, message_max: 0 });
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || read(&mut reader, &mut Vec::new()));
            (0..round % 50 * 20).for_each(|_| std::hint::spin_loop());
            shim.cut(Cause::Died);
            assert_eq!(reading.join().unwrap(), Err(ReadError::Cut(Cause::Died)));
        });
    }
}

#[test]
fn a_deadline_is_kept_by_both_ends() {
    let (mut writer, mut reader, _shim) = open(small());
    let short = || Some(Instant::now() + Duration::from_millis(20));
    let start = Instant::now();
    reader.wait(Duration::from_millis(5), short(), reader.news());
    while writer.try_write(&[&[0; 1000]]).is_ok() {}
    assert_eq!(writer.write(&[&[0; 1000]], Duration::from_millis(5), short()), Err(WriteError::Full));
    assert!(start.elapsed() >= Duration::from_millis(35) && start.elapsed() < Duration::from_secs(10));
}

#[test]
fn news_wake_a_reader() {
    let (_writer, mut reader, shim) = open(small());
    let known = reader.news();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            shim.reader.news.store(1, std::sync::atomic::Ordering::Release);
            crate::doorbell::wake_all(&shim.reader.news);
        });
        while reader.news() == known {
            reader.wait(Duration::ZERO, soon(), known);
        }
    });
}

#[test]
fn clearing_gives_the_memory_back() {
    let (mut writer, _reader, shim) = open(small());
    writer.try_write(&[&text(20_000, 3)]).unwrap();
    let blocks = || rustix::fs::fstat(&shim.region).unwrap().st_blocks;
    assert!(blocks() * 512 >= 20_000);
    shim.cut(Cause::Revoked);
    clear(&shim.region).unwrap();
    assert_eq!(blocks(), 0);
}

/// Fills the lane, and reads a little, until its writer has moved to the wide ring: the messages that are in it then.
fn stream(writer: &mut Writer, reader: &mut Reader, from: usize) -> std::ops::Range<usize> {
    let (mut written, mut taken, mut message) = (from, from, Vec::new());
    while written - taken < 2 * LaneSpec::default().ring / 10_000 {
        match writer.try_write(&[&text(10_000, written)]) {
            Ok(()) => written += 1,
            Err(error) => {
                assert_eq!(error, WriteError::Full);
                assert!(reader.try_read(&mut message).unwrap() && message == text(10_000, taken));
                taken += 1;
            }
        }
    }
    taken..written
}

fn kib(shim: &Shim) -> u64 {
    rustix::fs::fstat(&shim.region).unwrap().st_blocks as u64 / 2
}

#[test]
fn a_lane_widens_for_a_stream_and_gives_its_memory_back() {
    let (mut writer, mut reader, shim) = open(LaneSpec::default());
    let mut message = Vec::new();
    let mut next = 0;
    for round in 0..2 {
        let left = stream(&mut writer, &mut reader, next);
        next = left.end;
        for number in left {
            read(&mut reader, &mut message).unwrap();
            assert!(message == text(10_000, number), "message {number}");
        }
        assert!(kib(&shim) > 150, "round {round}: the lane has become wide");
        if round == 0 {
            assert!(reader.arm(), "there is nothing");
            reader.disarm();
        } else {
            while kib(&shim) > 150 {
                reader.wait(Duration::ZERO, soon(), reader.news());
            }
        }
        assert!(kib(&shim) <= 150, "round {round}: {} KiB of an idle lane", kib(&shim));
    }
    writer.try_write(&[b"and on"]).unwrap();
    assert!(reader.try_read(&mut message).unwrap() && message == b"and on");
}

#[test]
fn what_is_staged_in_the_wide_ring_keeps_it() {
    let (mut writer, mut reader, _shim) = open(LaneSpec::default());
    let mut message = Vec::new();
    for number in stream(&mut writer, &mut reader, 0) {
        read(&mut reader, &mut message).unwrap();
        assert!(message == text(10_000, number));
    }
    writer.stage(&[b"one"]).unwrap();
    assert!(reader.arm(), "nothing is to be seen yet");
    reader.disarm();
    writer.stage(&[b"two"]).unwrap();
    writer.flush().unwrap();
    writer.try_write(&[b"three"]).unwrap();
    for expected in [b"one".as_slice(), b"two", b"three"] {
        read(&mut reader, &mut message).unwrap();
        assert_eq!(message, expected);
    }
}

/// A stream with rests, from one thread to another, some of them while the writer is in the middle.
#[test]
fn nothing_is_lost_or_reordered_where_lanes_widen_and_narrow() {
    let (mut writer, mut reader, _shim) = open(LaneSpec::default());
    const MESSAGES: usize = 1_500;
    let len = |number: usize| if number.is_multiple_of(7) { 70_000 } else { number * 37 % 20_000 };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..MESSAGES {
                writer.write(&[&text(len(number), number)], Duration::from_millis(1), soon()).unwrap();
            }
        });
        let mut message = Vec::new();
        for number in 0..MESSAGES {
            if number % 100 < 10 {
                // An event loop's: each finds the lane empty, or not.
                reader.arm();
                reader.disarm();
            }
            read(&mut reader, &mut message).unwrap();
            assert!(message == text(len(number), number), "message {number}");
        }
    });
}

#[test]
fn what_was_written_before_the_end_is_read_in_both_rings() {
    let (mut writer, mut reader, shim) = open(LaneSpec::default());
    let mut left = stream(&mut writer, &mut reader, 0);
    shim.cut(Cause::Closed);
    let mut message = Vec::new();
    loop {
        match reader.try_read(&mut message) {
            Ok(true) => assert!(message == text(10_000, left.next().unwrap())),
            Ok(false) => unreachable!("a lane that has ended has something to say"),
            Err(error) => break assert_eq!(error, ReadError::Cut(Cause::Closed)),
        }
    }
    assert!(left.is_empty(), "{left:?} were not read");
}
