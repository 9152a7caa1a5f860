//! Errors as EventBridge tells them: a status, and a body that names the kind.

use crate::http::{Response, amz_json};
use crate::lambda;
use hyper::StatusCode;
use sources::schedule::rules::RulesError;
use tokio::task::JoinError;

/// An error, ready to be told.
#[derive(Debug)]
pub struct Fault {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Fault {
    fn user(kind: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind, message: message.into() }
    }

    fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request for rules failed for a reason of the node's own");
        let message = error.to_string();
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind: "InternalException", message }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::user("ValidationException", message)
    }

    pub fn no_rule(name: &str) -> Self {
        Self::user("ResourceNotFoundException", format!("Rule {name} does not exist on EventBus default."))
    }

    pub fn no_bus(name: &str) -> Self {
        let message = format!("Event bus {name} does not exist. This node has the bus default, for schedules.");
        Self::user("ResourceNotFoundException", message)
    }

    pub fn too_many() -> Self {
        Self::user("LimitExceededException", "The requested resource exceeds the maximum number allowed.")
    }

    pub fn serialization(message: impl Into<String>) -> Self {
        Self::user("SerializationException", message)
    }

    pub fn unknown_operation(name: &str) -> Self {
        let message = format!(
            "This node has no operation {name:?} of EventBridge. It answers those on rules with schedules; \
             docs/lambda.md lists them."
        );
        Self::user("UnknownOperationException", message)
    }

    pub fn answer(&self) -> Response {
        amz_json::fault(self.status, self.kind, &self.message)
    }
}

/// A broken rule: the same words as Lambda's, under the same name.
impl From<lambda::Fault> for Fault {
    fn from(fault: lambda::Fault) -> Self {
        Self::invalid(fault.message())
    }
}

impl From<RulesError> for Fault {
    fn from(error: RulesError) -> Self {
        Self::internal(&error)
    }
}

impl From<JoinError> for Fault {
    fn from(error: JoinError) -> Self {
        Self::internal(&error)
    }
}
