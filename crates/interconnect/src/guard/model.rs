//! Cutting a lane under every interleaving with its ends.

use super::*;
use crate::sync::Futex;
use loom::cell::UnsafeCell;
use loom::sync::Arc;

struct Words {
    hand: AtomicU32,
    cut: AtomicU32,
    news: AtomicU32,
}

fn words() -> Arc<Words> {
    let zero = || AtomicU32::new(0);
    Arc::new(Words { hand: zero(), cut: zero(), news: zero() })
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

/// Whoever goes to sleep on `news` has seen the cut, or does not begin to sleep as the word has moved, or is woken.
#[test]
fn no_cut_is_slept_through() {
    loom::model(|| {
        let (words, futex) = (words(), Arc::new(Futex::new()));
        let shim = {
            let (words, futex) = (words.clone(), futex.clone());
            loom::thread::spawn(move || {
                cut(&words.cut, &words.news, Cause::Died);
                futex.wake();
            })
        };
        let news = words.news.load(Ordering::Acquire);
        if verdict(&words.cut).is_none() {
            futex.sleep(&words.news, news);
        }
        shim.join().unwrap();
        assert!(!futex.sleeps_for_ever(), "a cut was slept through");
    });
}
