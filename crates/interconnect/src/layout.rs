//! Where everything lies in a channel's region, version 3.
//!
//! ```text
//! 0      64     128    192    256    320           4096          +RING       +RING        +2 bulk        +2 bulk
//! ├──────┼──────┼──────┼──────┼──────┼─ … ─────────┼─────────────┼───────────┼──────────────┼──────────────┤
//! │header│down  │down  │up    │up    │ unused      │ down: ring  │ up: ring  │ down: bulks  │ up: bulks    │
//! │      │prod. │cons. │prod. │cons. │             │             │           │ first│second │ first│second │
//! └──────┴──────┴──────┴──────┴──────┴─────────────┴─────────────┴───────────┴──────────────┴──────────────┘
//! ```
//!
//! *Down* is from host to guest, *up* the other way. A producer's line holds its count of calls, written by the producer alone for a consumer that sleeps; a
//! consumer's line holds its tail, its sleeping word and, for each bulk area, its count of released messages, written by the
//! consumer alone. Each line is a cache line. Pages are allocated when first touched, so the bulk areas cost nothing unused.

/// "lichench", read as a little-endian number.
pub const MAGIC: u64 = 0x6863_6e65_6863_696c;
/// Changes with every change of this layout.
pub const VERSION: u32 = 3;

/// Bytes of one ring: a power of two.
pub const RING: usize = 16 * 1024;
/// The longest payload, head and body together, that goes through a ring; what is longer goes through a bulk area.
pub const INLINE_MAX: usize = 8 * 1024;
/// Bulk areas are given in multiples of this.
pub const PAGE: usize = 4096;
/// Bulk areas each way: while what lies in one is lent to somebody who takes his time, the other serves.
pub const BULKS: usize = 2;
/// Set in a frame's bulk length if it lies in the second area.
pub const SECOND: u32 = 1 << 31;

/// Byte offsets of the lines within the first page.
pub const DOWN_PRODUCER: usize = 64;
pub const DOWN_CONSUMER: usize = 128;
pub const UP_PRODUCER: usize = 192;
pub const UP_CONSUMER: usize = 256;
/// Where the rings begin.
pub const RINGS: usize = PAGE;

/// What precedes every payload in a ring. Frames begin with a cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of payload that follow, padding not counted. In the ring it is one more, and 0 while there is no frame: the
    /// frame's mark.
    pub len: u32,
    /// Bytes of the payload that are the message's head; the rest is its body, or the beginning of it.
    pub head: u32,
    /// Bytes of the body that lie at the start of a bulk area, and which area: the end of the body.
    pub bulk: u32,
    /// What the message is: its users' business.
    pub kind: u32,
}

/// Bytes of a [`Frame`].
pub const FRAME: usize = 16;
/// Frames, with their payloads, are padded to multiples of this, so a header never wraps. (Models have less of all.)
pub const LINE: usize = if cfg!(loom) { FRAME } else { 64 };

const _: () = assert!(size_of::<Frame>() == FRAME && align_of::<Frame>() == 4, "the frame header is part of the ABI");
const _: () = assert!(RING.is_power_of_two() && crate::ring::padded(INLINE_MAX) + LINE <= RING);

/// Bytes of a whole region with bulk areas of `bulk` bytes each.
pub const fn region_bytes(bulk: usize) -> usize {
    RINGS + 2 * RING + 2 * BULKS * bulk
}
