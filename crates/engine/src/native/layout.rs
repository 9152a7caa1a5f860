//! Where things lie in the memory of a native function.
//!
//! ```text
//!  0x01_0000        the program: text, constants, data, as it was linked
//!  0x48_0000_0000   the platform's: the stub that a blank waits in, gone before the program runs
//!  0x48_2004_0000 ▲ stack, growing down from here; nothing below it
//!  0x48_2004_0000   report page, sets, items, and small inputs
//!        behind it  heap: heap_begin to heap_end
//!  0x70_0000_0000   large inputs, in the pages in which they lie; not to be written
//! ```
//!
//! There is a gap between any two of these: a function that runs over the end of anything ought to meet nothing, not something
//! else. All are below 512 GiB, and what every run touches of stack, inputs and heap lies in the same 2 MiB: a page of tables is made for
//! each part of addresses in which something is, and taken down with the process, which costs more than most pages of a guest.

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// The lowest address of a program: what Dandelion's SDK links to, and well above what Linux lets nobody map.
pub const PROGRAM_FIRST: u64 = 0x1_0000;
/// No program reaches this.
pub const PROGRAM_END: u64 = 0x40_0000_0000;
pub const PLATFORM: u64 = 0x48_0000_0000;
/// The end of the stack, and the beginning of the system area.
pub const STACK_TOP: u64 = 0x48_2004_0000;
/// The most that a stack may have; less where the function has little memory.
pub const STACK_MOST: u64 = 8 << 20;
pub const STACK_LEAST: u64 = 16 << 10;
/// A fault so far below the stack is still the stack's.
pub const STACK_GUARD: u64 = 256 << 20;
/// Between the inputs and the heap.
pub const HEAP_GUARD: u64 = 64 << 10;
/// No heap reaches this.
pub const INPUTS: u64 = 0x70_0000_0000;

/// The next page's beginning, from any byte within; None beyond the last.
pub fn page_up(bytes: u64) -> Option<u64> {
    bytes.checked_next_multiple_of(PAGE)
}

pub fn page_down(bytes: u64) -> u64 {
    bytes & !(PAGE - 1)
}

/// How large a stack is where all memory is `memory`.
pub fn stack_of(memory: u64) -> u64 {
    page_down((memory / 8).clamp(STACK_LEAST, STACK_MOST))
}
