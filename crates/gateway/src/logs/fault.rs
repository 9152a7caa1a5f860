//! Errors as CloudWatch Logs tells them: a status, and a body that names the kind.

use crate::http::{Response, amz_json};
use crate::lambda;
use hyper::StatusCode;
use runtime::logs::GroupError;

/// An error, ready to be told.
#[derive(Debug)]
pub struct Fault {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Fault {
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "InvalidParameterException", message: message.into() }
    }

    pub fn unknown_operation(target: &str) -> Self {
        let message = format!(
            "This node has no operation {target:?}. It answers CloudWatch Logs' operations on groups, streams and events \
             here, by X-Amz-Target; docs/lambda.md lists them."
        );
        Self { status: StatusCode::BAD_REQUEST, kind: "UnknownOperationException", message }
    }

    pub fn serialization(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "SerializationException", message: message.into() }
    }

    pub fn answer(&self) -> Response {
        amz_json::fault(self.status, self.kind, &self.message)
    }
}

/// A broken rule: the same words as Lambda's, under another name.
impl From<lambda::Fault> for Fault {
    fn from(fault: lambda::Fault) -> Self {
        Self::invalid(fault.message())
    }
}

impl From<GroupError> for Fault {
    fn from(error: GroupError) -> Self {
        let kind = match &error {
            GroupError::NoGroup | GroupError::NoStream => "ResourceNotFoundException",
            GroupError::GroupExists | GroupError::StreamExists => "ResourceAlreadyExistsException",
            GroupError::Store(cause) => {
                tracing::error!(error = %cause, "a request for logs failed for a reason of the node's own");
                return Self {
                    status: StatusCode::SERVICE_UNAVAILABLE,
                    kind: "ServiceUnavailableException",
                    message: error.to_string(),
                };
            }
        };
        Self { status: StatusCode::BAD_REQUEST, kind, message: error.to_string() }
    }
}
