//! Functions, changed: their code, their configuration.

use super::fault::Fault;
use super::function::{parse, read_request};
use super::name::{self, Target};
use super::shape::{Moment, configuration};
use super::{constraint, package, schema};
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
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
            let target = only_function(&exchange)?;
            let entry = target.find(gateway)?;
            let mut request = parse(&body)?;
            drop(body);
            constraint::check(&request, schema::CODE_UPDATE, &[], &gateway.config.functions)?;
            let revision = revision(&request);
            let architectures = request.remove("Architectures").filter(|value| !value.is_null());
            let code = package::store(&mut request, gateway.registry.code())?;
            if request.get("DryRun").is_some_and(|flag| flag == &Value::Bool(true)) {
                return Ok(answer::json(StatusCode::OK, &configuration(&entry, Moment::Settled)));
            }
            let changed = gateway.registry.update(&entry.id, revision.as_deref(), |content| -> Result<(), Fault> {
                (content.code, content.code_bytes) = (code.id(), code.zip_bytes());
                content.settings.extend(architectures.map(|value| ("Architectures".to_owned(), value)));
                Ok(())
            })?;
            Ok(answer::json(StatusCode::OK, &configuration(&changed, Moment::Updated)))
        })
        .await?
}

async fn settings(mut exchange: Exchange) -> Answer {
    let body = read_request(&mut exchange, "UpdateFunctionConfiguration").await?;
    let gateway = exchange.gateway.clone();
    gateway
        .blocking(move |gateway| {
            let id = only_function(&exchange)?.find(gateway)?.id.clone();
            let request = parse(&body)?;
            schema::check_update(&request, &gateway.config.functions)?;
            let revision = revision(&request);
            let changed = gateway.registry.update(&id, revision.as_deref(), |content| -> Result<(), Fault> {
                schema::change_settings(&mut content.settings, request);
                Ok(())
            })?;
            Ok(answer::json(StatusCode::OK, &configuration(&changed, Moment::Updated)))
        })
        .await?
}

/// A function can be changed, a version of it cannot.
fn only_function(exchange: &Exchange) -> Result<Target<'_>, Fault> {
    let target = name::of_path(exchange)?;
    if target.qualifier.is_some() {
        return Err(Fault::invalid_parameter(
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. \
             Please specify either a function name or an unqualified function ARN.",
        ));
    }
    Ok(target)
}

fn revision(request: &Map<String, Value>) -> Option<String> {
    request.get("RevisionId").and_then(Value::as_str).filter(|revision| !revision.is_empty()).map(str::to_owned)
}
