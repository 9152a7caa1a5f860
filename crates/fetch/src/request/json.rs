//! The form as JSON.

use super::{Request, RequestError, Target, Version, header, method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::time::Duration;

/// Values of the headers: deeper or more than that is no request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form<'a> {
    #[serde(default, borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default, borrow, deserialize_with = "some")]
    json: Option<&'a RawValue>,
    #[serde(default, borrow)]
    version: Option<Cow<'a, str>>,
    #[serde(default)]
    redirects: Option<u32>,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

/// `{"name": "value", "other": ["one", "two"]}` or `[["name", "value"]]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Headers {
    Object(serde_json::Map<String, Value>),
    Pairs(Vec<(String, String)>),
}

impl Default for Headers {
    fn default() -> Self {
        Self::Pairs(Vec::new())
    }
}

/// What is there is meant, `null` too.
fn some<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

pub(super) fn read(item: &Bytes) -> Result<Request, RequestError> {
    let form: Form<'_> = serde_json::from_slice(item).map_err(|error| RequestError::Json(error.to_string()))?;
    let mut headers = HeaderMap::new();
    for (name, value) in form.headers.pairs()? {
        let why = "names have letters, digits and hyphens, values no line ends";
        header(&mut headers, &name, value.as_bytes(), RequestError::Foreign { name: name.clone(), why })?;
    }
    if form.json.is_some() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let version = match form.version.as_deref() {
        None => Version::Any,
        Some("1.0" | "1.1" | "HTTP/1.1") => Version::One,
        Some("2" | "2.0" | "HTTP/2") => Version::Two,
        Some(_) => return Err(RequestError::Version),
    };
    let body = body(form.body, form.data, form.json)?;
    Ok(Request {
        method: method(form.method.as_deref().unwrap_or("GET"))?,
        target: Target::parse(&form.url)?,
        headers,
        body,
        version,
        redirects: form.redirects,
        timeout: form.timeout_ms.map(Duration::from_millis),
    })
}

fn body(text: Option<String>, data: Option<String>, json: Option<&RawValue>) -> Result<Bytes, RequestError> {
    match (text, data, json) {
        (None, None, None) => Ok(Bytes::new()),
        (Some(text), None, None) => Ok(text.into()),
        (None, Some(data), None) => STANDARD.decode(data).map(Bytes::from).map_err(|_| RequestError::Base64),
        (None, None, Some(json)) => Ok(json.get().to_owned().into()),
        _ => Err(RequestError::Bodies),
    }
}

impl Headers {
    fn pairs(self) -> Result<Vec<(String, String)>, RequestError> {
        let object = match self {
            Self::Pairs(pairs) => return Ok(pairs),
            Self::Object(object) => object,
        };
        let mut pairs = Vec::with_capacity(object.len());
        for (name, value) in object {
            let values = match value {
                Value::Array(values) => values,
                value => vec![value],
            };
            for value in values {
                let value = match value {
                    Value::String(text) => text,
                    Value::Number(number) => number.to_string(),
                    _ => return Err(RequestError::Foreign { name, why: "a value is a text or a number" }),
                };
                pairs.push((name.clone(), value));
            }
        }
        Ok(pairs)
    }
}
