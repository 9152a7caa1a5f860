//! Aliases: names for versions, that can share their traffic between two of them.

use super::attach;
use super::fault::Fault;
use super::function::read_object;
use super::name;
use super::page::Page;
use super::update::revision;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use runtime::registry::{Attached, Facet, FunctionId, Record};
use serde_json::{Map, Value, json};

pub const ROUTES: &[Route] = &[
    route!(POST "/2015-03-31/functions/*/aliases" CreateAlias => create),
    route!(GET "/2015-03-31/functions/*/aliases" ListAliases => list),
    route!(GET "/2015-03-31/functions/*/aliases/*" GetAlias => get),
    route!(PUT "/2015-03-31/functions/*/aliases/*" UpdateAlias => update),
    route!(DELETE "/2015-03-31/functions/*/aliases/*" DeleteAlias => delete),
];

async fn create(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "CreateAlias").await?;
    let (alias, version) = (text(&request, "Name"), text(&request, "FunctionVersion"));
    let id = name::function_of_path(&exchange)?.id();
    if exchange.gateway.registry.record(&id.account, &id.region, &id.name).is_none() {
        return Err(Fault::function_not_found(format!("{}:{version}", id.arn())));
    }
    let (arn, place) = (format!("{}:{alias}", id.arn()), (Facet::Alias, alias.clone()));
    let created = attach::put(&exchange, id.clone(), place, move |record, old| {
        if old.is_some() {
            return Err(Fault::conflict(format!("Alias already exists: {arn}")));
        }
        let mut value = Map::new();
        value.insert("FunctionVersion".into(), version.into());
        value.insert("Description".into(), text(&request, "Description").into());
        route_by(&mut value, &request);
        check(record, &value)?;
        Ok(value)
    });
    let created = created.await?;
    Ok(answer::json(StatusCode::CREATED, &shown(&id, &alias, &created)))
}

async fn update(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "UpdateAlias").await?;
    let (id, alias) = place(&exchange)?;
    let arn = format!("{}:{alias}", id.arn());
    let changed = attach::put(&exchange, id.clone(), (Facet::Alias, alias.clone()), move |record, old| {
        let old = old.ok_or_else(|| Fault::not_found(format!("Alias not found: {arn}")))?;
        if revision(&request).is_some_and(|expected| expected != old.revision) {
            return Err(Fault::stale_revision());
        }
        let mut value = old.value.clone();
        for member in ["FunctionVersion", "Description"] {
            let given = request.get(member).filter(|given| !given.is_null());
            value.extend(given.map(|given| (member.to_owned(), given.clone())));
        }
        route_by(&mut value, &request);
        check(record, &value)?;
        Ok(value)
    });
    let changed = changed.await?;
    Ok(answer::json(StatusCode::OK, &shown(&id, &alias, &changed)))
}

async fn get(exchange: Exchange) -> Answer {
    let (id, alias) = place(&exchange)?;
    let record = exchange.gateway.registry.record(&id.account, &id.region, &id.name);
    match record.as_ref().and_then(|record| record.attached(Facet::Alias, &alias)) {
        Some(found) => Ok(answer::json(StatusCode::OK, &shown(&id, &alias, found))),
        None => Err(Fault::not_found(format!("Cannot find alias arn: {}:{alias}", id.arn()))),
    }
}

/// One that is not there is deleted already.
async fn delete(exchange: Exchange) -> Answer {
    let (id, alias) = place(&exchange)?;
    name::function_of_path(&exchange)?.record(&exchange.gateway)?;
    exchange.gateway.blocking(move |gateway| gateway.registry.delete_alias(&id, &alias)).await??;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

async fn list(exchange: Exchange) -> Answer {
    let page = Page::of(&exchange)?;
    let version = exchange.query("FunctionVersion");
    let record = name::function_of_path(&exchange)?.record(&exchange.gateway)?;
    let id = &record.latest.id;
    let aliases = record.all_attached(Facet::Alias);
    let meant = aliases.filter(|(_, alias)| version.as_deref().is_none_or(|v| alias.text("FunctionVersion") == v));
    let meant = meant.map(|(name, alias)| (name.to_owned(), (name, alias)));
    Ok(answer::json(StatusCode::OK, &page.cut("Aliases", meant, |(name, alias)| shown(id, name, alias))))
}

/// The function and the alias that the path names.
fn place(exchange: &Exchange) -> Result<(FunctionId, String), Fault> {
    Ok((name::function_of_path(exchange)?.id(), exchange.capture(1).into_owned()))
}

fn text(request: &Map<String, Value>, member: &str) -> String {
    request.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Takes over what a request says of routing: weights, or none any more.
fn route_by(value: &mut Map<String, Value>, request: &Map<String, Value>) {
    let Some(Value::Object(routing)) = request.get("RoutingConfig") else { return };
    match routing.get("AdditionalVersionWeights") {
        Some(Value::Object(weights)) if !weights.is_empty() => {
            value.insert("RoutingConfig".into(), json!({ "AdditionalVersionWeights": weights }));
        }
        _ => {
            value.shift_remove("RoutingConfig");
        }
    }
}

/// Whether there are the versions to which an alias points, and whether it may share its traffic so.
fn check(record: &Record, alias: &Map<String, Value>) -> Result<(), Fault> {
    let missing = |version: &str| Fault::function_not_found(format!("{}:{version}", record.latest.id.arn()));
    let version = text(alias, "FunctionVersion");
    let weights = alias.get("RoutingConfig").and_then(|routing| routing.get("AdditionalVersionWeights"));
    if let Some(weights) = weights.and_then(Value::as_object) {
        if weights.len() > 1 {
            let message = "Number of items in AdditionalVersionWeights cannot be greater than 1";
            return Err(Fault::invalid_parameter(message));
        }
        if version == api::lambda::LATEST {
            let message = "$LATEST is not supported for an alias pointing to more than 1 version";
            return Err(Fault::invalid_parameter(message).without_party());
        }
        for other in weights.keys() {
            if *other == version {
                return Err(Fault::invalid_parameter(format!(
                    "Invalid function version {other}. Function version {other} is already included in routing \
                     configuration."
                )));
            }
            record.version(other).ok_or_else(|| missing(other))?;
        }
    }
    record.version(&version).map(drop).ok_or_else(|| missing(&version))
}

/// The shape `AliasConfiguration`.
fn shown(id: &FunctionId, name: &str, alias: &Attached) -> Value {
    let mut shape = Map::new();
    shape.insert("AliasArn".into(), format!("{}:{name}", id.arn()).into());
    shape.insert("Name".into(), name.into());
    shape.extend(alias.value.clone());
    shape.insert("RevisionId".into(), alias.revision.clone().into());
    shape.into()
}
