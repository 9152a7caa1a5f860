//! Tags of functions and event source mappings, by ARN. Other resources that AWS lets carry tags do not exist on this node.

use super::fault::Fault;
use super::function::read_object;
use super::name::{self, Target};
use super::{mappings, schema, scope};
use crate::http::{answer, path};
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

pub const ROUTES: &[Route] = &[
    route!(GET "/2017-03-31/tags/*" ListTags => list),
    route!(POST "/2017-03-31/tags/*" TagResource => tag),
    route!(DELETE "/2017-03-31/tags/*" UntagResource => untag),
];

async fn list(exchange: Exchange) -> Answer {
    let tags = match mappings::of_arn(&exchange, &exchange.capture(0)) {
        Some(mapping) => mapping?.tags.clone(),
        None => resource(&exchange)?.find(&exchange.gateway)?.content.tags.clone(),
    };
    Ok(answer::json(StatusCode::OK, &json!({ "Tags": tags })))
}

async fn tag(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "TagResource").await?;
    let new = request.get("Tags").and_then(Value::as_object).cloned().unwrap_or_default();
    change(&exchange, move |tags| tags.extend(new)).await
}

async fn untag(exchange: Exchange) -> Answer {
    let query = exchange.head.uri.query().unwrap_or_default();
    let keys = path::pairs(query).filter(|(name, _)| name == "tagKeys").map(|(_, key)| key.into_owned());
    let keys: Vec<String> = keys.collect();
    change(&exchange, move |tags| tags.retain(|key, _| !keys.contains(key))).await
}

async fn change(exchange: &Exchange, change: impl FnOnce(&mut Map<String, Value>) + Send + 'static) -> Answer {
    if let Some(mapping) = mappings::of_arn(exchange, &exchange.capture(0)) {
        mappings::tag(exchange, &mapping?.uuid, change).await?;
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let id = resource(exchange)?.id();
    let changed = exchange.gateway.blocking(move |gateway| {
        gateway.registry.update(&id, None, |content| {
            change(&mut content.tags);
            schema::check_tags(&content.tags, &gateway.config.functions)
        })
    });
    changed.await??;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// The function whose ARN is in the path.
fn resource(exchange: &Exchange) -> Result<Target<'_>, Fault> {
    let arn = exchange.capture(0);
    let parts: Vec<&str> = arn.split(':').collect();
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    match parts[..] {
        ["arn", _, "lambda", _, _, "function", _] => name::resolve(arn, None, scope),
        ["arn", _, "lambda", _, _, "function", _, _] => Err(Fault::invalid_parameter(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        )),
        ["arn", _, "lambda", _, _, "capacity-provider", _] => {
            Err(Fault::not_found(format!("Capacity provider not found: {arn}")))
        }
        _ => Err(Fault::not_found(format!("Resource not found: {arn}"))),
    }
}
