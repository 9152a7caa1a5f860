//! Answers in AWS's JSON protocol, `application/x-amz-json-1.1`: of services whose operations are named in `X-Amz-Target`.

use super::{Response, answer};
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

/// An answer. Some operations have nothing to say.
pub fn told(body: &Value) -> Response {
    with(StatusCode::OK, body)
}

/// An error: its body names the kind.
pub fn fault(status: StatusCode, kind: &str, message: &str) -> Response {
    with(status, &json!({ "__type": kind, "message": message }))
}

fn with(status: StatusCode, body: &Value) -> Response {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    answer::with(status, HeaderValue::from_static("application/x-amz-json-1.1"), text)
}
