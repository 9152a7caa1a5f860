//! The ring as it is, under every interleaving of its two ends.

use super::*;

const SIZE: usize = 64;

fn ends() -> (Producer<'static>, Consumer<'static>) {
    // A leak per interleaving, of a few words: the ends go to threads, which want them to live for ever.
    let word = || &*Box::leak(Box::new(AtomicU32::new(0)));
    let (bytes, head, tail) = (Bytes::new(SIZE), word(), word());
    (Producer::over(bytes.clone(), head, tail), Consumer::over(bytes, head, tail))
}

fn frame(len: usize) -> Frame {
    Frame { len: len as u32, head: 0, bulk: 0, kind: 0 }
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
            producer.stage(frame(4), [&[1u8; 4][..]].into_iter()).unwrap();
            producer.stage(frame(4), [&[2u8; 4][..]].into_iter()).unwrap();
            producer.publish();
        });
        let mut payload = Vec::new();
        if consumer.pop(&mut payload).unwrap().is_some() {
            assert_eq!(payload, [1; 4]);
            assert!(consumer.pop(&mut payload).unwrap().is_some(), "the second of a batch whose first was seen");
            assert_eq!(payload, [2; 4]);
        }
        writer.join().unwrap();
    });
}
