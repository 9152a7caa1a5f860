//! Errors as AWS Lambda tells them: a status, a code in a header, and a text in a body whose shape depends on the code.

use crate::http::{BodyError, Response, answer};
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode};
use runtime::dispatch::InvokeError;
use runtime::queue::{AcceptError, DeadError};
use runtime::registry::{CreateError, PublishError, RemoveError, SettingsError, StoreError, UpdateError};
use serde_json::{Map, Value};
use std::fmt::Display;
use tokio::task::JoinError;

/// What kind of error: Lambda's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    AccessDenied,
    CodeSigningConfigNotFound,
    IncompleteSignature,
    InvalidParameterValue,
    InvalidRequestContent,
    InvalidSignature,
    MissingAuthenticationToken,
    PolicyLengthExceeded,
    PreconditionFailed,
    ProvisionedConcurrencyConfigNotFound,
    RequestEntityTooLarge,
    ResourceConflict,
    ResourceNotFound,
    Serialization,
    SnapStart,
    SnapStartTimeout,
    Service,
    /// Busy, starting, or shutting down: it may be tried again.
    Unavailable,
    /// No room on disk: trying again does not help.
    Full,
    TooManyRequests,
    UnknownOperation,
    UnrecognizedClient,
    Validation,
}

/// How the body of a kind of error is written.
struct Form {
    code: &'static str,
    status: u16,
    /// `User` or `Service`; validation errors have none.
    party: Option<&'static str>,
    text: &'static str,
}

const fn form(code: &'static str, status: u16, party: Option<&'static str>, text: &'static str) -> Form {
    Form { code, status, party, text }
}

impl Kind {
    const fn form(self) -> Form {
        const USER: Option<&str> = Some("User");
        const SERVICE: Option<&str> = Some("Service");
        match self {
            Self::AccessDenied => form("AccessDeniedException", 403, None, "Message"),
            Self::CodeSigningConfigNotFound => form("CodeSigningConfigNotFoundException", 404, USER, "Message"),
            Self::IncompleteSignature => form("IncompleteSignatureException", 403, None, "message"),
            Self::InvalidParameterValue => form("InvalidParameterValueException", 400, USER, "message"),
            Self::InvalidRequestContent => form("InvalidRequestContentException", 400, USER, "message"),
            Self::InvalidSignature => form("InvalidSignatureException", 403, None, "message"),
            Self::MissingAuthenticationToken => form("MissingAuthenticationTokenException", 403, None, "message"),
            Self::PolicyLengthExceeded => form("PolicyLengthExceededException", 400, USER, "message"),
            Self::PreconditionFailed => form("PreconditionFailedException", 412, USER, "message"),
            Self::ProvisionedConcurrencyConfigNotFound => {
                form("ProvisionedConcurrencyConfigNotFoundException", 404, USER, "message")
            }
            Self::RequestEntityTooLarge => form("RequestEntityTooLargeException", 413, USER, "message"),
            Self::ResourceConflict => form("ResourceConflictException", 409, USER, "message"),
            Self::ResourceNotFound => form("ResourceNotFoundException", 404, USER, "Message"),
            Self::Serialization => form("SerializationException", 400, None, "message"),
            Self::SnapStart => form("SnapStartException", 400, USER, "Message"),
            Self::SnapStartTimeout => form("SnapStartTimeoutException", 408, USER, "Message"),
            Self::Service => form("ServiceException", 500, SERVICE, "Message"),
            Self::Unavailable => form("ServiceException", 503, SERVICE, "Message"),
            Self::Full => form("ServiceException", 507, SERVICE, "Message"),
            Self::TooManyRequests => form("TooManyRequestsException", 429, USER, "message"),
            Self::UnknownOperation => form("UnknownOperationException", 404, None, "message"),
            Self::UnrecognizedClient => form("UnrecognizedClientException", 403, None, "message"),
            Self::Validation => form("ValidationException", 400, None, "message"),
        }
    }
}

/// An error, ready to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    kind: Kind,
    message: String,
    /// Why a request was throttled.
    reason: Option<&'static str>,
    /// Whether its body says whose fault it is, where its kind does.
    has_party: bool,
}

/// One constructor for each kind whose text is the caller's.
macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        $(pub fn $name(message: impl Into<String>) -> Self {
            Self { kind: Kind::$kind, message: message.into(), reason: None, has_party: true }
        })*
    };
}

impl Fault {
    constructors! {
        access_denied => AccessDenied,
        invalid_parameter => InvalidParameterValue,
        invalid_content => InvalidRequestContent,
        conflict => ResourceConflict,
        no_code_signing => CodeSigningConfigNotFound,
        no_provisioned_concurrency => ProvisionedConcurrencyConfigNotFound,
        not_found => ResourceNotFound,
        policy_too_long => PolicyLengthExceeded,
        precondition_failed => PreconditionFailed,
        serialization => Serialization,
        snap_start => SnapStart,
        snap_start_timeout => SnapStartTimeout,
        too_large => RequestEntityTooLarge,
        unavailable => Unavailable,
        full => Full,
        validation => Validation,
    }

    /// The same as some of AWS's checks tell it: it does not say whose fault it is.
    pub fn without_party(self) -> Self {
        Self { has_party: false, ..self }
    }

    pub fn unknown_operation(method: &Method, path: &str) -> Self {
        let message = format!("This node has no operation {method} {path}.");
        Self { kind: Kind::UnknownOperation, message, reason: None, has_party: true }
    }

    /// Something broke here; what exactly is for the log, not for the caller.
    pub fn internal(error: &(impl std::error::Error + ?Sized)) -> Self {
        let mut causes = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push_str(&format!(": {error}"));
            cause = error.source();
        }
        tracing::error!(error = causes, "a request failed for a reason of the node's own");
        Self { kind: Kind::Service, message: error.to_string(), reason: None, has_party: true }
    }

    pub fn stale_revision() -> Self {
        Self::precondition_failed(
            "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve \
             the latest Revision Id",
        )
    }

    pub fn missing_authentication_token() -> Self {
        Self {
            kind: Kind::MissingAuthenticationToken,
            message: "Missing Authentication Token".into(),
            reason: None,
            has_party: true,
        }
    }

    pub fn incomplete_signature(what: &str) -> Self {
        let message = format!("Authorization header requires '{what}', in the form that Signature Version 4 gives it.");
        Self { kind: Kind::IncompleteSignature, message, reason: None, has_party: true }
    }

    pub fn unrecognized_client() -> Self {
        let message = "The security token included in the request is invalid.".into();
        Self { kind: Kind::UnrecognizedClient, message, reason: None, has_party: true }
    }

    pub fn invalid_signature() -> Self {
        let message = "The request signature we calculated does not match the signature you provided. Check your AWS \
             Secret Access Key and signing method. Consult the service documentation for details.";
        Self { kind: Kind::InvalidSignature, message: message.into(), reason: None, has_party: true }
    }

    pub fn unsigned_header(name: &str) -> Self {
        let message = format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.");
        Self { kind: Kind::InvalidSignature, message, reason: None, has_party: true }
    }

    pub fn signature_expired(made: &str, now: &str) -> Self {
        let message = format!("Signature expired: {made} is too early: it is {now}.");
        Self { kind: Kind::InvalidSignature, message, reason: None, has_party: true }
    }

    pub fn signature_not_yet(made: &str, now: &str) -> Self {
        let message = format!("Signature not yet current: {made} is still later than {now}.");
        Self { kind: Kind::InvalidSignature, message, reason: None, has_party: true }
    }

    pub fn function_not_found(arn: impl Display) -> Self {
        Self::not_found(format!("Function not found: {arn}"))
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.form().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// There is too much of something at present.
    pub fn busy(message: String) -> Self {
        Self { kind: Kind::TooManyRequests, message, reason: None, has_party: true }
    }

    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::ResourceNotFound
    }

    /// Whether the same request may be answered later.
    pub fn may_pass(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::TooManyRequests)
    }

    /// Whether a request was refused because nobody has signed it.
    pub fn is_unsigned(&self) -> bool {
        self.kind == Kind::MissingAuthenticationToken
    }

    /// As AWS calls the kind.
    pub fn code(&self) -> &'static str {
        self.kind.form().code
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn answer(&self) -> Response {
        let Form { code, party, text, .. } = self.kind.form();
        let mut body = Map::new();
        if let Some(reason) = self.reason {
            body.insert("Reason".into(), reason.into());
        }
        if let Some(party) = party.filter(|_| self.has_party) {
            body.insert("Type".into(), party.into());
        }
        body.insert(text.into(), self.message.clone().into());
        let mut response = answer::json_text(self.status(), Value::Object(body).to_string());
        response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(code));
        if self.kind == Kind::Unavailable {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<JoinError> for Fault {
    fn from(error: JoinError) -> Self {
        Self::internal(&error)
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLong { .. } => Self::too_large(error.to_string()),
            BodyError::NoMemory => Self::unavailable(error.to_string()),
            BodyError::Stalled(_) | BodyError::Slow(_) | BodyError::Broken(_) => {
                Self::invalid_content(error.to_string())
            }
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull(_) => Self::full(error.to_string()),
            StoreError::Database(_) => Self::internal(&error),
        }
    }
}

impl From<SettingsError> for Fault {
    fn from(error: SettingsError) -> Self {
        Self::invalid_parameter(error.to_string())
    }
}

impl From<CreateError> for Fault {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Exists(_) | CreateError::IsFlow(_) => Self::conflict(error.to_string()),
            CreateError::Settings(error) => error.into(),
            CreateError::Store(error) => error.into(),
        }
    }
}

impl From<UpdateError<Fault>> for Fault {
    fn from(error: UpdateError<Fault>) -> Self {
        match error {
            UpdateError::NotFound(_) => Self::not_found(error.to_string()),
            UpdateError::Revision { .. } => Self::stale_revision(),
            UpdateError::Refused(fault) => fault,
            UpdateError::Settings(error) => error.into(),
            UpdateError::Store(error) => error.into(),
        }
    }
}

impl From<PublishError> for Fault {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::NotFound(_) => Self::not_found(error.to_string()),
            PublishError::Revision { .. } => Self::stale_revision(),
            PublishError::Code { .. } => Self::invalid_parameter(error.to_string()),
            PublishError::Settings(error) => error.into(),
            PublishError::Store(error) => error.into(),
        }
    }
}

impl From<RemoveError> for Fault {
    fn from(error: RemoveError) -> Self {
        match error {
            RemoveError::NotFound(..) => Self::not_found(error.to_string()),
            RemoveError::Aliased { .. } => Self::conflict(error.to_string()),
            RemoveError::Store(error) => error.into(),
        }
    }
}

impl From<InvokeError> for Fault {
    fn from(error: InvokeError) -> Self {
        match error {
            InvokeError::Throttled { reason } => {
                let reason = Some(reason.as_str());
                Self { kind: Kind::TooManyRequests, message: error.to_string(), reason, has_party: true }
            }
            InvokeError::Draining | InvokeError::NoWorker | InvokeError::NoPu { .. } => {
                Self::unavailable(error.to_string())
            }
            InvokeError::PayloadTooLarge { .. } | InvokeError::ContextTooLarge { .. } => {
                Self::too_large(error.to_string())
            }
            InvokeError::BadSets { reason } => Self::invalid_content(reason),
            InvokeError::Platform(error) => Self::internal(&error),
        }
    }
}

impl From<AcceptError> for Fault {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Full => {
                let reason = Some("CallerRateLimitExceeded");
                Self { kind: Kind::TooManyRequests, message: error.to_string(), reason, has_party: true }
            }
            AcceptError::TooLarge { .. } => Self::too_large(error.to_string()),
            AcceptError::Stopped => Self::unavailable(error.to_string()),
            AcceptError::DiskFull | AcceptError::Disk(_) => Self::internal(&error),
        }
    }
}

impl From<DeadError> for Fault {
    fn from(error: DeadError) -> Self {
        match error {
            DeadError::Stopped => Self::unavailable(error.to_string()),
            DeadError::Database(_) => Self::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Body;
    use runtime::dispatch::ThrottleReason;

    fn told(fault: &Fault) -> (u16, String, String) {
        let response = fault.answer();
        let code = response.headers()["x-amzn-errortype"].to_str().unwrap().to_owned();
        let Body::Whole(body) = response.body() else { panic!("an error is no stream") };
        (response.status().as_u16(), code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[test]
    fn errors_have_lambdas_shapes() {
        let throttled = InvokeError::Throttled { reason: ThrottleReason::ConcurrentInvocationLimitExceeded };
        let body = r#"{"Reason":"ConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#;
        assert_eq!(told(&throttled.into()), (429, "TooManyRequestsException".into(), body.into()));
        let body = r#"{"Type":"User","Message":"Function not found: arn"}"#;
        assert_eq!(told(&Fault::function_not_found("arn")), (404, "ResourceNotFoundException".into(), body.into()));
        let body = r#"{"message":"1 validation error"}"#;
        assert_eq!(told(&Fault::validation("1 validation error")), (400, "ValidationException".into(), body.into()));
        let (status, code, body) = told(&Fault::from(InvokeError::Draining));
        assert_eq!((status, code.as_str()), (503, "ServiceException"));
        assert!(body.starts_with(r#"{"Type":"Service","Message":"#), "{body}");
    }
}
