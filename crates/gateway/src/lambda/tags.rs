//! Tags, by ARN: of functions, event source mappings, capacity providers and code signing configurations.

use super::fault::Fault;
use super::function::read_object;
use super::{mappings, name, schema, scope};
use crate::gateway::Gateway;
use crate::http::{answer, path};
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use runtime::registry::{ChangeError, FunctionId, Resource, ResourceId, ResourceKind};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route!(GET "/2017-03-31/tags/*" ListTags => list),
    route!(POST "/2017-03-31/tags/*" TagResource => tag),
    route!(DELETE "/2017-03-31/tags/*" UntagResource => untag),
];

/// What carries tags.
enum Tagged {
    Function(FunctionId),
    Resource(ResourceId),
}

async fn list(exchange: Exchange) -> Answer {
    if let Some(mapping) = mappings::of_arn(&exchange, &exchange.capture(0)) {
        return Ok(answer::json(StatusCode::OK, &json!({ "Tags": mapping?.tags })));
    }
    let tags = match tagged(&exchange)? {
        Tagged::Function(id) => {
            let entry = exchange.gateway.registry.find(&id.account, &id.region, &id.name);
            entry.ok_or_else(|| Fault::function_not_found(id.arn()))?.content.tags.clone()
        }
        Tagged::Resource(id) => tags_of(&*exchange.gateway.registry.resource(&id).ok_or_else(|| missing(&id))?),
    };
    Ok(answer::json(StatusCode::OK, &json!({ "Tags": tags })))
}

async fn tag(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "TagResource").await?;
    let new = request.get("Tags").and_then(Value::as_object).cloned().unwrap_or_default();
    if new.is_empty() {
        return Err(Fault::invalid_parameter("An error occurred and the request cannot be processed."));
    }
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
    let gateway = exchange.gateway.clone();
    match tagged(exchange)? {
        Tagged::Function(id) => {
            let changed = gateway.blocking(move |gateway| {
                gateway.registry.update(&id, None, |content| {
                    change(&mut content.tags);
                    schema::check_tags(&content.tags, &gateway.config.functions)
                })
            });
            changed.await??;
        }
        Tagged::Resource(id) => {
            let (absent, bounds) = (missing(&id), gateway.config.functions.clone());
            let changed = change_resource(exchange, id, move |old| {
                let old = old.ok_or(absent)?;
                let mut tags = tags_of(old);
                change(&mut tags);
                schema::check_tags(&tags, &bounds)?;
                let mut value = old.value.clone();
                value.insert("Tags".to_owned(), tags.into());
                Ok(Some(value))
            });
            changed.await?;
        }
    }
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

fn tags_of(resource: &Resource) -> Map<String, Value> {
    resource.value.get("Tags").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Changes a resource without holding up others.
pub async fn change_resource(
    exchange: &Exchange,
    id: ResourceId,
    change: impl FnOnce(Option<&Resource>) -> Result<Option<Map<String, Value>>, Fault> + Send + 'static,
) -> Result<Option<Arc<Resource>>, Fault> {
    let changed = exchange.gateway.blocking(move |gateway: &Gateway| gateway.registry.change_resource(id, change));
    changed.await?.map_err(|error| match error {
        ChangeError::Refused(fault) => fault,
        ChangeError::Store(error) => error.into(),
    })
}

fn missing(id: &ResourceId) -> Fault {
    Fault::not_found(match id.kind {
        ResourceKind::CapacityProvider => format!("Capacity provider not found: {}", id.arn()),
        ResourceKind::CodeSigning => format!("The Lambda code signing configuration {} can not be found.", id.arn()),
        ResourceKind::Flow => format!("Flow not found: {}", id.arn()),
    })
}

/// What the ARN in the path means.
fn tagged(exchange: &Exchange) -> Result<Tagged, Fault> {
    let arn = exchange.capture(0);
    let parts: Vec<&str> = arn.split(':').collect();
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let resource = |account: &str, region: &str, kind, name: &str| {
        let id = ResourceId { account: account.into(), region: region.into(), kind, name: name.into() };
        if (region, account) == (&*scope.region, &*scope.account) {
            Ok(Tagged::Resource(id))
        } else {
            Err(missing(&id))
        }
    };
    match parts[..] {
        ["arn", _, "lambda", _, _, "function", _] => {
            Ok(Tagged::Function(name::resolve(arn.clone(), None, scope.clone())?.id()))
        }
        ["arn", _, "lambda", _, _, "function", _, _] => Err(Fault::invalid_parameter(
            "Tags on function aliases and versions are not supported. Please specify a function ARN.",
        )),
        ["arn", _, "lambda", region, account, "capacity-provider", name] => {
            resource(account, region, ResourceKind::CapacityProvider, name)
        }
        ["arn", _, "lambda", region, account, "code-signing-config", name] => {
            resource(account, region, ResourceKind::CodeSigning, name)
        }
        _ => Err(Fault::not_found(format!("Resource not found: {arn}"))),
    }
}
