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
const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");
const LOG_TYPE: HeaderName = HeaderName::from_static("x-amz-log-type");
const CONTEXT: HeaderName = HeaderName::from_static("x-amz-client-context");
const EXECUTED_VERSION: HeaderName = HeaderName::from_static("x-amz-executed-version");
const TENANT_ID: HeaderName = HeaderName::from_static("x-amz-tenant-id");
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
    let Some(asked) = exchange.header(INVOCATION_TYPE) else { return Ok(Kind::RequestResponse) };
    let found = kinds.iter().find(|(word, _)| *word == asked);
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let words: Vec<&str> = kinds.iter().map(|(word, _)| *word).collect();
        let rule = format!("Member must satisfy enum value set: [{}]", words.join(", "));
        constraint::violation("invocationType", asked, &rule)
    })
}

fn log_tail(exchange: &Exchange) -> Result<bool, Fault> {
    match exchange.header(LOG_TYPE) {
        None | Some("None") => Ok(false),
        Some("Tail") => Ok(true),
        Some(other) => Err(constraint::violation("logType", other, "Member must satisfy enum value set: [None, Tail]")),
    }
}

fn client_context(exchange: &Exchange) -> Result<String, Fault> {
    let Some(text) = exchange.header(CONTEXT).filter(|text| !text.is_empty()) else {
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
    let tenant = exchange.header(TENANT_ID).unwrap_or_default();
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
    match exchange.header(TRACE_ID) {
        Some(trace) => trace.to_owned(),
        None => request_id::trace_id(api::time::now_ms() / 1000),
    }
}

/// The event: whole, within the limit, and JSON.
pub async fn payload(exchange: &mut Exchange) -> Result<Bytes, Fault> {
    let Some(body) = exchange.body.take() else { return Ok(Bytes::from_static(b"{}")) };
    let gateway = &exchange.gateway;
    let limit = gateway.config.dispatch.payload_max;
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
    // The parser skips over texts without looking whether they are any.
    let checked = std::str::from_utf8(payload).map_err(|error| no_text(payload, error.valid_up_to()));
    checked.and_then(|text| serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| no_json(text, &error)))
}

/// What a value can be, in the words of AWS's parser.
const A_VALUE: &str = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')";

fn unparsed(why: &str, line: usize, column: usize) -> Fault {
    Fault::invalid_content(format!(
        "Could not parse request body into json: Could not parse payload into json: {why}\n at [Source: REDACTED \
         (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {line}, column: {column}]"
    ))
}

/// A byte that begins no character. Where a value should begin, AWS takes it for one of Latin-1.
fn no_text(payload: &[u8], at: usize) -> Fault {
    let (before, byte) = (&payload[..at], payload[at]);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = at - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    if before.iter().all(u8::is_ascii_whitespace) {
        return unparsed(&unexpected(char::from(byte)), line, column + 1);
    }
    unparsed(&format!("Invalid UTF-8 start byte 0x{byte:x}"), line, column + 2)
}

fn no_json(text: &str, error: &serde_json::Error) -> Fault {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = line.as_bytes().get(error.column().saturating_sub(1)).copied().map(char::from);
    let why = match at.filter(|_| said == "expected value") {
        Some(letter) if letter.is_ascii_alphabetic() => {
            let token = line[error.column() - 1..].split(|c: char| !c.is_ascii_alphanumeric()).next();
            format!("Unrecognized token '{}': was expecting {A_VALUE}", token.unwrap_or_default())
        }
        Some(other) => unexpected(other),
        None => said.to_owned(),
    };
    unparsed(&why, error.line(), error.column())
}

fn unexpected(found: char) -> String {
    let code = u32::from(found);
    let shown =
        if found.is_control() { format!("(CTRL-CHAR, code {code})") } else { format!("'{found}' (code {code})") };
    format!("Unexpected character ({shown}): expected a valid value {A_VALUE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_told_in_the_words_of_awss_parser() {
        for (event, expected, column) in [
            (&b"n\x87r\x9e"[..], "Invalid UTF-8 start byte 0x87", 3),
            (b"\x99\xeb,j", "Unexpected character ((CTRL-CHAR, code 153)): expected a valid value (JSON String, ", 1),
            (b"\xe4", "Unexpected character ('ä' (code 228)): expected a valid value (JSON String, ", 1),
            (
                b"hello there",
                "Unrecognized token 'hello': was expecting (JSON String, Number, Array, Object or token ",
                1,
            ),
            (b"[1,]", "Unexpected character (']' (code 93)): expected a valid value (JSON String, ", 4),
        ] {
            let message = check_json(event).unwrap_err().message().to_owned();
            let told =
                message.strip_prefix("Could not parse request body into json: Could not parse payload into json: ");
            assert!(told.is_some_and(|told| told.starts_with(expected)), "{message}");
            let place = "(`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: ";
            assert!(message.ends_with(&format!("\n at [Source: REDACTED {place}{column}]")), "{message}");
        }
    }

    #[test]
    fn events_must_be_json() {
        for event in ["{}", "null", "\"ä\"", " [1, 2.5e3, {\"a\": \"\\u00e4\"}] ", "1"] {
            assert_eq!(check_json(event.as_bytes()), Ok(()), "{event}");
        }
        for event in [&b"{"[..], b"{} {}", b"{'a': 1}", b"\"\xff\"", b"nul", b"\x99"] {
            let message = check_json(event).unwrap_err().message().to_owned();
            assert!(message.starts_with("Could not parse request body into json: Could not parse payload into json: "));
        }
        // Nested as deeply as a body is long: the check must not need a stack for it.
        assert!(check_json("[".repeat(6 << 20).as_bytes()).is_err());
    }
}
