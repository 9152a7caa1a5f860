//! The files of one run: a tree in memory, made from its inputs, gone with it except for its outputs.
//!
//! | module | what it is |
//! |---|---|
//! | [`data`] | a file's bytes, and what a run may take |
//! | [`tree`] | files, folders and links: made, linked, renamed, removed |
//! | [`name`] | what entries are called |
//! | [`path`] | from a folder and a path to one of them |
//! | [`layout`] | from a run's inputs to a tree, and from a tree to its outputs |
//! | [`text`] | standard output and standard error |
//! | [`errno`] | why a call is refused |
//!
//! No path leads out: there is nothing outside. Not here: descriptors and their rights, which are the guest's interface.

pub mod data;
pub mod errno;
pub mod layout;
pub mod name;
pub mod path;
pub mod text;
pub mod tree;

pub use data::{Budget, Data};
pub use errno::{Answer, Errno, Refusal};
pub use name::Name;
pub use tree::{Content, Files, NodeId, Stat};
