//! `POST /`: services that name their operations in `X-Amz-Target`, told apart by what it begins with.

use crate::route::{Answer, Exchange, Route, route};
use crate::{events, logs};

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
