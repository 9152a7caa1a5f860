//! Reserved concurrency: how much of the node a function may take, and is kept from others.

use super::fault::Fault;
use super::function::read_object;
use super::name;
use crate::gateway::Gateway;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use runtime::registry::FunctionId;
use serde_json::{Value, json};

pub const ROUTES: &[Route] = &[
    route!(PUT "/2017-10-31/functions/*/concurrency" PutFunctionConcurrency => put),
    route!(DELETE "/2017-10-31/functions/*/concurrency" DeleteFunctionConcurrency => delete),
    route!(GET "/2019-09-30/functions/*/concurrency" GetFunctionConcurrency => get),
];

async fn put(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "PutFunctionConcurrency").await?;
    let wanted = request.get("ReservedConcurrentExecutions").and_then(Value::as_u64).unwrap_or_default();
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    set(&exchange, Some(wanted)).await?;
    Ok(answer::json(StatusCode::OK, &json!({ "ReservedConcurrentExecutions": wanted })))
}

async fn delete(exchange: Exchange) -> Answer {
    set(&exchange, None).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

async fn get(exchange: Exchange) -> Answer {
    let entry = name::function_of_path(&exchange)?.find(&exchange.gateway)?;
    let reserved = entry.content.reserved.map(|reserved| json!({ "ReservedConcurrentExecutions": reserved }));
    Ok(answer::json(StatusCode::OK, &reserved.unwrap_or_else(|| json!({}))))
}

async fn set(exchange: &Exchange, wanted: Option<u32>) -> Result<(), Fault> {
    let id = name::function_of_path(exchange)?.find(&exchange.gateway)?.id.clone();
    exchange
        .gateway
        .blocking(move |gateway| {
            let changed = gateway.registry.update(&id, None, |content| {
                check_room(gateway, &id, wanted)?;
                content.reserved = wanted;
                Ok(())
            });
            changed.map(drop).map_err(Fault::from)
        })
        .await?
}

/// What all functions reserve must leave something for those that reserve nothing. No function changes meanwhile.
fn check_room(gateway: &Gateway, id: &FunctionId, wanted: Option<u32>) -> Result<(), Fault> {
    let total = u64::from(gateway.config.dispatch.concurrency);
    // A small node may keep less back than AWS does, else nothing could be reserved on it.
    let kept = u64::from(gateway.config.functions.unreserved_concurrency).min(total / 10);
    let others = gateway.registry.all().into_iter().filter(|entry| entry.id != *id);
    let reserved: u64 = others.filter_map(|entry| entry.content.reserved).map(u64::from).sum();
    if reserved + u64::from(wanted.unwrap_or(0)) + kept > total {
        return Err(Fault::invalid_parameter(format!(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution \
             below its minimum value of [{kept}]."
        )));
    }
    Ok(())
}
