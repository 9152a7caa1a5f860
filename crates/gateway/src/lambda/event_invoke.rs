//! How asynchronous invocations of a function are retried, and where their results go: kept here, heeded by dispatch.

use super::attach;
use super::fault::Fault;
use super::function::read_object;
use super::name::{self, Target};
use super::page::Page;
use crate::gateway::Gateway;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use api::lambda::LATEST;
use hyper::StatusCode;
use runtime::registry::{Attached, Facet};
use serde_json::{Map, Value, json};

pub const ROUTES: &[Route] = &[
    route!(PUT "/2019-09-25/functions/*/event-invoke-config" PutFunctionEventInvokeConfig => put),
    route!(POST "/2019-09-25/functions/*/event-invoke-config" UpdateFunctionEventInvokeConfig => update),
    route!(GET "/2019-09-25/functions/*/event-invoke-config" GetFunctionEventInvokeConfig => get),
    route!(DELETE "/2019-09-25/functions/*/event-invoke-config" DeleteFunctionEventInvokeConfig => delete),
    route!(GET "/2019-09-25/functions/*/event-invoke-config/list" ListFunctionEventInvokeConfigs => list),
];

const MEMBERS: [&str; 3] = ["MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig"];
const SIDES: [&str; 2] = ["OnSuccess", "OnFailure"];
/// Services to which results can go.
const SERVICES: [&str; 5] = ["lambda", "sqs", "sns", "events", "s3"];

async fn put(exchange: Exchange) -> Answer {
    write(exchange, "PutFunctionEventInvokeConfig", false).await
}

async fn update(exchange: Exchange) -> Answer {
    write(exchange, "UpdateFunctionEventInvokeConfig", true).await
}

async fn write(mut exchange: Exchange, operation: &str, merge: bool) -> Answer {
    let request = read_object(&mut exchange, operation).await?;
    let given: Map<_, _> = request.into_iter().filter(|(name, v)| MEMBERS.contains(&&**name) && !v.is_null()).collect();
    if given.is_empty() {
        let message = "You must specify at least one of error handling or destination setting.";
        return Err(Fault::invalid_parameter(message));
    }
    let target = name::of_path(&exchange)?;
    let missing = |_| Fault::not_found("The function doesn't exist.");
    target.find(&exchange.gateway).map_err(missing)?;
    check_destinations(&given, &target, &exchange.gateway)?;
    let absent = absent(&target);
    let written = attach::put(&exchange, target.id(), place(&target), move |_, old| {
        let mut config = match old {
            _ if !merge => Map::new(),
            Some(old) => old.value.clone(),
            None => return Err(absent),
        };
        config.extend(given);
        Ok(config)
    });
    Ok(answer::json(StatusCode::OK, &shown(&target, qualifier(&target), &*written.await?)))
}

async fn get(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let record = target.record(&exchange.gateway).map_err(|_| absent(&target))?;
    let found = record.attached(Facet::EventInvoke, qualifier(&target)).ok_or_else(|| absent(&target))?;
    Ok(answer::json(StatusCode::OK, &shown(&target, qualifier(&target), found)))
}

async fn delete(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    target.record(&exchange.gateway).map_err(|_| absent(&target))?;
    let absent = absent(&target);
    let deleted = attach::attach(&exchange, target.id(), place(&target), |_, old| match old {
        Some(_) => Ok(None),
        None => Err(absent),
    });
    deleted.await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

async fn list(exchange: Exchange) -> Answer {
    let page = Page::of(&exchange)?;
    let target = name::of_path(&exchange)?;
    let record = target.record(&exchange.gateway).map_err(|_| Fault::not_found("The function doesn't exist."))?;
    let configs = record.all_attached(Facet::EventInvoke).map(|(on, config)| (on.to_owned(), (on, config)));
    let shown = page.cut("FunctionEventInvokeConfigs", configs, |(on, config)| shown(&target, on, config));
    Ok(answer::json(StatusCode::OK, &shown))
}

fn qualifier<'a>(target: &'a Target<'_>) -> &'a str {
    target.qualifier.as_deref().unwrap_or(LATEST)
}

fn place(target: &Target<'_>) -> (Facet, String) {
    (Facet::EventInvoke, qualifier(target).to_owned())
}

fn absent(target: &Target<'_>) -> Fault {
    let arn = format!("{}:{}", target.id().arn(), qualifier(target));
    Fault::not_found(format!("The function {arn} doesn't have an EventInvokeConfig"))
}

/// Whether results can go where a request wants them. Destinations beyond this node are not looked for.
fn check_destinations(config: &Map<String, Value>, target: &Target<'_>, gateway: &Gateway) -> Result<(), Fault> {
    let destination = |side: &str| config.get("DestinationConfig")?.get(side)?.get("Destination")?.as_str();
    for arn in SIDES.into_iter().filter_map(destination).filter(|arn| !arn.is_empty()) {
        let parts: Vec<&str> = arn.split(':').collect();
        let service = parts.get(2).copied().unwrap_or_default();
        if !SERVICES.contains(&service) {
            let told = |side| destination(side).map(|arn| format!("{side}(destination={arn})"));
            let [success, failure] = SIDES.map(|side| told(side).unwrap_or_else(|| "null".to_owned()));
            return Err(Fault::invalid_parameter(format!(
                "The provided destination config DestinationConfig(onSuccess={success}, onFailure={failure}) is invalid."
            )));
        }
        let ["arn", _, "lambda", region, account, "function", name, ref version @ ..] = parts[..] else { continue };
        if (region, account, name) == (&*target.region, &*target.account, &*target.name) {
            return Err(Fault::invalid_parameter("You can't specify the function as a destination for itself."));
        }
        let record = gateway.registry.record(account, region, name);
        let qualifier = version.first().copied().unwrap_or(LATEST);
        if record.is_none_or(|record| record.qualified(qualifier).is_none()) {
            return Err(Fault::invalid_parameter(format!("The destination ARN {arn} is invalid.")));
        }
    }
    Ok(())
}

/// The shape `FunctionEventInvokeConfig`.
fn shown(target: &Target<'_>, qualifier: &str, config: &Attached) -> Value {
    let mut shape = Map::new();
    shape.insert("LastModified".into(), (config.modified_ms as f64 / 1000.0).into());
    shape.insert("FunctionArn".into(), format!("{}:{qualifier}", target.id().arn()).into());
    shape.extend(config.value.clone());
    let destinations = shape.entry("DestinationConfig").or_insert_with(|| json!({}));
    for side in SIDES {
        if destinations[side].is_null() {
            destinations[side] = json!({});
        }
    }
    shape.into()
}
