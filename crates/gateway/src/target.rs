//! `POST /`: services that name their operations in `X-Amz-Target`, told apart by what it begins with.

use crate::http::{Response, amz_json};
use crate::lambda::Fault;
use crate::route::{Answer, Exchange, Route, route};
use crate::{events, logs};
use hyper::StatusCode;

pub const ROUTES: &[Route] = &[route!(POST "/" Target => call)];

async fn call(exchange: Exchange) -> Answer {
    match events::operation(&exchange) {
        Some(_) => events::call(exchange).await,
        // Also where nobody knows the operation: it says which there are.
        None => logs::call(exchange).await,
    }
}

/// What a request is for, as keys say what they may do: `logs:GetLogEvents`, `events:PutRule`.
pub fn action(exchange: &Exchange) -> String {
    match (events::operation(exchange), logs::operation(exchange)) {
        (Some(operation), _) => format!("events:{operation}"),
        (None, operation) => format!("logs:{}", operation.unwrap_or("Unknown")),
    }
}

/// A refusal of the node's, in the form of these services.
pub fn refuse(refusal: &Fault) -> Response {
    amz_json::fault(StatusCode::BAD_REQUEST, refusal.code(), refusal.message())
}
