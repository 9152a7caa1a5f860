//! Function URLs, in Lambda's payload format 2.0. A function has one at `/f/NAME/…` from the start; one that was made with
//! `CreateFunctionUrlConfig` has an id, and is found by it in the path or in the host's name.
//!
//! At `/f/NAME/…` a function is asked for in the node's own account and region first; one that is nowhere else under its
//! name is found wherever it is. Signatures are asked for where the URL says so. Where the node has keys (`auth`) they are
//! verified, policies are asked who may call, and `/f/NAME/…` is for those who sign, and for everybody where a policy says so.
//!
//! A URL with the invoke mode `RESPONSE_STREAM` passes on what a function streams as it comes, and what a function gives
//! whole as it is; one with `BUFFERED` has the parts put together first. `/f/NAME/…` does for every function what suits it.

mod cors;
mod event;
mod reply;
mod stream;

use crate::auth::{self, FORBIDDEN};
use crate::http::answer::{self, header};
use crate::http::{BodyError, Response, path};
use crate::lambda::asked::trace_id;
use crate::lambda::{Fault, name, scope};
use crate::route::{Answer, Exchange, Route, route};
use crate::spans;
use api::lambda::LATEST;
use bytes::Bytes;
use cors::Cors;
use hyper::header::{HOST, HeaderValue, ORIGIN};
use hyper::{HeaderMap, StatusCode};
use runtime::dispatch::{Call, Outcome, Streamed};
use runtime::registry::{Entry, Facet, Qualified, Record};
use std::sync::Arc;

pub const ROUTES: &[Route] = &[
    route!(ANY "/f/*/**" FunctionUrl for Pages => by_name),
    route!(ANY "/_aws/lambda-url/*/**" FunctionUrlById for Pages => by_path),
];
/// For requests whose host says which URL they mean, whatever their path.
pub static BY_HOST: Route = route!(ANY "/**" FunctionUrlByHost for Pages => by_host);

const LABEL: &str = "lambda-url";
/// What a request means.
struct Meant {
    entry: Arc<Entry>,
    /// The id, or the name, by which it was found.
    url: String,
    /// The ARN with the URL's qualifier.
    arn: String,
    /// The rest of the path, without the slash at its front.
    path: String,
    mode: Mode,
    /// Whether its callers sign.
    wants_signature: bool,
}

/// What becomes of a function's answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Buffered,
    Stream,
    /// As the function has it.
    Any,
}

/// Whether a request's host is a function URL's.
pub fn is_host(headers: &HeaderMap) -> bool {
    header(headers, HOST).is_some_and(|host| id_of(host).is_some())
}

/// `ID.lambda-url.REGION.NODE`.
fn id_of(host: &str) -> Option<&str> {
    let (id, rest) = host.split_once('.')?;
    rest.strip_prefix(LABEL).filter(|rest| rest.starts_with('.')).map(|_| id)
}

async fn by_name(mut exchange: Exchange) -> Answer {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let target = name::resolve(exchange.capture(0), None, scope)?;
    // Where there are keys, only who may call a function learns that there is one.
    let hidden = |fault| if exchange.gateway.auth.is_on() { Fault::access_denied(FORBIDDEN) } else { fault };
    let entry = target.find_anywhere(&exchange.gateway).map_err(hidden)?;
    let qualifier = target.qualifier.as_ref().map(|qualifier| format!(":{qualifier}")).unwrap_or_default();
    let arn = entry.id.arn() + &qualifier;
    let path = exchange.raw_capture(1).to_owned();
    let place = target.qualifier.as_deref().unwrap_or(LATEST).to_owned();
    let mut wants_signature = false;
    if exchange.gateway.auth.is_on() {
        let id = &entry.id;
        let record = exchange.gateway.registry.record(&id.account, &id.region, &id.name);
        let record = record.ok_or_else(|| Fault::access_denied(FORBIDDEN))?;
        wants_signature = is_signed(&exchange);
        auth::admit_to_url(&mut exchange, &record, &place, wants_signature).await?;
    }
    let meant = Meant { url: entry.id.name.clone(), arn, path, mode: Mode::Any, wants_signature, entry };
    call(exchange, meant).await
}

async fn by_path(exchange: Exchange) -> Answer {
    let (id, path) = (exchange.capture(0).into_owned(), exchange.raw_capture(1).to_owned());
    by_id(exchange, &id, path).await
}

async fn by_host(exchange: Exchange) -> Answer {
    let id = exchange.header(HOST).and_then(id_of).unwrap_or_default().to_ascii_lowercase();
    let path = exchange.raw_capture(0).to_owned();
    by_id(exchange, &id, path).await
}

async fn by_id(exchange: Exchange, id: &str, path: String) -> Answer {
    let found = exchange.gateway.registry.url(id);
    let Some((record, qualifier)) = found else {
        // As on AWS, which has no words for what never was a URL.
        return if could_be(id) { Err(Fault::access_denied(FORBIDDEN)) } else { Ok(never_was()) };
    };
    let url = record.attached(Facet::Url, &qualifier);
    let Some(cors) = url.and_then(|url| Cors::of(url)) else {
        return admitted(exchange, &record, qualifier, id, path).await;
    };
    if let Some(response) = cors.preflight(&exchange.head) {
        return Ok(response);
    }
    let origin = exchange.head.headers.get(ORIGIN).cloned();
    let answered = admitted(exchange, &record, qualifier, id, path).await;
    let mut response = answered.unwrap_or_else(|fault| fault.answer());
    cors.mark(origin, &mut response);
    Ok(response)
}

/// Whether an id is of the kind that URLs here are given.
fn could_be(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn never_was() -> Response {
    let mut response = answer::json(StatusCode::FORBIDDEN, &serde_json::json!({ "Message": null }));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static("AccessDeniedException"));
    response
}

/// Asks the function of this URL, where the caller may.
async fn admitted(mut exchange: Exchange, record: &Record, qualifier: String, id: &str, path: String) -> Answer {
    let gateway = exchange.gateway.clone();
    let url = record.attached(Facet::Url, &qualifier);
    let wants_signature = url.is_some_and(|url| url.text("AuthType") == "AWS_IAM");
    let streams = url.is_some_and(|url| url.text("InvokeMode") == "RESPONSE_STREAM");
    if gateway.auth.is_on() {
        auth::admit_to_url(&mut exchange, record, &qualifier, wants_signature).await?;
    } else if wants_signature && !is_signed(&exchange) {
        return Err(Fault::access_denied(FORBIDDEN));
    }
    let id_of_function = &record.latest.id;
    let arn = match Qualified::of(&qualifier) {
        Qualified::Latest => id_of_function.arn(),
        _ => format!("{}:{qualifier}", id_of_function.arn()),
    };
    let entry = name::pick(record, &qualifier).ok_or_else(|| Fault::function_not_found(&arn))?;
    let mode = if streams { Mode::Stream } else { Mode::Buffered };
    call(exchange, Meant { entry, url: id.to_owned(), arn, path, mode, wants_signature }).await
}

fn is_signed(exchange: &Exchange) -> bool {
    exchange.header("authorization").is_some_and(|text| text.starts_with("AWS4-HMAC-SHA256 "))
        || path::query(exchange.head.uri.query(), "X-Amz-Signature").is_some()
}

async fn call(mut exchange: Exchange, meant: Meant) -> Answer {
    let limit = exchange.gateway.config.dispatch.payload_max;
    let body = match exchange.body.take() {
        // In memory as it came, and as an event.
        Some(body) => exchange.gateway.bodies.read(body, limit, 2).await.map_err(too_long)?,
        None => Bytes::new(),
    };
    let trace_id = trace_id(&exchange);
    let trace = HeaderValue::from_str(&trace_id).ok();
    let payload = event::build(&exchange, &meant, &trace_id, &body);
    let spans_wanted = spans::wanted(&exchange);
    let call = Call {
        payload: payload.into(),
        invoked_arn: meant.arn,
        trace_id,
        request_id: std::mem::take(&mut exchange.id),
        accepted: exchange.accepted,
        ..Call::default()
    };
    let (dispatcher, function) = (&exchange.gateway.dispatcher, &meant.entry.function);
    let streamed = match meant.mode {
        Mode::Buffered => Streamed::Whole(dispatcher.invoke(function, call).await?),
        Mode::Stream | Mode::Any => dispatcher.stream(function, call).await?,
    };
    let mut response = match streamed {
        Streamed::Parts(parts) => stream::respond(parts).await,
        Streamed::Whole(outcome) => whole(outcome, meant.mode, spans_wanted),
    };
    if let Some(trace) = trace {
        response.headers_mut().insert("x-amzn-trace-id", trace);
    }
    Ok(response)
}

fn whole(outcome: Outcome, mode: Mode, spans_wanted: bool) -> Response {
    let mut response = match mode {
        _ if outcome.failed => reply::failed(),
        Mode::Stream => reply::raw(outcome.body),
        Mode::Buffered | Mode::Any => reply::translate(outcome.body),
    };
    if spans_wanted {
        spans::tell(&mut response, &outcome.report);
    }
    response
}

fn too_long(error: BodyError) -> Fault {
    match error {
        BodyError::TooLong { limit } => Fault::too_large(format!("Request must be smaller than {limit} bytes")),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_urls() {
        assert_eq!(id_of("abc.lambda-url.us-east-1.localhost:9000"), Some("abc"));
        for host in ["localhost:9000", "lambda-url.us-east-1.localhost", "abc.lambda-urls.x", "abc.lambda-url"] {
            assert_eq!(id_of(host), None, "{host}");
        }
    }
}
