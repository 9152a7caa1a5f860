//! Who delivers what is in the queue: events to functions, and what functions' events came to, to where they want it.

use crate::destination;
use crate::gateway::Gateway;
use crate::lambda::name;
use crate::v1::flows;
use api::lambda::LATEST;
use runtime::dispatch::{Call, InvokeError};
use runtime::queue::{Event, Performance, Performed, Performer, Policy};
use runtime::registry::{Facet, Record};
use serde_json::{Map, Value};
use std::sync::{Arc, Weak};

/// The node's performer. It holds no node: a node holds its queue.
pub struct Delivery(pub Weak<Gateway>);

impl Performer for Delivery {
    fn policy(&self, target: &str) -> Policy {
        let Some(gateway) = self.0.upgrade() else { return Policy::nowhere() };
        let config = gateway.queue.config();
        let mut policy =
            Policy { retries: config.retries, age_max_ms: config.age_max_s.saturating_mul(1000), ..Policy::nowhere() };
        if flows::invoke::is_flow(target).is_some() {
            // What failed is told to who asks for the run; run again is what the node could not bring to its end.
            policy.retries = 0;
        }
        if let Some((record, qualifier)) = function(&gateway, target) {
            if let Some(config) = record.attached(Facet::EventInvoke, &qualifier) {
                heed(&mut policy, &config.value);
            }
            let entry = record.qualified(&qualifier);
            policy.concurrency = entry.and_then(|entry| entry.content.reserved);
            let letters = entry.and_then(|entry| entry.content.settings.get("DeadLetterConfig")?.get("TargetArn"));
            letters.and_then(Value::as_str).unwrap_or_default().clone_into(&mut policy.dead_letters);
        }
        policy
    }

    fn perform(&self, event: Event) -> Performance {
        let gateway = self.0.upgrade();
        Box::pin(async move {
            match gateway {
                Some(gateway) => deliver(&gateway, event).await,
                None => Performed::Throttled,
            }
        })
    }
}

/// What an event-invoke configuration says.
fn heed(policy: &mut Policy, config: &Map<String, Value>) {
    if let Some(retries) = config.get("MaximumRetryAttempts").and_then(Value::as_u64) {
        policy.retries = u32::try_from(retries).unwrap_or(u32::MAX);
    }
    if let Some(age) = config.get("MaximumEventAgeInSeconds").and_then(Value::as_u64) {
        policy.age_max_ms = age.saturating_mul(1000);
    }
    let destination = |side: &str| {
        let arn = config.get("DestinationConfig")?.get(side)?.get("Destination")?.as_str()?;
        Some(arn.to_owned())
    };
    policy.on_success = destination("OnSuccess").unwrap_or_default();
    policy.on_failure = destination("OnFailure").unwrap_or_default();
}

async fn deliver(gateway: &Arc<Gateway>, event: Event) -> Performed {
    if !is_function(&event.target) {
        return destination::send(&gateway.aws, &event).await;
    }
    if let Some(id) = flows::invoke::is_flow(&event.target) {
        return flows::invoke::deliver(gateway, &id, event).await;
    }
    let found = function(gateway, &event.target);
    let Some(entry) = found.and_then(|(record, qualifier)| name::pick(&record, &qualifier)) else {
        return Performed::Impossible { reason: format!("Function not found: {}", event.target) };
    };
    let version = entry.version_name().to_owned();
    let is_qualified = event.target.len() > entry.id.arn().len();
    let call = Call {
        invoked_arn: if is_qualified { event.target } else { String::new() },
        request_id: event.request_id,
        payload: event.payload,
        client_context: event.context,
        trace_id: event.trace_id,
        tenant_id: event.tenant_id,
        ..Call::default()
    };
    match gateway.dispatcher.invoke(&entry.function, call).await {
        Ok(outcome) => Performed::Answered { body: outcome.body, failed: outcome.failed, version },
        // Nothing has run: the event waits in its place.
        Err(
            InvokeError::Throttled { .. } | InvokeError::Draining | InvokeError::NoWorker | InvokeError::NoPu { .. },
        ) => Performed::Throttled,
        Err(error @ InvokeError::Platform(_)) => Performed::Broken { reason: error.to_string() },
        Err(error) => Performed::Impossible { reason: error.to_string() },
    }
}

fn is_function(target: &str) -> bool {
    target.split(':').nth(2) == Some("lambda")
}

/// The function that an ARN means, and the qualifier.
pub fn function(gateway: &Gateway, target: &str) -> Option<(Arc<Record>, String)> {
    let parts: Vec<&str> = target.split(':').collect();
    let ["arn", _, "lambda", region, account, "function", name, ref qualifier @ ..] = parts[..] else { return None };
    let qualifier = qualifier.first().copied().unwrap_or(LATEST);
    Some((gateway.registry.record(account, region, name)?, qualifier.to_owned()))
}
