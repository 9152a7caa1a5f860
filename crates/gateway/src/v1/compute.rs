//! `POST /v1/functions/NAME/invoke`: a function run on what a body is, answered with what it leaves.
//!
//! | body | inputs of a pure function |
//! |---|---|
//! | JSON that begins with `{"sets":` | these sets |
//! | anything else | one item `body` of the first declared input set |
//!
//! | outputs | answer |
//! |---|---|
//! | a single item | its bytes, as JSON, text or octets, whichever they are |
//! | anything else | JSON: `{"sets": …}` |
//!
//! A function that fails is answered with its error object and 502, one that was not done in time with 504. Functions of
//! other kinds get the body as their event.

use crate::http::{Response, answer};
use crate::lambda::{Fault, asked};
use crate::route::{Answer, Exchange};
use crate::spans;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use runtime::dispatch::pure::{self, Payload};
use runtime::dispatch::{Call, Report};
use runtime::registry::Entry;
use sets::wire::Data;
use sets::{Set, Sets};
use std::sync::Arc;

const FUNCTION_ERROR: &str = "x-amz-function-error";

pub async fn invoke(mut exchange: Exchange) -> Answer {
    let entry = super::function(&exchange)?;
    let gateway = exchange.gateway.clone();
    let body = match exchange.body.take() {
        Some(body) => gateway.bodies.read(body, gateway.config.dispatch.payload_max, 1).await?,
        None => Bytes::new(),
    };
    let spans_wanted = spans::wanted(&exchange);
    let call = Call {
        tenant_id: asked::tenant_id(&exchange, &entry)?,
        trace_id: asked::trace_id(&exchange),
        accepted: exchange.accepted,
        request_id: std::mem::take(&mut exchange.id),
        ..Call::default()
    };
    let (mut response, report) = match entry.function.kind.is_pure() {
        true => compute(&exchange, &entry, body, call).await?,
        false => event(&exchange, &entry, body, call).await?,
    };
    if spans_wanted {
        spans::tell(&mut response, &report);
    }
    Ok(response)
}

async fn compute(
    exchange: &Exchange,
    entry: &Arc<Entry>,
    body: Bytes,
    call: Call,
) -> Result<(Response, Report), Fault> {
    let inputs = pure::of_event(&entry.function.pure, &body)?;
    let computed = exchange.gateway.dispatcher.run_pure(&entry.function, &inputs, call).await?;
    let response = match computed.outcome {
        Ok(outputs) => shown(outputs),
        Err(error) => failed(error),
    };
    Ok((response, computed.report))
}

async fn event(exchange: &Exchange, entry: &Arc<Entry>, body: Bytes, call: Call) -> Result<(Response, Report), Fault> {
    let payload = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&payload) {
        return Err(Fault::invalid_content(format!("Events of {} are JSON: {error}", entry.function.runtime)));
    }
    let outcome = exchange.gateway.dispatcher.invoke(&entry.function, Call { payload, ..call }).await?;
    let response = match outcome.failed {
        true => failed(outcome.body),
        false => answer::json_text(StatusCode::OK, outcome.body),
    };
    Ok((response, outcome.report))
}

/// Lambda's error object.
fn failed(error: Bytes) -> Response {
    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Said {
        error_type: String,
    }
    let said: Said = serde_json::from_slice(&error).unwrap_or_default();
    let late = ["Pure.Timeout", "Sandbox.Timedout"].contains(&said.error_type.as_str());
    let status = if late { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::BAD_GATEWAY };
    let mut response = answer::json_text(status, error);
    response.headers_mut().insert(FUNCTION_ERROR, HeaderValue::from_static("Unhandled"));
    response
}

fn shown(outputs: Sets<Payload>) -> Response {
    if let Some(Data::Inline(bytes)) = pure::single(&outputs) {
        let content_type = content_type(bytes);
        let mut response = answer::json_text(StatusCode::OK, bytes.clone());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        return response;
    }
    let inline = |data: Payload| match data {
        Data::Inline(bytes) => bytes,
        // Nothing was asked to be kept.
        Data::Held(_) => Bytes::new(),
    };
    let sets: Sets<Bytes> = outputs.into_iter().map(|set| Set::map(set, inline)).collect();
    answer::json_text(StatusCode::OK, sets::json::encode(&sets))
}

/// What bytes are, as far as they show it themselves.
fn content_type(bytes: &[u8]) -> &'static str {
    let begins_json = bytes.trim_ascii_start().first().is_some_and(|first| b"{[\"-0123456789tfn".contains(first));
    if begins_json && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return "application/json";
    }
    if std::str::from_utf8(bytes).is_ok() { "text/plain; charset=utf-8" } else { "application/octet-stream" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_show_what_they_are() {
        assert_eq!(content_type(br#" {"a": [1]}"#), "application/json");
        assert_eq!((content_type(b"-1.5"), content_type(b"true")), ("application/json", "application/json"));
        assert_eq!(
            (content_type(b"{a"), content_type(b"")),
            ("text/plain; charset=utf-8", "text/plain; charset=utf-8")
        );
        assert_eq!(content_type(&[0xff, 0]), "application/octet-stream");
    }

    #[test]
    fn failures_tell_late_from_wrong() {
        let late = failed(Bytes::from_static(br#"{"errorType":"Pure.Timeout","errorMessage":"x"}"#));
        assert_eq!((late.status().as_u16(), late.headers().contains_key(FUNCTION_ERROR)), (504, true));
        assert_eq!(failed(Bytes::from_static(b"nonsense")).status().as_u16(), 502);
    }
}
