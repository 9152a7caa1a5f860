//! Channels: small and large messages, sleeping receivers, and guests that lie.

use super::*;
use os::memfd;

fn open(body_max: usize) -> (Channel, Channel) {
    let (host, guest) = Channel::create(body_max).unwrap();
    let guest = Channel::attach(&guest.region, guest.down, guest.up).unwrap();
    (host, guest)
}

#[test]
fn bodies_of_every_size_arrive() {
    let (mut host, mut guest) = open(1 << 20);
    for len in [0, 1, 15, 16, INLINE_MAX - 4, INLINE_MAX - 3, 65_536, 65_537, 1 << 20] {
        let body: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        host.sender.send(3, b"head", &body).unwrap();
        let message = guest.receiver.receive().unwrap().unwrap();
        assert_eq!((message.kind(), message.head()), (3, &b"head"[..]));
        assert!(message.body() == body, "a body of {len} bytes arrives unchanged");
    }
    let error = host.sender.send(3, b"", &vec![0; (1 << 20) + 1]).unwrap_err();
    assert_eq!(error, SendError::TooLong { len: (1 << 20) + 1, limit: 1 << 20 });
}

#[test]
fn a_sender_knows_what_was_read() {
    let (mut host, mut guest) = open(4096);
    assert!(host.sender.is_read());
    host.sender.send(1, b"", b"body").unwrap();
    assert!(!host.sender.is_read());
    drop(guest.receiver.receive().unwrap().unwrap());
    assert!(host.sender.is_read());
}

#[test]
fn the_bulk_area_is_busy_until_the_message_is_dropped() {
    let (mut host, mut guest) = open(1 << 20);
    let body = vec![7; 100_000];
    host.sender.send(0, b"", &body).unwrap();
    assert_eq!(host.sender.send(0, b"", &body), Err(SendError::Busy));
    drop(guest.receiver.receive().unwrap().unwrap());
    host.sender.send(0, b"", &body).unwrap();
    assert_eq!(guest.receiver.receive().unwrap().unwrap().body(), body);
}

#[test]
fn a_body_is_put_together_where_it_is_read() {
    let (mut host, mut guest) = open(1 << 20);
    let mut dropped = host.sender.compose(10).unwrap();
    dropped.put(b"nobody");
    assert!(guest.receiver.receive().unwrap().is_none());
    for len in [1, 5000, 1 << 20] {
        let body: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        let mut message = host.sender.compose(len).unwrap();
        body.chunks(999).for_each(|piece| message.put(piece));
        message.send(4, b"head").unwrap();
        assert!(matches!(host.sender.compose(1), Err(SendError::Busy)));
        let message = guest.receiver.receive().unwrap().unwrap();
        assert_eq!((message.kind(), message.head()), (4, &b"head"[..]));
        assert!(message.body() == body, "a body of {len} bytes arrives unchanged");
    }
    let error = host.sender.compose((1 << 20) + 1).map(drop);
    assert_eq!(error, Err(SendError::TooLong { len: (1 << 20) + 1, limit: 1 << 20 }));
}

#[test]
#[should_panic(expected = "bytes more than were announced")]
fn a_body_is_no_longer_than_announced() {
    let (mut host, _guest) = open(4096);
    let mut message = host.sender.compose(3).unwrap();
    message.put(b"ab");
    message.put(b"cd");
}

#[test]
fn a_sender_knows_when_nothing_is_in_its_way() {
    let (mut host, mut guest) = open(1 << 20);
    assert!(host.sender.is_idle());
    host.sender.send(1, b"", &[7; 100_000]).unwrap();
    let message = guest.receiver.receive().unwrap().unwrap();
    assert!(host.sender.is_read() && !host.sender.is_idle(), "the body's room is not given back yet");
    drop(message);
    assert!(host.sender.is_idle());
}

#[test]
fn messages_of_other_kinds_are_passed_over() {
    let (mut host, mut guest) = open(1 << 20);
    host.sender.send(2, b"", b"").unwrap();
    host.sender.send(2, b"", &[7; 100_000]).unwrap();
    host.sender.send(1, b"", b"wanted").unwrap();
    assert_eq!(guest.receiver.receive_only(1).unwrap().unwrap().body(), b"wanted");
    assert!(guest.receiver.receive_only(1).unwrap().is_none() && host.sender.is_idle());
}

#[test]
fn nudges_do_not_pile_up() {
    let (mut host, mut guest) = open(4096);
    for _ in 0..10_000 {
        host.sender.nudge(9).unwrap();
    }
    assert!(guest.receiver.nudged(9).unwrap());
    assert!(!guest.receiver.nudged(9).unwrap());
    host.sender.nudge(9).unwrap();
    host.sender.send(1, b"", b"wanted").unwrap();
    assert_eq!(guest.receiver.receive_only(1).unwrap().unwrap().body(), b"wanted");
}

/// A stream whose receiver nudges when it has taken something: the sender sleeps whenever it is refused.
#[test]
fn a_refused_sender_is_woken_every_time() {
    let (mut host, mut guest) = open(1 << 16);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for sent in 0..20_000u32 {
                let body = vec![sent as u8; [10, 5000, 60_000][sent as usize % 3]];
                while guest.sender.send(8, &sent.to_le_bytes(), &body) == Err(SendError::Busy) {
                    if !guest.receiver.nudged(9).unwrap() {
                        guest.receiver.wait(Duration::ZERO, None);
                    }
                }
            }
        });
        let mut taken = 0u32;
        while taken < 20_000 {
            if let Some(message) = host.receiver.receive().unwrap() {
                assert_eq!(message.head(), taken.to_le_bytes());
                taken += 1;
                continue;
            }
            host.sender.nudge(9).unwrap();
            host.receiver.wait(Duration::ZERO, None);
        }
    });
}

#[test]
fn a_sleeping_receiver_is_woken_every_time() {
    let (mut host, mut guest) = open(4096);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..20_000 {
                let kind = loop {
                    if let Some(message) = guest.receiver.receive().unwrap() {
                        break message.kind();
                    }
                    guest.receiver.wait(Duration::ZERO, None);
                };
                guest.sender.send(kind, b"", b"").unwrap();
            }
        });
        for kind in 0..20_000 {
            host.sender.send(kind, b"", b"").unwrap();
            loop {
                if let Some(message) = host.receiver.receive().unwrap() {
                    assert_eq!(message.kind(), kind);
                    break;
                }
                host.receiver.wait(Duration::from_micros(u64::from(kind % 30)), None);
            }
        }
    });
}

#[test]
fn an_event_sleeper_is_rung() {
    use rustix::event::{PollFd, PollFlags, poll};
    let (mut host, mut guest) = open(4096);
    host.receiver.sleep_by_event();
    guest.sender.send(9, b"", b"x").unwrap();
    let mut polled = [PollFd::from_borrowed_fd(host.receiver.bell(), PollFlags::IN)];
    assert_eq!(poll(&mut polled, None).unwrap(), 1);
    doorbell::hush(host.receiver.bell());
    assert_eq!(host.receiver.receive().unwrap().unwrap().kind(), 9);
}

#[test]
fn a_guest_that_writes_garbage_breaks_its_own_channel_only() {
    let (host_end, descriptors) = Channel::create(4096).unwrap();
    let mut host = host_end;
    let region = Mapping::shared(&descriptors.region, layout::region_bytes(4096)).unwrap();
    // SAFETY: the up ring's first word, aligned.
    let mark = unsafe { &*region.at(RINGS + RING).cast::<AtomicU32>() };
    mark.store(12_345_678, Ordering::Relaxed);
    assert!(matches!(host.receiver.receive(), Err(ReceiveError::Broken)));
}

#[test]
fn a_bulk_length_beyond_the_area_is_refused() {
    let (mut host, descriptors) = Channel::create(4096).unwrap();
    let region = Mapping::shared(&descriptors.region, layout::region_bytes(4096)).unwrap();
    // SAFETY: the up ring's first bytes, aligned: a frame of length 0, and its mark.
    unsafe { region.at(RINGS + RING).cast::<[u32; 4]>().write([1, 0, 4097, 0]) };
    assert!(matches!(host.receiver.receive(), Err(ReceiveError::Broken)));
}

#[test]
fn a_foreign_region_is_refused() {
    let fd = memfd::sealed("test", layout::region_bytes(4096) as u64).unwrap();
    let bell = || doorbell::event().unwrap();
    assert!(matches!(Channel::attach(&fd, bell(), bell()), Err(OpenError::Foreign)));
}
