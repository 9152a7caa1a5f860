//! XPUcalls: what passes between a process and the shim of its processing unit.
//!
//! | module | what it is |
//! |---|---|
//! | [`id`] | names of PUs, processes and FIFOs, and the rights on a FIFO |
//! | [`abi`], [`wire`] | the memory and the messages that process and shim share |
//! | [`process`] | a process's attachment, and what it can ask its shim |
//! | [`fifo`], [`writer`], [`reader`] | a FIFO as its creator, a writer and its reader have it |
//! | `evented` | readers and writers in tokio's event loop (feature `tokio`) |
//! | [`error`] | why an operation did not do what it was asked |
//! | [`host`] | the shim's side of the memory |
//!
//! What a call means is decided by the shim; nothing here knows which calls are allowed.

pub mod abi;
mod calling;
pub mod error;
#[cfg(feature = "tokio")]
pub mod evented;
pub mod fifo;
pub mod host;
pub mod id;
pub mod process;
pub mod reader;
pub mod wire;
pub mod writer;

pub use fifo::Fifo;
pub use process::{Limits, Process};
pub use reader::{Event, Message, Reader};
pub use writer::Writer;
