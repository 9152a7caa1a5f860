//! `_lichen`: the part of the Python runtime that Python cannot do itself, or not quickly enough.
//!
//! | module | what it is |
//! |---|---|
//! | [`abi`] | Python's stable ABI, as far as it is used |
//! | [`object`] | its objects and errors as Rust types |
//! | [`module`] | the functions that Python sees |
//! | [`hooks`] | fork hooks, as the interpreter calls them |
//! | [`template`] | up to the fork point, and out of it |
//! | [`prepared`] | what a template has made ready for its children |
//! | [`place`] | environment, folder and settings of a function |
//! | [`load`] | its handler |
//! | [`answer`] | from an event to an answer |
//! | [`instance`] | the life of a child |
//!
//! What is unusual in a start or an invocation, above all every error, is left to the Python files in `runtime/`.

mod abi;
mod answer;
mod fifo;
mod hooks;
mod instance;
mod load;
mod module;
mod object;
mod place;
mod prepared;
mod template;
