//! A client of a Lichen node: blocking, plain HTTP/1.1, one connection for each call. What the command line needs.
//!
//! Requests are signed where the client has a key (`sigv4`). Not here: TLS (a node on another machine is reached through a tunnel or a proxy), redirects, connection pools.

mod http;
mod lambda;
mod node;
#[cfg(test)]
mod tests;

use crate::sigv4::{self, Scope, Signed};
use crate::time;
pub use http::{Body, Request, Response};
use std::fmt;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// Where a node is when nobody says.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:9000";

/// Why a text is no endpoint.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EndpointError {
    #[error("the endpoint {0:?} does not begin with http://")]
    NotHttp(String),
    #[error("the endpoint {0:?} names no host, or a port that is not a number")]
    NoHost(String),
}

/// Why a call was not answered as asked.
#[derive(Debug, Error)]
pub enum CallError {
    #[error("no node answers at {endpoint}: start one with `lichen serve`, or name another with --endpoint")]
    Unreachable { endpoint: String, source: io::Error },
    #[error("the node at {endpoint} stopped answering")]
    Broken { endpoint: String, source: io::Error },
    #[error("what answers at {endpoint} is not a Lichen node: {what}")]
    Foreign { endpoint: String, what: &'static str },
    #[error("{message}")]
    Refused { status: u16, code: String, message: String },
}

impl CallError {
    /// Lambda's word for the error, empty when the node was not reached.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            _ => "",
        }
    }
}

/// What a client signs its requests with.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    pub secret: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, …)", self.id)
    }
}

/// A node, by its address.
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: String,
    /// Host and port, as connecting and the `Host` header want it.
    authority: String,
    /// What precedes every path: a node behind a proxy may live below one.
    prefix: String,
    /// How long the node may be silent.
    patience: Option<Duration>,
    key: Option<Key>,
}

impl Client {
    /// A node at `http://HOST[:PORT][/PREFIX]`. Nothing is sent yet.
    pub fn new(endpoint: &str) -> Result<Self, EndpointError> {
        let rest = endpoint.strip_prefix("http://").ok_or_else(|| EndpointError::NotHttp(endpoint.to_owned()))?;
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        let port = after_host.rsplit_once(':').map(|(_, port)| port);
        let host_is_there = !authority.is_empty() && !authority.starts_with(':');
        if !host_is_there || port.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err(EndpointError::NoHost(endpoint.to_owned()));
        }
        let authority = if port.is_some() { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Self {
            endpoint: endpoint.to_owned(),
            authority,
            prefix: prefix.trim_end_matches('/').to_owned(),
            patience: Some(Duration::from_secs(30)),
            key: None,
        })
    }

    /// The same node, waited for this long between two bytes; for ever without a limit.
    pub fn with_patience(mut self, patience: Option<Duration>) -> Self {
        self.patience = patience;
        self
    }

    /// The same node, asked in the name of a key.
    pub fn with_key(mut self, key: Option<Key>) -> Self {
        self.key = key;
        self
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends a request and reads the head of the answer, whatever its status.
    pub fn open(&self, request: &Request<'_>) -> Result<Response, CallError> {
        let endpoint = || self.endpoint.clone();
        let stream = http::connect(&self.authority, self.patience)
            .map_err(|source| CallError::Unreachable { endpoint: endpoint(), source })?;
        let signature = self.key.as_ref().map(|key| signature(key, &self.authority, &self.prefix, request));
        let signature =
            signature.as_ref().map(|signature| signature.each_ref().map(|(name, value)| (*name, value.as_str())));
        let headers = [request.headers, signature.as_ref().map_or(&[], |both| &both[..])].concat();
        let request = &Request { headers: &headers, ..*request };
        http::exchange(stream, &self.authority, &self.prefix, request).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => CallError::Foreign { endpoint: endpoint(), what: "its answer is not HTTP" },
            _ => CallError::Broken { endpoint: endpoint(), source },
        })
    }

    /// Sends a request and reads the whole answer; a status of 400 or more is an error.
    pub fn call(&self, request: &Request<'_>) -> Result<(Response, Vec<u8>), CallError> {
        let mut response = self.open(request)?;
        let body =
            response.read_to_end().map_err(|source| CallError::Broken { endpoint: self.endpoint.clone(), source })?;
        if response.status >= 400 {
            return Err(refusal(&response, &body));
        }
        Ok((response, body))
    }

    fn json<T: serde::de::DeserializeOwned>(&self, request: &Request<'_>) -> Result<T, CallError> {
        let (_, body) = self.call(request)?;
        serde_json::from_slice(&body).map_err(|_| CallError::Foreign {
            endpoint: self.endpoint.clone(),
            what: "its answer is not the JSON that was asked for",
        })
    }
}

/// The headers by which a request is signed. A region of no AWS's leaves the node to take its own.
fn signature(key: &Key, authority: &str, prefix: &str, request: &Request<'_>) -> [(&'static str, String); 2] {
    let moment = time::compact(time::now_ms());
    let scope = Scope { day: &moment[..8], region: "", service: "lambda" };
    let path = format!("{prefix}{}", request.path);
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let payload = sigv4::hash(request.body);
    let meant = request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), *value));
    let meant: Vec<(String, &str)> = meant.filter(|(name, _)| name.starts_with("x-amz-")).collect();
    let own = [("host", authority), ("x-amz-date", moment.as_str())];
    let mut headers: Vec<(&str, &str)> = meant.iter().map(|(name, value)| (name.as_str(), *value)).chain(own).collect();
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let signed = Signed { method: request.method, path, query, headers: &headers, payload: &payload };
    let signature = sigv4::sign(&key.secret, &moment, scope, &signed);
    let Scope { day, region, service } = scope;
    let authorization = format!(
        "{} Credential={}/{day}/{region}/{service}/{}, SignedHeaders={}, Signature={signature}",
        sigv4::ALGORITHM,
        key.id,
        sigv4::TERMINATOR,
        names.join(";")
    );
    [("X-Amz-Date", moment), ("Authorization", authorization)]
}

/// Lambda's errors name their kind in a header, and say the rest in `message` or `Message`.
fn refusal(response: &Response, body: &[u8]) -> CallError {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = ["message", "Message"].into_iter().find_map(|member| json.get(member)?.as_str());
    let code = response.header("x-amzn-errortype").unwrap_or_default();
    CallError::Refused {
        status: response.status,
        code: code.split(':').next().unwrap_or_default().to_owned(),
        message: text.map_or_else(|| format!("the node answered with status {}", response.status), str::to_owned),
    }
}

/// One segment of a path, or one value of a query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
