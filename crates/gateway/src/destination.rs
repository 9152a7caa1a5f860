//! Messages to other services: results of asynchronous invocations, dead letters. From the queue, where they stay until the
//! service has taken them, or their age is over; a service that refuses one leaves it with the dead.
//!
//! One whose answer was lost is sent again: twice is possible, with the same content, and never not at all.

use aws::events::Entry;
use aws::sqs::Outgoing;
use aws::{Arn, Aws, CallError};
use runtime::queue::{Event, Performed};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Sends a message to the queue, topic, bus or bucket that it is for.
pub async fn send(aws: &Aws, event: &Event) -> Performed {
    let unknown = || format!("This node does not know how to reach {}", event.target);
    let Some(arn) = Arn::parse(&event.target) else { return Performed::Impossible { reason: unknown() } };
    let text = String::from_utf8_lossy(&event.payload);
    let attributes = attributes(&event.context);
    let sent = match arn.service {
        "sqs" => {
            let message = Outgoing { body: &text, attributes: &attributes, id: &event.request_id };
            aws.send_message(&arn, message).await
        }
        "sns" => aws.publish(&event.target, &text, &attributes).await,
        "events" => put(aws, &event.target, &text).await,
        "s3" => {
            let key = key(&text, event);
            aws.put_object(arn.region, (arn.resource, &key), "application/json", event.payload.clone()).await
        }
        _ => return Performed::Impossible { reason: unknown() },
    };
    match sent {
        Ok(()) => Performed::Answered { body: "null".into(), failed: false, version: String::new() },
        Err(error) if error.is_transient() => Performed::Broken { reason: error.to_string() },
        Err(error) => Performed::Impossible { reason: error.to_string() },
    }
}

/// The attributes of a dead letter, as SQS and SNS write them.
fn attributes(context: &str) -> Map<String, Value> {
    let context: Map<String, Value> = serde_json::from_str(context).unwrap_or_default();
    let attribute = |(name, value): (String, Value)| {
        let shape = match value {
            Value::String(text) => json!({ "DataType": "String", "StringValue": text }),
            other => json!({ "DataType": "Number", "StringValue": other.to_string() }),
        };
        // No attribute may be empty.
        (shape["StringValue"] != "").then_some((name, shape))
    };
    context.into_iter().filter_map(attribute).collect()
}

/// A record on a bus says in its type how the invocation ended.
async fn put(aws: &Aws, bus: &str, record: &str) -> Result<(), CallError> {
    let context = context(record);
    let detail_type = match context.condition == "Success" {
        true => "Lambda Function Invocation Result - Success",
        false => "Lambda Function Invocation Result - Failure",
    };
    let resources = [context.function_arn.as_str(), bus];
    aws.put_event(bus, Entry { source: "lambda", detail_type, resources: &resources, detail: record }).await
}

/// What a record says of itself; the rest of it may be large, and is not looked at.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Context {
    function_arn: String,
    condition: String,
}

fn context(record: &str) -> Context {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Record {
        request_context: Context,
    }
    serde_json::from_str(record).map(|record: Record| record.request_context).unwrap_or_default()
}

/// Where a record is put in a bucket: by the mapping or function that it tells of, and by its time.
fn key(record: &str, event: &Event) -> String {
    let arn = context(record).function_arn;
    let function = arn.split(':').nth(6).unwrap_or("unknown");
    let moment = api::time::rfc3339(event.accepted_ms);
    let (day, time) = moment.split_once('T').unwrap_or((&moment, ""));
    let time = time.split('.').next().unwrap_or_default().replace(':', ".");
    format!("aws/lambda/async/{function}/{}/{day}T{time}-{}", day.replace('-', "/"), event.request_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_dead_letters() {
        let told = attributes(r#"{"RequestID":"r","ErrorCode":200,"ErrorMessage":""}"#);
        assert_eq!(told["RequestID"], json!({ "DataType": "String", "StringValue": "r" }));
        assert_eq!(told["ErrorCode"], json!({ "DataType": "Number", "StringValue": "200" }));
        assert_eq!((told.len(), attributes("").len()), (2, 0));
    }

    #[test]
    fn keys_of_objects() {
        let event = Event { request_id: "r".into(), accepted_ms: 1_738_324_800_000, ..Event::default() };
        let record = r#"{"requestContext":{"functionArn":"arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST"}}"#;
        assert_eq!(key(record, &event), "aws/lambda/async/f/2025/01/31/2025-01-31T12.00.00-r");
    }
}
