//! Where everything lies in a lane's region, version 5.
//!
//! ```text
//! 0       128     256    384              512              640         4096   +ring               +wide                +bulk
//! ├───────┼───────┼──────┼────────────────┼────────────────┼───────────┼──────┼────────────────────┼─────────────────────┤
//! │header │calls, │ tail │reader_sleeping │writer_sleeping │ tail of   │ ring │ wide ring          │ bulk (may be none)  │
//! │       │when   │      │released, notice│hand            │ the wide  │      │ (may be none)      │                     │
//! └───────┴───────┴──────┴────────────────┴────────────────┴───────────┴──────┴────────────────────┴─────────────────────┘
//! ```
//!
//! `calls`, when that was last done and on which processor, `writer_sleeping` and `hand` are written by the writer alone, the others by the
//! reader alone. What changes with every message lies apart from what changes rarely, by a pair of cache lines, as processors
//! fetch them: each end keeps the other's sleeping word in its cache while both are busy. Pages are allocated when first
//! touched: an idle lane that was never written to has one. A lane whose ring is small by choice, or large, has no wide one
//! ([`crate::wide`]).

use crate::layout::{LINE, PAGE};
use crate::region::Header;
use crate::ring::padded;

/// "lichlane", read as a little-endian number.
pub const MAGIC: u64 = 0x656e_616c_6863_696c;
/// Changes with every change of this layout.
pub const VERSION: u32 = 5;

/// Byte offsets of the words.
pub const CALLS: usize = 128;
pub const CALLED_AT: usize = 136;
pub const CALLED_ON: usize = 144;
pub const TAIL: usize = 256;
pub const READER_SLEEPING: usize = 384;
pub const RELEASED: usize = 388;
pub const NOTICE: usize = 392;
pub const WRITER_SLEEPING: usize = 512;
pub const HAND: usize = 516;
pub const WIDE_TAIL: usize = 640;
/// Where the ring begins.
pub const RING: usize = PAGE;

/// The smallest and the largest ring.
pub const RING_MIN: usize = PAGE;
pub const RING_MAX: usize = 8 << 20;
/// Bytes of a wide ring: several times a processor's own cache, so that what is read has left the writer's. Its pages are
/// there only while it streams.
const WIDE: usize = RING_MAX;
/// The longest message that any lane can be made for.
pub const MESSAGE_LIMIT: usize = 1 << 30;

/// Bytes of the wide ring of a lane whose usual ring has `ring` bytes; 0: it has none.
pub const fn wide_bytes(ring: usize) -> usize {
    if ring >= 64 * 1024 && ring < 1 << 20 { WIDE } else { 0 }
}

/// The longest piece of a message in one frame, in a ring of `ring` bytes: what is copied before the reader can begin to.
pub const fn piece(ring: usize) -> usize {
    if ring / 8 < PIECE_MAX { ring / 8 } else { PIECE_MAX }
}

const PIECE_MAX: usize = 512 * 1024;

/// Kinds of frames: a message whole, the first piece of one (`bulk` says the whole length), a further piece, a message in
/// the bulk area (`bulk` says its length); the writer goes on in the wide ring.
pub const WHOLE: u32 = 0;
pub const FIRST: u32 = 1;
pub const FURTHER: u32 = 2;
pub const BULK: u32 = 3;
pub const WIDEN: u32 = 4;

/// The longest message that goes through a ring of `ring` bytes; longer ones go through the bulk area.
pub const fn ring_max(ring: usize) -> usize {
    ring / 2
}

/// Bytes that a message of `len` bytes takes in a ring of `ring` bytes.
pub const fn ring_bytes(ring: usize, len: usize) -> usize {
    let (whole, rest) = (len / piece(ring), len % piece(ring));
    whole * padded(piece(ring)) + if rest > 0 || len == 0 { padded(rest) } else { 0 }
}

/// Bytes of the bulk area of a lane for messages of up to `message_max` bytes.
pub const fn bulk_bytes(ring: usize, message_max: usize) -> usize {
    if message_max <= ring_max(ring) { 0 } else { message_max.next_multiple_of(PAGE) }
}

/// How long a lane's region is whose header says this: `bulk` is the length of its longest message.
pub fn whole(header: &Header) -> Option<usize> {
    let (ring, message_max) = (header.ring as usize, usize::try_from(header.bulk).ok()?);
    let ring_fits = ring.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&ring);
    (ring_fits && message_max <= MESSAGE_LIMIT).then(|| RING + ring + wide_bytes(ring) + bulk_bytes(ring, message_max))
}

const _: () = assert!(ring_bytes(RING_MIN, ring_max(RING_MIN)) + LINE <= RING_MIN);
const _: () = assert!(ring_bytes(RING_MAX, ring_max(RING_MAX)) + LINE <= RING_MAX);
