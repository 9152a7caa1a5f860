//! Functions: created, shown, listed, deleted.

use super::fault::Fault;
use super::name::{self, Target};
use super::scope;
use super::shape::{Moment, configuration};
use super::{package, schema};
use crate::gateway::Gateway;
use crate::http::{BodyError, answer};
use crate::route::{Answer, Exchange, Route, route};
use api::lambda::LATEST;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hyper::StatusCode;
use runtime::registry::{Content, Entry, FunctionId};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route!(POST "/2015-03-31/functions" CreateFunction => create),
    route!(GET "/2015-03-31/functions" ListFunctions => list),
    route!(GET "/2015-03-31/functions/*" GetFunction => get),
    route!(GET "/2015-03-31/functions/*/configuration" GetFunctionConfiguration => get_configuration),
    route!(DELETE "/2015-03-31/functions/*" DeleteFunction => delete),
];

/// As many functions as AWS puts on a page, whatever was asked for.
const PAGE: usize = 50;
/// A request that brings code is in memory as it came, as JSON, and as a zip file.
const COPIES: usize = 3;

/// The body of a request that may bring code.
pub async fn read_request(exchange: &mut Exchange, operation: &str) -> Result<Bytes, Fault> {
    let limit = exchange.gateway.config.functions.request_max;
    let body =
        exchange.body.take().ok_or_else(|| Fault::invalid_content("The request's body has been read already"))?;
    exchange.gateway.bodies.read(body, limit, COPIES).await.map_err(|error| match error {
        BodyError::TooLong { limit } => {
            Fault::too_large(format!("Request must be smaller than {limit} bytes for the {operation} operation"))
        }
        error => error.into(),
    })
}

/// A request's JSON object. Nothing at all is an empty one.
pub fn parse(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(request)) => Ok(request),
        Ok(_) => Err(Fault::serialization("A request's body is a JSON object")),
        Err(error) => Err(Fault::invalid_content(format!("Could not parse request body into json: {error}"))),
    }
}

async fn create(mut exchange: Exchange) -> Answer {
    let body = read_request(&mut exchange, "CreateFunction").await?;
    let gateway = exchange.gateway.clone();
    gateway
        .blocking(move |gateway| {
            let scope = scope::of(&exchange.head, &gateway.config.node);
            let mut request = parse(&body)?;
            drop(body);
            schema::check_creation(&request, &gateway.config.functions)?;
            let written = request.get("FunctionName").and_then(Value::as_str).unwrap_or_default().to_owned();
            let id = name::resolve(written.into(), None, scope)?.id();
            let entry = store(gateway, id, &mut request)?;
            Ok(answer::json(StatusCode::CREATED, &configuration(&entry, Moment::Created)))
        })
        .await?
}

fn store(gateway: &Gateway, id: FunctionId, request: &mut Map<String, Value>) -> Result<Arc<Entry>, Fault> {
    // Before the work of unpacking; the registry asks again.
    if gateway.registry.find(&id.account, &id.region, &id.name).is_some() {
        return Err(Fault::conflict(format!("Function already exist: {}", id.name)));
    }
    let Some(Value::Object(mut code)) = request.remove("Code") else {
        return Err(Fault::serialization("Code is a structure"));
    };
    let code = package::store(&mut code, gateway.registry.code())?;
    let tags = match request.remove("Tags") {
        Some(Value::Object(tags)) => tags,
        _ => Map::new(),
    };
    let settings = schema::new_settings(std::mem::take(request), &gateway.config.functions);
    let content = Content { settings, tags, code: code.id(), code_bytes: code.zip_bytes(), reserved: None };
    Ok(gateway.registry.create(id, content)?)
}

async fn get(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let entry = target.find(&exchange.gateway)?;
    let code = json!({ "RepositoryType": "S3", "Location": location(&exchange, &entry) });
    let mut function = json!({ "Configuration": shown(&entry, &target), "Code": code });
    if !entry.content.tags.is_empty() {
        function["Tags"] = entry.content.tags.clone().into();
    }
    if let Some(reserved) = entry.content.reserved {
        function["Concurrency"] = json!({ "ReservedConcurrentExecutions": reserved });
    }
    Ok(answer::json(StatusCode::OK, &function))
}

async fn get_configuration(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let entry = target.find(&exchange.gateway)?;
    Ok(answer::json(StatusCode::OK, &shown(&entry, &target)))
}

/// A configuration asked for with a qualifier names it in its ARN.
fn shown(entry: &Entry, target: &Target<'_>) -> Value {
    let mut shown = configuration(entry, Moment::Settled);
    if let Some(qualifier) = &target.qualifier {
        shown["FunctionArn"] = format!("{}:{qualifier}", entry.id.arn()).into();
    }
    shown
}

/// Where the package can be downloaded: on this node, by the name that the caller knows it by.
fn location(exchange: &Exchange, entry: &Entry) -> String {
    let own = exchange.gateway.config.node.listen.to_string();
    let host = exchange.header("host").unwrap_or(&own);
    format!("http://{host}{}/{}", crate::v1::CODE, entry.content.code.hex())
}

async fn delete(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let entry = target.find(&exchange.gateway)?;
    if target.qualifier.as_deref() == Some(LATEST) {
        let message = "$LATEST version cannot be deleted without deleting the function.";
        return Err(Fault::invalid_parameter(message));
    }
    let deleted = exchange.gateway.blocking(move |gateway| gateway.registry.delete(&entry.id)).await?;
    match deleted? {
        Some(_) => Ok(answer::empty(StatusCode::NO_CONTENT)),
        None => Err(Fault::function_not_found(target.id().arn())),
    }
}

async fn list(exchange: Exchange) -> Answer {
    let all_versions = exchange.query("FunctionVersion");
    if let Some(version) = all_versions.as_deref().filter(|version| *version != "ALL") {
        let rule = "Member must satisfy enum value set: [ALL]";
        return Err(super::constraint::violation("functionVersion", version, rule));
    }
    let (start, limit) = page(&exchange)?;
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let entries =
        exchange.gateway.registry.all().into_iter().filter(|entry| {
            entry.id.account == scope.account && entry.id.region == scope.region && entry.id.name > start
        });
    let mut entries: Vec<_> = entries.take(limit + 1).collect();
    let more = entries.len() > limit;
    entries.truncate(limit);
    let shown: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let mut shown = configuration(entry, Moment::Settled);
            if all_versions.is_some() {
                shown["FunctionArn"] = format!("{}:{LATEST}", entry.id.arn()).into();
            }
            shown
        })
        .collect();
    let mut page = json!({ "Functions": shown });
    if let (true, Some(last)) = (more, entries.last()) {
        page["NextMarker"] = URL_SAFE_NO_PAD.encode(&last.id.name).into();
    }
    Ok(answer::json(StatusCode::OK, &page))
}

/// The name after which a page begins, and how many functions it has.
fn page(exchange: &Exchange) -> Result<(String, usize), Fault> {
    let limit = match exchange.query("MaxItems") {
        None => PAGE,
        Some(text) => match text.parse::<usize>() {
            Ok(limit @ 1..=10_000) => limit.min(PAGE),
            Ok(limit) => {
                let rule = match limit {
                    0 => "Member must have value greater than or equal to 1",
                    _ => "Member must have value less than or equal to 10000",
                };
                return Err(super::constraint::violation("maxItems", &text, rule));
            }
            Err(_) => return Err(Fault::serialization("STRING_VALUE can not be converted to an Integer")),
        },
    };
    let Some(marker) = exchange.query("Marker") else { return Ok((String::new(), limit)) };
    let start = URL_SAFE_NO_PAD.decode(marker.as_bytes()).ok().and_then(|name| String::from_utf8(name).ok());
    start.map(|start| (start, limit)).ok_or_else(|| Fault::invalid_parameter("Invalid pagination marker"))
}
