//! What this machine can do: one check per facility that Lichen uses, each tried rather than looked up where that is
//! possible. Checks change nothing that outlives them.
//!
//! A probe that changes the process it runs in (namespaces, a filter) runs in a process of its own: `lichen doctor
//! --probe NAME`, which says nothing when it works and why when it does not.

mod cgroups;
mod devices;
mod engines;
mod kernel;
mod probe;
mod programs;

pub use probe::Probe;

use serde::Serialize;

/// How it stands with a facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There.
    Ok,
    /// Not there; a node runs without what it brings.
    Lacking,
    /// Not there; no node can run.
    Missing,
}

/// One facility.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub state: State,
    /// What was found.
    pub found: String,
    /// What it is good for.
    pub brings: &'static str,
    /// The command, or the sentence, that gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, brings: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), brings, remedy: None }
    }

    /// Without it a node runs, with less.
    fn lacking(name: &'static str, brings: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, state: State::Lacking, found: found.into(), brings, remedy: Some(remedy.into()) }
    }

    /// Without it no node runs.
    fn missing(self) -> Self {
        Self { state: if self.state == State::Ok { State::Ok } else { State::Missing }, ..self }
    }
}

/// Examines this machine, as the user who asks.
pub fn examine() -> Vec<Check> {
    let mut checks = kernel::checks();
    checks.extend(cgroups::checks());
    checks.extend(devices::checks());
    checks.extend(engines::checks());
    checks.extend(programs::checks());
    checks
}

/// Whether a node can run at all.
pub fn is_fit(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.state != State::Missing)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_says_how_to_get_it() {
        for check in examine() {
            assert_eq!(check.state == State::Ok, check.remedy.is_none(), "{check:?}");
            assert!(!check.found.is_empty() && !check.brings.is_empty(), "{check:?}");
        }
    }

    #[test]
    fn one_missing_thing_is_enough() {
        let lacking = Check::lacking("a", "b", "c", "d");
        assert!(is_fit(std::slice::from_ref(&lacking)));
        assert!(!is_fit(&[Check::ok("a", "b", "c"), lacking.missing()]));
        assert_eq!(Check::ok("a", "b", "c").missing().state, State::Ok);
    }
}
