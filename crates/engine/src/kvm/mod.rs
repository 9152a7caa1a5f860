//! Native functions in a virtual machine without an operating system.
//!
//! ```text
//!  once      one VM, one vCPU, two slots: the platform's pages, and a window
//!  per run   the guest's memory is mapped into the window ──▶ registers ──▶ ring 3 ──▶ a fault is an exit ──▶ verdict
//! ```
//!
//! The host builds the page tables, and all of the guest's memory is there before it runs: there is no kernel in it, and no
//! handler of page faults. Every exception leads to two bytes of ring 0, which leave the machine and say which it was. System
//! calls are switched off in the processor, so one is an illegal instruction, and the host looks which.
//!
//! The same programs run as in `process`, and the same things go wrong in the same words.
//!
//! Not here: devices, interrupts, clocks. There is none of these.

mod kick;
mod program;
mod tables;
mod verdict;
mod vm;

pub use program::Kvm;
