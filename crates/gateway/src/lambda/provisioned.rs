//! Provisioned concurrency: instances of a version that are kept ready, asked for by its number or by an alias of it.

use super::attach;
use super::concurrency;
use super::fault::Fault;
use super::function::read_object;
use super::name::{self, Target};
use super::page::Page;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use api::lambda::LATEST;
use hyper::{Method, StatusCode};
use runtime::registry::{Attached, Facet, Qualified, Record};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route!(PUT "/2019-09-30/functions/*/provisioned-concurrency" PutProvisionedConcurrencyConfig => put),
    // Also `?List=ALL`, ListProvisionedConcurrencyConfigs.
    route!(GET "/2019-09-30/functions/*/provisioned-concurrency" GetProvisionedConcurrencyConfig => get),
    route!(DELETE "/2019-09-30/functions/*/provisioned-concurrency" DeleteProvisionedConcurrencyConfig => delete),
];

const MEMBER: &str = "ProvisionedConcurrentExecutions";

async fn put(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "PutProvisionedConcurrencyConfig").await?;
    let (target, _, place) = place(&exchange)?;
    let wanted = request.get(MEMBER).and_then(Value::as_u64).unwrap_or_default();
    let room = concurrency::room(&exchange.gateway, &target.id());
    let written = attach::put(&exchange, target.id(), (Facet::Provisioned, place.clone()), move |record, _| {
        check(record, &place, wanted, room)?;
        Ok(Map::from_iter([(MEMBER.to_owned(), wanted.into())]))
    });
    let mut shown = shown(&*written.await?);
    // As it begins on AWS; whoever asks again finds it done.
    shown["Status"] = "IN_PROGRESS".into();
    shown["AvailableProvisionedConcurrentExecutions"] = 0.into();
    shown["AllocatedProvisionedConcurrentExecutions"] = 0.into();
    Ok(answer::json(StatusCode::ACCEPTED, &shown))
}

async fn get(exchange: Exchange) -> Answer {
    if exchange.query("List").is_some_and(|list| list == "ALL") {
        return list(&exchange);
    }
    let (_, record, place) = place(&exchange)?;
    let found = record.attached(Facet::Provisioned, &place).ok_or_else(absent)?;
    Ok(answer::json(StatusCode::OK, &shown(found)))
}

fn list(exchange: &Exchange) -> Answer {
    let page = Page::of(exchange)?;
    let record = name::function_of_path(exchange)?.record(&exchange.gateway)?;
    let configs = record.all_attached(Facet::Provisioned).map(|(on, config)| (on.to_owned(), (on, config)));
    let page = page.cut("ProvisionedConcurrencyConfigs", configs, |(on, config)| {
        let mut shown = shown(config);
        shown["FunctionArn"] = format!("{}:{on}", record.latest.id.arn()).into();
        shown
    });
    Ok(answer::json(StatusCode::OK, &page))
}

async fn delete(exchange: Exchange) -> Answer {
    let (target, _, place) = place(&exchange)?;
    attach::attach(&exchange, target.id(), (Facet::Provisioned, place), |_, _| Ok(None)).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

fn absent() -> Fault {
    Fault::no_provisioned_concurrency("No Provisioned Concurrency Config found for this function")
}

/// The version or alias that is meant: the query names it, and there is one.
fn place(exchange: &Exchange) -> Result<(Target<'_>, Arc<Record>, String), Fault> {
    let target = name::of_path(exchange)?;
    let message = match target.qualifier.as_deref() {
        Some(LATEST) if exchange.head.method == Method::PUT => {
            "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
        }
        None | Some(LATEST) => "The function resource provided must be an alias or a published version.",
        Some(qualifier) => {
            let missing = |fault| match Qualified::of(qualifier) {
                Qualified::Alias(_) => target.alias_not_found(),
                _ => fault,
            };
            let record = target.record(&exchange.gateway).map_err(missing)?;
            let place = target.place(&record)?;
            return Ok((target, record, place));
        }
    };
    Err(Fault::invalid_parameter(message))
}

/// Whether so many instances can be kept, and whether nobody else provisions the same version.
fn check(record: &Record, place: &str, wanted: u64, (room, kept): (u64, u64)) -> Result<(), Fault> {
    let version = record.qualified(place).map(|entry| entry.version_name().to_owned()).unwrap_or_default();
    let means = |on: &str| record.qualified(on).is_some_and(|entry| entry.version_name() == version);
    if record.all_attached(Facet::Provisioned).any(|(on, _)| on != place && means(on)) {
        return Err(Fault::conflict(match Qualified::of(place) {
            Qualified::Alias(_) => {
                "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
            }
            _ => "Version is pointed by a Provisioned Concurrency alias",
        }));
    }
    let others = concurrency::provisioned(record, place);
    let room = room.saturating_sub(others);
    if let Some(reserved) = record.latest.content.reserved.filter(|reserved| wanted + others > u64::from(*reserved)) {
        tracing::debug!(reserved, wanted, "more instances were to be provisioned than the function may have");
        return Err(Fault::invalid_parameter(
            "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function",
        ));
    }
    // What is reserved for a function is its own.
    let refused = match record.latest.content.reserved {
        None if wanted > room => {
            format!(
                "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{room}]."
            )
        }
        None if wanted + kept > room => format!(
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its \
             minimum value of [{kept}]."
        ),
        _ => return Ok(()),
    };
    Err(Fault::invalid_parameter(refused).without_party())
}

fn shown(config: &Attached) -> Value {
    let wanted = config.value.get(MEMBER).cloned().unwrap_or_default();
    json!({
        "RequestedProvisionedConcurrentExecutions": wanted,
        "AvailableProvisionedConcurrentExecutions": wanted,
        "AllocatedProvisionedConcurrentExecutions": wanted,
        "Status": "READY",
        "LastModified": api::time::lambda(config.modified_ms),
    })
}
