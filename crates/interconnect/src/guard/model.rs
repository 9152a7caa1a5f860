//! Cutting a lane under every interleaving with its ends.

use super::*;
use loom::cell::UnsafeCell;
use loom::sync::Arc;

struct Words {
    hand: AtomicU32,
    cut: AtomicU32,
    news: AtomicU32,
    head: AtomicU32,
    sleeping: AtomicU32,
}

fn words() -> Arc<Words> {
    let zero = || AtomicU32::new(0);
    Arc::new(Words { hand: zero(), cut: zero(), news: zero(), head: zero(), sleeping: zero() })
}

/// Once the shim has cut and has seen the hand at rest, the lane's bytes are its own: loom fails the model if the writer
/// still writes any.
#[test]
fn nothing_is_written_after_a_cut_that_saw_the_hand_down() {
    loom::model(|| {
        let words = words();
        let bytes = Arc::new(UnsafeCell::new(0));
        let writer = {
            let (words, bytes) = (words.clone(), bytes.clone());
            loom::thread::spawn(move || {
                for _ in 0..2 {
                    if begin(&words.hand, &words.cut).is_err() {
                        return;
                    }
                    // SAFETY: loom fails the model if the shim is in the cell.
                    bytes.with_mut(|byte| unsafe { *byte += 1 });
                    end(&words.hand);
                }
            })
        };
        cut(&words.cut, &words.news, Cause::Revoked);
        if is_down(&words.hand) {
            // SAFETY: loom fails the model if the writer is in the cell, or comes later without having seen this.
            bytes.with_mut(|byte| unsafe { *byte = 0 });
        }
        writer.join().unwrap();
    });
}

/// A message written after the cut is never believed by the reader, though the writer obeys nothing.
#[test]
fn nothing_written_after_a_cut_is_believed() {
    loom::model(|| {
        let words = words();
        let message = Arc::new(AtomicU32::new(0));
        let reader = {
            let (words, message) = (words.clone(), message.clone());
            loom::thread::spawn(move || {
                let copied = message.load(Ordering::Relaxed);
                if verdict(&words.cut).is_none() {
                    assert_ne!(copied, 2, "a message from after the cut was delivered");
                }
            })
        };
        message.store(1, Ordering::Relaxed);
        cut(&words.cut, &words.news, Cause::Revoked);
        message.store(2, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

/// Whoever goes to sleep on the ring's head and on `news` either sees the message, sees the cut, is woken by the writer,
/// or does not begin to sleep, as a word has moved: loom has no futex, so what the kernel compares is compared here.
#[test]
fn neither_a_message_nor_a_cut_is_slept_through() {
    loom::model(|| {
        let words = words();
        let writer = {
            let words = words.clone();
            loom::thread::spawn(move || {
                words.head.store(1, Ordering::Release);
                crate::doorbell::sleeper(&words.sleeping) == crate::doorbell::FUTEX
            })
        };
        let shim = {
            let words = words.clone();
            loom::thread::spawn(move || cut(&words.cut, &words.news, Cause::Died))
        };
        let news = words.news.load(Ordering::Acquire);
        let told = verdict(&words.cut).is_some();
        crate::doorbell::announce(&words.sleeping, crate::doorbell::FUTEX);
        let seen = words.head.load(Ordering::Acquire) == 1;
        // The kernel's look, with the words' locks held: a wake after it finds the sleeper.
        let held = words.news.load(Ordering::Acquire) == news;
        let woken = writer.join().unwrap();
        shim.join().unwrap();
        assert!(seen || woken, "a message was slept through");
        // A cut before the first look was told; after it, `news` moves: before the kernel's look it does not sleep, after
        // it the shim's wake finds it.
        assert!(told || !held || words.news.load(Ordering::Acquire) != news, "a cut was slept through");
    });
}
