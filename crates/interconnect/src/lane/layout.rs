//! Where everything lies in a lane's region, version 1.
//!
//! ```text
//! 0       128       256       384        4096         +ring                   +bulk
//! ├───────┼─────────┼─────────┼─ … ──────┼────────────┼───────────────────────┤
//! │header │producer │consumer │ unused   │ ring       │ bulk (may be none)    │
//! └───────┴─────────┴─────────┴──────────┴────────────┴───────────────────────┘
//!          head      tail
//!          sleeping  sleeping
//!                    released
//! ```
//!
//! The producer's words are written by the writer alone, the consumer's by the reader alone; each pair of cache lines, as
//! processors fetch them, belongs to one of them. Pages are allocated when first touched: an idle lane that was never
//! written to has one.

use crate::layout::{FRAME, PAGE};
use crate::region::Header;

/// "lichlane", read as a little-endian number.
pub const MAGIC: u64 = 0x656e_616c_6863_696c;
/// Changes with every change of this layout.
pub const VERSION: u32 = 1;

/// Byte offsets of the words.
pub const HEAD: usize = 128;
pub const WRITER_SLEEPING: usize = 132;
pub const TAIL: usize = 256;
pub const READER_SLEEPING: usize = 260;
pub const RELEASED: usize = 264;
/// Where the ring begins.
pub const RING: usize = PAGE;

/// The smallest and the largest ring.
pub const RING_MIN: usize = PAGE;
pub const RING_MAX: usize = 1 << 20;
/// The longest message that any lane can be made for.
pub const MESSAGE_LIMIT: usize = 1 << 30;

/// The longest piece of a message in one frame: what is copied before the reader can begin to.
pub const PIECE: usize = 16 * 1024;

/// Kinds of frames: a message whole, the first piece of one (`bulk` says the whole length), a further piece, a message in
/// the bulk area (`bulk` says its length).
pub const WHOLE: u32 = 0;
pub const FIRST: u32 = 1;
pub const FURTHER: u32 = 2;
pub const BULK: u32 = 3;

/// The longest message that goes through a ring of `ring` bytes; longer ones go through the bulk area.
pub const fn ring_max(ring: usize) -> usize {
    ring / 2
}

/// Bytes that a message of `len` bytes takes in the ring.
pub const fn ring_bytes(len: usize) -> usize {
    let pieces = if len == 0 { 1 } else { len.div_ceil(PIECE) };
    len.next_multiple_of(FRAME) + pieces * FRAME
}

/// Bytes of the bulk area of a lane for messages of up to `message_max` bytes.
pub const fn bulk_bytes(ring: usize, message_max: usize) -> usize {
    if message_max <= ring_max(ring) { 0 } else { message_max.next_multiple_of(PAGE) }
}

/// How long a lane's region is whose header says this: `bulk` is the length of its longest message.
pub fn whole(header: &Header) -> Option<usize> {
    let (ring, message_max) = (header.ring as usize, usize::try_from(header.bulk).ok()?);
    let ring_fits = ring.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&ring);
    (ring_fits && message_max <= MESSAGE_LIMIT).then(|| RING + ring + bulk_bytes(ring, message_max))
}

const _: () = assert!(PIECE.is_multiple_of(FRAME) && ring_bytes(ring_max(RING_MIN)) <= RING_MIN);
const _: () = assert!(ring_bytes(ring_max(RING_MAX)) <= RING_MAX);
