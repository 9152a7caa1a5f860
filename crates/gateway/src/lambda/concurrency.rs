//! Reserved concurrency: how much of the node a function may take, and is kept from others.

use super::fault::Fault;
use super::function::read_object;
use super::name;
use crate::gateway::Gateway;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use runtime::registry::{Facet, FunctionId, Record};
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
    let target = name::function_of_path(exchange)?;
    let missing = |fault| if wanted.is_some() { target.version_not_found() } else { fault };
    let id = target.find(&exchange.gateway).map_err(missing)?.id.clone();
    exchange
        .gateway
        .blocking(move |gateway| {
            let changed = gateway.registry.update(&id, None, |content| {
                check_room(gateway, &id, wanted)?;
                check_provisioned(gateway, &id, wanted)?;
                content.reserved = wanted;
                Ok(())
            });
            changed.map(drop).map_err(Fault::from)
        })
        .await?
}

/// Concurrency that other functions than this one leave, by what they reserve or are provisioned with, and how much of it
/// has to stay for those that reserve nothing.
pub fn room(gateway: &Gateway, id: &FunctionId) -> (u64, u64) {
    let total = u64::from(gateway.config.dispatch.concurrency);
    // A small node may keep less back than AWS does, else nothing could be reserved on it.
    let kept = u64::from(gateway.config.functions.unreserved_concurrency).min(total / 10);
    let records = gateway.registry.records();
    let taken = records.iter().filter(|record| record.latest.id != *id).map(|record| taken(record)).sum();
    (total.saturating_sub(taken), kept)
}

/// What a function keeps from all others: what it reserves, in which its versions' instances are; else those instances.
pub fn taken(record: &Record) -> u64 {
    record.latest.content.reserved.map_or_else(|| provisioned(record, ""), u64::from)
}

/// What a function's versions and aliases are provisioned with, but for one of them.
pub fn provisioned(record: &Record, but: &str) -> u64 {
    let configs = record.all_attached(Facet::Provisioned).filter(|(on, _)| *on != but);
    configs.filter_map(|(_, config)| config.value.get("ProvisionedConcurrentExecutions")?.as_u64()).sum()
}

/// A function may not be left with less than its versions are provisioned with.
fn check_provisioned(gateway: &Gateway, id: &FunctionId, wanted: Option<u32>) -> Result<(), Fault> {
    let record = gateway.registry.record(&id.account, &id.region, &id.name);
    let provisioned = record.map_or(0, |record| provisioned(&record, ""));
    match wanted.filter(|wanted| u64::from(*wanted) < provisioned) {
        // The spaces are AWS's.
        Some(wanted) => Err(Fault::invalid_parameter(format!(
            " ReservedConcurrentExecutions  {wanted} should not be lower than function's total provisioned concurrency \
             [{provisioned}]."
        ))),
        None => Ok(()),
    }
}

/// What all functions reserve must leave something for those that reserve nothing. No function changes meanwhile.
fn check_room(gateway: &Gateway, id: &FunctionId, wanted: Option<u32>) -> Result<(), Fault> {
    // To give it back is never too much, whatever others have.
    let Some(wanted) = wanted else { return Ok(()) };
    let (room, kept) = room(gateway, id);
    if u64::from(wanted) + kept > room {
        let message = format!(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution \
             below its minimum value of [{kept}]."
        );
        return Err(Fault::invalid_parameter(message).without_party());
    }
    Ok(())
}
