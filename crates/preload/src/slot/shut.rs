//! What a program has shut of a connection, by `shutdown`.
//!
//! To a side that is shut for receiving alone, Linux's TCP gives what comes as before, and so does memory. If both are shut, TCP answers what
//! comes by a reset: so nothing that is sent from then on is received from memory, and whoever sends it is told by TCP.

use super::Slot;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

const RECEIVING: u32 = 1;
const SENDING: u32 = 2;

impl Slot {
    /// The kernel has shut it so.
    pub fn shut(&self, how: libc::c_int) {
        let sides = match how {
            libc::SHUT_RD => RECEIVING,
            libc::SHUT_WR => SENDING,
            _ => RECEIVING | SENDING,
        };
        self.shut.fetch_or(sides, SeqCst);
        self.obey();
    }

    /// If both sides are shut, nothing goes through memory any more, or will; asked after either is changed, the sides or the memory.
    pub(super) fn obey(&self) {
        if self.shut.load(SeqCst) == RECEIVING | SENDING {
            self.give_up();
            if let Some(incoming) = self.receiving.lock().as_mut() {
                incoming.shut();
            }
        }
    }

    /// Whether it was shut for receiving: the kernel calls that the other end's having shut it.
    pub fn is_deaf(&self) -> bool {
        self.shut.load(Relaxed) & RECEIVING != 0
    }
}
