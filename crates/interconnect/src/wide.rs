//! A second, wide ring that a lane's writer moves into while it streams, and out of so that its memory can be given back:
//! who may be in it when.
//!
//! ```text
//!   writer: notice even ─▶ in ┄ before each write: hand = 1 ─▶ fence ─▶ notice as it was? write, publish ─▶ hand = 0
//!                                                                        └ no: hand = 0, out
//!   reader: ask: notice odd ─▶ fence ┄ hand = 0, then nothing in the ring? give its pages back ─▶ notice even
//! ```
//!
//! Each word has one writer. Once the reader has asked and has seen the hand down, nothing is written to the wide ring any
//! more until the notice is even again (Dekker, as in [`crate::doorbell`]), and all that had been written is there to be seen.
//! The reader never takes a notice back, so nobody waits for a decision: a writer that sees one goes on in the usual ring. A
//! peer that does not keep to this loses its own messages, or finds the rings full. When to move is not known here.

use crate::sync::{AtomicU32, Ordering, fence};

/// The writer's side.
#[derive(Debug, Default)]
pub(crate) struct Tenant {
    /// The notice at which it moved in, while it is in.
    term: Option<u32>,
}

impl Tenant {
    /// Whether it is in, as far as it knows.
    pub fn is_in(&self) -> bool {
        self.term.is_some()
    }

    /// Moves in, if the reader has left nothing to be done.
    pub fn enter(&mut self, notice: &AtomicU32) -> bool {
        let notice = notice.load(Ordering::Acquire);
        self.term = notice.is_multiple_of(2).then_some(notice);
        self.is_in()
    }

    /// Has not moved in after all: nothing was written.
    pub fn leave(&mut self, hand: &AtomicU32) {
        self.term = None;
        lower(hand);
    }

    /// Before a write; to be followed by a fence (that of [`crate::guard::begin`]) and [`Tenant::stays`].
    pub fn raise(&self, hand: &AtomicU32) {
        if self.is_in() {
            hand.store(1, Ordering::Relaxed);
        }
    }

    /// After the fence: whether it may write to the wide ring. If not it is out, and its hand down.
    pub fn stays(&mut self, hand: &AtomicU32, notice: &AtomicU32) -> bool {
        let stays = self.term.is_some_and(|term| notice.load(Ordering::Relaxed) == term);
        if !stays && self.is_in() {
            self.leave(hand);
        }
        stays
    }
}

/// All that was written is published.
pub(crate) fn lower(hand: &AtomicU32) {
    hand.store(0, Ordering::Release);
}

/// The reader's side.
#[derive(Debug, Default)]
pub(crate) struct Landlord {
    notice: u32,
}

impl Landlord {
    /// Whether it has asked, and has not had the ring back yet.
    pub fn has_asked(&self) -> bool {
        !self.notice.is_multiple_of(2)
    }

    /// Asks the writer to leave.
    pub fn ask(&mut self, notice: &AtomicU32) {
        self.notice = self.notice.wrapping_add(1);
        notice.store(self.notice, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether the writer that was asked has gone: what is in the ring now is all there is.
    pub fn is_alone(&self, hand: &AtomicU32) -> bool {
        self.has_asked() && hand.load(Ordering::Acquire) == 0
    }

    /// The ring is empty and its memory given back: the writer may move in again.
    pub fn settle(&mut self, notice: &AtomicU32) {
        self.notice = self.notice.wrapping_add(1);
        notice.store(self.notice, Ordering::Release);
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    struct Words {
        hand: AtomicU32,
        notice: AtomicU32,
        wide: UnsafeCell<u32>,
        mark: AtomicU32,
    }

    /// For every interleaving of two writes with one request: nobody is in the ring while its memory is given back, and
    /// nothing that was written there is given back unread.
    #[test]
    fn memory_is_given_back_when_nobody_uses_it() {
        loom::model(|| {
            let zero = || AtomicU32::new(0);
            let words = Arc::new(Words { hand: zero(), notice: zero(), wide: UnsafeCell::new(0), mark: zero() });
            let writer = {
                let words = words.clone();
                loom::thread::spawn(move || {
                    let mut tenant = Tenant::default();
                    let mut written = 0;
                    tenant.enter(&words.notice);
                    for message in 1..=2 {
                        tenant.raise(&words.hand);
                        fence(Ordering::SeqCst);
                        if tenant.stays(&words.hand, &words.notice) {
                            // SAFETY: loom fails the model if the reader is in the cell.
                            words.wide.with_mut(|cell| unsafe { *cell = message });
                            words.mark.store(message, Ordering::Release);
                            written = message;
                            lower(&words.hand);
                        }
                    }
                    written
                })
            };
            let mut landlord = Landlord::default();
            landlord.ask(&words.notice);
            let mut seen = None;
            if landlord.is_alone(&words.hand) {
                seen = Some(words.mark.load(Ordering::Acquire));
                // SAFETY: loom fails the model if the writer is in the cell, or comes later without having seen this.
                words.wide.with_mut(|cell| unsafe { *cell = 0 });
                landlord.settle(&words.notice);
            }
            let written = writer.join().unwrap();
            // A writer that began after it was settled moved in anew.
            let after = words.wide.with(|cell| unsafe { *cell }) != 0;
            assert!(seen.is_none_or(|seen| seen == written || after), "{written} was given back, {seen:?} seen");
        });
    }
}
