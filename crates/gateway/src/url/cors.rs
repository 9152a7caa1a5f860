//! `Cors` of a function URL: preflight requests are answered here, without the function; what the function answers to others
//! gets the headers that its origin needs, beside those of the function's own.
//!
//! A page's origin is named in the answer where it is allowed; `*` stays `*` unless credentials are allowed, with which
//! browsers take no wildcard for an answer. Requests without an `Origin` come from no page, and get nothing.

use crate::http::{Response, answer};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use runtime::registry::Attached;
use serde::Deserialize;

const ANY: &str = "*";

/// The settings, as `CreateFunctionUrlConfig` has them.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "PascalCase", default)]
pub struct Cors {
    allow_credentials: bool,
    allow_headers: Vec<String>,
    allow_methods: Vec<String>,
    allow_origins: Vec<String>,
    expose_headers: Vec<String>,
    max_age: Option<u32>,
}

impl Cors {
    /// Those of a URL; nothing where it has none, so that all is the function's business.
    pub fn of(url: &Attached) -> Option<Self> {
        let cors = Self::deserialize(url.value.get("Cors")?).ok()?;
        (cors != Self::default()).then_some(cors)
    }

    /// The answer to a preflight request; nothing for other requests.
    pub fn preflight(&self, request: &Parts) -> Option<Response> {
        let wanted = request.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = request.headers.get(ORIGIN).filter(|_| request.method == Method::OPTIONS)?;
        let mut response = answer::empty(StatusCode::OK);
        let headers = response.headers_mut();
        if self.admit(Some(origin.clone()), headers) {
            self.list(headers, ACCESS_CONTROL_ALLOW_METHODS, &self.allow_methods, Some(wanted));
            let wanted = request.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
            self.list(headers, ACCESS_CONTROL_ALLOW_HEADERS, &self.allow_headers, wanted);
            headers.extend(self.max_age.map(|seconds| (ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds))));
        }
        Some(response)
    }

    /// Adds to a response what a page of this origin needs to see it.
    pub fn mark(&self, origin: Option<HeaderValue>, response: &mut Response) {
        let headers = response.headers_mut();
        if self.admit(origin, headers) {
            self.list(headers, ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose_headers, None);
        }
    }

    /// Whether a request's origin is allowed; says so in the response's headers.
    fn admit(&self, origin: Option<HeaderValue>, response: &mut HeaderMap) -> bool {
        let Some(origin) = origin else { return false };
        let is_any = self.allow_origins.iter().any(|allowed| allowed == ANY);
        if !is_any || self.allow_credentials {
            response.append(VARY, HeaderValue::from_static("Origin"));
        }
        if !is_any && !self.allow_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
            return false;
        }
        let named = if is_any && !self.allow_credentials { HeaderValue::from_static(ANY) } else { origin };
        response.append(ACCESS_CONTROL_ALLOW_ORIGIN, named);
        if self.allow_credentials {
            response.append(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        true
    }

    /// A list, in one header; what was asked for, where everything is allowed and a wildcard would not be taken for it.
    fn list(&self, response: &mut HeaderMap, name: HeaderName, values: &[String], wanted: Option<&HeaderValue>) {
        let is_any = values.iter().any(|value| value == ANY);
        let value = match wanted {
            Some(wanted) if is_any && self.allow_credentials => Some(wanted.clone()),
            _ if values.is_empty() => None,
            // What cannot be in a header is no name of a method or header that could be asked for.
            _ => HeaderValue::try_from(values.join(",")).ok(),
        };
        response.extend(value.map(|value| (name, value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;
    use serde_json::{Value, json};

    fn cors(value: Value) -> Cors {
        Cors::deserialize(value).unwrap()
    }

    fn request(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// What a response says, sorted.
    fn said(response: &Response) -> Vec<String> {
        let mut said: Vec<String> =
            response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        said.sort();
        said
    }

    const PREFLIGHT: [(&str, &str); 3] = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-a,x-b"),
    ];

    #[test]
    fn preflight_requests_are_answered() {
        let cors = cors(json!({
            "AllowOrigins": ["https://a.example", "https://b.example"], "AllowMethods": ["GET", "PUT"],
            "AllowHeaders": ["x-a", "x-b"], "ExposeHeaders": ["x-c"], "MaxAge": 600,
        }));
        let answer = cors.preflight(&request("OPTIONS", &PREFLIGHT)).unwrap();
        assert_eq!(
            said(&answer),
            [
                "access-control-allow-headers: x-a,x-b",
                "access-control-allow-methods: GET,PUT",
                "access-control-allow-origin: https://a.example",
                "access-control-max-age: 600",
                "vary: Origin",
            ]
        );
        let stranger = [("origin", "https://c.example"), PREFLIGHT[1]];
        assert_eq!(said(&cors.preflight(&request("OPTIONS", &stranger)).unwrap()), ["vary: Origin"]);
        assert!(cors.preflight(&request("OPTIONS", &PREFLIGHT[..1])).is_none());
        assert!(cors.preflight(&request("OPTIONS", &PREFLIGHT[1..])).is_none());
        assert!(cors.preflight(&request("PUT", &PREFLIGHT)).is_none());
    }

    #[test]
    fn a_wildcard_is_one_where_browsers_take_it() {
        let all = json!({ "AllowOrigins": ["*"], "AllowMethods": ["*"], "AllowHeaders": ["*"] });
        let answer = cors(all.clone()).preflight(&request("OPTIONS", &PREFLIGHT)).unwrap();
        assert_eq!(
            said(&answer),
            ["access-control-allow-headers: *", "access-control-allow-methods: *", "access-control-allow-origin: *"]
        );
        let mut all = all;
        all["AllowCredentials"] = true.into();
        let answer = cors(all).preflight(&request("OPTIONS", &PREFLIGHT)).unwrap();
        assert_eq!(
            said(&answer),
            [
                "access-control-allow-credentials: true",
                "access-control-allow-headers: x-a,x-b",
                "access-control-allow-methods: PUT",
                "access-control-allow-origin: https://a.example",
                "vary: Origin",
            ]
        );
    }

    #[test]
    fn answers_keep_what_the_function_says() {
        let cors = cors(json!({ "AllowOrigins": ["*"], "ExposeHeaders": ["x-c", "x-d"] }));
        let mut answer = answer::empty(StatusCode::OK);
        answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("https://own.example"));
        cors.mark(None, &mut answer);
        assert_eq!(said(&answer), ["access-control-allow-origin: https://own.example"]);
        cors.mark(Some(HeaderValue::from_static(PREFLIGHT[0].1)), &mut answer);
        assert_eq!(
            said(&answer),
            [
                "access-control-allow-origin: *",
                "access-control-allow-origin: https://own.example",
                "access-control-expose-headers: x-c,x-d",
            ]
        );
    }
}
