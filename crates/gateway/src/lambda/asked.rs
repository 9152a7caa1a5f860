//! What `Invoke` and `InvokeWithResponseStream` have in common: how a caller wants to be answered, whose function is meant,
//! and the call itself.

use super::fault::Fault;
use super::{constraint, name};
use crate::gateway::Gateway;
use crate::http::{BodyError, Response, request_id};
use crate::route::Exchange;
use api::lambda::LATEST;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use runtime::dispatch::{Call, Outcome, StartKind};
use runtime::registry::Entry;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::sync::Arc;

/// Events from this length on are parsed where nobody else waits.
const LONG: usize = 256 * 1024;
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const TENANT_MISSING: &str = "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your \
    request and try again.";
const TENANT_UNWANTED: &str = "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from \
    your request and try again.";
/// Bytes of a tenant's id.
const TENANT_MAX: usize = 256;
const AFTER_RESTORE: &str = "The afterRestore() runtime hook encountered an error. For more information, check the Amazon \
    CloudWatch logs.";
const RESTORE_TIME: &str = "Lambda couldn't restore the snapshot within the timeout limit.";
const CLIENT_CONTEXT: &str = "Client context must be a valid Base64-encoded JSON object.";

/// How a caller wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    RequestResponse,
    Event,
    DryRun,
}

/// What an operation that invokes can be asked for, as its errors list it.
pub type Kinds = &'static [(&'static str, Kind)];

/// An invocation that was asked for.
pub struct Asked {
    pub entry: Arc<Entry>,
    pub call: Call,
    trace: Option<HeaderValue>,
}

/// What a request's headers say beside the function.
pub struct Manner {
    pub kind: Kind,
    pub log_tail: bool,
    pub client_context: String,
}

impl Manner {
    pub fn of(exchange: &Exchange, kinds: Kinds) -> Result<Self, Fault> {
        let kind = kind(exchange, kinds)?;
        Ok(Self { kind, log_tail: log_tail(exchange)?, client_context: client_context(exchange)? })
    }
}

impl Asked {
    /// Reads the rest of the request: whose function is meant, and with which event.
    pub async fn read(exchange: &mut Exchange, manner: Manner) -> Result<Self, Fault> {
        let (entry, invoked_arn) = {
            let target = name::of_path(exchange)?;
            // Without a qualifier it is the function's own, which dispatch knows.
            let arn = target.qualifier.as_ref().map(|_| target.arn());
            (target.choose(&exchange.gateway)?, arn.unwrap_or_default())
        };
        let tenant_id = tenant_id(exchange, &entry)?;
        let payload = payload(exchange).await?;
        let trace_id = trace_id(exchange);
        let trace = HeaderValue::from_str(&trace_id).ok();
        let call = Call {
            payload,
            invoked_arn,
            client_context: manner.client_context,
            trace_id,
            log_tail: manner.log_tail,
            tenant_id,
            accepted: exchange.accepted,
            request_id: std::mem::take(&mut exchange.id),
            ..Call::default()
        };
        Ok(Self { entry, call, trace })
    }

    /// Splits off what the answer says of the request: the version that answers, and the trace.
    pub fn parts(self) -> (Arc<Entry>, Call, Told) {
        let version = self.entry.version_name();
        let version = match version {
            LATEST => Some(HeaderValue::from_static(LATEST)),
            version => HeaderValue::from_str(version).ok(),
        };
        (self.entry, self.call, Told { version, trace: self.trace })
    }
}

/// What every answer to an invocation says.
pub struct Told {
    version: Option<HeaderValue>,
    trace: Option<HeaderValue>,
}

impl Told {
    pub fn tell(self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.extend(self.version.map(|version| (EXECUTED_VERSION, version)));
        headers.extend(self.trace.map(|trace| (TRACE_ID, trace)));
    }
}

fn kind(exchange: &Exchange, kinds: Kinds) -> Result<Kind, Fault> {
    let Some(asked) = exchange.header("x-amz-invocation-type") else { return Ok(Kind::RequestResponse) };
    let found = kinds.iter().find(|(word, _)| *word == asked);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let words: Vec<&str> = kinds.iter().map(|(word, _)| *word).collect();
        let rule = format!("Member must satisfy enum value set: [{}]", words.join(", "));
        constraint::violation("invocationType", asked, &rule)
    })
}

fn log_tail(exchange: &Exchange) -> Result<bool, Fault> {
    match exchange.header("x-amz-log-type") {
        None | Some("None") => Ok(false),
        Some("Tail") => Ok(true),
        Some(other) => Err(constraint::violation("logType", other, "Member must satisfy enum value set: [None, Tail]")),
    }
}

fn client_context(exchange: &Exchange) -> Result<String, Fault> {
    let Some(text) = exchange.header("x-amz-client-context").filter(|text| !text.is_empty()) else {
        return Ok(String::new());
    };
    let context = BASE64.decode(text).ok().and_then(|json| String::from_utf8(json).ok());
    let context = context.filter(|json| serde_json::from_str::<serde_json::Map<_, _>>(json).is_ok());
    context.ok_or_else(|| Fault::invalid_content(CLIENT_CONTEXT))
}

/// What a function's error says of itself.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Failed {
    #[serde(rename = "errorType")]
    kind: String,
    #[serde(rename = "errorMessage")]
    message: String,
}

/// An error where a function was not invoked because it could not be restored: AWS tells that as an error of the
/// operation. Whatever else a function fails with is its answer.
pub fn restored(entry: &Entry, outcome: Outcome) -> Result<Outcome, Fault> {
    let was_restored = outcome.report.start != StartKind::Cold || outcome.report.init.is_some();
    if !entry.function.snap_start || !outcome.failed || was_restored {
        return Ok(outcome);
    }
    let Failed { kind, message } = serde_json::from_slice(&outcome.body).unwrap_or_default();
    match kind.as_str() {
        "Runtime.AfterRestoreError" => Err(Fault::snap_start(format!("{AFTER_RESTORE} {message}"))),
        "Sandbox.Timedout" => Err(Fault::snap_start_timeout(RESTORE_TIME)),
        _ => Ok(outcome),
    }
}

/// The tenant for whom a function is invoked: one of several has to be told, another knows none.
pub fn tenant_id(exchange: &Exchange, entry: &Entry) -> Result<String, Fault> {
    let tenant = exchange.header("x-amz-tenant-id").unwrap_or_default();
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/=+-@ ".contains(&byte);
    if tenant.len() > TENANT_MAX || !tenant.bytes().all(is_valid) {
        let rule = "Member must satisfy regular expression pattern: [a-zA-Z0-9\\._:\\/=+\\-@ ]+";
        return Err(constraint::violation("tenantId", tenant, rule));
    }
    match (tenant.is_empty(), entry.is_per_tenant()) {
        (true, true) => Err(Fault::invalid_parameter(TENANT_MISSING)),
        (false, false) => Err(Fault::invalid_parameter(TENANT_UNWANTED)),
        _ => Ok(tenant.to_owned()),
    }
}

/// The caller's trace, or a new one.
pub fn trace_id(exchange: &Exchange) -> String {
    match exchange.header("x-amzn-trace-id") {
        Some(trace) => trace.to_owned(),
        None => request_id::trace_id(api::time::now_ms() / 1000),
    }
}

/// The event: whole, within the limit, and JSON.
pub async fn payload(exchange: &mut Exchange) -> Result<Bytes, Fault> {
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
