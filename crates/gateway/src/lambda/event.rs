//! Asynchronous invocations: into the queue, and answered when they are on disk.

use super::fault::Fault;
use super::{asked, name};
use crate::http::answer;
use crate::route::{Answer, Exchange, Route, route};
use bytes::Bytes;
use hyper::StatusCode;
use runtime::queue::Event;

pub const ROUTES: &[Route] = &[route!(POST "/2014-11-13/functions/*/invoke-async" InvokeAsync => invoke_async)];

/// `InvokeAsync`, which AWS keeps for its oldest clients.
async fn invoke_async(mut exchange: Exchange) -> Answer {
    let arn = arn(&exchange)?;
    let payload = asked::payload(&mut exchange).await?;
    accept(&mut exchange, arn, payload, String::new()).await?;
    Ok(answer::json(StatusCode::ACCEPTED, &serde_json::json!({ "Status": 202 })))
}

/// The function that is meant, as the queue calls it; it must exist, and serve the tenant that is named, if any.
pub fn arn(exchange: &Exchange) -> Result<String, Fault> {
    let target = name::of_path(exchange)?;
    let entry = target.find(&exchange.gateway)?;
    asked::tenant_id(exchange, &entry)?;
    Ok(target.arn())
}

/// Takes an event: when this has returned, it will be delivered.
pub async fn accept(exchange: &mut Exchange, arn: String, payload: Bytes, context: String) -> Result<(), Fault> {
    let event = Event {
        // The answer has the id too: it is the one that the function will see.
        request_id: exchange.id.clone(),
        target: arn,
        payload,
        context,
        trace_id: asked::trace_id(exchange),
        tenant_id: exchange.header("x-amz-tenant-id").unwrap_or_default().to_owned(),
        accepted_ms: api::time::now_ms(),
        attempts: 0,
    };
    Ok(exchange.gateway.queue.accept(event).await?)
}
