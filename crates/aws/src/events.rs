//! EventBridge: one event put on a bus.

use crate::arn::Arn;
use crate::client::{Aws, Service};
use crate::fault::CallError;
use serde_json::json;
use std::time::Duration;

/// An event for a bus.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    pub source: &'a str,
    pub detail_type: &'a str,
    pub resources: &'a [&'a str],
    /// JSON.
    pub detail: &'a str,
}

impl Aws {
    /// Puts an event on the bus of this ARN. One that the bus does not take is an error, though the call itself went well.
    pub async fn put_event(&self, bus: &str, entry: Entry<'_>) -> Result<(), CallError> {
        let region = Arn::parse(bus).map_or("", |arn| arn.region);
        let entry = json!({
            "Source": entry.source, "DetailType": entry.detail_type, "Resources": entry.resources,
            "Detail": entry.detail, "EventBusName": bus,
        });
        let (place, target) = ((Service::Events, region), ("1.1", "AWSEvents.PutEvents"));
        let answer = self.json(place, target, &json!({ "Entries": [entry] }), Duration::ZERO).await?;
        let text = |member: &str| answer["Entries"][0][member].as_str().map(str::to_owned);
        match text("ErrorCode") {
            None => Ok(()),
            Some(code) => {
                // Its own failure, in an answer that is none.
                let status = if code == "InternalFailure" { 500 } else { 400 };
                Err(CallError::Refused { status, code, message: text("ErrorMessage").unwrap_or_default() })
            }
        }
    }
}
