//! What a process and its shim share, version 2: two memory files and the messages of a socket. Drawn in docs/xpu.md.
//!
//! ```text
//!  call region: process and shim                       notice page: the shim writes, the process reads
//!  0       64       128      192      4096             0       64         4096            +4·slots
//!  ├───────┼────────┼────────┼─ … ────┼─────────       ├───────┼──────────┼───────────────┼───────────────
//!  │header │request │reply   │asleep, │hand[slot]      │header │the shim's│cut[slot]      │news[slot]
//!  │       │        │        │rung at │                │       │          │               │
//! ```
//!
//! Every word has one writer. What the process writes is hostile to the shim, which copies it once and then checks it. A
//! *slot* is one end of a lane, or one FIFO that the process reads. No meaning of a call is decided here.

use crate::id::{FifoId, Rights, XpuPid};

/// "lichenxc", read as a little-endian number.
pub const MAGIC: u64 = 0x6378_6e65_6863_696c;
/// Changes with every change of what stands here.
pub const VERSION: u32 = 2;

/// Byte offsets of the call region's lines.
pub const REQUEST: usize = 64;
pub const REPLY: usize = 128;
pub const ASLEEP: usize = 192;
pub const RUNG_AT: usize = 200;
/// Byte offsets of the notice page's words.
pub const SHIM_SLEEPS: usize = 64;
pub const ENDED: usize = 68;
/// Where the words of slots begin, in either.
pub const SLOTS: usize = 4096;

/// The first bytes of both memory files.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub magic: u64,
    pub version: u32,
    pub slots: u32,
}

/// A call, beside its number, which is the first word of its line and published last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Which call: [`call`].
    pub call: u32,
    pub reserved: u32,
    pub arguments: [u64; 4],
}

/// A call's answer, beside the number of the call, which is the first word of its line and published last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// 0, or why the call was refused: [`status`].
    pub status: u32,
    /// How many descriptors have been sent on the socket before this.
    pub descriptors: u32,
    pub values: [u64; 4],
}

/// Bytes of the call region and of the notice page.
pub const fn call_bytes(slots: u32) -> usize {
    (SLOTS + 4 * slots as usize).next_multiple_of(4096)
}
pub const fn notice_bytes(slots: u32) -> usize {
    (SLOTS + 8 * slots as usize).next_multiple_of(4096)
}

const _: () = assert!(size_of::<Header>() == 16 && size_of::<Request>() == 40 && size_of::<Reply>() == 40);
const _: () = assert!(REQUEST + 8 + size_of::<Request>() <= REPLY && REPLY + 8 + size_of::<Reply>() <= ASLEEP);

/// What a process can ask for.
pub mod call {
    /// Own id; with a FIFO and rights, also whether this process holds them: `fifo, rights` → `pid`.
    pub const IDENTIFY: u32 = 1;
    /// `fifo or 0, message_max or 0, ring or 0` → `fifo`.
    pub const CREATE: u32 = 2;
    /// `pid, fifo, rights`.
    pub const GRANT: u32 = 3;
    /// `pid, fifo, rights`.
    pub const REVOKE: u32 = 4;
    /// `fifo` → `slot`, with the descriptor of its news.
    pub const READER: u32 = 5;
    /// `fifo` → `slot, reader's pid or 0`, with the descriptors of the lane's region and bell.
    pub const WRITER: u32 = 6;
    /// `slot`.
    pub const CLOSE: u32 = 7;
    /// `fifo`: ends it.
    pub const RELEASE: u32 = 8;
    /// `pu`, and a [`Program`](crate::wire::Program) on the socket → `pid`.
    pub const SPAWN: u32 = 9;
}

/// Why a call was refused, as a number. The client makes an error of each operation of them.
pub mod status {
    pub const DONE: u32 = 0;
    pub const NO_SUCH_FIFO: u32 = 1;
    pub const NO_SUCH_PROCESS: u32 = 2;
    pub const NOT_PERMITTED: u32 = 3;
    /// With which resource, as the first value: [`quota`](super::quota).
    pub const QUOTA: u32 = 4;
    pub const FENCED: u32 = 5;
    pub const EXISTS: u32 = 6;
    pub const BUSY: u32 = 7;
    /// A call, or arguments of one, that do not exist.
    pub const INVALID: u32 = 8;
    /// The PU that is needed is not there (any more).
    pub const LOST: u32 = 9;
    /// The shim lacks memory or descriptors, with the error number as the first value.
    pub const RESOURCES: u32 = 10;
    /// The program could not be started, with the error number as the first value.
    pub const NOT_STARTED: u32 = 11;
    /// The PUs concerned share no memory, and nothing carries lanes between them.
    pub const NO_PATH: u32 = 12;
}

/// What a process can have too much of.
pub mod quota {
    pub const FIFOS: u64 = 1;
    pub const LANES: u64 = 2;
    pub const CAPABILITIES: u64 = 3;
    pub const MEMORY: u64 = 4;
    pub const CHILDREN: u64 = 5;
    pub const SLOTS: u64 = 6;
    pub const PROCESSES: u64 = 7;
    pub const CALLS: u64 = 8;
}

/// Why an attachment ended, in the notice page.
pub mod ended {
    /// It lives; or its shim is gone, and nobody has written why.
    pub const NOT: u32 = 0;
    /// The PU was cut off from the others.
    pub const FENCED: u32 = 1;
    /// It held a lane busy for longer than a revoke waits.
    pub const STUCK: u32 = 2;
    /// It did not read what it was sent, or sent what is no message.
    pub const MISBEHAVED: u32 = 3;
    /// The shim was told to end.
    pub const CLOSED: u32 = 4;
}

impl Request {
    pub fn identify(fifo: FifoId, rights: Rights) -> Self {
        Self::of(call::IDENTIFY, [fifo.0, rights.bits().into(), 0, 0])
    }

    pub fn grant(pid: XpuPid, fifo: FifoId, rights: Rights) -> Self {
        Self::of(call::GRANT, [pid.0, fifo.0, rights.bits().into(), 0])
    }

    pub fn revoke(pid: XpuPid, fifo: FifoId, rights: Rights) -> Self {
        Self::of(call::REVOKE, [pid.0, fifo.0, rights.bits().into(), 0])
    }

    pub fn of(call: u32, arguments: [u64; 4]) -> Self {
        Self { call, reserved: 0, arguments }
    }
}
