//! Requests as items write them: as text, or as JSON.
//!
//! ```text
//! POST https://api.example/v1 HTTP/1.1      {"method": "POST", "url": "https://api.example/v1",
//! accept: text/plain                         "headers": {"accept": "text/plain"},
//!                                            "body": "text"}      or "data": base64, or "json": anything
//! text
//! ```
//! The version may be left out: then both are offered. What is of a connection and not of a request (`connection`, `te`
//! and their like) is left out, as proxies do it; `host` and `content-length` may be given where they are right.
//! Every text here is a function's, and may be hostile: no line of it becomes two lines of a request.

mod json;
#[cfg(test)]
mod tests;
mod text;

use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::http::uri::{Authority, Scheme};
use hyper::{HeaderMap, Method, Uri};
use std::time::Duration;
use thiserror::Error;

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1.
    Any,
    One,
    /// Without TLS: by prior knowledge.
    Two,
}

/// A request that can be sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub version: Version,
    /// Of its own, where it has one.
    pub redirects: Option<u32>,
    pub timeout: Option<Duration>,
}

/// A URL's parts, as far as they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub https: bool,
    /// In small letters, without brackets.
    pub host: String,
    pub port: u16,
    /// With the query; begins with a slash.
    pub path: String,
}

/// Why an item is no request.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RequestError {
    #[error("the first line is not METHOD URL [HTTP/VERSION]")]
    Line,
    #[error("the head is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error(
        "the method is not one that a request may have: write GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, or another word but CONNECT and TRACE"
    )]
    Method,
    #[error("the version is not HTTP/1.0, HTTP/1.1 or HTTP/2")]
    Version,
    #[error(
        "the URL is not one: it begins with http:// or https://, has a host, and in it are letters, digits and marks of ASCII (others are written as %XX, in names as xn--…)"
    )]
    Url,
    #[error("the URL has a name or a password in it: send them in the header `authorization`")]
    Credentials,
    #[error("line {line} of the head is not NAME: VALUE")]
    Header { line: usize },
    #[error("the header {name:?} is not what it may be: {why}")]
    Foreign { name: String, why: &'static str },
    #[error("the JSON is not of a request's form: {0}")]
    Json(String),
    #[error("a request has one of `body`, `data` and `json`, and this one has more")]
    Bodies,
    #[error("`data` is not base64")]
    Base64,
    #[error("an object's place is BUCKET/KEY, of up to 1024 bytes, without steps of '.' or '..'")]
    Place,
    #[error(
        "not one item of `keys` has this item's name, or its name and key where several have the name: it says where the object goes"
    )]
    NoKey,
}

/// Headers of a connection: each hop has its own (RFC 9110, 7.6.1).
const HOPS: [&str; 7] = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect"];

/// The request that an item is.
pub fn read(item: &Bytes, head_max: usize) -> Result<Request, RequestError> {
    let is_json = item.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    let mut request = if is_json { json::read(item)? } else { text::read(item, head_max)? };
    let head: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if head + request.target.path.len() > head_max {
        return Err(RequestError::TooLong { limit: head_max });
    }
    request.settle()?;
    Ok(request)
}

impl Request {
    /// Takes out what we say ourselves, once it is right.
    fn settle(&mut self) -> Result<(), RequestError> {
        let foreign = |name: HeaderName, why| Err(RequestError::Foreign { name: name.as_str().to_owned(), why });
        for name in HOPS {
            self.headers.remove(name);
        }
        if self.headers.contains_key(TRANSFER_ENCODING) {
            return foreign(TRANSFER_ENCODING, "a body is sent with its length");
        }
        let length = self.body.len().to_string();
        if self.headers.get_all(CONTENT_LENGTH).iter().any(|given| given != length.as_str()) {
            return foreign(CONTENT_LENGTH, "the body has another length; leave the header out");
        }
        let own = self.target.authority();
        let is_own = |given: &HeaderValue| given.to_str().is_ok_and(|given| given.eq_ignore_ascii_case(&own));
        if !self.headers.get_all(HOST).iter().all(is_own) {
            return foreign(HOST, "it is another than the URL's; leave the header out");
        }
        self.headers.remove(CONTENT_LENGTH);
        self.headers.remove(HOST);
        Ok(())
    }
}

fn method(text: &str) -> Result<Method, RequestError> {
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| RequestError::Method)?;
    if method == Method::CONNECT || method == Method::TRACE { Err(RequestError::Method) } else { Ok(method) }
}

fn header(headers: &mut HeaderMap, name: &str, value: &[u8], otherwise: RequestError) -> Result<(), RequestError> {
    let name = HeaderName::from_bytes(name.as_bytes());
    let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim_ascii())) else { return Err(otherwise) };
    headers.try_append(name, value).map(drop).map_err(|_| otherwise)
}

impl Target {
    pub fn parse(url: &str) -> Result<Self, RequestError> {
        let uri: Uri = url.parse().map_err(|_| RequestError::Url)?;
        if !url.is_ascii() {
            return Err(RequestError::Url);
        }
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(RequestError::Url),
        };
        let authority = uri.authority().ok_or(RequestError::Url)?;
        if authority.as_str().contains('@') {
            return Err(RequestError::Credentials);
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { https, host: host(authority)?, port: port(authority, https)?, path })
    }

    /// As `Host` has it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    pub fn is_same_origin(&self, other: &Self) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }

    /// Without what may be secret: for logs and `status`.
    pub fn shown(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{scheme}://{}{path}", self.authority())
    }

    pub fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }
}

fn host(authority: &Authority) -> Result<String, RequestError> {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    // A zone says which of this machine's interfaces is meant: that is for this machine only.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(fits) { Err(RequestError::Url) } else { Ok(host) }
}

fn port(authority: &Authority, https: bool) -> Result<u16, RequestError> {
    match authority.port_u16() {
        Some(0) => Err(RequestError::Url),
        Some(port) => Ok(port),
        // A port that is no number is none, to `http`.
        None if authority.as_str().rsplit(']').next().is_some_and(|rest| rest.contains(':')) => Err(RequestError::Url),
        None => Ok(if https { 443 } else { 80 }),
    }
}
