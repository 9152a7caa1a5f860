//! What is asked for: the Runtime API, the Extensions API, the Logs and Telemetry APIs. Paths to values, and AWS's words
//! for what is refused.

use crate::http::{Head, Method, Response};
use crate::telemetry::Api;

/// A request, by what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    Next,
    Response { id: &'a str },
    Error { id: &'a str },
    InitError,
    RestoreNext,
    RestoreError,
    Ping,
    Register,
    EventNext,
    ExtensionInitError,
    ExtensionExitError,
    Subscribe(Api),
}

impl<'a> Call<'a> {
    /// What this head asks for, or the answer to what nobody knows.
    pub fn of(head: &'a Head) -> Result<Self, Response> {
        let (version, path) = head.path.strip_prefix('/').and_then(|path| path.split_once('/')).unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        let (method, call) = match (version, &parts[..]) {
            ("2018-06-01", ["runtime", "invocation", "next"]) => (Method::Get, Self::Next),
            ("2018-06-01", ["runtime", "invocation", id, "response"]) => (Method::Post, Self::Response { id }),
            ("2018-06-01", ["runtime", "invocation", id, "error"]) => (Method::Post, Self::Error { id }),
            ("2018-06-01", ["runtime", "init", "error"]) => (Method::Post, Self::InitError),
            ("2018-06-01", ["runtime", "restore", "next"]) => (Method::Get, Self::RestoreNext),
            ("2018-06-01", ["runtime", "restore", "error"]) => (Method::Post, Self::RestoreError),
            ("2018-06-01", ["ping"]) => (Method::Get, Self::Ping),
            ("2020-01-01", ["extension", "register"]) => (Method::Post, Self::Register),
            ("2020-01-01", ["extension", "event", "next"]) => (Method::Get, Self::EventNext),
            ("2020-01-01", ["extension", "init", "error"]) => (Method::Post, Self::ExtensionInitError),
            ("2020-01-01", ["extension", "exit", "error"]) => (Method::Post, Self::ExtensionExitError),
            ("2020-08-15", ["logs"]) => (Method::Put, Self::Subscribe(Api::Logs)),
            ("2022-07-01", ["telemetry"]) => (Method::Put, Self::Subscribe(Api::Telemetry)),
            _ => return Err(Response::text(404, "404 page not found\n")),
        };
        if head.method == method { Ok(call) } else { Err(Response::text(405, "")) }
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    error_message: &'a str,
    error_type: &'a str,
}

/// Lambda's error object.
pub fn error_object(kind: &str, message: &str) -> Vec<u8> {
    // Two strings cannot fail to be written.
    serde_json::to_vec(&ErrorBody { error_message: message, error_type: kind }).unwrap_or_default()
}

/// An answer that refuses, or says what is not there.
pub fn refusal(status: u16, kind: &str, message: &str) -> Response {
    Response::json(status, error_object(kind, message))
}

/// The answer to what was taken.
pub fn accepted() -> Response {
    Response::json(202, br#"{"status":"OK"}"#.to_vec())
}

pub fn invalid_request_id() -> Response {
    refusal(400, "InvalidRequestID", "Invalid request ID")
}

pub fn too_large(limit: usize) -> Response {
    let message = format!("Exceeded maximum allowed payload size ({limit} bytes).");
    refusal(413, "RequestEntityTooLarge", &message)
}

/// One state does not follow the other; `whom` is the runtime, or an extension with its name.
pub fn not_allowed(from: &str, to: &str, whom: &str, kind: &str) -> Response {
    let message =
        format!("State transition from {from} to {to} failed for {whom}. Error: State transition is not allowed");
    refusal(403, kind, &message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head;

    fn status(line: &str) -> Result<String, u16> {
        let (head, ..) = head(format!("{line} HTTP/1.1\r\n\r\n").as_bytes()).unwrap().unwrap();
        Call::of(&head).map(|call| format!("{call:?}")).map_err(|response| response.status)
    }

    #[test]
    fn paths_are_told_apart() {
        assert_eq!(status("GET /2018-06-01/runtime/invocation/next?x=y").unwrap(), "Next");
        assert_eq!(status("POST /2018-06-01/runtime/invocation/a-b/response").unwrap(), r#"Response { id: "a-b" }"#);
        assert_eq!(status("PUT /2022-07-01/telemetry").unwrap(), "Subscribe(Telemetry)");
        assert_eq!(status("POST /2018-06-01/runtime/invocation/next"), Err(405));
        assert_eq!(status("BREW /2018-06-01/ping"), Err(405));
        for path in ["/", "//", "/2018-06-01", "/2019-06-01/runtime/invocation/next", "http://x/2018-06-01/ping", "*"] {
            assert_eq!(status(&format!("GET {path}")), Err(404), "{path}");
        }
    }
}
