//! XPUcalls: what passes between a process and the shim of its processing unit.
//!
//! | module | what it is |
//! |---|---|
//! | [`id`] | names of PUs, processes and FIFOs, and the rights on a FIFO |
//!
//! What a call means is decided by the shim; nothing here knows which calls are allowed.

pub mod id;
