//! The memory that answers' bodies share, wherever in the node they are: a body's share is given back when the last
//! reference to it goes.
//!
//! Nobody waits for memory: those who hold it may be waiting for the one who would.

use crate::failure::Failure;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const KIB: usize = 1024;

/// What all bodies share.
#[derive(Clone)]
pub struct Room(Arc<Semaphore>);

/// A body that grows.
pub struct Growing {
    room: Arc<Semaphore>,
    share: Option<OwnedSemaphorePermit>,
    /// Before there is a second piece, the first one is not copied.
    first: Bytes,
    rest: BytesMut,
    limit: usize,
}

struct Counted {
    bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    pub fn new(mib: u32) -> Self {
        Self(Arc::new(Semaphore::new((mib as usize * KIB).min(Semaphore::MAX_PERMITS))))
    }

    /// A body of up to `limit` bytes, which says itself that it will have so many.
    pub fn body(&self, announced: Option<u64>, limit: usize) -> Result<Growing, Failure> {
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(Failure::BodyTooLong { limit });
        }
        let room = self.0.clone();
        Ok(Growing { room, share: None, first: Bytes::new(), rest: BytesMut::new(), limit })
    }

    /// Bytes that are there already.
    pub fn whole(&self, bytes: Bytes, limit: usize) -> Result<Bytes, Failure> {
        let mut body = self.body(Some(bytes.len() as u64), limit)?;
        body.push(bytes)?;
        Ok(body.done())
    }
}

impl Growing {
    pub fn push(&mut self, data: Bytes) -> Result<(), Failure> {
        let length = self.first.len() + self.rest.len() + data.len();
        if length > self.limit {
            return Err(Failure::BodyTooLong { limit: self.limit });
        }
        self.take(length)?;
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = data;
            return Ok(());
        }
        self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        self.rest.extend_from_slice(&data);
        Ok(())
    }

    /// Memory for so many bytes, a good deal at once.
    fn take(&mut self, length: usize) -> Result<(), Failure> {
        let has = self.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wants = length.div_ceil(KIB);
        if wants <= has {
            return Ok(());
        }
        let more = u32::try_from(wants - has).unwrap_or(u32::MAX);
        let more = self.room.clone().try_acquire_many_owned(more).map_err(|_| Failure::Memory)?;
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        Ok(())
    }

    pub fn done(self) -> Bytes {
        let bytes = if self.rest.is_empty() { self.first } else { self.rest.freeze() };
        if bytes.is_empty() { bytes } else { Bytes::from_owner(Counted { bytes, _share: self.share }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_their_memory_and_give_it_back() {
        let room = Room::new(1);
        let piece = |length: usize| Bytes::from(vec![7; length]);
        let mut body = room.body(None, 1 << 20).unwrap();
        body.push(piece(600 << 10)).unwrap();
        body.push(piece(100 << 10)).unwrap();
        let first = body.done();
        assert_eq!(first.len(), 700 << 10);
        assert!(matches!(room.whole(piece(400 << 10), 1 << 20), Err(Failure::Memory)));
        let part = first.slice(..1);
        drop(first);
        assert!(matches!(room.whole(piece(400 << 10), 1 << 20), Err(Failure::Memory)), "a part of it is still held");
        drop(part);
        assert_eq!(room.whole(piece(400 << 10), 1 << 20).unwrap().len(), 400 << 10);
    }

    #[test]
    fn bodies_end_at_their_limit() {
        let room = Room::new(1);
        assert!(matches!(room.body(Some(11), 10), Err(Failure::BodyTooLong { limit: 10 })));
        let mut body = room.body(Some(3), 10).unwrap();
        body.push(Bytes::from_static(b"0123456789")).unwrap();
        assert!(matches!(body.push(Bytes::from_static(b"x")), Err(Failure::BodyTooLong { .. })));
        assert!(room.body(None, 10).unwrap().done().is_empty());
    }
}
