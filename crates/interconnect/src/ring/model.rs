//! The ring as it is, under every interleaving of its two ends.

use super::*;
use crate::doorbell::{EVENT, FUTEX, Sleeps, Wakes};
use crate::sync::Futex;
use loom::sync::{Arc, Mutex};

/// Four lines: two short frames, one that is being written, and the clear mark.
const SIZE: usize = 4 * LINE;

fn ends() -> (Producer<'static>, Consumer<'static>) {
    // A leak per interleaving, of a few words: the ends go to threads, which want them to live for ever.
    let word = || &*Box::leak(Box::new(AtomicU32::new(0)));
    let (bytes, head, tail) = (Bytes::new(SIZE), word(), word());
    (Producer::over(bytes.clone(), head, tail), Consumer::over(bytes, head, tail))
}

fn frame(len: usize) -> Frame {
    Frame { len: len as u32, head: 0, bulk: 0, kind: 0 }
}

fn of_kind(kind: u32) -> Frame {
    Frame { kind, ..frame(0) }
}

/// What was published is seen whole, in order, also where the ring is written a second time around; and nobody writes
/// what the other may be reading.
#[test]
fn frames_are_seen_whole_and_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let writer = loom::thread::spawn(move || {
            let mut sent = 0u8;
            while sent < 3 {
                match producer.push(frame(8), &[&[sent; 8]]) {
                    Ok(()) => sent += 1,
                    Err(error) => {
                        assert_eq!(error, PushError::Full(32));
                        loom::thread::yield_now();
                    }
                }
            }
        });
        let mut payload = Vec::new();
        let mut read = 0u8;
        while read < 3 {
            if consumer.pop(&mut payload).unwrap().is_some() {
                assert_eq!(payload, [read; 8]);
                read += 1;
            } else {
                loom::thread::yield_now();
            }
        }
        writer.join().unwrap();
    });
}

/// What is staged is not seen; published at once, all of it is.
#[test]
fn a_batch_is_seen_at_once() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let writer = loom::thread::spawn(move || {
            producer.stage(of_kind(1), std::iter::empty()).unwrap();
            producer.stage(of_kind(2), std::iter::empty()).unwrap();
            producer.publish();
        });
        let mut payload = Vec::new();
        if let Some(first) = consumer.pop(&mut payload).unwrap() {
            assert_eq!(first, of_kind(1));
            let second = consumer.pop(&mut payload).unwrap();
            assert_eq!(second, Some(of_kind(2)), "the second of a batch whose first was seen");
        }
        writer.join().unwrap();
    });
}

/// A reader that sleeps until it is called, a first time with a message taken and then again, and a writer that publishes
/// twice and calls once for each sleep.
#[test]
fn no_message_is_slept_through() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let (sleeping, futex) = (&*Box::leak(Box::new(AtomicU32::new(0))), Arc::new(Futex::new()));
        let writer = {
            let futex = futex.clone();
            loom::thread::spawn(move || {
                let mut wakes = Wakes::default();
                for _ in 0..2 {
                    producer.push(frame(0), &[]).unwrap();
                    wakes.after(sleeping, |_| {
                        producer.call();
                        futex.wake()
                    });
                }
            })
        };
        let mut sleeps = Sleeps::default();
        sleeps.begin(sleeping, FUTEX);
        sleeps.end(sleeping);
        consumer.pop(&mut Vec::new()).unwrap();
        let (calls, seen) = consumer.calls();
        sleeps.begin(sleeping, FUTEX);
        if consumer.is_empty() {
            futex.sleep(calls, seen);
        }
        writer.join().unwrap();
        assert!(!futex.sleeps_for_ever(), "a message was slept through");
    });
}

/// What a long payload has left where frames begin a lap later, and looks like marks, is never taken for one.
#[test]
fn payloads_forge_no_frames() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let long = 2 * LINE;
        producer.push(frame(long), &[&vec![1; long]]).unwrap();
        let mut payload = Vec::new();
        assert_eq!(consumer.pop(&mut payload).unwrap().unwrap().len as usize, long);
        let writer = loom::thread::spawn(move || {
            for _ in 0..2 {
                producer.push(frame(0), &[]).unwrap();
                producer.prepare();
            }
        });
        for _ in 0..3 {
            if let Some(frame) = consumer.pop(&mut payload).unwrap() {
                assert_eq!((frame.len, frame.kind), (0, 0), "a frame that nobody wrote");
            }
        }
        writer.join().unwrap();
    });
}

/// The same the other way: a writer that sleeps on the tail of a full ring.
#[test]
fn no_room_is_slept_through() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let (sleeping, futex) = (&*Box::leak(Box::new(AtomicU32::new(0))), Arc::new(Futex::new()));
        while producer.push(frame(0), &[]).is_ok() {}
        let reader = {
            let futex = futex.clone();
            loom::thread::spawn(move || {
                let mut wakes = Wakes::default();
                for _ in 0..2 {
                    consumer.pop(&mut Vec::new()).unwrap().unwrap();
                    wakes.after(sleeping, |_| futex.wake());
                }
            })
        };
        let mut sleeps = Sleeps::default();
        sleeps.begin(sleeping, FUTEX);
        let (tail, seen) = (producer.tail(), producer.tail().load(Ordering::Acquire));
        if producer.room(16).unwrap() < 16 {
            futex.sleep(tail, seen);
        }
        reader.join().unwrap();
        assert!(!futex.sleeps_for_ever(), "room was slept through");
    });
}

/// A reader that waits for its bell, which stays rung, whose writer rings once for each wait.
#[test]
fn a_bell_is_rung_for_every_wait() {
    loom::model(|| {
        let (mut producer, mut consumer) = ends();
        let (sleeping, bell) = (&*Box::leak(Box::new(AtomicU32::new(0))), Arc::new(Mutex::new(false)));
        let writer = {
            let bell = bell.clone();
            loom::thread::spawn(move || {
                let mut wakes = Wakes::default();
                for _ in 0..2 {
                    producer.push(frame(0), &[]).unwrap();
                    wakes.after(sleeping, |_| {
                        *bell.lock().unwrap() = true;
                        true
                    });
                }
            })
        };
        let mut sleeps = Sleeps::default();
        sleeps.begin(sleeping, EVENT);
        sleeps.end(sleeping);
        *bell.lock().unwrap() = false;
        consumer.pop(&mut Vec::new()).unwrap();
        sleeps.begin(sleeping, EVENT);
        let waits = consumer.is_empty();
        writer.join().unwrap();
        assert!(!waits || consumer.is_empty() || *bell.lock().unwrap(), "a message nobody is told of");
    });
}
