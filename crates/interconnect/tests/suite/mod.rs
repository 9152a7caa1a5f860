//! The suite: one generic function per promise of `interconnect::link::Link`, and a macro that makes them tests of one
//! kind of link.

use interconnect::link::tcp::listen::{Arrival, Listener};
use interconnect::link::{DESCRIPTORS_MAX, End, Interest, Link, MESSAGE_MAX, SendError, Tier};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// How one kind of link is made for the suite.
pub trait Fixture {
    /// Whether descriptors travel.
    const DESCRIPTORS: bool;
    /// A new link.
    fn pair(&self) -> Pair;
}

/// Both ends of a link.
pub struct Pair {
    pub a: Box<dyn Link>,
    pub b: Box<dyn Link>,
    /// Called before every wait: a virtual clock is turned by it.
    pub turn: Box<dyn Fn() + Send>,
}

/// Makes every check of the suite a test of the link that `$fixture` makes.
macro_rules! conformance {
    ($name:ident, $fixture:expr) => {
        mod $name {
            use super::*;
            suite::conformance!(@tests $fixture, messages_arrive_whole_and_in_order, sizes_to_the_limit_and_not_beyond,
                a_full_link_refuses_and_takes_again, both_ways_at_once, descriptors_travel_or_are_refused,
                what_was_sent_before_the_end_arrives, an_idle_link_comes_to_rest, an_armed_end_is_woken);
        }
    };
    (@tests $fixture:expr, $($check:ident),*) => {
        $(#[test] fn $check() { suite::$check(&$fixture); })*
    };
}
pub(crate) use conformance;

/// Messages that a peer sends before it is killed.
pub const LAST_WORDS: usize = 10;

/// Waits until a descriptor is readable.
pub fn poll_one(descriptor: BorrowedFd<'_>) {
    poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&PATIENCE.try_into().unwrap())).unwrap();
}

/// Reads a peer's last words, kills it, and reads its end.
pub fn a_killed_peer_is_noticed(mut link: Box<dyn Link>, mut peer: Child) {
    let mut message = Vec::new();
    let mut next = |link: &mut dyn Link| loop {
        match link.receive(&mut message, &mut Vec::new()) {
            Ok(true) => return Ok(message.clone()),
            Ok(false) => wait(&mut [link], PATIENCE),
            Err(end) => return Err(end),
        };
    };
    for i in 0..LAST_WORDS {
        assert_eq!(next(&mut *link), Ok(self::message(1000 * i, i)));
    }
    peer.kill().unwrap();
    let killed = Instant::now();
    assert_eq!(next(&mut *link), Err(End::Gone));
    assert!(killed.elapsed() < Duration::from_secs(2), "noticed after {:?}", killed.elapsed());
    peer.wait().unwrap();
}

/// The next link that a listener makes.
pub fn arrival(listener: &mut Listener) -> Arrival {
    let begun = Instant::now();
    loop {
        if let Some(arrival) = listener.take() {
            return arrival;
        }
        assert!(begun.elapsed() < PATIENCE, "nobody arrives");
        poll_one(listener.poll_fd());
    }
}

fn flush(link: &mut dyn Link) {
    // That the peer is gone is told by the call that the check is about.
    let _ = link.flush();
}

/// Waits until one of the links may have something to do; false: one was not armed, for there is something now.
fn wait(links: &mut [&mut dyn Link], timeout: Duration) -> bool {
    let mut armed = true;
    for link in links.iter_mut() {
        flush(&mut **link);
        armed &= link.arm();
    }
    if !armed {
        return false;
    }
    let wants = |Interest { read, write }: Interest| {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, read);
        flags.set(PollFlags::OUT, write);
        flags
    };
    let mut fds: Vec<_> =
        links.iter().map(|link| PollFd::from_borrowed_fd(link.poll_fd(), wants(link.wants()))).collect();
    let timeout = timeout.try_into().unwrap();
    poll(&mut fds, Some(&timeout)).unwrap();
    true
}

/// Receives at `b` what comes, until a message came, while `a` may pass its own on.
fn take(pair: &mut Pair, descriptors: &mut Vec<OwnedFd>) -> Result<Vec<u8>, End> {
    let begun = Instant::now();
    let mut message = vec![0xaa; 3];
    while begun.elapsed() < PATIENCE {
        if pair.b.receive(&mut message, descriptors)? {
            return Ok(message);
        }
        flush(&mut *pair.a);
        (pair.turn)();
        wait(&mut [&mut *pair.a, &mut *pair.b], Duration::from_millis(200));
    }
    panic!("nothing was received");
}

/// Bytes that differ from one message to the next.
pub fn message(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) + seed * 7 + (i >> 8)) as u8).collect()
}

pub fn messages_arrive_whole_and_in_order(fixture: &impl Fixture) {
    let mut pair = fixture.pair();
    for i in 0..500 {
        pair.a.send(&message(i % 97, i)).unwrap();
        if i % 5 == 4 {
            for j in i - 4..=i {
                assert_eq!(take(&mut pair, &mut Vec::new()).unwrap(), message(j % 97, j), "message {j}");
            }
        }
    }
    assert_eq!(pair.b.receive(&mut Vec::new(), &mut Vec::new()), Ok(false), "and nothing more");
}

pub fn sizes_to_the_limit_and_not_beyond(fixture: &impl Fixture) {
    let mut pair = fixture.pair();
    let around = |n: usize| [n - 1, n, n + 1];
    let sizes =
        [0, 1, 2, 3, 4, 5, 15, 16, 17].into_iter().chain([256, 1448, 4096, 16384, 32768].into_iter().flat_map(around));
    for size in sizes.chain([MESSAGE_MAX - 1, MESSAGE_MAX, 0, MESSAGE_MAX]) {
        pair.a.send(&message(size, size)).unwrap();
        let got = take(&mut pair, &mut Vec::new()).unwrap();
        assert!(got == message(size, size), "a message of {size} bytes came as {} other ones", got.len());
    }
    let long = vec![0; MESSAGE_MAX + 1];
    assert_eq!(pair.a.send(&long), Err(SendError::TooLong(long.len())));
    pair.a.send(b"goes on").unwrap();
    assert_eq!(take(&mut pair, &mut Vec::new()).unwrap(), b"goes on");
}

pub fn a_full_link_refuses_and_takes_again(fixture: &impl Fixture) {
    let mut pair = fixture.pair();
    let begun = Instant::now();
    let mut sent = 0;
    // What is on the way is bounded: a link that takes for ever does not know its peer's pace.
    while sent < 1024 && send_or_settle(&mut pair, &message(MESSAGE_MAX, sent)) {
        sent += 1;
    }
    assert!(sent < 1024, "{sent} messages of {MESSAGE_MAX} bytes were taken, and none was read");
    let (mut read, target) = (0, sent + 50);
    while read < target {
        assert!(begun.elapsed() < PATIENCE, "{read} of {target} after a full link");
        while sent < target {
            match pair.a.send(&message(MESSAGE_MAX, sent)) {
                Ok(()) => sent += 1,
                Err(SendError::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(take(&mut pair, &mut Vec::new()).unwrap() == message(MESSAGE_MAX, read), "message {read}");
        read += 1;
    }
}

/// Whether the message was taken, perhaps after what is on the way has moved on, while nobody reads.
fn send_or_settle(pair: &mut Pair, message: &[u8]) -> bool {
    (0..4).any(|_| match pair.a.send(message) {
        Ok(()) => true,
        Err(SendError::Full) => {
            (pair.turn)();
            wait(&mut [&mut *pair.a], Duration::from_millis(50));
            false
        }
        Err(error) => panic!("{error}"),
    })
}

pub fn both_ways_at_once(fixture: &impl Fixture) {
    const N: usize = 300;
    let mut pair = fixture.pair();
    let begun = Instant::now();
    let (mut sent, mut read) = ([0; 2], [0; 2]);
    let mut got = Vec::new();
    while read != [N, N] {
        assert!(begun.elapsed() < PATIENCE, "{sent:?} sent, {read:?} read of {N} each way");
        let mut moved = false;
        for (side, link) in [&mut pair.a, &mut pair.b].into_iter().enumerate() {
            while sent[side] < N && link.send(&message(sent[side] * 199 % MESSAGE_MAX, sent[side])).is_ok() {
                sent[side] += 1;
            }
            flush(&mut **link);
            if link.receive(&mut got, &mut Vec::new()).unwrap() {
                assert!(got == message(read[side] * 199 % MESSAGE_MAX, read[side]), "message {}", read[side]);
                read[side] += 1;
                moved = true;
            }
        }
        if !moved {
            (pair.turn)();
            wait(&mut [&mut *pair.a, &mut *pair.b], Duration::from_millis(200));
        }
    }
}

pub fn descriptors_travel_or_are_refused<F: Fixture>(fixture: &F) {
    let mut pair = fixture.pair();
    let (mut reader, writer) = std::io::pipe().unwrap();
    if !F::DESCRIPTORS {
        assert_eq!(pair.a.send_with(b"one", &[writer.as_fd()]), Err(SendError::NotShared));
        pair.a.send(b"goes on").unwrap();
        assert_eq!(take(&mut pair, &mut Vec::new()).unwrap(), b"goes on");
        return;
    }
    let many = vec![writer.as_fd(); DESCRIPTORS_MAX + 1];
    assert_eq!(pair.a.send_with(b"", &many), Err(SendError::TooMany(many.len())));
    for (name, count) in [(&b"none"[..], 0), (b"one", 1), (b"", 3), (b"none", 0), (b"all", DESCRIPTORS_MAX)] {
        pair.a.send_with(name, &many[..count]).unwrap();
    }
    for (name, count) in [(&b"none"[..], 0), (b"one", 1), (b"", 3), (b"none", 0), (b"all", DESCRIPTORS_MAX)] {
        let mut descriptors = Vec::new();
        assert_eq!(take(&mut pair, &mut descriptors).unwrap(), name);
        assert_eq!(descriptors.len(), count, "descriptors come with their message");
        for descriptor in descriptors {
            std::fs::File::from(descriptor).write_all(b"x").unwrap();
        }
    }
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.len(), 4 + DESCRIPTORS_MAX, "every descriptor is the pipe, and none is left open");
}

pub fn what_was_sent_before_the_end_arrives(fixture: &impl Fixture) {
    let mut pair = fixture.pair();
    for i in 0..10 {
        pair.a.send(&message(1000 * i, i)).unwrap();
    }
    flush(&mut *pair.a);
    drop(std::mem::replace(&mut pair.a, fixture.pair().a));
    for i in 0..10 {
        assert!(take_alone(&mut pair).unwrap() == message(1000 * i, i), "message {i}");
    }
    assert_eq!(take_alone(&mut pair), Err(End::Gone));
    assert_eq!(take_alone(&mut pair), Err(End::Gone), "it stays so");
    let begun = Instant::now();
    while pair.b.send(b"to nobody") != Err(SendError::Ended(End::Gone)) {
        assert!(begun.elapsed() < PATIENCE, "sending to nobody fails");
    }
}

/// Receives at `b`, whose other end is no longer `a`.
fn take_alone(pair: &mut Pair) -> Result<Vec<u8>, End> {
    let (begun, mut message) = (Instant::now(), Vec::new());
    while begun.elapsed() < PATIENCE {
        if pair.b.receive(&mut message, &mut Vec::new())? {
            return Ok(message);
        }
        (pair.turn)();
        wait(&mut [&mut *pair.b], Duration::from_millis(200));
    }
    panic!("neither a message nor an end came");
}

pub fn an_idle_link_comes_to_rest(fixture: &impl Fixture) {
    rest(&mut fixture.pair());
}

/// Says something over a link, and waits until both of its ends sleep.
fn rest(pair: &mut Pair) {
    pair.a.send(b"once").unwrap();
    take(pair, &mut Vec::new()).unwrap();
    // What a conversation leaves behind has settled when both ends sleep through a wait.
    let begun = Instant::now();
    let quiet = Duration::from_millis(100);
    loop {
        let asleep = Instant::now();
        if wait(&mut [&mut *pair.a, &mut *pair.b], quiet) && asleep.elapsed() >= quiet {
            break;
        }
        assert_eq!(pair.b.receive(&mut Vec::new(), &mut Vec::new()), Ok(false));
        assert_eq!(pair.a.receive(&mut Vec::new(), &mut Vec::new()), Ok(false));
        assert!(begun.elapsed() < PATIENCE, "a link without messages never comes to rest");
    }
    assert!(pair.a.arm() && pair.b.arm(), "both ends may sleep");
}

/// Two ends that have nothing to say, in a process that does nothing else.
pub fn idle_cpu_is_nothing(fixture: &impl Fixture) {
    const WATCHED: Duration = Duration::from_secs(1);
    let mut pair = fixture.pair();
    rest(&mut pair);
    let used = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    };
    let mut watch = || {
        let before = used();
        assert!(wait(&mut [&mut *pair.a, &mut *pair.b], WATCHED));
        used() - before
    };
    // A link that does not rest does not rest in any of them. What interrupts this process may be accounted to it in one.
    let used = [watch(), watch(), watch()].into_iter().min().unwrap_or_default();
    assert!(used < WATCHED / 500, "{used:?} of the processor in {WATCHED:?} of rest");
}

pub fn an_armed_end_is_woken(fixture: &impl Fixture) {
    const ROUNDS: usize = 200;
    let Pair { mut a, mut b, turn } = fixture.pair();
    let echo = std::thread::spawn(move || {
        let (mut got, mut rounds) = (Vec::new(), 0);
        while rounds < ROUNDS {
            if b.receive(&mut got, &mut Vec::new()).unwrap() {
                b.send(&got).unwrap();
                rounds += 1;
            } else {
                wait(&mut [&mut *b], PATIENCE);
            }
        }
        flush(&mut *b);
        b
    });
    let mut got = Vec::new();
    for round in 0..ROUNDS {
        a.send(&message(round, round)).unwrap();
        let begun = Instant::now();
        loop {
            turn();
            if a.receive(&mut got, &mut Vec::new()).unwrap() {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "round {round} has no answer: somebody was not woken");
            // A real link wakes by itself; a clock that only this thread turns has to be turned.
            let patience = if a.tier() == Tier::Simulated { Duration::from_millis(1) } else { PATIENCE };
            wait(&mut [&mut *a], patience);
        }
        assert_eq!(got, message(round, round));
    }
    drop(echo.join().unwrap());
}
