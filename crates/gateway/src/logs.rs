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

use crate::http::amz_json;
use crate::route::{Answer, Exchange};
use fault::Fault;
use request::Request;
use serde_json::Value;

const PREFIX: &str = "Logs_20140328.";

/// What a request asks for, where it is one for this service.
pub fn operation(exchange: &Exchange) -> Option<&str> {
    exchange.header("x-amz-target")?.strip_prefix(PREFIX)
}

/// Answers a request for this service.
pub async fn call(mut exchange: Exchange) -> Answer {
    Ok(match operate(&mut exchange).await {
        Ok(body) => amz_json::told(&body),
        Err(fault) => fault.answer(),
    })
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
