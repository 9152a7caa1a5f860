//! The `lichen` binary: a table of contents of its verbs. What a verb does is in its own module.
#![forbid(unsafe_code)]

fn main() {}
