//! Versions: published, listed. They are shown, invoked and deleted as functions are, by their qualifier.

use super::fault::Fault;
use super::function::read_object;
use super::name;
use super::page::Page;
use super::shape::{Moment, configuration, listed};
use super::update::revision;
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::StatusCode;
use runtime::registry::{Publication, PublishError};
use serde_json::{Map, Value};

pub const ROUTES: &[Route] = &[
    route!(POST "/2015-03-31/functions/*/versions" PublishVersion => publish),
    route!(GET "/2015-03-31/functions/*/versions" ListVersionsByFunction => list),
];

/// Whether a request asks for a version along with the change.
pub fn is_wanted(request: &Map<String, Value>) -> bool {
    request.get("Publish") == Some(&Value::Bool(true))
}

async fn publish(mut exchange: Exchange) -> Answer {
    let request = read_object(&mut exchange, "PublishVersion").await?;
    let id = name::function_of_path(&exchange)?.id();
    let text = |member: &str| request.get(member).and_then(Value::as_str).map(str::to_owned);
    let wanted = text("CodeSha256").filter(|wanted| !wanted.is_empty());
    let publication = Publication {
        description: text("Description"),
        revision: revision(&request),
        // What is no hash is no code's.
        code: wanted.as_ref().map(|wanted| BASE64.decode(wanted).unwrap_or_default()),
    };
    let published = exchange.gateway.blocking(move |gateway| gateway.registry.publish(&id, publication)).await?;
    let (version, _) = published.map_err(|error| match error {
        PublishError::Code { found } => {
            let (wanted, found) = (wanted.unwrap_or_default(), BASE64.encode(found.bytes()));
            Fault::invalid_parameter(format!(
                "CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST ({found}). Please try again \
                 with the CodeSHA256 in $LATEST."
            ))
        }
        error => error.into(),
    })?;
    let mut shown = configuration(&version, Moment::Settled);
    shown["FunctionArn"] = version.qualified_arn().into();
    Ok(answer::json(StatusCode::CREATED, &shown))
}

async fn list(exchange: Exchange) -> Answer {
    let page = Page::of(&exchange)?;
    let record = name::of_path(&exchange)?.record(&exchange.gateway)?;
    let entries = record.entries().map(|entry| (format!("{:020}", entry.version.unwrap_or_default()), entry));
    let shown = page.cut("Versions", entries, |entry| {
        let mut shown = listed(entry);
        shown["FunctionArn"] = entry.qualified_arn().into();
        shown
    });
    Ok(answer::json(StatusCode::OK, &shown))
}
