//! AWS's own model of Lambda's operations, and requests checked by it.
//!
//! `model.json` is made by `cargo xtask model` from the service model in botocore. What it cannot say (rules between
//! members, what exists, texts of AWS's own for some of them) is beside each operation. Members that no model knows are
//! nobody's business here: they are stored and echoed.
//!
//! | module | |
//! |---|---|
//! | [`shape`] | the table: operations, shapes, patterns |
//! | [`check`] | values against shapes, and what AWS says of those that do not fit |
//!
//! Not checked here: names of functions (`name`, which takes them apart as well), and the head of invocations, which are
//! too many for it.

mod check;
mod shape;

use super::bounds::Bounds;
use super::fault::Fault;
use crate::http::path;
use crate::route::Exchange;
use check::Complaints;
use serde_json::{Map, Value};
use shape::{MODEL, Member, Operation, Shape};
use std::borrow::Cow;

#[cfg(test)]
pub use shape::operations;

/// The shape of runtimes: functions may ask for others than AWS has, and are told of theirs in another way (`schema`).
const RUNTIME: &str = "Runtime";
/// Members that `name` reads.
const NAMES: [&str; 2] = ["FunctionName", "LayerName"];

/// The operation that a route and a query mean: some share a route.
pub fn operation<'a>(route: &'a str, query: Option<&str>) -> &'a str {
    match route {
        "ListLayers" if path::query(query, "find").is_some_and(|find| find == "LayerVersion") => "GetLayerVersionByArn",
        "GetProvisionedConcurrencyConfig" if path::query(query, "List").is_some_and(|list| list == "ALL") => {
            "ListProvisionedConcurrencyConfigs"
        }
        route => route,
    }
}

/// Checks what a request says beside its body: in its path and its query.
pub fn check_head(operation: &str, exchange: &Exchange) -> Result<(), Fault> {
    if operation.starts_with("Invoke") {
        return Ok(());
    }
    let Some((known, input)) = input(operation) else { return Ok(()) };
    let mut complaints = Complaints::new(&exchange.gateway.config.functions);
    for (name, member) in input.members.iter().filter(|(name, _)| !NAMES.contains(&name.as_str())) {
        let given = match &member.place {
            Some(place) if place == "uri" => known.star(&member.called).map(|star| vec![exchange.capture(star)]),
            Some(place) if place == "querystring" => Some(parameters(exchange, &member.called)),
            _ => None,
        };
        if let Some(given) = given {
            complaints.text(name, member, given, input.required.contains(name))?;
        }
    }
    complaints.told()
}

/// Every value of a parameter of the query.
fn parameters<'a>(exchange: &'a Exchange, name: &str) -> Vec<Cow<'a, str>> {
    let query = exchange.head.uri.query().unwrap_or_default();
    path::pairs(query).filter(|(known, _)| known == name).map(|(_, value)| value).collect()
}

/// Checks a request's body: wrong types first, then all rules that it breaks, in one message.
pub fn check(operation: &str, request: &Map<String, Value>, bounds: &Bounds) -> Result<(), Fault> {
    let Some((_, input)) = input(operation) else { return Ok(()) };
    let is_meant = |member: &Member| member.place.is_none() && member.of != RUNTIME;
    let members: Vec<_> = input.members.iter().filter(|(_, member)| is_meant(member)).collect();
    for (name, member) in &members {
        if let Some(value) = request.get(name) {
            check::types(member.shape(), value)?;
        }
    }
    let mut complaints = Complaints::new(bounds);
    for (name, member) in members {
        complaints.member(name, member, request.get(name), input.required.contains(name));
    }
    complaints.told()
}

fn input(operation: &str) -> Option<(&'static Operation, &'static Shape)> {
    let known = MODEL.operations.get(operation)?;
    Some((known, MODEL.shapes.get(&known.input)?))
}

#[cfg(test)]
mod tests;
