//! `Invoke`: the main path. No database, no regular expression, no lock that is held for long; one allocation for each
//! header and string that has to outlive the request.

use super::fault::Fault;
use super::{constraint, event, name};
use crate::gateway::Gateway;
use crate::http::{BodyError, Response, answer, request_id};
use crate::route::{Answer, Exchange, Route, route};
use crate::spans;
use api::lambda::LATEST;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use runtime::dispatch::{Call, Outcome};
use serde::de::IgnoredAny;

pub const ROUTES: &[Route] = &[route!(POST "/2015-03-31/functions/*/invocations" Invoke => invoke)];

/// Events from this length on are parsed where nobody else waits.
const LONG: usize = 256 * 1024;
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const CLIENT_CONTEXT: &str = "Client context must be a valid Base64-encoded JSON object.";

/// How a caller wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invocation {
    RequestResponse,
    Event,
    DryRun,
}

async fn invoke(mut exchange: Exchange) -> Answer {
    let invocation = invocation(&exchange)?;
    let log_tail = log_tail(&exchange)?;
    let client_context = client_context(&exchange)?;
    if invocation == Invocation::Event {
        let arn = event::arn(&exchange)?;
        let payload = payload(&mut exchange).await?;
        event::accept(&mut exchange, arn, payload, client_context).await?;
        return Ok(answer::empty(StatusCode::ACCEPTED));
    }
    let (entry, invoked_arn) = {
        let target = name::of_path(&exchange)?;
        // Without a qualifier it is the function's own, which dispatch knows.
        let arn = target.qualifier.as_ref().map(|_| target.arn());
        (target.choose(&exchange.gateway)?, arn.unwrap_or_default())
    };
    let payload = payload(&mut exchange).await?;
    if invocation == Invocation::DryRun {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let spans_wanted = spans::wanted(&exchange);
    let trace_id = trace_id(&exchange);
    let trace_header = HeaderValue::from_str(&trace_id).ok();
    let call = Call {
        payload,
        invoked_arn,
        client_context,
        trace_id,
        log_tail,
        tenant_id: exchange.header("x-amz-tenant-id").unwrap_or_default().to_owned(),
        accepted: exchange.accepted,
        request_id: exchange.id,
        ..Call::default()
    };
    let outcome = exchange.gateway.dispatcher.invoke(&entry.function, call).await?;
    let report = spans_wanted.then(|| outcome.report.clone());
    let mut response = answered(outcome, entry.version_name());
    if let Some(report) = report {
        spans::tell(&mut response, &report);
    }
    if let Some(trace) = trace_header {
        response.headers_mut().insert("x-amzn-trace-id", trace);
    }
    Ok(response)
}

fn answered(outcome: Outcome, version: &str) -> Response {
    let mut response = answer::json_text(StatusCode::OK, outcome.body);
    let headers = response.headers_mut();
    let version = if version == LATEST { Ok(HeaderValue::from_static(LATEST)) } else { HeaderValue::from_str(version) };
    headers.extend(version.ok().map(|version| (EXECUTED_VERSION, version)));
    if outcome.failed {
        headers.insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
    }
    let tail = outcome.log_tail.and_then(|tail| HeaderValue::try_from(BASE64.encode(tail)).ok());
    if let Some(tail) = tail {
        headers.insert("x-amz-log-result", tail);
    }
    response
}

fn invocation(exchange: &Exchange) -> Result<Invocation, Fault> {
    match exchange.header("x-amz-invocation-type") {
        None | Some("RequestResponse") => Ok(Invocation::RequestResponse),
        Some("Event") => Ok(Invocation::Event),
        Some("DryRun") => Ok(Invocation::DryRun),
        Some(other) => Err(constraint::violation(
            "invocationType",
            other,
            "Member must satisfy enum value set: [Event, RequestResponse, DryRun]",
        )),
    }
}

pub(super) fn log_tail(exchange: &Exchange) -> Result<bool, Fault> {
    match exchange.header("x-amz-log-type") {
        None | Some("None") => Ok(false),
        Some("Tail") => Ok(true),
        Some(other) => Err(constraint::violation("logType", other, "Member must satisfy enum value set: [None, Tail]")),
    }
}

pub(super) fn client_context(exchange: &Exchange) -> Result<String, Fault> {
    let Some(text) = exchange.header("x-amz-client-context").filter(|text| !text.is_empty()) else {
        return Ok(String::new());
    };
    let context = BASE64.decode(text).ok().and_then(|json| String::from_utf8(json).ok());
    let context = context.filter(|json| serde_json::from_str::<serde_json::Map<_, _>>(json).is_ok());
    context.ok_or_else(|| Fault::invalid_content(CLIENT_CONTEXT))
}

/// The caller's trace, or a new one.
pub fn trace_id(exchange: &Exchange) -> String {
    match exchange.header("x-amzn-trace-id") {
        Some(trace) => trace.to_owned(),
        None => request_id::trace_id(api::time::now_ms() / 1000),
    }
}

/// The event: whole, within the limit, and JSON.
pub(super) async fn payload(exchange: &mut Exchange) -> Result<Bytes, Fault> {
    let gateway = &exchange.gateway;
    let limit = gateway.config.dispatch.payload_max;
    let Some(body) = exchange.body.take() else { return Ok(Bytes::from_static(b"{}")) };
    let payload = gateway.bodies.read(body, limit, 1).await.map_err(|error| match error {
        BodyError::TooLong { limit } => {
            Fault::too_large(format!("Request must be smaller than {limit} bytes for the InvokeFunction operation"))
        }
        error => error.into(),
    })?;
    if payload.is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    if payload.len() < LONG {
        check_json(&payload)?;
        return Ok(payload);
    }
    let checked = payload.clone();
    gateway.blocking(move |_: &Gateway| check_json(&checked)).await??;
    Ok(payload)
}

fn check_json(payload: &[u8]) -> Result<(), Fault> {
    let refuse = |why: &dyn std::fmt::Display| {
        let message = format!("Could not parse request body into json: Could not parse payload into json: {why}");
        Err(Fault::invalid_content(message))
    };
    // The parser skips over texts without looking whether they are any.
    let text = match std::str::from_utf8(payload) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            return refuse(&format_args!("Invalid UTF-8 start byte 0x{:x} at byte {at}", payload[at]));
        }
    };
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => refuse(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_must_be_json() {
        for event in ["{}", "null", "\"ä\"", " [1, 2.5e3, {\"a\": \"\\u00e4\"}] ", "1"] {
            assert_eq!(check_json(event.as_bytes()), Ok(()), "{event}");
        }
        for event in [&b"{"[..], b"{} {}", b"{'a': 1}", b"\"\xff\"", b"nul", b"\x99"] {
            let message = check_json(event).unwrap_err().message().to_owned();
            assert!(message.starts_with("Could not parse request body into json: Could not parse payload into json: "));
        }
        assert!(check_json(b"\x87").unwrap_err().message().contains("Invalid UTF-8 start byte 0x87"));
        // Nested as deeply as a body is long: the check must not need a stack for it.
        assert!(check_json("[".repeat(6 << 20).as_bytes()).is_err());
    }
}
