//! What a receiver has of a message: its parts, read where they lie or copied.

use super::Receiver;
use crate::layout::{Frame, PAGE};
use crate::sync::{AtomicU32, Ordering};
use os::mapping::{Mapping, copy};
use std::sync::Arc;

/// What lies in a bulk area, to be given back.
pub(super) struct Bulk {
    pub at: usize,
    pub len: usize,
    pub kept_max: usize,
    pub released: &'static AtomicU32,
    /// What the sender is told then.
    pub read: u32,
}

impl Bulk {
    fn copy_to(&self, mapping: &Mapping, to: &mut [u8]) {
        assert_eq!(to.len(), self.len, "the target has the length of the source");
        // SAFETY: `pop` has checked that the area holds as many bytes.
        unsafe { copy(mapping.at(self.at), to.as_mut_ptr(), to.len()) };
    }

    fn append_to(&self, mapping: &Mapping, to: &mut Vec<u8>) {
        to.reserve(self.len);
        // SAFETY: `pop` has checked that the area holds as many bytes, and `to` has room for them, all of which are copied.
        unsafe {
            copy(mapping.at(self.at), to.as_mut_ptr().add(to.len()), self.len);
            to.set_len(to.len() + self.len);
        }
    }

    /// Whoever calls this reads it no more.
    fn release(&self, mapping: &Mapping) {
        if self.len > self.kept_max {
            // Failing to give pages back costs memory, not correctness.
            let _ = mapping.punch(self.at, self.len.next_multiple_of(PAGE));
        }
        self.released.store(self.read, Ordering::Release);
    }
}

/// A received message. Its bulk area is given back when it is dropped.
pub struct Message<'a> {
    pub(super) frame: Frame,
    pub(super) bulk: Option<Bulk>,
    pub(super) receiver: &'a mut Receiver,
}

impl Message<'_> {
    /// What the message is.
    pub fn kind(&self) -> u32 {
        self.frame.kind
    }

    /// Its head.
    pub fn head(&self) -> &[u8] {
        &self.receiver.payload[..self.frame.head as usize]
    }

    /// What of its body came through the ring.
    fn front(&self) -> &[u8] {
        &self.receiver.payload[self.frame.head as usize..]
    }

    /// Bytes of its body.
    pub fn body_len(&self) -> usize {
        self.front().len() + self.bulk.as_ref().map_or(0, |bulk| bulk.len)
    }

    /// Copies its body to `to`, which has just that length. The sender can change a long body while it is copied:
    /// validate the copy, never the original.
    pub fn copy_body(&self, to: &mut [u8]) {
        assert_eq!(to.len(), self.body_len(), "the target has the length of the body");
        let (front, tail) = to.split_at_mut(self.front().len());
        front.copy_from_slice(self.front());
        if let Some(bulk) = &self.bulk {
            bulk.copy_to(&self.receiver.mapping, tail);
        }
    }

    /// Its body.
    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.body_len());
        body.extend_from_slice(self.front());
        if let Some(bulk) = &self.bulk {
            bulk.append_to(&self.receiver.mapping, &mut body);
        }
        body
    }

    /// Whether what came through the ring is not all of its body, and not nothing of it.
    pub fn has_tail(&self) -> bool {
        self.bulk.is_some() && !self.front().is_empty()
    }

    /// Its body as it has come: what came through the ring, and what lies in a bulk area.
    pub fn split(mut self) -> (Vec<u8>, Option<Tail>) {
        let (front, mapping) = (self.front().to_vec(), &self.receiver.mapping);
        let tail = self.bulk.take().map(|bulk| {
            if bulk.at == self.receiver.bulks[0] {
                return Tail(Box::new(Place::Lent { bulk, mapping: mapping.clone() }));
            }
            let mut copied = Vec::new();
            bulk.append_to(mapping, &mut copied);
            bulk.release(mapping);
            Tail(Box::new(Place::Copied(copied)))
        });
        (front, tail)
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        if let Some(bulk) = &self.bulk {
            bulk.release(&self.receiver.mapping);
        }
    }
}

/// The end of a body, where its sender has put it together, or a copy. Outlives the channel; the room is given back when it is dropped.
pub struct Tail(Box<Place>);

enum Place {
    // Declared before the mapping that its reference points into, so it is dropped first.
    Lent { bulk: Bulk, mapping: Arc<Mapping> },
    Copied(Vec<u8>),
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tail({} bytes)", self.len())
    }
}

/// A tail whose bytes are read where they lie.
pub struct InPlace(Tail);

impl Tail {
    pub fn len(&self) -> usize {
        match &*self.0 {
            Place::Lent { bulk, .. } => bulk.len,
            Place::Copied(bytes) => bytes.len(),
        }
    }

    /// Whether it has no bytes (it never is: messages without any have no tail).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, to be read where they lie. A sender that is not trusted may change them at any time: hand them to the kernel, or copy
    /// them, and believe nothing that was found by looking at them.
    pub fn in_place(self) -> InPlace {
        InPlace(self)
    }
}

impl AsRef<[u8]> for InPlace {
    fn as_ref(&self) -> &[u8] {
        match &*self.0.0 {
            // SAFETY: `pop` has checked that the area holds as many bytes, and the mapping is kept. An honest sender writes nothing
            // there until `release`. Another one's writes change the bytes that are read, as those of a file that is mapped: any is
            // a valid one, and whoever reads is told to draw no conclusions.
            Place::Lent { bulk, mapping } => unsafe { std::slice::from_raw_parts(mapping.at(bulk.at), bulk.len) },
            Place::Copied(bytes) => bytes,
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if let Place::Lent { bulk, mapping } = &*self.0 {
            bulk.release(mapping);
        }
    }
}
