//! Isolated places for functions.
pub mod spec;
