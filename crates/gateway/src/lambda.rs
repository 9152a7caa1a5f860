//! AWS Lambda's API: one module for each resource, with its table of operations, and what they share.
//!
//! | module | what it is |
//! |---|---|
//! | [`function`], [`update`], [`versions`], [`aliases`] | operations on functions, their versions and aliases |
//! | [`invoke`], [`stream`] | invocation; the same with an event stream for an answer |
//! | [`asked`] | what both are asked |
//! | [`concurrency`], [`provisioned`], [`event_invoke`], [`management`] | how functions are run |
//! | [`permission`], [`tags`], [`url_config`], [`account`] | what else hangs on functions, and whose they are |
//! | [`layers`], [`layer_policy`], [`layer_use`] | layers: what they are, who may use them, how functions do |
//! | [`mappings`], [`mapping_rules`] | event source mappings |
//! | [`capacity`], [`signing`] | what is kept for those who ask, and changes nothing |
//! | [`absent`] | resources that this node does not have |
//! | [`attach`], [`page`] | what these share: changing what hangs on a function, lists in pages |
//! | [`event`] | asynchronous invocations |
//! | [`fault`] | errors in Lambda's words |
//! | [`scope`], [`name`] | whose function, and which: credentials, names, ARNs |
//! | [`model`], [`schema`], [`constraint`] | what a request may contain: AWS's model, what it cannot say, the words for it |
//! | [`package`], [`pure_code`] | a function's code in a request; what is looked at before it is anybody's |
//! | [`logging_config`] | in which format a function's log is written |
//! | [`runtime_version`] | versions of languages that this machine lacks |
//! | [`shape`] | a function's configuration in an answer |
//! | [`bounds`] | the node's own limits |
//!
//! Another operation is another entry of a table; another resource another module, with its table in `route`.

pub mod absent;
pub mod account;
pub mod aliases;
pub mod asked;
mod attach;
mod bounds;
pub mod capacity;
pub mod concurrency;
pub mod constraint;
pub mod event;
pub mod event_invoke;
mod fault;
pub mod function;
pub mod invoke;
pub mod layer_policy;
mod layer_use;
pub mod layers;
mod logging_config;
pub mod management;
mod mapping_rules;
pub mod mappings;
pub mod model;
pub mod name;
mod package;
mod page;
pub mod permission;
mod policy;
pub mod provisioned;
mod pure_code;
mod runtime_version;
mod schema;
pub mod scope;
mod shape;
pub mod signing;
pub mod stream;
pub mod tags;
pub mod update;
pub mod url_config;
pub mod versions;

pub use bounds::Bounds;
pub use fault::Fault;
pub use schema::check_tags;
