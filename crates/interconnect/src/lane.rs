//! One writer's way into a FIFO: messages with boundaries, in one direction, in a region that only the two ends and the
//! shim have.
//!
//! ```text
//!   Writer ── ring: WHOLE │ FIRST FURTHER … │ BULK ──▶ Reader        a bell (pair of sockets) between them
//!     ▲          bulk area: one long message              ▲
//!   hand, cut, news                                   cut, news      words that the shim reads or writes ([`guard`])
//! ```
//!
//! A short message is one frame. A middle one is several, so that the reader copies out while the writer still copies in;
//! frames of two messages never mix. A long one is written once into the bulk area and read once out of it. Where the
//! first frame of another message follows an unfinished one, the writer gave that up.
//!
//! Either end may be hostile. What an end needs to know it keeps in its own memory; what the other can write is read once,
//! checked, and used. The other can end the conversation, or stop taking part in it: nothing else.
//! Who may have a lane, and who it leads to, is not known here.

mod create;
mod end;
pub mod layout;
mod reader;
mod sleep;
mod word;
mod writer;

pub use crate::guard::Cause;
pub use create::{CreateError, LaneSpec, clear, create, cut, is_quiet};
pub use end::{AttachError, Guard};
pub use reader::{ReadError, Reader};
pub use sleep::ASLEEP_MAX;
pub use word::Word;
pub use writer::{WriteError, Writer};

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
