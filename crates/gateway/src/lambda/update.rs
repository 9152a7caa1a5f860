//! Functions, changed: their code, their configuration.

use super::fault::Fault;
use super::function::{parse, read_request};
use super::name;
use super::shape::{Moment, configuration};
use super::versions::is_wanted;
use super::{layer_use, logging_config, model, package, pure_code, runtime_version, schema, scope};
use crate::gateway::Gateway;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use runtime::registry::{Content, Publication};
use serde_json::{Map, Value};

pub const ROUTES: &[Route] = &[
    route!(PUT "/2015-03-31/functions/*/code" UpdateFunctionCode => code),
    route!(PUT "/2015-03-31/functions/*/configuration" UpdateFunctionConfiguration => settings),
];

async fn code(mut exchange: Exchange) -> Answer {
    let body = read_request(&mut exchange, "UpdateFunctionCode").await?;
    let gateway = exchange.gateway.clone();
    gateway
        .blocking(move |gateway| {
            let target = name::function_of_path(&exchange)?;
            let entry = target.find(gateway)?;
            let mut request = parse(&body)?;
            drop(body);
            let program = program(&mut request, gateway)?;
            model::check("UpdateFunctionCode", &request, &gateway.config.functions)?;
            if request.get("ImageUri").is_some_and(|image| !image.is_null()) {
                let message = "Please don't provide ImageUri when updating a function with packageType Zip.";
                return Err(Fault::invalid_parameter(message));
            }
            let revision = revision(&request);
            let architectures = request.remove("Architectures").filter(|value| !value.is_null());
            let code = package::store(&mut request, gateway, &entry.id.region)?;
            layer_use::check(gateway, &entry.content.settings, code.id())?;
            let mut content = Content { code: code.id(), ..entry.content.clone() };
            schema::change_settings(&mut content.settings, program.clone());
            pure_code::check(gateway, &entry.id, &content)?;
            if request.get("DryRun").is_some_and(|flag| flag == &Value::Bool(true)) {
                return Ok(answer::json(StatusCode::OK, &configuration(&entry, Moment::Settled)));
            }
            let changed = gateway.registry.update(&entry.id, revision.as_deref(), |content| -> Result<(), Fault> {
                (content.code, content.code_bytes) = (code.id(), code.zip_bytes());
                content.settings.extend(architectures.map(|value| ("Architectures".to_owned(), value)));
                schema::change_settings(&mut content.settings, program);
                Ok(())
            })?;
            let mut shown = configuration(&changed, Moment::Updated);
            if is_wanted(&request) {
                let (version, _) = gateway.registry.publish(&changed.id, Publication::default())?;
                shown = configuration(&version, Moment::Created);
                shown["FunctionArn"] = version.qualified_arn().into();
            }
            Ok(answer::json(StatusCode::OK, &shown))
        })
        .await?
}

/// What of new code is the function, and what runs it, where a client of Lichen says so: they go with the code, which would not
/// run with the old ones, nor the old code with these.
fn program(request: &mut Map<String, Value>, gateway: &Gateway) -> Result<Map<String, Value>, Fault> {
    let Some(Value::Object(mut said)) = request.remove("Lichen") else { return Ok(Map::new()) };
    said.retain(|member, _| ["Runtime", "Handler"].contains(&member.as_str()));
    let bounds = schema::bounds_for(&said, &gateway.config.functions);
    model::check("UpdateFunctionConfiguration", &said, &bounds)?;
    schema::check_update(&said, &bounds)?;
    Ok(said)
}

async fn settings(mut exchange: Exchange) -> Answer {
    let body = read_request(&mut exchange, "UpdateFunctionConfiguration").await?;
    let gateway = exchange.gateway.clone();
    gateway
        .blocking(move |gateway| {
            let entry = name::function_of_path(&exchange)?.find(gateway)?;
            let mut request = parse(&body)?;
            let settings = &entry.content.settings;
            let provided = if request.contains_key(schema::PROVIDED) { &request } else { settings };
            let bounds = schema::bounds_for(provided, &gateway.config.functions);
            model::check("UpdateFunctionConfiguration", &request, &bounds)?;
            schema::check_update(&request, &bounds)?;
            schema::check_profiles(&request, &gateway.config.pus, &bounds)?;
            logging_config::check(settings, &request)?;
            runtime_version::check(gateway, &request)?;
            let revision = revision(&request);
            let scope = scope::of(&exchange.head, &gateway.config.node);
            let _layers = layer_use::resolve(gateway, &scope, &mut request, entry.content.code)?;
            if ["Runtime", "Handler"].iter().any(|member| request.contains_key(*member)) {
                let mut content = entry.content.clone();
                schema::change_settings(&mut content.settings, request.clone());
                pure_code::check(gateway, &entry.id, &content)?;
            }
            let changed = gateway.registry.update(&entry.id, revision.as_deref(), |content| -> Result<(), Fault> {
                schema::change_settings(&mut content.settings, request);
                Ok(())
            })?;
            Ok(answer::json(StatusCode::OK, &configuration(&changed, Moment::Updated)))
        })
        .await?
}

/// The revision that a request expects.
pub fn revision(request: &Map<String, Value>) -> Option<String> {
    request.get("RevisionId").and_then(Value::as_str).filter(|revision| !revision.is_empty()).map(str::to_owned)
}
