//! Schedules: rules that send events at times.
//!
//! | module | what it is |
//! |---|---|
//! | [`expression`] | `rate(…)` and `cron(…)`: when |
//! | [`rule`] | a rule and its targets, and the events that it sends |
//! | [`rules`] | all rules of a node, on disk |
//! | [`clock`] | who waits for the next moment |
//!
//! An event has one id for each moment and target, and the queue takes none twice: a rule fires once, whatever is killed.

pub mod clock;
pub mod expression;
mod month;
pub mod rule;
pub mod rules;

pub use expression::Expression;
pub use rule::{Rule, RuleId, Target};
pub use rules::Rules;
