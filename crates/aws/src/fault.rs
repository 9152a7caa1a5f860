//! Why a call to a service came to nothing, and whether trying again may help.

use std::io;
use std::time::Duration;
use thiserror::Error;

/// Why a service did not do what it was asked.
#[derive(Debug, Error)]
pub enum CallError {
    #[error(
        "this node knows no endpoint of {service}: name one in [aws] of lichen.toml, `endpoint` for all services or \
         `{key}` in [aws.endpoints]"
    )]
    NotConfigured { service: &'static str, key: &'static str },
    #[error("{service} cannot be reached at {endpoint}: {source}")]
    Unreachable { service: &'static str, endpoint: String, source: io::Error },
    #[error("{service} at {endpoint} cannot be trusted: {source}")]
    Tls { service: &'static str, endpoint: String, source: io::Error },
    #[error("{service} at {endpoint} did not answer within {patience:?}")]
    Silent { service: &'static str, endpoint: String, patience: Duration },
    #[error("the connection to {service} at {endpoint} broke: {source}")]
    Broken { service: &'static str, endpoint: String, source: hyper::Error },
    #[error("the answer of {service} is longer than {limit} bytes")]
    TooLong { service: &'static str, limit: usize },
    #[error("the answer of {service} is not what was asked for: {what}")]
    Foreign { service: &'static str, what: &'static str },
    #[error("{code}: {message}")]
    Refused { status: u16, code: String, message: String },
}

/// Codes by which services say that they are busy, whatever status comes with them.
const BUSY: [&str; 8] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "ProvisionedThroughputExceededException",
    "TooManyRequestsException",
    "SlowDown",
];

impl CallError {
    /// Whether the same call may go well later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotConfigured { .. } | Self::Tls { .. } | Self::TooLong { .. } => false,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Broken { .. } | Self::Foreign { .. } => true,
            Self::Refused { status, code, .. } => *status >= 500 || *status == 429 || BUSY.contains(&code.as_str()),
        }
    }

    /// Whether the service has done nothing, so that trying again at once doubles nothing.
    pub(crate) fn is_untouched(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Refused { .. }) && self.is_transient()
    }

    /// The service's word for the error; empty where it said none.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            _ => "",
        }
    }
}
