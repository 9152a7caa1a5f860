//! `versions` of `[runtime]`: what becomes of a function that asks for a version of its language which is not here. Where
//! the nearest one will do, the function's log says which that is; here it is refused, where it is to be.

use super::fault::Fault;
use crate::gateway::Gateway;
use runtime::registry::kind_of;
use sandbox::config::Versions;
use sandbox::spec::Version;
use serde_json::{Map, Value};

/// Whether a function may ask for the runtime that a request names, if it names one.
pub fn check(gateway: &Gateway, request: &Map<String, Value>) -> Result<(), Fault> {
    let Some(runtime) = request.get("Runtime").and_then(Value::as_str) else { return Ok(()) };
    let Some(kind) = kind_of(runtime).filter(|_| gateway.config.runtime.versions == Versions::Exact) else {
        return Ok(());
    };
    let (wanted, there) = (Version::of(kind, runtime), gateway.dispatcher.versions(kind));
    // Before the worker has said what it has, nobody can be refused for that.
    if there.is_empty() || there.iter().any(|version| wanted.is(*version)) {
        return Ok(());
    }
    let name = runtime.trim_end_matches(|c: char| c.is_ascii_digit() || ".x".contains(c));
    let there: Vec<String> = there.iter().map(|version| format!("{name}{version}")).collect();
    Err(Fault::invalid_parameter(format!(
        "This node has no {runtime}: it has {}. Ask for one of these, install the other, or set versions = \"nearest\" in \
         [runtime] of lichen.toml.",
        there.join(", ")
    )))
}
