//! `liblichen_xpu.so`: the XPUcalls for C, and for whatever speaks its ABI.
//!
//! | module | what is in it |
//! |---|---|
//! | [`process`] | attaching, the process's id, capabilities, spawning |
//! | [`fifo`] | making, connecting, writing, reading, closing FIFOs |
//! | [`status`] | what every call returns |
//! | [`guard`] | what every call does with what C gives it |
//!
//! `include/lichen_xpu.h` and the man pages (`man/`) are made from this code by `cargo xtask header`; the house rules
//! compare. A leaf: nothing may depend on this crate. It decides nothing: [`xpucall`] speaks to the shim.

pub mod fifo;
mod guard;
pub mod process;
pub mod status;
