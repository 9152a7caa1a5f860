//! Where everything lies in the memory of a pair, or of a pod, version 5.
//!
//! ```text
//! 0        4096     8192      + 16 × 4096             + CONNECTIONS × 4096         + CONNECTIONS × 2 × LOCAL
//! ├────────┼────────┼─ … ─────┼─ … ───────────────────┼─ … ────────────────────────┼─ … ─────────────────┼─ … ─────┤
//! │ header │ stores │ calls   │ ways of connection 0… │ local records of 0 → 1,    │ store 0: RECORDS    │ store 1 │
//! │        │        │ of each │ 0 → 1, then 1 → 0     │ 1 → 0 of connection 0…     │ claims, and records │ …       │
//! └────────┴────────┴─────────┴───────────────────────┴────────────────────────────┴─────────────────────┴─────────┘
//!
//!   a way     0           128          256             384               512                  1536
//!             │ sender's  │ receiver's │ sender's rest │ receiver's rest │ SEGMENTS words: parts │
//! ```
//!
//! A pair has two stores, its sides' own; a pod has one for each of its processes.
//! Each line is written by one side. What changes with every message lies apart from what changes rarely, by a pair of
//! cache lines, as processors fetch them. Pages are there once they are written to: a connection that nothing has gone
//! through has one, and a file of 800 MiB that nobody uses has three.

use crate::sync::{AtomicU32, AtomicU64};

/// "lichpair", read as a little-endian number.
pub const MAGIC: u64 = 0x7269_6170_6863_696c;
/// Changes with every change of this layout.
pub const VERSION: u32 = 5;

const PAGE: usize = 4096;
/// The most processes that share one memory.
pub const STORES_MAX: usize = 16;

/// Connections of a pair.
pub const CONNECTIONS: usize = 4096;
/// Bytes of a local record: each direction of each connection has one. A power of two.
pub const LOCAL: usize = if cfg!(loom) { 4 } else { 32 * 1024 };
/// Bytes of a record that streams take when their local one is full.
pub const RECORD: usize = if cfg!(loom) { 4 } else { 32 * 1024 };
/// Records that each side has to send through.
pub const RECORDS: usize = 4096;
/// Parts of a stream that can be there at once. A power of two.
pub const SEGMENTS: usize = if cfg!(loom) { 2 } else { 128 };
/// The most bytes of a write that lie beside the word that says that they are there.
pub const ECHO: usize = if cfg!(loom) { 2 } else { 40 };
/// The most bytes that can have been sent and not been received.
pub const MOST: u64 = (LOCAL + SEGMENTS * RECORD) as u64;

/// The first bytes of the memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub magic: u64,
    pub version: u32,
    pub stores: u32,
    pub connections: u32,
    pub records: u32,
    pub local: u32,
    pub segments: u32,
}

/// This layout's header, for memory with so many stores.
pub const fn header(stores: usize) -> Header {
    Header {
        magic: MAGIC,
        version: VERSION,
        stores: stores as u32,
        connections: CONNECTIONS as u32,
        records: RECORDS as u32,
        local: LOCAL as u32,
        segments: SEGMENTS as u32,
    }
}

/// What the sender of a way says.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct SenderLine {
    /// Bytes that were ever sent, over all connections that this way has served; marks count one each.
    pub head: AtomicU64,
    /// Parts that were ever begun.
    pub segments: AtomicU32,
    /// 1 while the sender may be writing to records.
    pub hand: AtomicU32,
    /// Which bytes the next words are a copy of: the position behind them, and their number in the last 8 bits. Written before
    /// they are; so they are these if it says so after they were read.
    pub echo: AtomicU64,
    /// What was sent last, if it was short: with `head`, in the one line of the cache that a waiting receiver looks at.
    pub last: [AtomicU64; ECHO.div_ceil(8)],
    /// Where the next connection begins: `head` and `segments` when the last sender left.
    pub base: AtomicU64,
    pub base_segments: AtomicU32,
    /// 1 while there is a sender.
    pub open: AtomicU32,
    /// The store that its records are of.
    pub store: AtomicU32,
    /// When it last sent something, by a clock that all processors of a unit share; in what order receivers take turns.
    pub sent_at: AtomicU64,
}

/// What the receiver of a way says.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct ReceiverLine {
    /// Bytes that were ever received, or [`GONE`] and how many had been sent when the receiver left.
    pub tail: AtomicU64,
    /// 1 while there is a receiver.
    pub open: AtomicU32,
}

/// The bit of a tail whose receiver has left.
pub const GONE: u64 = 1 << 63;

/// What an end says when it does not work: whether and why it sleeps, and what else those who wake it agree on.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct Rest {
    /// 0 while its owner is awake; else why it sleeps, and how to wake it.
    pub sleep: AtomicU32,
    /// The processor on which its owner last ran, and 1 more.
    pub cpu: AtomicU32,
    /// For those above.
    pub notes: [AtomicU64; 15],
}

/// One direction of a connection.
#[repr(C)]
#[derive(Debug)]
pub struct Way {
    pub sender: SenderLine,
    pub receiver: ReceiverLine,
    pub sender_rest: Rest,
    pub receiver_rest: Rest,
    /// Where parts begin (the lower half of its position) and lie (a place, the upper half), modulo [`SEGMENTS`].
    pub segments: [AtomicU64; SEGMENTS],
}

/// A part's place: a record's number, or this and an offset in the local record, or [`MARK`] and a mark.
pub const LOCAL_AT: u32 = 1 << 30;
/// Between bytes of the stream: one that is none, and says what follows.
pub const MARK: u32 = 1 << 31;

/// What a side says of one of its records: which way has taken it (its number and 1 more; 0 if none ever has, [`FREE`] and
/// the last one if it has come back), and the position behind its last byte (`u64::MAX` while it is being filled).
#[repr(C)]
#[derive(Debug, Default)]
pub struct Claim {
    pub end: AtomicU64,
    pub way: AtomicU32,
    unused: u32,
}

/// The bit of a claim on a record that has come back.
pub const FREE: u32 = 1 << 31;

/// What a process says of its store.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct StoreLine {
    /// Records that it has ever taken are those below this one.
    pub top: AtomicU32,
    /// Connections that it has ever opened are those below this one.
    pub opened: AtomicU32,
}

/// Calls that are kept. A power of two.
pub const CALLED: usize = if cfg!(loom) { 2 } else { 512 };
/// Sets of a process that have a word of their own, those numbered from 1 on.
pub const SETS: usize = if cfg!(loom) { 2 } else { 64 };

/// Which of a process's sets sleep, and which of their sleeps it is ([`crate::calls::Sleep`]); or 0.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Asleep(pub [AtomicU64; SETS]);

/// What a process says to those who sleep, and of its own sleep.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Calls {
    /// Ways that it ever wrote down.
    pub written: AtomicU32,
    /// Those that it wrote down last, modulo [`CALLED`].
    pub ways: [AtomicU32; CALLED],
    pub asleep: Asleep,
}

pub const STORE_LINES: usize = PAGE;
pub const CALLS: usize = 2 * PAGE;
pub const WAYS: usize = CALLS + STORES_MAX * PAGE;
/// Bytes of a way.
pub const WAY: usize = 2048;
pub const LOCALS: usize = WAYS + CONNECTIONS * 2 * WAY;
pub const STORES: usize = LOCALS + CONNECTIONS * 2 * LOCAL;
/// Bytes of a store's claims, and of all of it.
pub const CLAIMS: usize = RECORDS * size_of::<Claim>();
pub const STORE: usize = CLAIMS + RECORDS * RECORD;

/// Bytes of the whole.
pub const fn whole(stores: usize) -> usize {
    STORES + stores * STORE
}

/// Where a process's words about its store are.
pub const fn store_line(store: usize) -> usize {
    STORE_LINES + store * 128
}

/// Where what it says to those who sleep is.
pub const fn calls(store: usize) -> usize {
    CALLS + store * PAGE
}

/// Where what a process says of one of its records is.
pub const fn claim(store: usize, record: usize) -> usize {
    STORES + store * STORE + record * size_of::<Claim>()
}

/// Where a store's records begin.
pub const fn records(store: usize) -> usize {
    STORES + store * STORE + CLAIMS
}

/// Where the words of the direction are in which `side` of a connection sends.
pub const fn way(connection: usize, side: usize) -> usize {
    WAYS + way_number(connection, side) as usize * WAY
}

/// Where the local record is through which `side` sends.
pub const fn local(connection: usize, side: usize) -> usize {
    LOCALS + way_number(connection, side) as usize * LOCAL
}

/// The number of the direction in which `side` sends.
pub const fn way_number(connection: usize, side: usize) -> u32 {
    (connection * 2 + side) as u32
}

const _: () = assert!(LOCAL.is_power_of_two() && SEGMENTS.is_power_of_two() && MOST < 1 << 31);
const _: () = assert!(RECORDS < LOCAL_AT as usize);
const _: () = assert!(LOCAL <= LOCAL_AT as usize);
#[cfg(not(loom))]
const _: () = {
    use std::mem::offset_of;
    assert!(size_of::<Header>() == 32);
    assert!(size_of::<SenderLine>() == 128 && size_of::<ReceiverLine>() == 128 && size_of::<Rest>() == 128);
    assert!(offset_of!(SenderLine, last) + ECHO == 64 && ECHO.is_multiple_of(8) && ECHO < 256);
    assert!(offset_of!(Way, receiver) == 128 && offset_of!(Way, sender_rest) == 256);
    assert!(offset_of!(Way, receiver_rest) == 384 && offset_of!(Way, segments) == 512);
    assert!(size_of::<Way>() == 512 + 8 * SEGMENTS && size_of::<Way>() <= WAY);
    assert!(size_of::<Claim>() == 16 && size_of::<StoreLine>() == 128 && STORES_MAX * 128 <= PAGE);
    assert!(size_of::<Calls>() <= PAGE && CALLED.is_power_of_two() && SETS.is_power_of_two());
    assert!(offset_of!(Calls, ways) == 4 && offset_of!(Calls, asleep) == 2176);
    assert!(WAYS.is_multiple_of(PAGE) && (2 * WAY).is_multiple_of(PAGE) && LOCAL.is_multiple_of(PAGE));
    assert!(STORES.is_multiple_of(PAGE) && CLAIMS.is_multiple_of(PAGE) && RECORD.is_multiple_of(PAGE));
};
