//! Capacity providers: kept and answered as on AWS. This node is all the capacity that there is, whatever they say, and
//! functions that name one may have its limits.

use super::fault::Fault;
use super::function::read_object;
use super::page::Page;
use super::schema;
use super::scope::{self, Scope};
use super::tags::change_resource as change;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use runtime::registry::{Resource, ResourceId, ResourceKind};
use serde_json::{Map, Value, json};

pub const ROUTES: &[Route] = &[
    route!(GET "/2025-11-30/capacity-providers" ListCapacityProviders => list),
    route!(POST "/2025-11-30/capacity-providers" CreateCapacityProvider => create),
    route!(GET "/2025-11-30/capacity-providers/*" GetCapacityProvider => get),
    route!(PUT "/2025-11-30/capacity-providers/*" UpdateCapacityProvider => update),
    route!(DELETE "/2025-11-30/capacity-providers/*" DeleteCapacityProvider => delete),
    route!(GET "/2025-11-30/capacity-providers/*/function-versions" ListFunctionVersionsByCapacityProvider => versions),
];

/// Members of requests that answers do not show.
const NOT_SHOWN: [&str; 2] = ["CapacityProviderName", "Tags"];
const CHANGEABLE: [&str; 3] = ["CapacityProviderScalingConfig", "PropagateTags", "TelemetryConfig"];

async fn create(mut exchange: Exchange) -> Answer {
    let mut request = read_object(&mut exchange, "CreateCapacityProvider").await?;
    let bounds = &exchange.gateway.config.functions;
    request.get("Tags").and_then(Value::as_object).map_or(Ok(()), |tags| schema::check_tags(tags, bounds))?;
    request.retain(|_, value| !value.is_null());
    let id = named(&exchange, request.get("CapacityProviderName").and_then(Value::as_str).unwrap_or_default());
    for (name, usual) in defaults() {
        let mut whole = usual.as_object().cloned().unwrap_or_default();
        whole.extend(request.get(name).and_then(Value::as_object).cloned().unwrap_or_default());
        request.insert(name.to_owned(), whole.into());
    }
    let arn = id.arn();
    let made = change(&exchange, id, move |old| match old {
        Some(_) => Err(Fault::conflict(format!("Capacity provider already exists: {arn}"))),
        None => Ok(Some(request)),
    });
    Ok(answer::json(StatusCode::ACCEPTED, &told(&*made.await?.ok_or_else(gone)?, "Pending")))
}

/// What AWS puts in the place of what is not said.
fn defaults() -> [(&'static str, Value); 2] {
    [
        (
            "InstanceRequirements",
            json!({ "Architectures": ["x86_64"], "AllowedInstanceTypes": [], "ExcludedInstanceTypes": [] }),
        ),
        ("CapacityProviderScalingConfig", json!({ "MaxVCpuCount": 400, "ScalingMode": "Auto", "ScalingPolicies": [] })),
    ]
}

async fn get(exchange: Exchange) -> Answer {
    let id = of_path(&exchange);
    let found = exchange.gateway.registry.resource(&id).ok_or_else(|| missing(&id))?;
    Ok(answer::json(StatusCode::OK, &told(&found, "Active")))
}

async fn update(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "UpdateCapacityProvider").await?;
    let id = of_path(&exchange);
    let absent = missing(&id);
    let changed = change(&exchange, id, move |old| {
        let mut value = old.ok_or(absent)?.value.clone();
        value.extend(request.into_iter().filter(|(name, value)| CHANGEABLE.contains(&&**name) && !value.is_null()));
        Ok(Some(value))
    });
    Ok(answer::json(StatusCode::ACCEPTED, &told(&*changed.await?.ok_or_else(gone)?, "Active")))
}

async fn delete(exchange: Exchange) -> Answer {
    let id = of_path(&exchange);
    let old = exchange.gateway.registry.resource(&id).ok_or_else(|| missing(&id))?;
    if let Some(function) = users(&exchange, &id.arn()).first() {
        return Err(Fault::conflict(format!(
            "Capacity provider {} cannot be deleted: the function version {function} uses it.",
            id.arn()
        )));
    }
    change(&exchange, id, |_| Ok(None)).await?;
    Ok(answer::json(StatusCode::ACCEPTED, &told(&old, "Deleting")))
}

async fn list(exchange: Exchange) -> Answer {
    let page = Page::of(&exchange)?;
    let Scope { account, region, .. } = scope::of(&exchange.head, &exchange.gateway.config.node);
    let all = exchange.gateway.registry.resources(&account, &region, ResourceKind::CapacityProvider);
    let wanted = exchange.query("State").is_none_or(|state| state == "Active");
    let keyed = all.into_iter().filter(|_| wanted).map(|one| (one.id.name.clone(), one));
    Ok(answer::json(StatusCode::OK, &page.cut("CapacityProviders", keyed, |one| shown(&one, "Active"))))
}

async fn versions(exchange: Exchange) -> Answer {
    let page = Page::of(&exchange)?;
    let id = of_path(&exchange);
    exchange.gateway.registry.resource(&id).ok_or_else(|| missing(&id))?;
    let users = users(&exchange, &id.arn()).into_iter().map(|arn| (arn.clone(), arn));
    let mut shown = page.cut("FunctionVersions", users, |arn| json!({ "FunctionArn": arn, "State": "Active" }));
    shown["CapacityProviderArn"] = id.arn().into();
    Ok(answer::json(StatusCode::OK, &shown))
}

/// The ARNs of the versions that name a provider.
fn users(exchange: &Exchange, arn: &str) -> Vec<String> {
    let records = exchange.gateway.registry.records();
    let versions = records.iter().flat_map(|record| record.entries());
    let using = versions.filter(|entry| provider(&entry.content.settings) == Some(arn));
    let mut arns: Vec<String> = using.map(|entry| entry.qualified_arn()).collect();
    // Pages are cut in the order of their keys, which is not that of the numbers.
    arns.sort_unstable();
    arns
}

/// The provider that a function's settings name.
pub fn provider(settings: &Map<String, Value>) -> Option<&str> {
    let config = settings.get("CapacityProviderConfig")?.get("LambdaManagedInstancesCapacityProviderConfig")?;
    config.get("CapacityProviderArn")?.as_str()
}

/// The provider that the path names, by its name or its ARN.
fn of_path(exchange: &Exchange) -> ResourceId {
    let text = exchange.capture(0);
    named(exchange, text.rsplit(':').next().unwrap_or(&text))
}

fn named(exchange: &Exchange, name: &str) -> ResourceId {
    let Scope { account, region, .. } = scope::of(&exchange.head, &exchange.gateway.config.node);
    let kind = ResourceKind::CapacityProvider;
    ResourceId { account: account.into(), region: region.into(), kind, name: name.into() }
}

fn missing(id: &ResourceId) -> Fault {
    Fault::not_found(format!("Capacity provider not found: {}", id.arn()))
}

/// Nobody takes away what was just written.
fn gone() -> Fault {
    Fault::unavailable("The capacity provider has been deleted meanwhile.")
}

fn told(provider: &Resource, state: &str) -> Value {
    json!({ "CapacityProvider": shown(provider, state) })
}

/// The shape `CapacityProvider`.
fn shown(provider: &Resource, state: &str) -> Value {
    let mut shape = json!({ "CapacityProviderArn": provider.id.arn(), "State": state });
    if let Value::Object(shape) = &mut shape {
        let members = provider.value.iter().filter(|(name, _)| !NOT_SHOWN.contains(&name.as_str()));
        shape.extend(members.map(|(name, value)| (name.clone(), value.clone())));
    }
    shape["LastModified"] = api::time::lambda(provider.modified_ms).into();
    shape
}
