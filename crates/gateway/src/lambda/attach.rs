//! What the operations on a function's facets share: writing one without holding up others.

use super::fault::Fault;
use crate::route::Exchange;
use runtime::registry::{Attached, Facet, FunctionId, Record};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Changes what hangs on a qualifier: `change` is shown the function and what hangs there, and answers what is to.
pub async fn attach(
    exchange: &Exchange,
    id: FunctionId,
    (facet, qualifier): (Facet, String),
    change: impl FnOnce(&Record, Option<&Attached>) -> Result<Option<Map<String, Value>>, Fault> + Send + 'static,
) -> Result<Option<Arc<Attached>>, Fault> {
    let attach = exchange.gateway.blocking(move |gateway| gateway.registry.attach(&id, facet, &qualifier, change));
    Ok(attach.await??)
}

/// The same where something hangs there afterwards.
pub async fn put(
    exchange: &Exchange,
    id: FunctionId,
    place: (Facet, String),
    change: impl FnOnce(&Record, Option<&Attached>) -> Result<Map<String, Value>, Fault> + Send + 'static,
) -> Result<Arc<Attached>, Fault> {
    let name = id.arn();
    let attached = attach(exchange, id, place, |record, old| change(record, old).map(Some)).await?;
    attached.ok_or_else(|| Fault::function_not_found(name))
}
