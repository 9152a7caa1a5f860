//! What the broker is shown of a connection, and told.

use super::{Entry, KEPT, OFFERS, state};
use crate::member::Held;
use crate::real;
use socket::member::Connection;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

impl Entry {
    /// What a broker is told of it, if it has memory, and which.
    pub fn told(&self) -> Option<(*const Held, Connection)> {
        let kept = KEPT[self.index].load(Acquire);
        let place = self.place.load(Relaxed);
        let connection =
            Connection { meeting: self.meeting.load(Relaxed), number: (place >> 1) as u16, side: (place & 1) as u8 };
        (self.state() == state::ATTACHED && !kept.is_null()).then_some((kept.cast_const(), connection))
    }

    /// The broker that it was offered to is gone: it is offered to the next one.
    pub fn offer_again(&self) {
        close_offer(self.index);
        self.calls.store(0, Relaxed);
        let _ = self.slot.state.compare_exchange(state::OFFERED, state::COUNTED, SeqCst, Relaxed);
    }

    /// The connection to the broker that speaks of this one.
    pub fn offer(&self) -> Option<RawFd> {
        let offer = OFFERS[self.index].load(Acquire);
        (offer > 0).then(|| offer - 1)
    }

    /// Keeps that connection, or ends it. One that has lost it for good is TCP.
    pub fn keep_offer(&self, offer: Option<RawFd>) {
        match offer {
            Some(offer) => {
                OFFERS[self.index].store(offer + 1, Release);
                let _ = self.slot.state.compare_exchange(state::COUNTED, state::OFFERED, SeqCst, Relaxed);
            }
            None => {
                close_offer(self.index);
                self.give_up();
            }
        }
    }

    pub fn end_offer(&self) {
        close_offer(self.index);
    }
}

/// Ends the connection to the broker that speaks of the slot of this number.
pub fn close_offer(index: usize) {
    if OFFERS[index].load(Relaxed) == 0 {
        return;
    }
    let offer = OFFERS[index].swap(0, AcqRel);
    if offer > 0 {
        // SAFETY: the descriptor is this library's, and nobody uses it any more.
        unsafe { real::close(offer - 1) };
    }
}
