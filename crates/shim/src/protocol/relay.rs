//! Lanes whose ends share no memory: what is written goes as frames, with credit for each lane.
//!
//! ```text
//!   writer ─ lane ─▶ its shim ──Frame─▶ head ──Frame─▶ reader's shim ─ lane ─▶ reader
//!                            ◀─Credit──      ◀─Credit──        as much as the reader has taken
//! ```
//!
//! The reader's shim gives to its reader only what comes before it ends its side: frames that are on their way when a right
//! is revoked reach nobody. A lane that is closed is ended after its last frame, and the end takes the same way or a longer
//! one, so it does not overtake that.

use super::message::{Body, FRAME_MAX, WINDOW};
use super::step::Action;
use super::{EndId, Node, Place};

impl Node {
    /// From this PU's writer. The daemon keeps to the credit it was given; what is beyond is not sent.
    pub(super) fn frame_out(&mut self, lane: EndId, bytes: Vec<u8>) {
        let Some(writer) = self.ends.writers.get_mut(&lane).filter(|writer| writer.flows()) else { return };
        let Some(reader) = writer.reader() else { return };
        let left = writer.credit.zip(length(&bytes)).and_then(|(credit, length)| credit.checked_sub(length));
        if let Some(left) = left {
            writer.credit = Some(left);
            self.tell(Place::of_end(reader), Body::Frame { lane, bytes });
        }
    }

    pub(super) fn frame_in(&mut self, from: Place, lane: EndId, bytes: Vec<u8>) {
        let Some(incoming) = self.ends.incoming.get_mut(&lane) else { return };
        if Place::of_end(lane) != from || !incoming.flows() {
            return;
        }
        let left = incoming.room.zip(length(&bytes)).and_then(|(room, length)| room.checked_sub(length));
        if let Some(left) = left {
            incoming.room = Some(left);
            self.out.push(Action::Frame { lane, bytes });
        }
    }

    /// This PU's reader has taken so much.
    pub(super) fn taken(&mut self, lane: EndId, bytes: u32) {
        let Some(incoming) = self.ends.incoming.get_mut(&lane) else { return };
        let Some(room) = incoming.room else { return };
        let bytes = bytes.min(WINDOW - room);
        incoming.room = Some(room + bytes);
        if bytes > 0 {
            self.tell(Place::of_end(lane), Body::Credit { lane, bytes });
        }
    }

    pub(super) fn credit(&mut self, from: Place, lane: EndId, bytes: u32) {
        let Some(writer) = self.ends.writers.get_mut(&lane).filter(|writer| writer.flows()) else { return };
        let (Some(credit), Some(reader)) = (writer.credit, writer.reader()) else { return };
        let bytes = bytes.min(WINDOW - credit);
        if Place::of_end(reader) == from && bytes > 0 {
            writer.credit = Some(credit + bytes);
            self.out.push(Action::Credit { lane, bytes });
        }
    }
}

fn length(bytes: &[u8]) -> Option<u32> {
    u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= FRAME_MAX)
}
