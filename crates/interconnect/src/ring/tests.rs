//! The ring against an honest and against a hostile other side.

use super::*;

const SIZE: usize = 1024;

struct Shared {
    bytes: Vec<u64>,
    calls: AtomicU32,
    tail: AtomicU32,
}

impl Shared {
    fn new() -> Self {
        Self { bytes: vec![0; SIZE / 8], calls: AtomicU32::new(0), tail: AtomicU32::new(0) }
    }

    fn ends(&self) -> (Producer<'_>, Consumer<'_>) {
        let base = self.bytes.as_ptr() as *mut u8;
        // SAFETY: the memory lives as long as `self`, and each test makes one end of each kind.
        unsafe {
            (Producer::new(base, SIZE, &self.calls, &self.tail), Consumer::new(base, SIZE, &self.calls, &self.tail))
        }
    }
}

fn frame(len: usize) -> Frame {
    Frame { len: len as u32, head: 0, bulk: 0, kind: 7 }
}

#[test]
fn messages_arrive_whole_and_in_order_over_many_wraps() {
    let shared = Shared::new();
    let (mut producer, mut consumer) = shared.ends();
    let mut payload = Vec::new();
    for round in 0..10_000usize {
        let text = vec![round as u8; round % 300];
        let (left, right) = text.split_at(text.len() / 3);
        producer.push(frame(text.len()), &[left, right]).unwrap();
        assert_eq!(consumer.pop(&mut payload).unwrap().unwrap().kind, 7);
        assert_eq!(payload, text);
    }
    assert!(consumer.is_empty());
    assert_eq!(consumer.pop(&mut payload), Ok(None));
}

#[test]
fn a_full_ring_refuses_and_recovers() {
    let shared = Shared::new();
    let (mut producer, mut consumer) = shared.ends();
    let text = [1; 100];
    let mut pushed = 0;
    while producer.push(frame(100), &[&text]).is_ok() {
        pushed += 1;
    }
    assert_eq!(pushed, (SIZE - LINE) / padded(100));
    consumer.pop(&mut Vec::new()).unwrap().unwrap();
    producer.push(frame(100), &[&text]).unwrap();
}

#[test]
fn threads_exchange_a_hundred_thousand_messages() {
    let shared = Shared::new();
    let (mut producer, mut consumer) = shared.ends();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..100_000u32 {
                while producer.push(frame(4), &[&number.to_ne_bytes()]).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let mut payload = Vec::new();
        for number in 0..100_000u32 {
            while consumer.pop(&mut payload).unwrap().is_none() {
                std::thread::yield_now();
            }
            assert_eq!(payload, number.to_ne_bytes());
        }
    });
}

#[test]
fn impossible_marks_and_positions_break_the_ring_and_nothing_else() {
    for len in [u32::MAX, SIZE as u32, (SIZE - LINE - FRAME + 2) as u32] {
        let mut shared = Shared::new();
        shared.bytes[0] = len.into();
        assert_eq!(shared.ends().1.pop(&mut Vec::new()), Err(PopError::Broken));
    }
    let shared = Shared::new();
    let (mut producer, _) = shared.ends();
    shared.tail.store(5, Ordering::Relaxed);
    // The reader's position is looked at when there seems to be no room.
    assert_eq!(producer.push(frame(SIZE), &[&[0; SIZE]]), Err(PushError::Broken));
}

/// What a payload leaves behind where a frame begins a lap later is not taken for a frame, however it is chosen.
#[test]
fn payloads_forge_no_frames() {
    let shared = Shared::new();
    let (mut producer, mut consumer) = shared.ends();
    let forged = [17u32, 0, 0, 7].map(u32::to_ne_bytes).concat().repeat(SIZE / FRAME);
    let mut payload = Vec::new();
    for round in 0..1000usize {
        let len = round * 31 % (SIZE - LINE - FRAME);
        producer.push(frame(len), &[&forged[..len]]).unwrap();
        assert_eq!(consumer.pop(&mut payload).unwrap().unwrap().len as usize, len);
        assert_eq!(consumer.pop(&mut payload), Ok(None));
    }
}

#[test]
fn what_comes_after_the_end_is_not_read() {
    let shared = Shared::new();
    let (mut producer, mut consumer) = shared.ends();
    for _ in 0..3 {
        producer.push(frame(100), &[&[1; 100]]).unwrap();
    }
    consumer.finish();
    for left in (0..3).rev() {
        assert!(consumer.pop(&mut Vec::new()).unwrap().is_some(), "{left} are left");
        producer.push(frame(100), &[&[2; 100]]).unwrap();
    }
    assert_eq!(consumer.pop(&mut Vec::new()), Ok(None));
}

#[test]
fn garbage_from_the_other_side_is_never_read_out_of_bounds() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let mut shared = Shared::new();
        shared.bytes.iter_mut().for_each(|word| *word = next());
        if next() % 2 == 0 {
            shared.bytes.iter_mut().step_by(LINE / 8).for_each(|word| *word = (next() % 256) | (next() % 64) << 32);
        }
        let (_, mut consumer) = shared.ends();
        let mut payload = Vec::new();
        for _ in 0..100 {
            match consumer.pop(&mut payload) {
                Ok(Some(frame)) => assert!(frame.len as usize <= SIZE && frame.head <= frame.len),
                Ok(None) | Err(PopError::Broken) => break,
            }
        }
    }
}
