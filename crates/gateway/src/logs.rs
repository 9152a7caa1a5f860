//! CloudWatch Logs' API, over the node's log store: `POST /` with the operation's name in `X-Amz-Target`, JSON both ways.
//!
//! | module | what it is |
//! |---|---|
//! | [`groups`], [`streams`], [`events`] | the operations, by what they are about |
//! | [`request`] | what a request may contain, and whose logs it means |
//! | [`fault`] | errors in this service's words |
//!
//! Metrics, subscriptions, queries (Logs Insights), exports and tags are refused as unknown operations.

mod events;
mod fault;
mod groups;
mod request;
mod streams;

use crate::http::answer;
use crate::route::{Answer, Exchange};
use fault::Fault;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use request::Request;
use serde_json::Value;

const PREFIX: &str = "Logs_20140328.";
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");

/// What a request asks for, where it is one for this service.
pub fn operation(exchange: &Exchange) -> Option<&str> {
    exchange.header("x-amz-target")?.strip_prefix(PREFIX)
}

/// Answers a request for this service.
pub async fn call(mut exchange: Exchange) -> Answer {
    let (status, body) = match operate(&mut exchange).await {
        Ok(body) => (StatusCode::OK, body),
        Err(fault) => (fault.status(), fault.body()),
    };
    // Most operations have nothing to say.
    let text = if body.is_null() { String::new() } else { body.to_string() };
    Ok(answer::with(status, JSON, text))
}

async fn operate(exchange: &mut Exchange) -> Result<Value, Fault> {
    let target = exchange.header("x-amz-target").unwrap_or_default().to_owned();
    let name = operation(exchange).ok_or_else(|| Fault::unknown_operation(&target))?.to_owned();
    let request = Request::read(exchange).await?;
    match name.as_str() {
        "CreateLogGroup" => groups::create(&request).await,
        "DeleteLogGroup" => groups::delete(&request).await,
        "DescribeLogGroups" => groups::describe(&request).await,
        "PutRetentionPolicy" => groups::put_retention(&request).await,
        "DeleteRetentionPolicy" => groups::delete_retention(&request).await,
        "CreateLogStream" => streams::create(&request).await,
        "DeleteLogStream" => streams::delete(&request).await,
        "DescribeLogStreams" => streams::describe(&request).await,
        "PutLogEvents" => events::put(&request).await,
        "GetLogEvents" => events::get(&request).await,
        "FilterLogEvents" => events::filter(&request).await,
        _ => Err(Fault::unknown_operation(&target)),
    }
}
