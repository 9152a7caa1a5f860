//! What the two engines for native code have in common: programs, and their interface.
//!
//! ```text
//!  ELF ──elf──▶ Image ──loaded──▶ pages in the arena ─╮
//!  input sets ──inputs──▶ sets, items, bytes ─────────┼──context──▶ mappings ──▶ the guest runs ──outputs──▶ output sets
//!  a room of the arena ───────────────────────────────╯
//! ```
//!
//! A guest is given its memory as a list of [`Mapping`]s of the arena's file: a process maps them by system calls, a virtual
//! machine by page tables. The interface is Dandelion's (`struct dandelion_system_data`), so that its programs run too.
//!
//! Not here: how a guest is run.

pub mod context;
pub mod contexts;
pub mod elf;
pub mod image;
pub mod inputs;
pub mod layout;
pub mod loaded;
pub mod outputs;
mod relocate;

use image::Rights;

/// Pages of the arena's file that a guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    pub address: u64,
    pub len: u64,
    /// In the arena's file.
    pub offset: u64,
    pub rights: Rights,
}

/// The output set in which programs leave what they print, beside those that they were deployed with.
pub const TEXT_SET: &str = "stdio";
