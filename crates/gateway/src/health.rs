//! Whether this process lives, and whether the node takes invocations: for those who start it, and for load balancers.

use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use hyper::StatusCode;
use serde_json::json;

pub const ROUTES: &[Route] =
    &[route!(GET "/healthz" Health for Anybody => health), route!(GET "/readyz" Ready for Anybody => ready)];

async fn health(_: Exchange) -> Answer {
    Ok(answer::json(StatusCode::OK, &json!({ "status": "alive" })))
}

async fn ready(exchange: Exchange) -> Answer {
    let waiting = exchange.gateway.waiting_for();
    if waiting.is_empty() {
        return Ok(answer::json(StatusCode::OK, &json!({ "status": "ready" })));
    }
    let message = format!("The node is not ready. It waits for: {}", waiting.join(", "));
    let body = json!({ "status": "not ready", "waiting_for": waiting, "message": message });
    Ok(answer::json(StatusCode::SERVICE_UNAVAILABLE, &body))
}
