//! What the shim does with a lane: makes its region, cuts it, clears it. It never takes part in the conversation.

use super::{Word, layout};
use crate::guard::{self, Cause};
use crate::region::{self, Header};
use rustix::fs::{FallocateFlags, fallocate};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use thiserror::Error;

/// How large a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSpec {
    /// Bytes of its ring: a power of two from 4 KiB to 8 MiB. Streams are quickest through one that is larger than a
    /// processor's own cache: what is read has then left the writer's.
    pub ring: usize,
    /// Bytes of the longest message, up to 1 GiB.
    pub message_max: usize,
}

impl Default for LaneSpec {
    /// A ring of 128 KiB, and messages as long as Lambda's with a header.
    fn default() -> Self {
        Self { ring: 128 * 1024, message_max: 6 * 1024 * 1024 + 1024 }
    }
}

/// Why a lane could not be made.
#[derive(Debug, Error)]
pub enum CreateError {
    #[error("a lane with a ring of {} bytes and messages of up to {} bytes cannot be made: the ring is a power of two from {} to {}, messages have up to {}", .0.ring, .0.message_max, layout::RING_MIN, layout::RING_MAX, layout::MESSAGE_LIMIT)]
    Spec(LaneSpec),
    #[error("a memory file for the lane could not be had")]
    Memory(#[source] io::Error),
}

/// Makes the region of a lane. Its memory is taken when it is used. Both ends get it, and one end of a bell each
/// ([`crate::doorbell::bells`]).
pub fn create(spec: LaneSpec) -> Result<OwnedFd, CreateError> {
    let ring = u32::try_from(spec.ring).map_err(|_| CreateError::Spec(spec))?;
    let header = Header { magic: layout::MAGIC, version: layout::VERSION, ring, bulk: spec.message_max as u64 };
    let bytes = layout::whole(&header).ok_or(CreateError::Spec(spec))?;
    region::create_apart("lichen-lane", header, bytes).map_err(CreateError::Memory)
}

/// Ends a lane for the end that looks at these words of its notice page, and wakes it if it sleeps on them. A lane has
/// two ends: both are to be told. May be called again with another cause.
pub fn cut(cut: &Word, news: &Word, cause: Cause) {
    guard::cut(cut, news, cause);
    crate::doorbell::wake_all(news);
}

/// Whether the writer whose hand this is, in a lane that was cut, writes no more.
pub fn is_quiet(hand: &Word) -> bool {
    guard::is_down(hand)
}

/// Gives the memory of a lane that was cut back to the kernel, whoever still maps it: what was in it reads as zeroes.
pub fn clear(region: impl AsFd) -> io::Result<()> {
    let bytes = rustix::fs::fstat(&region)?.st_size as u64;
    Ok(fallocate(region, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, bytes)?)
}
