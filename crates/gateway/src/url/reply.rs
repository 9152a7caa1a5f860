//! From a function's answer to an HTTP response: payload format 2.0.

use crate::http::{Response, answer, json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, SET_COOKIE};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// Headers that belong to the connection, not to the function.
const OURS: [&str; 5] = ["connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"];

/// The types of bodies of which a function does not say it.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// What a client is told of a function that failed: nothing.
pub fn failed() -> Response {
    answer::json_text(StatusCode::BAD_GATEWAY, "Internal Server Error")
}

/// An object with a `statusCode` describes a response; anything else is the body of one, as AWS writes it.
pub fn translate(body: Bytes) -> Response {
    if !is_description(&body) {
        return raw(bare(body));
    }
    let described = json::object(&body).ok().and_then(|described| build(described, JSON));
    described.unwrap_or_else(failed)
}

/// Without a copy of it in memory: most bodies are none, and some are long.
fn is_description(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Description {
        #[serde(rename = "statusCode")]
        _status: IgnoredAny,
    }
    // A list would be taken for the members in their order.
    body.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<Description>(body).is_ok()
}

/// A text without its quotes, and lists and objects without the blanks between their parts; what is no JSON as it is.
fn bare(body: Bytes) -> Bytes {
    match body.trim_ascii_start().first() {
        Some(b'"') => serde_json::from_slice::<String>(&body).map_or_else(|_| body.clone(), Bytes::from),
        Some(b'{' | b'[') if serde_json::from_slice::<IgnoredAny>(&body).is_ok() => compact(&body),
        _ => body,
    }
}

fn compact(json: &[u8]) -> Bytes {
    let (mut in_text, mut escaped) = (false, false);
    let is_kept = |byte: &u8| {
        let is_blank = !in_text && byte.is_ascii_whitespace();
        if !escaped && *byte == b'"' {
            in_text = !in_text;
        }
        escaped = in_text && !escaped && *byte == b'\\';
        !is_blank
    };
    json.iter().copied().filter(is_kept).collect()
}

/// The head of a response that is described apart from its body; nothing where that is no description.
pub fn described(description: &[u8]) -> Option<Response> {
    let mut described = json::object(description).ok().filter(|_| !description.is_empty())?;
    described.remove("body");
    described.entry("statusCode").or_insert_with(|| 200.into());
    build(described, BYTES)
}

/// A function's answer as it is.
pub fn raw(body: Bytes) -> Response {
    answer::json_text(StatusCode::OK, body)
}

fn build(mut described: Map<String, Value>, content_type: HeaderValue) -> Option<Response> {
    let status = match described.remove("statusCode")? {
        Value::String(digits) => digits.parse().ok()?,
        number => u16::try_from(number.as_u64()?).ok()?,
    };
    let status = StatusCode::from_u16(status).ok().filter(|status| (200..600).contains(&status.as_u16()))?;
    let is_base64 = described.get("isBase64Encoded") == Some(&Value::Bool(true));
    let body = match described.remove("body") {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) if is_base64 => BASE64.decode(text).ok()?.into(),
        Some(Value::String(text)) => text.into(),
        Some(value) => value.to_string().into(),
    };
    let mut response = answer::empty(status);
    *response.body_mut() = crate::http::Body::Whole(body);
    if let Some(Value::Object(headers)) = described.remove("headers") {
        for (name, value) in headers.into_iter().filter(|(name, _)| !is_ours(name)) {
            let value = HeaderValue::try_from(text(value)).ok()?;
            response.headers_mut().append(HeaderName::try_from(name).ok()?, value);
        }
    }
    if let Some(Value::Array(cookies)) = described.remove("cookies") {
        for cookie in cookies {
            response.headers_mut().append(SET_COOKIE, HeaderValue::try_from(text(cookie)).ok()?);
        }
    }
    response.headers_mut().entry(CONTENT_TYPE).or_insert(content_type);
    Some(response)
}

fn is_ours(name: &str) -> bool {
    OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;
    use serde_json::json;

    fn translated(answer: &Value) -> (u16, String, Response) {
        let response = translate(answer.to_string().into());
        let Body::Whole(body) = response.body() else { panic!("a function's answer is whole") };
        (response.status().as_u16(), String::from_utf8(body.to_vec()).unwrap(), response)
    }

    #[test]
    fn what_describes_no_response_is_a_body() {
        for answer in [json!({ "message": 1 }), json!(null), json!([1]), json!(3.1), json!(true)] {
            let (status, body, response) = translated(&answer);
            assert_eq!((status, body), (200, answer.to_string()));
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        }
        assert_eq!(translated(&json!("He said \"ä\"")).1, "He said \"ä\"");
    }

    #[test]
    fn bodies_are_written_as_aws_writes_them() {
        let written = |text: &'static str| String::from_utf8(bare(Bytes::from(text)).to_vec()).unwrap();
        assert_eq!(written(r#"{"a b": [1, "x \" , y", "\\"], "c" : {} }"#), r#"{"a b":[1,"x \" , y","\\"],"c":{}}"#);
        assert_eq!(written("[\"hello\", 3,\n true]"), "[\"hello\",3,true]");
        for text in ["{not json}", "\"half", "<p> a </p>", "", "{ \"a\": }"] {
            assert_eq!(written(text), text);
        }
    }

    #[test]
    fn a_described_response() {
        let (status, body, response) = translated(&json!({
            "statusCode": 201,
            "headers": { "Content-Type": "text/html", "X-Count": 3, "Content-Length": "999", "transfer-encoding": "x" },
            "cookies": ["a=1", "b=2; Secure"],
            "body": "<p>",
        }));
        assert_eq!((status, body.as_str()), (201, "<p>"));
        assert_eq!(
            (&response.headers()[CONTENT_TYPE], &response.headers()["x-count"]),
            (&"text/html".parse().unwrap(), &"3".parse().unwrap())
        );
        assert_eq!(response.headers().get_all(SET_COOKIE).iter().count(), 2);
        assert!(
            response.headers().get("content-length").is_none() && response.headers().get("transfer-encoding").is_none()
        );
        let (_, body, _) = translated(&json!({ "statusCode": "200", "body": "aGk=", "isBase64Encoded": true }));
        assert_eq!(body, "hi");
    }

    #[test]
    fn a_long_body_is_passed_on_and_a_long_description_is_none() {
        let many = vec![0; crate::http::json::VALUES_MAX];
        assert_eq!(translated(&json!(many)).0, 200);
        assert_eq!(translated(&json!({ "many": many })).0, 200);
        assert_eq!(translated(&json!({ "statusCode": 200, "headers": many })).0, 502);
        assert_eq!(translated(&json!([200])).1, "[200]");
    }

    #[test]
    fn nonsense_is_a_failure() {
        for answer in [
            json!({ "statusCode": 99 }),
            json!({ "statusCode": 101 }),
            json!({ "statusCode": true }),
            json!({ "statusCode": 200, "headers": { "a": "b\r\nc: d" } }),
            json!({ "statusCode": 200, "headers": { "a b": "c" } }),
            json!({ "statusCode": 200, "body": "!", "isBase64Encoded": true }),
        ] {
            assert_eq!(translated(&answer).0, 502, "{answer}");
        }
    }
}
