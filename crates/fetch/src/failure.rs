//! Why a request came to nothing: an error of one item, with a word for programs and a sentence for people.
//!
//! An answer of whatever status is no failure: it is an answer. No message has a header's value or a body in it, nor a
//! URL's query: these are where secrets are.

use crate::policy::Denial;
use crate::request::RequestError;
use aws::CallError;
use std::io;
use std::time::Duration;
use thiserror::Error;

/// Why one item came to nothing.
#[derive(Debug, Error)]
pub enum Failure {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Denied(#[from] Denial),
    #[error("the name {host:?} has no address: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("{host}:{port} cannot be reached: {source}")]
    Connect { host: String, port: u16, source: io::Error },
    #[error("no TLS with {host}: {source}")]
    Tls { host: String, source: io::Error },
    #[error("{host}:{port} did not take a connection within {patience:?} (`connect_s` in [fetch] of the node)")]
    ConnectTimeout { host: String, port: u16, patience: Duration },
    #[error("{host} began no answer within {patience:?} (`first_byte_s` in [fetch] of the node)")]
    FirstByteTimeout { host: String, patience: Duration },
    #[error(
        "the request was not done within {patience:?}, the least of `total_s` in [fetch] of the node and its own `timeout_ms`"
    )]
    Timeout { patience: Duration },
    #[error("the answer's head is longer than {limit} bytes or has too many lines (`head_max` in [fetch] of the node)")]
    HeadTooLong { limit: usize },
    #[error("the answer's body is longer than {limit} bytes (`body_max` in [fetch] of the node)")]
    BodyTooLong { limit: usize },
    #[error("more than {limit} keys begin so (`list_max` in [fetch] of the node): ask for less of them at a time")]
    ListTooLong { limit: usize },
    #[error("the node has no memory left for answers' bodies (`bodies_mib` in [fetch]): try again")]
    Memory,
    #[error("more than {limit} redirects")]
    Redirects { limit: u32 },
    #[error("{host} leads on to what cannot be followed: {source}")]
    Redirect { host: String, source: RequestError },
    #[error("the connection to {host} broke: {}", with_causes(source))]
    Broken { host: String, source: hyper::Error },
    #[error("{host} changes the protocol, which nobody asked it for")]
    Upgraded { host: String },
    #[error(
        "{bucket:?} is not among the buckets that flows may use: the node's operator names them in `buckets` of [fetch]"
    )]
    Bucket { bucket: String },
    #[error(transparent)]
    Store(#[from] CallError),
}

/// hyper says that something of HTTP/2 was wrong, or of the connection, and leaves what it was to the error's source.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

impl Failure {
    /// For programs: the member `error` of an item of `status`, and the end of an error's type.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Request(_) => "Request",
            Self::Denied(_) | Self::Bucket { .. } => "Denied",
            Self::Resolve { .. } => "Resolve",
            Self::Connect { .. } => "Connect",
            Self::Tls { .. } | Self::Store(CallError::Tls { .. }) => "Tls",
            Self::ConnectTimeout { .. } | Self::FirstByteTimeout { .. } | Self::Timeout { .. } => "Timeout",
            Self::HeadTooLong { .. }
            | Self::BodyTooLong { .. }
            | Self::ListTooLong { .. }
            | Self::Store(CallError::TooLong { .. }) => "TooLong",
            Self::Memory => "Memory",
            Self::Redirects { .. } | Self::Redirect { .. } => "Redirect",
            Self::Broken { .. } | Self::Upgraded { .. } => "Broken",
            Self::Store(_) => "Store",
        }
    }

    /// Whether the same request may go well later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error) => error.is_transient(),
            _ => matches!(self.kind(), "Resolve" | "Connect" | "Timeout" | "Memory" | "Broken"),
        }
    }
}

/// Why a run came to nothing as a whole.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error("{function} has no input set {set:?}: it takes {}", .known.join(", "))]
    UnknownSet { function: &'static str, set: String, known: &'static [&'static str] },
    #[error("item {item:?}: {source}")]
    Item { item: String, source: Failure },
    #[error("the time for this run was over with {left} of its requests not done")]
    Deadline { left: usize },
}

impl FetchError {
    /// The `errorType` of a run that it ends.
    pub fn error_type(&self) -> String {
        match self {
            Self::UnknownSet { .. } => "Fetch.UnknownSet".to_owned(),
            Self::Item { source, .. } => format!("Fetch.{}", source.kind()),
            Self::Deadline { .. } => "Fetch.Timeout".to_owned(),
        }
    }
}
