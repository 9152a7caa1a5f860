//! Queues: messages received in batches, several batches at once, and deleted when the function has had them.
//!
//! A message that was received is shown to nobody else until the queue's visibility timeout is over. So nothing is kept
//! here: what fails, or is under way when the node is killed, comes back from the queue. A batch for which the function has
//! no room waits as long as its messages are surely still ours, and counts as a failure only then.

use crate::filter;
use crate::invoker::Invoked;
use crate::response::{Failures, failures};
use crate::work::{BackOff, Trouble, Work, fitting, length};
use aws::{Arn, sqs::BATCH_MAX};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Batches at once of a mapping that does not say.
const CONCURRENCY: usize = 50;
/// Seconds for which a queue is asked to wait for messages.
const WAIT_S: u64 = 20;
/// The same of a queue that keeps an order: some servers look only once, when the call comes, which groups have messages
/// under way.
const FIFO_WAIT_S: u64 = 1;
/// A visibility timeout that is not known, and the least that counts.
const VISIBILITY: Duration = Duration::from_secs(30);
const VISIBILITY_MIN: Duration = Duration::from_secs(2);

/// Reads a queue until it is time to stop; what is under way then ends first.
pub async fn poll(work: Work) {
    let most = work.mapping.concurrency().unwrap_or(CONCURRENCY);
    let permits = Arc::new(Semaphore::new(most));
    let mut batches = JoinSet::new();
    let mut back_off = BackOff::new(Duration::from_secs(1), Duration::from_secs(30));
    let mut patience = None;
    loop {
        while batches.try_join_next().is_some() {}
        let acquired = work.unless_stopped(permits.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = acquired else { break };
        if patience.is_none() {
            let Ok(visibility) = work.unless_stopped(visibility(&work)).await else { break };
            patience = visibility.map(|visibility| visibility.max(VISIBILITY_MIN) / 2);
            // The first poll may wait for messages for long: the queue is there, or it is known that it is not.
            work.ready();
        }
        match gather(&work).await {
            Ok((messages, since)) => {
                back_off.reset();
                if !messages.is_empty() {
                    let until = since + patience.unwrap_or(VISIBILITY / 2);
                    batches.spawn(serve(work.clone(), messages, until, permit));
                }
            }
            Err(Trouble::Stopped) => break,
            Err(Trouble::Service(error)) => {
                work.problem(&error);
                if work.pause(back_off.pause()).await.is_err() {
                    break;
                }
            }
        }
    }
    while batches.join_next().await.is_some() {}
}

async fn visibility(work: &Work) -> Option<Duration> {
    let attributes = work.aws.queue_attributes(&Arn::parse(&work.mapping.source)?).await.ok()?;
    attributes.get("VisibilityTimeout")?.as_str()?.parse().ok().map(Duration::from_secs)
}

/// A batch: what is there, and what comes within the mapping's window; and since when the first of it is ours.
async fn gather(work: &Work) -> Result<(Vec<Value>, Instant), Trouble> {
    let (size, window) = (work.mapping.batch_size(), work.mapping.window());
    let wait_s = if is_fifo(work) { FIFO_WAIT_S } else { WAIT_S };
    let mut messages = receive(work, size, wait_s).await?;
    let since = Instant::now();
    if messages.is_empty() {
        return Ok((messages, since));
    }
    let (deadline, mut bytes) = (since + window, bodies(&messages));
    // What is received and not yet served must not outgrow what an event can hold by much.
    while messages.len() < size && bytes < work.invoker.event_max() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match receive(work, size - messages.len(), left.as_secs().min(WAIT_S)).await {
            Ok(more) if more.is_empty() => {
                if work.pause(left.min(Duration::from_millis(100))).await.is_err() {
                    break;
                }
            }
            Ok(more) => {
                bytes += bodies(&more);
                messages.extend(more);
            }
            // What is here is served; what came then comes again.
            Err(Trouble::Stopped | Trouble::Service(_)) => break,
        }
    }
    Ok((messages, since))
}

/// A queue that keeps an order.
fn is_fifo(work: &Work) -> bool {
    work.mapping.source.ends_with(".fifo")
}

fn bodies(messages: &[Value]) -> usize {
    messages.iter().map(|message| message["Body"].as_str().map_or(0, str::len)).sum()
}

async fn receive(work: &Work, most: usize, wait_s: u64) -> Result<Vec<Value>, Trouble> {
    let Some(queue) = Arn::parse(&work.mapping.source) else { return Ok(Vec::new()) };
    Ok(work.unless_stopped(work.aws.receive_messages(&queue, most.min(BATCH_MAX), wait_s)).await??)
}

/// Serves a batch, and deletes what went well and what nobody wants.
async fn serve(work: Work, messages: Vec<Value>, until: Instant, _permit: OwnedSemaphorePermit) {
    let (wanted, unwanted): (Vec<_>, Vec<_>) =
        messages.into_iter().map(|message| record(&work, message)).partition(|record| work.wants(&seen(record)));
    delete(&work, &unwanted).await;
    for list in fitting(wanted, work.invoker.event_max(), length) {
        let done = run(&work, &list, until).await;
        delete(&work, &done).await;
        if is_fifo(&work) && done.len() < list.len() {
            // What follows may be of the same group: it comes again behind what failed.
            return;
        }
    }
}

/// The records that the function has had.
async fn run(work: &Work, records: &[Value], until: Instant) -> Vec<Value> {
    let mut back_off = BackOff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        match work.invoke(records).await {
            Invoked::Answered { failed: true, .. } => {
                work.tell("PROBLEM: Function call failed");
                return Vec::new();
            }
            Invoked::Answered { body, .. } => {
                work.tell("OK");
                return done(work, records, &body);
            }
            Invoked::Impossible { reason } => {
                work.problem(&reason);
                return Vec::new();
            }
            Invoked::Later { reason } => {
                work.problem(&reason);
                let pause = back_off.pause();
                if Instant::now() + pause >= until || work.pause(pause).await.is_err() {
                    return Vec::new();
                }
            }
        }
    }
}

fn done(work: &Work, records: &[Value], answer: &[u8]) -> Vec<Value> {
    if !work.mapping.reports_failures() {
        return records.to_vec();
    }
    match failures(answer, |id| records.iter().any(|record| record["messageId"] == id)) {
        Failures::None => records.to_vec(),
        Failures::All => Vec::new(),
        Failures::Some(failed) => {
            let went_well = |record: &&Value| !failed.iter().any(|id| record["messageId"] == id.as_str());
            records.iter().filter(went_well).cloned().collect()
        }
    }
}

async fn delete(work: &Work, records: &[Value]) {
    let Some(queue) = Arn::parse(&work.mapping.source) else { return };
    let receipts: Vec<&str> = records.iter().filter_map(|record| record["receiptHandle"].as_str()).collect();
    if let Err(error) = work.aws.delete_messages(&queue, &receipts).await {
        tracing::warn!(%error, queue = work.mapping.source, "messages that were handled could not be deleted: they come again");
    }
}

/// A message as functions get it.
fn record(work: &Work, mut message: Value) -> Value {
    let mut take = |member: &str| message.get_mut(member).map(Value::take);
    let attributes = match take("MessageAttributes") {
        Some(Value::Object(attributes)) => attributes.into_iter().map(attribute).collect(),
        _ => Map::new(),
    };
    let mut record = json!({
        "messageId": take("MessageId"),
        "receiptHandle": take("ReceiptHandle"),
        "body": take("Body"),
        "attributes": take("Attributes").unwrap_or_else(|| json!({})),
        "messageAttributes": attributes,
        "md5OfBody": take("MD5OfBody"),
        "eventSource": "aws:sqs",
        "eventSourceARN": work.mapping.source,
        "awsRegion": Arn::parse(&work.mapping.source).map(|arn| arn.region),
    });
    if let Some(md5) = take("MD5OfMessageAttributes") {
        record["md5OfMessageAttributes"] = md5;
    }
    record
}

fn attribute((name, mut value): (String, Value)) -> (String, Value) {
    let mut shape = Map::new();
    for (theirs, ours) in [("StringValue", "stringValue"), ("BinaryValue", "binaryValue")] {
        shape.extend(value.get_mut(theirs).map(|value| (ours.to_owned(), value.take())));
    }
    shape.insert("stringListValues".to_owned(), json!([]));
    shape.insert("binaryListValues".to_owned(), json!([]));
    shape.insert("dataType".to_owned(), value["DataType"].take());
    (name, shape.into())
}

/// A record as filters see it: a body that is JSON is looked into.
fn seen(record: &Value) -> Value {
    let mut seen = record.clone();
    if let Some(body) = record["body"].as_str() {
        seen["body"] = filter::seen(body);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invoker::{Invoker, NotTaken, Promise};
    use crate::stage::{Asked, Stage, service};
    use bytes::Bytes;
    use std::sync::Mutex;

    /// Fails with whatever it is given, and has room for one record at a time.
    #[derive(Default)]
    struct Failing(Mutex<Vec<String>>);

    impl Invoker for Failing {
        fn invoke(&self, _: &str, _: String, event: Bytes) -> Promise<Invoked> {
            let event: Value = serde_json::from_slice(&event).unwrap();
            let ids = event["Records"].as_array().unwrap().iter().map(|record| record["messageId"].as_str().unwrap());
            self.0.lock().unwrap().push(ids.collect());
            Box::pin(async { Invoked::Answered { body: "{}".into(), failed: true, version: "1".into() } })
        }

        fn tell(&self, _: &str, _: Bytes) -> Promise<Result<(), NotTaken>> {
            unreachable!()
        }

        fn role(&self, _: &str) -> String {
            String::new()
        }

        fn event_max(&self) -> usize {
            1
        }
    }

    #[tokio::test]
    async fn nothing_overtakes_what_failed_in_a_queue_that_keeps_an_order() {
        let messages = ["a", "b"].map(|id| json!({ "MessageId": id, "ReceiptHandle": id, "Body": "" }));
        for (queue, expected) in [("q.fifo", vec!["a"]), ("q", vec!["a", "b"])] {
            let (aws, asked) = service(|_, _| (200, json!({}))).await;
            let function = Arc::new(Failing::default());
            let source = format!("arn:aws:sqs:us-east-1:000000000000:{queue}");
            let stage = Stage::new(&source, json!({}), aws, function.clone());
            let permit = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
            serve(stage.work.clone(), messages.to_vec(), Instant::now(), permit).await;
            assert_eq!(
                (function.0.lock().unwrap().clone(), asked.lock().unwrap().len()),
                (expected.into_iter().map(str::to_owned).collect(), 0),
                "{queue}"
            );
        }
    }

    /// A queue of one message.
    async fn one_message() -> (Stage, Asked) {
        let first = std::sync::atomic::AtomicBool::new(true);
        let (aws, asked) = service(move |_, _| match first.swap(false, std::sync::atomic::Ordering::Relaxed) {
            true => (200, json!({ "Messages": [{ "MessageId": "a", "Body": "" }] })),
            false => (200, json!({})),
        })
        .await;
        let settings = json!({ "BatchSize": 100, "MaximumBatchingWindowInSeconds": 1 });
        let source = "arn:aws:sqs:us-east-1:000000000000:q";
        (Stage::new(source, settings, aws, Arc::new(Failing::default())), asked)
    }

    #[tokio::test]
    async fn a_message_is_ours_since_it_was_received() {
        let (stage, _) = one_message().await;
        let Ok((messages, since)) = gather(&stage.work).await else { panic!("there is a message") };
        assert_eq!(messages.len(), 1);
        assert!(since.elapsed() >= Duration::from_secs(1), "the window counts");
    }

    #[tokio::test]
    async fn what_was_received_when_it_is_time_to_stop_is_served() {
        let (stage, asked) = one_message().await;
        let stopping = async {
            // It gathers.
            while asked.lock().unwrap().len() < 3 {
                tokio::task::yield_now().await;
            }
            stage.stop.send_replace(true);
        };
        let (gathered, ()) = tokio::join!(gather(&stage.work), stopping);
        let Ok((messages, since)) = gathered else { panic!("the message is lost") };
        assert!(messages.len() == 1 && since.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn attributes_have_lambdas_form() {
        let (name, shape) = attribute(("n".to_owned(), json!({ "DataType": "String", "StringValue": "v" })));
        assert_eq!(name, "n");
        assert_eq!(
            shape.to_string(),
            r#"{"stringValue":"v","stringListValues":[],"binaryListValues":[],"dataType":"String"}"#
        );
    }

    #[test]
    fn filters_look_into_bodies_that_are_json() {
        assert_eq!(seen(&json!({ "body": "{\"a\":1}" }))["body"], json!({ "a": 1 }));
        assert_eq!(seen(&json!({ "body": "text" }))["body"], json!("text"));
        assert_eq!(seen(&json!({ "body": "5" }))["body"], json!("5"));
    }
}
