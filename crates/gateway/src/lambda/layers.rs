//! Layers: published, shown, listed, deleted. Who else may use one is in `layer_policy`, how functions do in `layer_use`.

use super::constraint::{self, find};
use super::fault::Fault;
use super::function::{parse, read_request};
use super::layer_policy;
use super::page::Page;
use super::scope::{self, Scope};
use super::{model, package};
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::StatusCode;
use runtime::registry::{LayerContent, LayerId, LayerVersion};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    // Also `?find=LayerVersion&Arn=…`, GetLayerVersionByArn.
    route!(GET "/2018-10-31/layers" ListLayers => list),
    route!(GET "/2018-10-31/layers/*/versions" ListLayerVersions => list_versions),
    route!(POST "/2018-10-31/layers/*/versions" PublishLayerVersion => publish),
    route!(GET "/2018-10-31/layers/*/versions/*" GetLayerVersion => get),
    route!(DELETE "/2018-10-31/layers/*/versions/*" DeleteLayerVersion => delete),
];

/// What a publisher says of a version, and is told again.
const KEPT: [&str; 3] = ["CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo"];
const NAME: &str = "(arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\\d{12}:layer:[a-zA-Z0-9-_]+)|[a-zA-Z0-9-_]+";
const NAME_MAX: usize = 140;

async fn publish(mut exchange: Exchange) -> Answer {
    let body = read_request(&mut exchange, "PublishLayerVersion").await?;
    let id = own_of_path(&exchange, "PublishLayerVersion")?;
    let gateway = exchange.gateway.clone();
    gateway
        .blocking(move |gateway| {
            let mut request = parse(&body)?;
            drop(body);
            model::check("PublishLayerVersion", &request, &gateway.config.functions)?;
            let Some(Value::Object(mut code)) = request.remove("Content") else {
                return Err(Fault::serialization("Content is a structure"));
            };
            let code = package::store(&mut code, gateway, &id.region)?;
            let mut value = Map::from_iter([("Description".to_owned(), json!(text(&request, "Description")))]);
            let said = KEPT.into_iter().filter_map(|name| Some((name.to_owned(), find(&request, name)?.clone())));
            value.extend(said);
            let content = LayerContent { value, code: code.id(), code_bytes: code.zip_bytes() };
            let version = gateway.registry.publish_layer(id, content)?;
            Ok(answer::json(StatusCode::CREATED, &whole(&exchange, &version)))
        })
        .await?
}

fn text<'a>(request: &'a Map<String, Value>, member: &str) -> &'a str {
    request.get(member).and_then(Value::as_str).unwrap_or_default()
}

async fn get(exchange: Exchange) -> Answer {
    let id = of_path(&exchange)?;
    let found = number(&exchange)?.and_then(|number| exchange.gateway.registry.layer_version(&id, number));
    show(&exchange, found)
}

fn get_by_arn(exchange: &Exchange) -> Answer {
    let arn = exchange.query("Arn").unwrap_or_default();
    show(exchange, parse_version(&arn).and_then(|(id, number)| exchange.gateway.registry.layer_version(&id, number)))
}

/// A version, to those who may use it.
fn show(exchange: &Exchange, found: Option<Arc<LayerVersion>>) -> Answer {
    let version = found.ok_or_else(|| Fault::not_found("The resource you requested does not exist."))?;
    layer_policy::check_use(&scope::of(&exchange.head, &exchange.gateway.config.node), &version)?;
    Ok(answer::json(StatusCode::OK, &whole(exchange, &version)))
}

async fn delete(exchange: Exchange) -> Answer {
    let id = own_of_path(&exchange, "DeleteLayerVersion")?;
    // One that is not there is deleted already.
    if let Some(number) = number(&exchange)? {
        exchange.gateway.blocking(move |gateway| gateway.registry.delete_layer_version(&id, number)).await??;
    }
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

async fn list(exchange: Exchange) -> Answer {
    if exchange.query("find").is_some_and(|find| find == "LayerVersion") {
        return get_by_arn(&exchange);
    }
    let page = Page::of(&exchange)?;
    let Scope { account, region, .. } = scope::of(&exchange.head, &exchange.gateway.config.node);
    let registry = &exchange.gateway.registry;
    let layers = registry.layer_names(&account, &region).into_iter().filter_map(|name| {
        let id = LayerId { account: account.to_string(), region: region.to_string(), name };
        let newest = registry.layer_versions(&id).into_iter().rev().find(|version| is_wanted(&exchange, version))?;
        Some((id.name.clone(), (id, newest)))
    });
    let shown = page.cut(
        "Layers",
        layers,
        |(id, newest)| json!({ "LayerName": id.name, "LayerArn": id.arn(), "LatestMatchingVersion": listed(&newest) }),
    );
    Ok(answer::json(StatusCode::OK, &shown))
}

async fn list_versions(exchange: Exchange) -> Answer {
    let page = Page::of(&exchange)?;
    let versions = exchange.gateway.registry.layer_versions(&own_of_path(&exchange, "ListLayerVersions")?);
    // The newest first: the keys that pages are cut by grow while numbers fall.
    let wanted = versions.into_iter().rev().filter(|version| is_wanted(&exchange, version));
    let keyed = wanted.map(|version| (format!("{:020}", u64::MAX - version.number), version));
    Ok(answer::json(StatusCode::OK, &page.cut("LayerVersions", keyed, |version| listed(&version))))
}

/// Whether a version is for what the query asks for. One that names nothing is for everything.
fn is_wanted(exchange: &Exchange, version: &LayerVersion) -> bool {
    [("CompatibleRuntime", "CompatibleRuntimes"), ("CompatibleArchitecture", "CompatibleArchitectures")]
        .into_iter()
        .all(|(asked, said)| {
            let said = version.content.value.get(said).and_then(Value::as_array);
            exchange.query(asked).is_none_or(|asked| said.is_some_and(|said| said.iter().any(|one| *one == *asked)))
        })
}

/// The layer that the path's first star means: a name, or the ARN of one.
pub fn of_path(exchange: &Exchange) -> Result<LayerId, Fault> {
    let text = exchange.capture(0);
    let Scope { account, region, .. } = scope::of(&exchange.head, &exchange.gateway.config.node);
    let id = match is_word(&text) {
        true => Some(LayerId { account: account.into(), region: region.into(), name: text.to_string() }),
        false => parse_layer(&text),
    };
    if text.len() > NAME_MAX {
        let rule = format!("Member must have length less than or equal to {NAME_MAX}");
        return Err(constraint::violation("layerName", &text, &rule));
    }
    id.ok_or_else(|| {
        let rule = format!("Member must satisfy regular expression pattern: {NAME}");
        constraint::violation("layerName", &text, &rule)
    })
}

/// The same where only one of the caller's own account can be meant: other accounts may use layers, and no more.
pub fn own_of_path(exchange: &Exchange, operation: &str) -> Result<LayerId, Fault> {
    let id = of_path(exchange)?;
    let Scope { account, .. } = scope::of(&exchange.head, &exchange.gateway.config.node);
    if id.account == account {
        return Ok(id);
    }
    Err(layer_policy::denied(&account, operation, &id.arn()))
}

/// The version that the path's second star means; nothing for one that no layer can have.
pub fn number(exchange: &Exchange) -> Result<Option<u64>, Fault> {
    match exchange.capture(1).parse::<i64>() {
        Ok(number @ 1..) => Ok(u64::try_from(number).ok()),
        Ok(_) => Err(Fault::invalid_parameter("Layer Version Cannot be less than 1")),
        Err(_) => Err(Fault::serialization("STRING_VALUE can not be converted to a Long")),
    }
}

/// `arn:aws:lambda:REGION:ACCOUNT:layer:NAME`.
fn parse_layer(arn: &str) -> Option<LayerId> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", partition, "lambda", region, account, "layer", name] = parts[..] else { return None };
    let is_known = partition.starts_with("aws") && daemon::node::Account::is_valid(account) && is_word(name);
    is_known.then(|| LayerId { account: account.into(), region: region.into(), name: name.into() })
}

/// The same with `:VERSION`.
pub fn parse_version(arn: &str) -> Option<(LayerId, u64)> {
    let (layer, number) = arn.rsplit_once(':')?;
    let number = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())??;
    Some((parse_layer(layer)?, number))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// A version in a list.
fn listed(version: &LayerVersion) -> Value {
    let mut shown = json!({
        "LayerVersionArn": version.arn(),
        "Version": version.number,
        "CreatedDate": api::time::lambda(version.created_ms),
    });
    if let Value::Object(shown) = &mut shown {
        shown.extend(version.content.value.clone());
    }
    shown
}

/// A version with its code.
fn whole(exchange: &Exchange, version: &LayerVersion) -> Value {
    let content = &version.content;
    let mut shown = json!({
        "Content": {
            "Location": package::location(exchange, content.code),
            "CodeSha256": BASE64.encode(content.code.bytes()),
            "CodeSize": content.code_bytes,
        },
        "LayerArn": version.id.arn(),
    });
    if let (Value::Object(shown), Value::Object(listed)) = (&mut shown, listed(version)) {
        shown.extend(listed);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns() {
        let id = LayerId { account: "000000000000".into(), region: "us-east-1".into(), name: "l-1_x".into() };
        assert_eq!(parse_version(&format!("{}:12", id.arn())), Some((id.clone(), 12)));
        assert_eq!(parse_layer(&id.arn()), Some(id.clone()));
        for wrong in
            ["", "l", "arn:aws:lambda:us-east-1:000000000000:function:l:1", "arn:aws:lambda:us-east-1:0:layer:l:1"]
        {
            assert_eq!(parse_version(wrong), None, "{wrong}");
        }
        for tail in ["", ":", ":x", ":+1", ":99999999999999999999999"] {
            assert_eq!(parse_version(&format!("{}{tail}", id.arn())), None, "{tail}");
        }
    }
}
