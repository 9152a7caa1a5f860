//! EventBridge's API, as far as schedules need it: rules that fire at times, and their targets. `POST /` with the operation's
//! name in `X-Amz-Target`, JSON both ways.
//!
//! | module | what it is |
//! |---|---|
//! | [`rules`], [`targets`], [`tags`] | the operations, by what they are about |
//! | [`request`] | what a request may contain, and whose rules it means |
//! | [`fault`] | errors in this service's words |
//!
//! Rules with patterns, events that anybody puts, other buses than `default`, archives, pipes and the scheduler's own API
//! are refused: what needs them is told so.

mod fault;
mod request;
mod rules;
mod tags;
mod targets;

use crate::gateway::Gateway;
use crate::http::amz_json;
use crate::route::{Answer, Exchange};
use ::sources::invoker::{NotTaken, Promise};
use ::sources::schedule::clock::Sender;
use bytes::Bytes;
use fault::Fault;
use request::Request;
use runtime::queue::Event;
use serde_json::Value;
use std::sync::Weak;

const PREFIX: &str = "AWSEvents.";

/// What a request asks for, where it is one for this service.
pub fn operation(exchange: &Exchange) -> Option<&str> {
    exchange.header("x-amz-target")?.strip_prefix(PREFIX)
}

/// Answers a request for this service.
pub async fn call(mut exchange: Exchange) -> Answer {
    Ok(match operate(&mut exchange).await {
        Ok(body) => amz_json::told(&body),
        Err(fault) => fault.answer(),
    })
}

async fn operate(exchange: &mut Exchange) -> Result<Value, Fault> {
    let name = operation(exchange).unwrap_or_default().to_owned();
    let request = Request::read(exchange).await?;
    match name.as_str() {
        "PutRule" => rules::put(request).await,
        "DeleteRule" => rules::delete(request).await,
        "EnableRule" => rules::enable(request, true).await,
        "DisableRule" => rules::enable(request, false).await,
        "DescribeRule" => rules::describe(&request),
        "ListRules" => rules::list(&request),
        "ListRuleNamesByTarget" => rules::names_by_target(&request),
        "PutTargets" => targets::put(request).await,
        "RemoveTargets" => targets::remove(request).await,
        "ListTargetsByRule" => targets::list(&request),
        "TagResource" => tags::tag(request).await,
        "UntagResource" => tags::untag(request).await,
        "ListTagsForResource" => tags::list(&request),
        _ => Err(Fault::unknown_operation(&name)),
    }
}

/// Schedules' events go into the node's queue. It holds no node: a node holds its clock.
pub struct Ring(pub Weak<Gateway>);

impl Sender for Ring {
    fn send_once(&self, target: &str, id: String, event: Bytes) -> Promise<Result<(), NotTaken>> {
        let (gateway, target) = (self.0.upgrade(), target.to_owned());
        Box::pin(async move {
            let gateway = gateway.ok_or_else(|| NotTaken("the node is shutting down".to_owned()))?;
            let accepted_ms = api::time::now_ms();
            let trace_id = crate::http::request_id::trace_id(accepted_ms / 1000);
            let event = Event { request_id: id, target, payload: event, trace_id, accepted_ms, ..Event::default() };
            gateway.queue.accept_once(event).await.map_err(|error| NotTaken(error.to_string()))
        })
    }
}
