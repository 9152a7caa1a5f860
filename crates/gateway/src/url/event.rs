//! From an HTTP request to an event: payload format 2.0.

use super::Meant;
use crate::auth;
use crate::http::path;
use crate::lambda::scope;
use crate::route::Exchange;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, COOKIE, HeaderName};
use serde_json::{Map, Value, json};

const STAGE: &str = "$default";
/// The account of callers who do not sign.
const ANONYMOUS: &str = "anonymous";

/// The event, as JSON.
pub(super) fn build(exchange: &Exchange, meant: &Meant, trace_id: &str, body: &[u8]) -> Vec<u8> {
    let uri = &exchange.head.uri;
    let raw_path = format!("/{}", meant.path);
    let headers = headers(exchange, trace_id);
    let mut event = json!({
        "version": "2.0",
        "routeKey": STAGE,
        "rawPath": raw_path,
        "rawQueryString": uri.query().unwrap_or_default(),
        "requestContext": context(exchange, meant, &raw_path, &headers),
        "headers": headers,
        "isBase64Encoded": false,
    });
    let cookies = cookies(&exchange.head.headers);
    if !cookies.is_empty() {
        event["cookies"] = cookies.into();
    }
    let parameters = parameters(uri.query().unwrap_or_default());
    if !parameters.is_empty() {
        event["queryStringParameters"] = parameters.into();
    }
    if !body.is_empty() {
        let text = std::str::from_utf8(body).ok().filter(|_| is_text(&exchange.head.headers));
        event["isBase64Encoded"] = text.is_none().into();
        event["body"] = text.map_or_else(|| BASE64.encode(body), str::to_owned).into();
    }
    event.to_string().into_bytes()
}

fn context(exchange: &Exchange, meant: &Meant, raw_path: &str, headers: &Map<String, Value>) -> Value {
    let now = api::time::now_ms();
    let host = exchange.header("host").unwrap_or_default();
    let caller = meant.wants_signature.then(|| caller(exchange));
    let mut context = json!({
        "accountId": caller.as_ref().map_or(ANONYMOUS.into(), |caller| caller["accountId"].clone()),
        "apiId": meant.url,
        "domainName": host,
        "domainPrefix": meant.url,
        "http": {
            "method": exchange.head.method.as_str(),
            "path": raw_path,
            "protocol": "HTTP/1.1",
            "sourceIp": exchange.peer.ip().to_string(),
            "userAgent": headers.get("user-agent").cloned().unwrap_or_else(|| "".into()),
        },
        "requestId": exchange.id,
        "routeKey": STAGE,
        "stage": STAGE,
        "time": api::time::web_log(now),
        "timeEpoch": now,
    });
    if let Some(caller) = caller {
        context["authorizer"] = json!({ "iam": caller });
    }
    context
}

/// Who has signed. Keys have no names of their own here.
fn caller(exchange: &Exchange) -> Value {
    let known = exchange.head.extensions.get::<auth::Caller>().map(|caller| caller.account.clone());
    let account =
        known.unwrap_or_else(|| scope::of(&exchange.head, &exchange.gateway.config.node).account.into_owned());
    let key = auth::access_key(&exchange.head).unwrap_or_default();
    json!({
        "accessKey": key,
        "accountId": account,
        "callerId": key,
        "cognitoIdentity": null,
        "principalOrgId": null,
        "userArn": format!("arn:aws:iam::{account}:user/{key}"),
        "userId": key,
    })
}

/// Headers that end with the connection.
const HOP: [&str; 4] = ["connection", "keep-alive", "transfer-encoding", "upgrade"];

/// Small names; several headers of one name become one, with commas. Cookies have a place of their own.
fn headers(exchange: &Exchange, trace_id: &str) -> Map<String, Value> {
    let mut headers = Map::new();
    let is_passed = |name: &HeaderName| *name != COOKIE && !HOP.contains(&name.as_str());
    for (name, value) in exchange.head.headers.iter().filter(|(name, _)| is_passed(name)) {
        let value = String::from_utf8_lossy(value.as_bytes());
        append(&mut headers, name.as_str(), &value);
    }
    headers.insert("x-amzn-trace-id".into(), trace_id.into());
    append(&mut headers, "x-forwarded-for", &exchange.peer.ip().to_string());
    headers.entry("x-forwarded-proto").or_insert_with(|| "http".into());
    // As the client wrote it: the node may listen on another, behind a proxy or by the kernel's choice.
    let written = exchange.header("host").and_then(|host| host.rsplit_once(':')?.1.parse::<u16>().ok());
    headers.entry("x-forwarded-port").or_insert_with(|| written.unwrap_or(80).to_string().into());
    headers
}

fn append(into: &mut Map<String, Value>, name: &str, value: &str) {
    match into.get_mut(name) {
        Some(Value::String(before)) => {
            before.push(',');
            before.push_str(value);
        }
        _ => {
            into.insert(name.to_owned(), value.into());
        }
    }
}

fn cookies(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).map(str::trim).filter(|c| !c.is_empty()).map(str::to_owned).collect()
}

fn parameters(query: &str) -> Map<String, Value> {
    let mut parameters = Map::new();
    path::pairs(query).for_each(|(name, value)| append(&mut parameters, &name, &value));
    parameters
}

/// Whether a body of this type is passed as it is. Everything else, forms too, arrives in base64.
fn is_text(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_known = ["application/json", "application/javascript", "application/xml"].contains(&essence.as_str());
    is_known || essence.starts_with("text/") || essence.ends_with("+json") || essence.ends_with("+xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_parameters_and_cookies() {
        assert_eq!(Value::Object(parameters("a=1&b=x+y&a=2&c")), json!({ "a": "1,2", "b": "x y", "c": "" }));
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; b=2".parse().unwrap());
        headers.append(COOKIE, "c=3".parse().unwrap());
        assert_eq!(cookies(&headers), ["a=1", "b=2", "c=3"]);
    }

    #[test]
    fn text_by_its_type() {
        for (content_type, text) in [
            ("text/plain; charset=utf-8", true),
            ("Application/JSON", true),
            ("application/problem+json", true),
            ("application/x-www-form-urlencoded", false),
            ("image/png", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
            assert_eq!(is_text(&headers), text, "{content_type}");
        }
        assert!(!is_text(&HeaderMap::new()));
    }
}
