//! Aliases: names for versions, that can share their traffic between two of them.

use super::attach;
use super::constraint::{self, Member, Rule, Shape, member};
use super::fault::Fault;
use super::function::read_object;
use super::name;
use super::page::Page;
use super::update::revision;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use runtime::registry::{Attached, Facet, FunctionId, Qualified, Record};
use serde_json::{Map, Value, json};

pub const ROUTES: &[Route] = &[
    route!(POST "/2015-03-31/functions/*/aliases" CreateAlias => create),
    route!(GET "/2015-03-31/functions/*/aliases" ListAliases => list),
    route!(GET "/2015-03-31/functions/*/aliases/*" GetAlias => get),
    route!(PUT "/2015-03-31/functions/*/aliases/*" UpdateAlias => update),
    route!(DELETE "/2015-03-31/functions/*/aliases/*" DeleteAlias => delete),
];

const NAME: &str = "(?!^[0-9]+$)([a-zA-Z0-9-_]+)";
const VERSION: &str = "(\\$LATEST|[0-9]+)";
const WEIGHTS: &str = "routingConfig.additionalVersionWeights";
const KEY_RULE: &str = "Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must \
    have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+, Member must not be null]";
const WEIGHT_RULE: &str = "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must \
    have value greater than or equal to 0.0, Member must not be null]";

const ALIAS: &[Member] = &[
    member("Name", Shape::Text, &[Rule::Length { min: 1, max: 128 }, Rule::Pattern(NAME, is_name)]),
    member("FunctionVersion", Shape::Text, &[Rule::Length { min: 1, max: 1024 }, Rule::Pattern(VERSION, is_version)]),
    member("Description", Shape::Text, &[Rule::Length { min: 0, max: 256 }]),
    member("RoutingConfig", Shape::Object, &[]),
    member("RoutingConfig.AdditionalVersionWeights", Shape::Object, &[]),
    member("RevisionId", Shape::Text, &[]),
];

fn is_name(text: &str) -> bool {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    is_word && matches!(Qualified::of(text), Qualified::Alias(_)) && !text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_version(text: &str) -> bool {
    text == api::lambda::LATEST || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

async fn create(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "CreateAlias").await?;
    constraint::check(&request, ALIAS, &["Name", "FunctionVersion"], &exchange.gateway.config.functions)?;
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
    constraint::check(&request, ALIAS, &[], &exchange.gateway.config.functions)?;
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
    let page = Page::of(&exchange, 10_000)?;
    let version = exchange.query("FunctionVersion");
    if let Some(version) = version.as_deref().filter(|version| !is_version(version)) {
        let rule = format!("Member must satisfy regular expression pattern: {VERSION}");
        return Err(constraint::violation("functionVersion", version, &rule));
    }
    let record = name::function_of_path(&exchange)?.record(&exchange.gateway)?;
    let id = &record.latest.id;
    let aliases = record.all_attached(Facet::Alias);
    let meant = aliases.filter(|(_, alias)| version.as_deref().is_none_or(|v| alias.text("FunctionVersion") == v));
    let meant = meant.map(|(name, alias)| (name.to_owned(), (name, alias)));
    Ok(answer::json(StatusCode::OK, &page.cut("Aliases", meant, |(name, alias)| shown(id, name, alias))))
}

/// The function and the alias that the path names.
fn place(exchange: &Exchange) -> Result<(FunctionId, String), Fault> {
    let alias = exchange.capture(1).into_owned();
    if !is_name(&alias) {
        let rule = format!("Member must satisfy regular expression pattern: {NAME}");
        return Err(constraint::violation("name", &alias, &rule));
    }
    Ok((name::function_of_path(exchange)?.id(), alias))
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
        check_weights(weights)?;
        if version == api::lambda::LATEST {
            let message = "$LATEST is not supported for an alias pointing to more than 1 version";
            return Err(Fault::invalid_parameter(message));
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

fn check_weights(weights: &Map<String, Value>) -> Result<(), Fault> {
    let plain = |(version, weight): (&String, &Value)| match weight.as_f64() {
        Some(number) => format!("{version}={number:?}"),
        None => format!("{version}={weight}"),
    };
    let shown = format!("{{{}}}", weights.iter().map(plain).collect::<Vec<_>>().join(", "));
    if weights.len() > 1 {
        let message = "Number of items in AdditionalVersionWeights cannot be greater than 1";
        return Err(Fault::invalid_parameter(message));
    }
    for (version, weight) in weights {
        let Some(weight) = weight.as_f64() else {
            return Err(Fault::serialization("STRING_VALUE can not be converted to a Double"));
        };
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(constraint::violation(WEIGHTS, &shown, KEY_RULE));
        }
        if !(0.0..=1.0).contains(&weight) {
            return Err(constraint::violation(WEIGHTS, &shown, WEIGHT_RULE));
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        assert!(["live", "v1", "1a", "a-b_c", "99x"].into_iter().all(is_name));
        assert!(!["", "1", "2024", "$LATEST", "a.b", "99999999999999999999999"].into_iter().any(is_name));
        assert!(["$LATEST", "1", "007"].into_iter().all(is_version));
        assert!(!["", "live", "1a", "$latest"].into_iter().any(is_version));
    }

    #[test]
    fn weights_are_checked_in_lambdas_words() {
        let message = |weights: Value| {
            let Value::Object(weights) = weights else { panic!("weights are a map") };
            check_weights(&weights).map_err(|fault| fault.message().to_owned())
        };
        assert_eq!(message(json!({ "2": 0.1 })), Ok(()));
        let refused = [
            (json!({ "2": 0.1, "3": 0.1 }), "cannot be greater than 1"),
            (json!({ "2": 2 }), "Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy"),
            (json!({ "$LATEST": 0.5 }), "Value '{$LATEST=0.5}' at 'routingConfig.additionalVersionWeights' failed"),
        ];
        for (weights, words) in refused {
            let message = message(weights).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
