//! From a request to the operation that it asks for: tables of operations, one beside each resource, searched in order.

use crate::auth;
use crate::gateway::Gateway;
use crate::http::answer::{self, header};
use crate::http::body::{Left, Unread};
use crate::http::guard::Callers;
use crate::http::{Response, path, request_id};
use crate::lambda::Fault;
use crate::{health, lambda, metrics, target, url, v1};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{AsHeaderName, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use std::borrow::Cow;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// What becomes of a request.
pub type Answer = Result<Response, Fault>;
type Act = fn(Exchange) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

/// One operation: what it answers to, and what it does.
pub struct Route {
    /// Nothing for any method.
    pub method: Option<Method>,
    /// Segments; `*` stands for one, `**` for all that are left.
    pub pattern: &'static str,
    /// As logs call it.
    pub name: &'static str,
    /// Who may ask for it.
    pub callers: Callers,
    pub act: Act,
}

/// An entry of a table: `route!(POST "/things/*" CreateThing => create)`; `for Pages` where others than programs may call.
macro_rules! route {
    ($method:ident $pattern:literal $name:ident => $act:path) => {
        $crate::route::route!($method $pattern $name for Programs => $act)
    };
    (ANY $pattern:literal $name:ident for $callers:ident => $act:path) => {
        $crate::route::route!(@ None, $pattern, $name, $callers, $act)
    };
    ($method:ident $pattern:literal $name:ident for $callers:ident => $act:path) => {
        $crate::route::route!(@ Some(hyper::Method::$method), $pattern, $name, $callers, $act)
    };
    (@ $method:expr, $pattern:literal, $name:ident, $callers:ident, $act:path) => {
        $crate::route::Route {
            method: $method,
            pattern: $pattern,
            name: stringify!($name),
            callers: $crate::http::guard::Callers::$callers,
            act: |x| Box::pin($act(x)),
        }
    };
}
pub(crate) use route;

/// The most used first.
const TABLES: [&[Route]; 27] = [
    lambda::invoke::ROUTES,
    v1::INVOKING,
    url::ROUTES,
    lambda::function::ROUTES,
    lambda::update::ROUTES,
    lambda::versions::ROUTES,
    lambda::aliases::ROUTES,
    lambda::concurrency::ROUTES,
    lambda::provisioned::ROUTES,
    lambda::permission::ROUTES,
    lambda::tags::ROUTES,
    lambda::event_invoke::ROUTES,
    lambda::url_config::ROUTES,
    lambda::management::ROUTES,
    lambda::account::ROUTES,
    lambda::stream::ROUTES,
    lambda::layers::ROUTES,
    lambda::capacity::ROUTES,
    lambda::signing::ROUTES,
    lambda::layer_policy::ROUTES,
    lambda::event::ROUTES,
    lambda::mappings::ROUTES,
    lambda::absent::ROUTES,
    target::ROUTES,
    v1::ROUTES,
    health::ROUTES,
    metrics::ROUTES,
];

/// A request under way. It passes through many hands, and lies where it is.
pub struct Exchange(Box<Asked>);

/// What a request is, and what is known of it.
pub struct Asked {
    pub gateway: Arc<Gateway>,
    pub id: String,
    /// When it arrived: nanoseconds of `CLOCK_MONOTONIC`.
    pub accepted: u64,
    pub peer: SocketAddr,
    pub head: Parts,
    /// Nothing once it has been read.
    pub body: Option<Unread>,
    /// What the pattern's stars stood for, still encoded.
    captures: [Span; 3],
}

/// A part of the path; empty where there is none.
type Span = (usize, usize);

impl Deref for Exchange {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.0
    }
}

impl DerefMut for Exchange {
    fn deref_mut(&mut self) -> &mut Asked {
        &mut self.0
    }
}

impl Exchange {
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        header(&self.head.headers, name)
    }

    /// A parameter of the query, decoded.
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        path::query(self.head.uri.query(), name)
    }

    /// What a star of the pattern stands for, as it came.
    pub fn raw_capture(&self, star: usize) -> &str {
        let (start, end) = self.captures[star];
        &self.head.uri.path()[start..end]
    }

    /// What a star of the pattern stands for, decoded; empty when it cannot be.
    pub fn capture(&self, star: usize) -> Cow<'_, str> {
        path::decode(self.raw_capture(star)).unwrap_or_default()
    }
}

/// Answers one request, whatever it is.
pub async fn answer(
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let accepted = os::monotonic_ns();
    let (head, body) = request.into_parts();
    let id = request_id::request_id();
    let header_id = HeaderValue::from_maybe_shared(Bytes::from(id.clone()));
    let tracing = tracing::enabled!(target: "gateway::access", tracing::Level::DEBUG);
    let line = tracing.then(|| (head.method.clone(), head.uri.path().to_owned(), id.clone()));
    // Who waits to be asked for the body, and was not, sends none.
    let reluctant = head.headers.contains_key(hyper::header::EXPECT);
    let left = Left::default();
    let body = Some(Unread::new(body, left.clone()));
    let asked = Asked { gateway: gateway.clone(), id, accepted, peer, head, body, captures: [(0, 0); 3] };
    let (name, result) = act(&gateway, Exchange(Box::new(asked))).await;
    let mut response = result.unwrap_or_else(|fault| fault.answer());
    // hyper would close the connection, and say so to nobody.
    if !left.is_empty() && (reluctant || !Box::pin(gateway.bodies.discard(&left)).await) {
        response.headers_mut().insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Ok(id) = header_id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status().as_u16();
    gateway.tally.count(status);
    if let Some((method, path, request)) = line {
        let us = (os::monotonic_ns() - accepted) / 1000;
        tracing::debug!(target: "gateway::access", operation = name, %method, path, status, us, %peer, request, "answered");
    }
    Ok(response)
}

async fn act(gateway: &Gateway, mut exchange: Exchange) -> (&'static str, Answer) {
    let path = exchange.head.uri.path();
    let found = match url::is_host(&exchange.head.headers) {
        true => Found::Route(&url::BY_HOST, match_pattern(url::BY_HOST.pattern, path).unwrap_or_default()),
        false => find(&exchange.head.method, path),
    };
    let callers = match &found {
        Found::Route(route, _) => route.callers,
        Found::OtherMethods(_) | Found::Nothing => Callers::Programs,
    };
    if let Err(refusal) = gateway.guard.check(&exchange.head.headers, callers) {
        return ("refused", Err(Fault::access_denied(refusal.to_string())));
    }
    match found {
        Found::Route(route, captures) => {
            exchange.captures = captures;
            if gateway.auth.guards(route) {
                let path = exchange.head.uri.path();
                let by_target = path == "/";
                let action = if by_target { target::action(&exchange) } else { auth::action(route.name, path) };
                if let Err(refusal) = Box::pin(auth::admit(&mut exchange, route, &action)).await {
                    return (route.name, if by_target { Ok(target::refuse(&refusal)) } else { Err(refusal) });
                }
            }
            let operation = lambda::model::operation(route.name, exchange.head.uri.query());
            if let Err(refusal) = lambda::model::check_head(operation, &exchange) {
                return (route.name, Err(refusal));
            }
            (route.name, (route.act)(exchange).await)
        }
        Found::OtherMethods(methods) => ("unknown", Ok(method_not_allowed(&methods))),
        Found::Nothing => ("unknown", Err(Fault::unknown_operation(&exchange.head.method, exchange.head.uri.path()))),
    }
}

fn method_not_allowed(methods: &str) -> Response {
    let body = serde_json::json!({ "message": format!("This path is for {methods} only.") });
    let mut response = answer::json(StatusCode::METHOD_NOT_ALLOWED, &body);
    if let Ok(methods) = HeaderValue::from_str(methods) {
        response.headers_mut().insert(hyper::header::ALLOW, methods);
    }
    response
}

enum Found {
    Route(&'static Route, [Span; 3]),
    /// The path is known, for these methods.
    OtherMethods(String),
    Nothing,
}

fn find(method: &Method, path: &str) -> Found {
    let mut others: Vec<&str> = Vec::new();
    for route in TABLES.iter().copied().flatten() {
        let Some(captures) = match_pattern(route.pattern, path) else { continue };
        // Whoever asks for the head of an answer gets it; hyper keeps the body back.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        match &route.method {
            Some(known) if known != method => others.push(known.as_str()),
            _ => return Found::Route(route, captures),
        }
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others.join(", ")) }
}

/// Compares segment by segment; a slash at a path's end means nothing, but for what is left to `**`.
fn match_pattern(pattern: &str, path: &str) -> Option<[Span; 3]> {
    let (mut captures, mut star) = ([(0, 0); 3], 0);
    // Byte by byte: most patterns differ from most paths soon.
    let (pattern, path) = (pattern.as_bytes(), path.as_bytes());
    let (mut at, mut from) = (0, 0);
    while let Some(wanted) = pattern.get(from) {
        match (wanted, pattern.get(from + 1)) {
            (b'*', Some(b'*')) => {
                captures[star] = (at.min(path.len()), path.len());
                return Some(captures);
            }
            // All that is left stands for nothing.
            (b'/', Some(b'*')) if at == path.len() && pattern.get(from + 2) == Some(&b'*') => {}
            (b'*', _) => {
                let rest = path.get(at..)?;
                let len = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
                if len == 0 {
                    return None;
                }
                captures[star] = (at, at + len);
                star += 1;
                at += len;
            }
            _ if path.get(at) != Some(wanted) => return None,
            _ => at += 1,
        }
        from += 1;
    }
    let is_over = at == path.len() || (at + 1 == path.len() && path[at] == b'/' && pattern.len() > 1);
    is_over.then_some(captures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured<'a>(pattern: &str, path: &'a str) -> Option<[&'a str; 3]> {
        match_pattern(pattern, path).map(|captures| captures.map(|(start, end)| &path[start..end]))
    }

    #[test]
    fn patterns() {
        assert_eq!(captured("/a/*/b", "/a/x%3Ay/b"), Some(["x%3Ay", "", ""]));
        assert_eq!(captured("/a/*/b/*", "/a/1/b/2/"), Some(["1", "2", ""]));
        assert_eq!((captured("/", "/"), captured("/", "/a")), (Some(["", "", ""]), None));
        assert_eq!(captured("/a", "/a/"), Some(["", "", ""]));
        assert_eq!(captured("/f/*/**", "/f/name/x/y"), Some(["name", "x/y", ""]));
        assert_eq!(captured("/f/*/**", "/f/name/"), Some(["name", "", ""]));
        assert_eq!(captured("/f/*/**", "/f/name"), Some(["name", "", ""]));
        assert_eq!((captured("/**", "/x/y"), captured("/**", "/")), (Some(["x/y", "", ""]), Some(["", "", ""])));
        assert_eq!((captured("/", "//"), captured("/a/*", "/a/x//"), captured("/a/b", "/a")), (None, None, None));
        for path in ["/a", "/a/", "/a//b", "/a/1/b/c", "/a/1", "", "*", "/"] {
            assert_eq!(captured("/a/*/b", path), None, "{path}");
        }
    }

    #[test]
    fn every_operation_is_found_by_its_own_pattern() {
        for route in TABLES.iter().copied().flatten() {
            let path = route.pattern.replace("**", "x/y").replace('*', "x");
            let method = route.method.clone().unwrap_or(Method::PATCH);
            assert!(matches!(find(&method, &path), Found::Route(found, _) if found.name == route.name), "{path}");
        }
    }

    #[test]
    fn every_operation_of_awss_model_has_a_route_of_its_name() {
        for (name, method, path) in lambda::model::operations() {
            let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
            let path: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            match find(&method, &path.join("/")) {
                Found::Route(route, _) => assert_eq!(lambda::model::operation(route.name, query), name),
                _ => panic!("{name} has no route: {method} {}", path.join("/")),
            }
        }
    }

    #[test]
    fn a_known_path_names_its_methods() {
        assert!(
            matches!(find(&Method::PATCH, "/2015-03-31/functions/f"), Found::OtherMethods(m) if m == "GET, DELETE")
        );
        assert!(matches!(find(&Method::GET, "/nowhere"), Found::Nothing));
    }
}
