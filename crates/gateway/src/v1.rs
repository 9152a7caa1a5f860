//! Lichen's own API: what a node says of itself beyond Lambda's API. The shapes are `api::node`'s.
//!
//! Functions are deployed through Lambda's API, and not here; all that is changed here are flows, and what becomes of dead
//! events. They are invoked by either: here on sets of items and on bodies that are no JSON as well.

mod compute;
pub mod connections;
mod dlq;
pub mod flows;
mod functions;
mod inputs;
mod logs;
mod node;
mod outputs;
mod package;

pub use flows::text::Programs;

use crate::lambda::{Fault, name, scope};
use crate::route::{Exchange, Route, route};
use runtime::registry::Entry;
use std::sync::Arc;

/// What runs something: asked for most.
pub const INVOKING: &[Route] = &[
    route!(POST "/v1/functions/*/invoke" InvokeOnBody => compute::invoke),
    route!(POST "/v1/flows/*/invoke" InvokeFlow => flows::invoke::invoke),
];

pub const ROUTES: &[Route] = &[
    route!(GET "/v1/node" GetNode => node::node),
    route!(GET "/v1/pus" ListPus => node::pus),
    route!(GET "/v1/connections" ListConnections => connections::connections),
    route!(GET "/v1/functions" ListNodeFunctions => functions::list),
    route!(GET "/v1/functions/*/logs" GetLogs => logs::logs),
    route!(GET "/v1/functions/*/bills" ListBills => functions::bills),
    route!(GET "/v1/usage" GetUsage => functions::usage),
    route!(GET "/v1/instances" ListInstances => functions::revisions),
    route!(GET "/v1/templates" ListTemplates => node::templates),
    route!(GET "/v1/queue" GetQueue => node::queue),
    route!(GET "/v1/dlq" ListDead => dlq::list),
    route!(GET "/v1/dlq/*" GetDead => dlq::show),
    route!(POST "/v1/dlq/redrive" Redrive => dlq::redrive),
    route!(DELETE "/v1/dlq" Purge => dlq::purge),
    route!(GET "/v1/code/*" GetCode => package::download),
    route!(POST "/v1/flows/*/invocations" InvokeFlow => flows::invoke::invoke),
    route!(GET "/v1/flows/*/runs" ListRuns => flows::runs::list),
    route!(GET "/v1/flows/*/graph" GetFlowGraph => flows::graph),
    route!(GET "/v1/runs/*" GetRun => flows::runs::get),
    route!(GET "/v1/runs/*/result" GetRunResult => flows::runs::result),
    route!(GET "/v1/runs/*/graph" GetRunGraph => flows::runs::graph),
    route!(DELETE "/v1/runs/*" CancelRun => flows::runs::cancel),
    route!(POST "/v1/flows/check" CheckFlow => flows::check),
    route!(POST "/v1/flows" PutFlow => flows::put),
    route!(GET "/v1/flows" ListFlows => flows::list),
    route!(GET "/v1/flows/*" GetFlow => flows::get),
    route!(DELETE "/v1/flows/*" DeleteFlow => flows::delete),
];

/// Where packages are, by their hashes.
pub const CODE: &str = "/v1/code";

/// The function that the path names, in the caller's account and region first, else wherever there is only one.
fn function(exchange: &Exchange) -> Result<Arc<Entry>, Fault> {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let target = name::resolve(exchange.capture(0), None, scope)?;
    target.find_anywhere(&exchange.gateway)
}

/// A number of the query.
fn number(exchange: &Exchange, parameter: &str, default: u64) -> Result<u64, Fault> {
    let Some(text) = exchange.query(parameter) else { return Ok(default) };
    text.parse().map_err(|_| Fault::invalid_parameter(format!("`{parameter}` is a number, and {text:?} is none")))
}
