//! Functions and their versions: created, shown, listed, deleted.

use super::fault::Fault;
use super::name::{self, Target};
use super::page::Page;
use super::scope::{self, Scope};
use super::shape::{Moment, configuration, listed};
use super::versions::is_wanted;
use super::{layer_use, logging_config, model, package, pure_code, runtime_version, schema, signing};
use crate::gateway::Gateway;
use crate::http::json::{self, ObjectError};
use crate::http::{BodyError, answer};
use crate::route::{Answer, Exchange, Route, route};
use api::lambda::LATEST;
use bytes::Bytes;
use hyper::StatusCode;
use runtime::registry::{Content, CreateError, Entry, Facet, FunctionId, Publication, Qualified, RemoveError};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route!(POST "/2015-03-31/functions" CreateFunction => create),
    route!(GET "/2015-03-31/functions" ListFunctions => list),
    route!(GET "/2015-03-31/functions/*" GetFunction => get),
    route!(GET "/2015-03-31/functions/*/configuration" GetFunctionConfiguration => get_configuration),
    route!(DELETE "/2015-03-31/functions/*" DeleteFunction => delete),
];

/// A request that brings code is in memory as it came, as JSON, and as a zip file.
const COPIES: usize = 3;
/// Bytes of a request that brings none: it is read, and held against patterns, where others wait.
const OBJECT_MAX: usize = 256 * 1024;

/// The body of a request that may bring code.
pub async fn read_request(exchange: &mut Exchange, operation: &str) -> Result<Bytes, Fault> {
    let limit = exchange.gateway.config.functions.request_max;
    read_body(exchange, operation, limit).await
}

async fn read_body(exchange: &mut Exchange, operation: &str, limit: usize) -> Result<Bytes, Fault> {
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
    json::object(body).map_err(|error| match error {
        ObjectError::NoObject => Fault::serialization("A request's body is a JSON object"),
        error => Fault::invalid_content(format!("Could not parse request body into json: {error}")),
    })
}

/// The JSON object of a request that brings no code, checked by AWS's model.
pub async fn read_object(exchange: &mut Exchange, operation: &str) -> Result<Map<String, Value>, Fault> {
    let bounds = &exchange.gateway.config.functions;
    // A policy is a text in the text that the request is: with what has to be escaped in it, and its like.
    let limit = OBJECT_MAX.max(bounds.policy_max.saturating_mul(4)).min(bounds.request_max);
    let request = parse(&read_body(exchange, operation, limit).await?)?;
    model::check(operation, &request, &exchange.gateway.config.functions)?;
    Ok(request)
}

async fn create(mut exchange: Exchange) -> Answer {
    let body = read_request(&mut exchange, "CreateFunction").await?;
    let gateway = exchange.gateway.clone();
    gateway
        .blocking(move |gateway| {
            let scope = scope::of(&exchange.head, &gateway.config.node);
            let mut request = parse(&body)?;
            drop(body);
            let bounds = schema::bounds_for(&request, &gateway.config.functions);
            model::check("CreateFunction", &request, &bounds)?;
            schema::check_creation(&request, &bounds)?;
            schema::check_profiles(&request, &gateway.config.pus, &bounds)?;
            logging_config::check(&Map::new(), &request)?;
            runtime_version::check(gateway, &request)?;
            let written = request.get("FunctionName").and_then(Value::as_str).unwrap_or_default().to_owned();
            let id = name::resolve_new(written.into(), scope)?.id();
            let signing = signing::wanted(gateway, &id, &mut request)?;
            let publish = is_wanted(&request);
            let scope = scope::of(&exchange.head, &gateway.config.node);
            let mut entry = store(gateway, id, &scope, &mut request)?;
            if let Some(arn) = signing {
                let having = |_: &_, _: Option<&_>| Ok::<_, Fault>(Some(signing::having(arn)));
                gateway.registry.attach(&entry.id, Facet::CodeSigning, LATEST, having)?;
            }
            if publish {
                (entry, _) = gateway.registry.publish(&entry.id, Publication::default())?;
            }
            Ok(answer::json(StatusCode::CREATED, &configuration(&entry, Moment::Created)))
        })
        .await?
}

fn store(
    gateway: &Gateway,
    id: FunctionId,
    scope: &Scope<'_>,
    request: &mut Map<String, Value>,
) -> Result<Arc<Entry>, Fault> {
    layer_use::check_named(gateway, scope, request)?;
    // Before the work of unpacking; the registry asks again.
    if gateway.registry.find(&id.account, &id.region, &id.name).is_some() {
        return Err(Fault::conflict(format!("Function already exist: {}", id.name)));
    }
    if gateway.registry.has_flow(&id) {
        return Err(CreateError::IsFlow(id.name).into());
    }
    let Some(Value::Object(mut code)) = request.remove("Code") else {
        return Err(Fault::serialization("Code is a structure"));
    };
    let code = package::store(&mut code, gateway, &id.region)?;
    let _layers = layer_use::resolve(gateway, scope, request, code.id())?;
    let tags = match request.remove("Tags") {
        Some(Value::Object(tags)) => tags,
        _ => Map::new(),
    };
    let settings = schema::new_settings(std::mem::take(request), &gateway.config.functions);
    let content = Content { settings, tags, code: code.id(), code_bytes: code.zip_bytes(), reserved: None };
    pure_code::check(gateway, &id, &content)?;
    Ok(gateway.registry.create(id, content)?)
}

async fn get(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let entry = target.find(&exchange.gateway)?;
    let tags = target.record(&exchange.gateway)?.latest.content.tags.clone();
    let code = json!({ "RepositoryType": "S3", "Location": package::location(&exchange, entry.content.code) });
    let mut function = json!({ "Configuration": shown(&entry, &target), "Code": code });
    if !tags.is_empty() {
        function["Tags"] = tags.into();
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

async fn delete(exchange: Exchange) -> Answer {
    let target = name::of_path(&exchange)?;
    let id = target.id();
    let Some(qualifier) = target.qualifier.as_deref().map(str::to_owned) else {
        let deleted = exchange.gateway.blocking(move |gateway| gateway.registry.delete(&id)).await?;
        return match deleted? {
            Some(_) => Ok(answer::empty(StatusCode::NO_CONTENT)),
            None => Err(target.not_found()),
        };
    };
    if let Qualified::Latest = Qualified::of(&qualifier) {
        let message = "$LATEST version cannot be deleted without deleting the function.";
        return Err(Fault::invalid_parameter(message));
    }
    target.record(&exchange.gateway).map_err(|_| Fault::function_not_found(id.arn()))?;
    if let Qualified::Alias(_) = Qualified::of(&qualifier) {
        return Err(Fault::invalid_parameter("Deletion of aliases is not currently supported."));
    }
    match exchange.gateway.blocking(move |gateway| gateway.registry.delete_version(&id, &qualifier)).await? {
        // One that is not there is deleted already.
        Ok(()) | Err(RemoveError::NotFound(..)) => Ok(answer::empty(StatusCode::NO_CONTENT)),
        Err(error) => Err(error.into()),
    }
}

async fn list(exchange: Exchange) -> Answer {
    let all_versions = exchange.query("FunctionVersion");
    let page = Page::of(&exchange)?;
    let Scope { account, region, .. } = scope::of(&exchange.head, &exchange.gateway.config.node);
    // Only as far as the page goes: there may be ten thousand others.
    let name = page.after().split('\0').next().unwrap_or_default();
    let from = FunctionId { account: account.into(), region: region.into(), name: name.to_owned() };
    let here = exchange.gateway.registry.records_from(&from, page.reach());
    let shown = if all_versions.is_some() {
        let entries = here.iter().flat_map(|record| record.entries());
        page.cut("Functions", entries.map(|entry| (key(entry), entry)), |entry| {
            let mut shown = listed(entry);
            shown["FunctionArn"] = entry.qualified_arn().into();
            shown
        })
    } else {
        page.cut("Functions", here.iter().map(|record| (key(&record.latest), &record.latest)), |entry| listed(entry))
    };
    Ok(answer::json(StatusCode::OK, &shown))
}

/// Where a version stands in a list.
fn key(entry: &Entry) -> String {
    format!("{}\0{:020}", entry.id.name, entry.version.unwrap_or_default())
}
