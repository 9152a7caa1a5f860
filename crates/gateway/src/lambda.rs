//! AWS Lambda's API: one module for each resource, with its table of operations, and what they share.
//!
//! | module | what it is |
//! |---|---|
//! | [`function`], [`update`], [`concurrency`], [`invoke`] | operations |
//! | [`fault`] | errors in Lambda's words |
//! | [`scope`], [`name`] | whose function, and which: credentials, names, ARNs |
//! | [`constraint`], [`schema`] | what a request may contain: rules, and the tables of them |
//! | [`package`] | a function's code in a request |
//! | [`shape`] | a function's configuration in an answer |
//! | [`bounds`] | the node's own limits |
//!
//! Another operation is another entry of a table; another resource another module, with its table in `route`.

mod bounds;
pub mod concurrency;
mod constraint;
mod fault;
pub mod function;
pub mod invoke;
pub mod name;
mod package;
mod schema;
pub mod scope;
mod shape;
pub mod update;

pub use bounds::Bounds;
pub use fault::Fault;
