//! SQS: messages sent, received, deleted. A queue is called by its ARN; its URL is the endpoint's.

use crate::arn::Arn;
use crate::client::{Aws, Service};
use crate::fault::CallError;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The most messages of one call.
pub const BATCH_MAX: usize = 10;

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub body: &'a str,
    /// `MessageAttributes`.
    pub attributes: &'a Map<String, Value>,
    /// Queues that keep an order take no message of an id twice.
    pub id: &'a str,
}

impl Aws {
    async fn sqs(&self, queue: &Arn<'_>, operation: &str, mut request: Value, wait: u64) -> Result<Value, CallError> {
        request["QueueUrl"] = self.queue_url(queue).into();
        let place = (Service::Sqs, queue.region);
        let target = format!("AmazonSQS.{operation}");
        self.json(place, ("1.0", &target), &request, Duration::from_secs(wait)).await
    }

    fn queue_url(&self, queue: &Arn<'_>) -> String {
        format!("{}/{}/{}", self.origin(Service::Sqs), queue.account, queue.resource)
    }

    pub async fn send_message(&self, queue: &Arn<'_>, message: Outgoing<'_>) -> Result<(), CallError> {
        let mut request = json!({ "MessageBody": message.body });
        if !message.attributes.is_empty() {
            request["MessageAttributes"] = message.attributes.clone().into();
        }
        if queue.resource.ends_with(".fifo") {
            request["MessageGroupId"] = message.id.into();
            request["MessageDeduplicationId"] = message.id.into();
        }
        self.sqs(queue, "SendMessage", request, 0).await.map(drop)
    }

    /// Up to `most` messages, waited for so many seconds. They are shown to nobody else until they are deleted, or the
    /// queue's visibility timeout is over.
    pub async fn receive_messages(&self, queue: &Arn<'_>, most: usize, wait_s: u64) -> Result<Vec<Value>, CallError> {
        let request = json!({
            "MaxNumberOfMessages": most.clamp(1, BATCH_MAX),
            "WaitTimeSeconds": wait_s,
            "AttributeNames": ["All"],
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        let mut answer = self.sqs(queue, "ReceiveMessage", request, wait_s).await?;
        Ok(answer.get_mut("Messages").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default())
    }

    /// Deletes messages by their receipts: all that can be, whatever becomes of the others.
    pub async fn delete_messages(&self, queue: &Arn<'_>, receipts: &[&str]) -> Result<(), CallError> {
        let mut outcome = Ok(());
        for chunk in receipts.chunks(BATCH_MAX) {
            let entry = |(at, receipt): (usize, &&str)| json!({ "Id": at.to_string(), "ReceiptHandle": receipt });
            let entries: Vec<Value> = chunk.iter().enumerate().map(entry).collect();
            match self.sqs(queue, "DeleteMessageBatch", json!({ "Entries": entries }), 0).await {
                Ok(answer) => outcome = failed_entry(&answer).map_or(outcome, Err),
                // Nobody is there: the others would only take as long.
                Err(error @ (CallError::Unreachable { .. } | CallError::Silent { .. })) => return Err(error),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// All attributes of a queue.
    pub async fn queue_attributes(&self, queue: &Arn<'_>) -> Result<Map<String, Value>, CallError> {
        let mut answer = self.sqs(queue, "GetQueueAttributes", json!({ "AttributeNames": ["All"] }), 0).await?;
        match answer.get_mut("Attributes").map(Value::take) {
            Some(Value::Object(attributes)) => Ok(attributes),
            _ => Ok(Map::new()),
        }
    }
}

/// Why the first entry of a batch was refused, if one was: the call itself has gone well then.
fn failed_entry(answer: &Value) -> Option<CallError> {
    let failed = answer["Failed"].get(0)?;
    let text = |member: &str| failed[member].as_str().unwrap_or_default().to_owned();
    let status = if failed["SenderFault"] == true { 400 } else { 500 };
    Some(CallError::Refused { status, code: text("Code"), message: text("Message") })
}
