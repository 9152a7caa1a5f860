//! Event sources and the functions that they feed: pollers run functions through dispatch, and leave what is for
//! destinations in the queue. It holds no node: a node holds its sources.

use crate::delivery;
use crate::gateway::Gateway;
use crate::lambda::name;
use bytes::Bytes;
use runtime::dispatch::{Call, InvokeError};
use runtime::queue::Event;
use sources::invoker::{NotTaken, Promise};
use sources::{Invoked, Invoker};
use std::sync::{Arc, Weak};

/// The node's invoker.
pub struct Feed(pub Weak<Gateway>);

const GONE: &str = "the node is shutting down";

impl Invoker for Feed {
    fn invoke(&self, function: &str, request_id: String, event: Bytes) -> Promise<Invoked> {
        let (gateway, function) = (self.0.upgrade(), function.to_owned());
        Box::pin(async move {
            match gateway {
                Some(gateway) => invoke(&gateway, function, request_id, event).await,
                None => Invoked::Later { reason: GONE.to_owned() },
            }
        })
    }

    fn tell(&self, destination: &str, message: Bytes) -> Promise<Result<(), NotTaken>> {
        let (gateway, target) = (self.0.upgrade(), destination.to_owned());
        Box::pin(async move {
            let gateway = gateway.ok_or_else(|| NotTaken(GONE.to_owned()))?;
            let request_id = uuid::Uuid::new_v4().to_string();
            let accepted_ms = api::time::now_ms();
            let event = Event { request_id, target, payload: message, accepted_ms, ..Event::default() };
            gateway.queue.accept(event).await.map_err(|error| NotTaken(error.to_string()))
        })
    }

    fn role(&self, function: &str) -> String {
        let found = self.0.upgrade().and_then(|gateway| delivery::function(&gateway, function));
        let role = found.and_then(|(record, _)| Some(record.latest.content.settings.get("Role")?.as_str()?.to_owned()));
        role.unwrap_or_default()
    }

    fn event_max(&self) -> usize {
        self.0.upgrade().map_or(0, |gateway| gateway.config.dispatch.payload_max)
    }
}

async fn invoke(gateway: &Arc<Gateway>, function: String, request_id: String, payload: Bytes) -> Invoked {
    let found = delivery::function(gateway, &function);
    let Some(entry) = found.and_then(|(record, qualifier)| name::pick(&record, &qualifier)) else {
        return Invoked::Impossible { reason: format!("Function not found: {function}") };
    };
    let version = entry.version_name().to_owned();
    let invoked_arn = if function.len() > entry.id.arn().len() { function } else { String::new() };
    let trace_id = crate::http::request_id::trace_id(api::time::now_ms() / 1000);
    let call = Call { invoked_arn, request_id, payload, trace_id, ..Call::default() };
    match gateway.dispatcher.invoke(&entry.function, call).await {
        Ok(outcome) => Invoked::Answered { body: outcome.body, failed: outcome.failed, version },
        Err(
            error @ (InvokeError::PayloadTooLarge { .. }
            | InvokeError::ContextTooLarge { .. }
            | InvokeError::BadSets { .. }),
        ) => Invoked::Impossible { reason: error.to_string() },
        Err(error) => Invoked::Later { reason: error.to_string() },
    }
}
