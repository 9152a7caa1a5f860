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
fn bulk_areas_are_busy_until_their_messages_are_dropped() {
    let (mut host, mut guest) = open(1 << 20);
    let body = |number: u8| vec![number; 100_000];
    host.sender.send(0, b"", &body(1)).unwrap();
    host.sender.send(0, b"", &body(2)).unwrap();
    assert_eq!(host.sender.send(0, b"", &body(3)), Err(SendError::Busy));
    assert_eq!(guest.receiver.receive().unwrap().unwrap().body(), body(1));
    host.sender.send(0, b"", &body(3)).unwrap();
    assert_eq!(host.sender.send(0, b"", &body(4)), Err(SendError::Busy));
    assert_eq!(guest.receiver.receive().unwrap().unwrap().body(), body(2));
    assert_eq!(guest.receiver.receive().unwrap().unwrap().body(), body(3));
    assert!(host.sender.is_idle());
}

#[test]
fn a_body_comes_as_its_first_part_and_the_others() {
    let (mut host, mut guest) = open(1 << 20);
    let parts: [&[u8]; 3] = [b"first", &[7; 60_000], &[8; 3]];
    let whole = parts.concat();
    for _ in 0..3 {
        host.sender.send_parts(5, b"head", parts.into_iter()).unwrap();
        let message = guest.receiver.receive().unwrap().unwrap();
        let mut copied = vec![0; message.body_len()];
        message.copy_body(&mut copied);
        assert!(message.head() == b"head" && message.body() == whole && copied == whole);
        let (front, tail) = message.split();
        let tail = tail.unwrap();
        assert_eq!((front.as_slice(), tail.len()), (parts[0], 60_003));
        let tail = tail.in_place();
        assert!(tail.as_ref() == &whole[5..] && tail.as_ref().as_ptr().addr().is_multiple_of(PAGE));
    }
    // One that is whole, and one whose first part is too long for the ring.
    for parts in [[&b"short"[..], b"er"], [&[1; 9_000], &[2; 9_000]]] {
        host.sender.send_parts(5, b"", parts.into_iter()).unwrap();
        let (mut front, tail) = guest.receiver.receive().unwrap().unwrap().split();
        front.extend(tail.map(Tail::in_place).iter().flat_map(AsRef::as_ref));
        assert_eq!(front, parts.concat());
    }
    assert!(host.sender.is_idle());
}

#[test]
fn a_tail_may_be_kept_while_others_come() {
    let (mut host, mut guest) = open(1 << 20);
    let body = |number: usize| vec![number as u8; 50_000 + number];
    let mut next = |number| {
        host.sender.send(1, b"", &body(number)).unwrap();
        guest.receiver.receive().unwrap().unwrap().split().1.unwrap().in_place()
    };
    let kept = next(0);
    for number in 1..1000 {
        assert_eq!(next(number).as_ref(), body(number));
    }
    // Tails of the second area are copies: any number of them can be kept.
    let others: Vec<InPlace> = (1..20).map(&mut next).collect();
    assert!(others.iter().zip(1..).all(|(other, number)| other.as_ref() == body(number)));
    assert_eq!(kept.as_ref(), body(0));
    drop(kept);
    let again = next(7);
    assert_eq!(again.as_ref(), body(7));
    drop((host, guest));
    assert_eq!(again.as_ref(), body(7), "it outlives its channel");
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
    for bulk in [4097, SECOND | 4097, SECOND, u32::MAX, SECOND - 1] {
        let (mut host, descriptors) = Channel::create(4096).unwrap();
        let region = Mapping::shared(&descriptors.region, layout::region_bytes(4096)).unwrap();
        // SAFETY: the up ring's first bytes, aligned: a frame of length 0, and its mark.
        unsafe { region.at(RINGS + RING).cast::<[u32; 4]>().write([1, 0, bulk, 0]) };
        assert!(matches!(host.receiver.receive(), Err(ReceiveError::Broken)), "{bulk:x}");
    }
}

#[test]
fn a_foreign_region_is_refused() {
    let fd = memfd::sealed("test", layout::region_bytes(4096) as u64).unwrap();
    let bell = || doorbell::event().unwrap();
    assert!(matches!(Channel::attach(&fd, bell(), bell()), Err(OpenError::Foreign)));
}
