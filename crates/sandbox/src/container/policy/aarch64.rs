//! System calls that only aarch64 has: none, as it has no older forms of any.

pub const REFUSED: &[i64] = &[];
pub const ALLOWED: &[i64] = &[];
