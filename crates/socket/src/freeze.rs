//! Keeping senders out of their records while the broker takes memory from those that nobody uses.
//!
//! ```text
//!   sender:  hand = 1 ─▶ fence ─▶ look at frozen: 0 → take and write records ─▶ hand = 0; else hand = 0, do without
//!   broker:  frozen = 1 ─▶ fence ─▶ look at each hand: all 0 → no record is written until frozen = 0
//! ```
//!
//! At least one of the two sees what the other wrote (Dekker). Nobody waits: a sender that is kept out has its local record,
//! and a broker that finds a hand up comes again later. Whoever lies about its hand loses bytes of its own.

use crate::sync::{AtomicU32, Ordering, fence};

/// The sender puts its hand up: whether records may be written. If not, it is down again.
pub(crate) fn enter(hand: &AtomicU32, frozen: &AtomicU32) -> bool {
    hand.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    // What the broker did before it let senders in again is done.
    let free = frozen.load(Ordering::Acquire) == 0;
    if !free {
        leave(hand);
    }
    free
}

/// The sender puts its hand down: all it wrote before is written.
pub(crate) fn leave(hand: &AtomicU32) {
    hand.store(0, Ordering::Release);
}

/// The broker keeps all senders out that are not in.
pub fn freeze(frozen: &AtomicU32) {
    frozen.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
}

/// The broker lets them in again: what it has done is done.
pub fn thaw(frozen: &AtomicU32) {
    frozen.store(0, Ordering::Release);
}

/// Whether a sender is out.
pub(crate) fn is_out(hand: &AtomicU32) -> bool {
    hand.load(Ordering::Acquire) == 0
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    /// For every interleaving: no record is written while the broker is at it, and a sender that comes later sees what the
    /// broker did.
    #[test]
    fn broker_and_sender_are_never_both_in() {
        loom::model(|| {
            let shared = Arc::new((AtomicU32::new(0), AtomicU32::new(0), UnsafeCell::new(0u8)));
            let sender = {
                let shared = shared.clone();
                loom::thread::spawn(move || {
                    let (hand, frozen, record) = &*shared;
                    for _ in 0..2 {
                        if enter(hand, frozen) {
                            // SAFETY: loom fails the model if anybody else is in the cell.
                            record.with_mut(|byte| unsafe { *byte += 1 });
                            leave(hand);
                        }
                    }
                })
            };
            let (hand, frozen, record) = &*shared;
            freeze(frozen);
            if is_out(hand) {
                // SAFETY: as above.
                record.with_mut(|byte| unsafe { *byte = 0 });
            }
            thaw(frozen);
            sender.join().unwrap();
        });
    }
}
