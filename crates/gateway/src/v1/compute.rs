//! `POST /v1/functions/NAME/invoke`: a function run on what a body is, answered with what it leaves.
//!
//! What a body is to it [`inputs`] says, what its outputs are to the client [`outputs`](super::outputs).
//!
//! A function that fails is answered with its error object and 502, one that was not done in time with 504. Functions of
//! other kinds get the body as their event.

use super::inputs::{self, Inputs};
use super::outputs;
use crate::http::{Response, answer};
use crate::lambda::{Fault, asked};
use crate::route::{Answer, Exchange};
use crate::spans;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use runtime::dispatch::pure::Payload;
use runtime::dispatch::{Call, Report};
use runtime::registry::Entry;
use sets::wire::Data;
use sets::{Set, Sets};
use std::sync::Arc;

const FUNCTION_ERROR: &str = "x-amz-function-error";
/// That nothing ran.
const CACHE: &str = "x-lichen-cache";

pub async fn invoke(mut exchange: Exchange) -> Answer {
    let entry = super::function(&exchange)?;
    let gateway = exchange.gateway.clone();
    let inputs = inputs::read(&mut exchange, gateway.config.dispatch.payload_max).await?;
    let spans_wanted = spans::wanted(&exchange);
    let is_pure = entry.function.kind.is_pure();
    let call = Call {
        tenant_id: asked::tenant_id(&exchange, &entry)?,
        // A run is part of no trace.
        trace_id: if is_pure { String::new() } else { asked::trace_id(&exchange) },
        accepted: exchange.accepted,
        request_id: std::mem::take(&mut exchange.id),
        lends: is_pure,
        ..Call::default()
    };
    let (mut response, report) = match is_pure {
        true => compute(&exchange, &entry, inputs, call).await?,
        false => Box::pin(event(&exchange, &entry, inputs.into_event(), call)).await?,
    };
    if report.remembered {
        response.headers_mut().insert(CACHE, HeaderValue::from_static("hit"));
    }
    if spans_wanted {
        spans::tell(&mut response, &report);
    }
    Ok(response)
}

async fn compute(
    exchange: &Exchange,
    entry: &Arc<Entry>,
    inputs: Inputs,
    call: Call,
) -> Result<(Response, Report), Fault> {
    let dispatcher = &exchange.gateway.dispatcher;
    let computed = match inputs {
        Inputs::Sets(sets) => dispatcher.run_pure(&entry.function, &sets, call).await?,
        Inputs::Body(body) => dispatcher.run_pure_on_body(&entry.function, body.into_pieces(), call).await?,
    };
    let response = match computed.outcome {
        Ok(outputs) => shown(exchange, outputs, computed.is_lent),
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

fn shown(exchange: &Exchange, outputs: Sets<Payload>, is_lent: bool) -> Response {
    let inline = |data: Payload| match data {
        Data::Inline(bytes) => bytes,
        // Nothing was asked to be kept.
        Data::Held(_) => Bytes::new(),
    };
    let sets = outputs.into_iter().map(|set| Set::map(set, inline)).collect();
    if is_lent { outputs::answer_lent(exchange, sets) } else { outputs::answer(exchange, sets) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_tell_late_from_wrong() {
        let late = failed(Bytes::from_static(br#"{"errorType":"Pure.Timeout","errorMessage":"x"}"#));
        assert_eq!((late.status().as_u16(), late.headers().contains_key(FUNCTION_ERROR)), (504, true));
        assert_eq!(failed(Bytes::from_static(b"nonsense")).status().as_u16(), 502);
    }
}
