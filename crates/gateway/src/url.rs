//! Function URLs: `/f/NAME/…` is the function, over plain HTTP, in Lambda's payload format 2.0.
//!
//! A function is asked for in the node's own account and region first; one that is nowhere else under its name is found
//! wherever it is. Streamed answers and `AuthType` are not here.

mod event;
mod reply;

use crate::http::BodyError;
use crate::lambda::invoke::trace_id;
use crate::lambda::{Fault, name, scope};
use crate::route::{Answer, Exchange, Route, route};
use crate::spans;
use bytes::Bytes;
use runtime::dispatch::Call;
use runtime::registry::Entry;
use std::sync::Arc;

pub const ROUTES: &[Route] = &[route!(ANY "/f/*/**" FunctionUrl for Pages => call)];

async fn call(mut exchange: Exchange) -> Answer {
    let entry = find(&exchange)?;
    let limit = exchange.gateway.config.dispatch.payload_max;
    let body = match exchange.body.take() {
        // In memory as it came, and as an event.
        Some(body) => exchange.gateway.bodies.read(body, limit, 2).await.map_err(too_long)?,
        None => Bytes::new(),
    };
    let payload = event::build(&exchange, &entry, &body);
    let spans_wanted = spans::wanted(&exchange);
    let call = Call {
        payload: payload.into(),
        trace_id: trace_id(&exchange),
        request_id: exchange.id,
        accepted: exchange.accepted,
        ..Call::default()
    };
    let outcome = exchange.gateway.dispatcher.invoke(&entry.function, call).await?;
    let mut response = if outcome.failed { reply::failed() } else { reply::translate(outcome.body) };
    if spans_wanted {
        spans::tell(&mut response, &outcome.report);
    }
    Ok(response)
}

fn too_long(error: BodyError) -> Fault {
    match error {
        BodyError::TooLong { limit } => Fault::too_large(format!("Request must be smaller than {limit} bytes")),
        error => error.into(),
    }
}

fn find(exchange: &Exchange) -> Result<Arc<Entry>, Fault> {
    let scope = scope::of(&exchange.head, &exchange.gateway.config.node);
    let target = name::resolve(exchange.capture(0), None, scope)?;
    target.find_anywhere(&exchange.gateway)
}
