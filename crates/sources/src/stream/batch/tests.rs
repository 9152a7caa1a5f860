//! Batches against a function of the test's own, without a stream.

use super::*;
use crate::invoker::{Invoker, NotTaken, Promise};
use crate::stage::Stage;
use aws::Aws;
use bytes::Bytes;
use std::sync::{Arc, Mutex};

/// Fails with every batch that has a record of these keys, and remembers what it was given and told.
struct Function {
    failing: &'static [&'static str],
    /// What it answers where it does not fail.
    answer: &'static str,
    given: Mutex<Vec<Vec<String>>>,
    told: Mutex<Vec<Value>>,
    /// How often there is no room before there is some.
    busy: Mutex<u32>,
}

impl Invoker for Function {
    fn invoke(&self, _: &str, _: String, event: Bytes) -> Promise<Invoked> {
        let mut busy = self.busy.lock().unwrap();
        if *busy > 0 {
            *busy -= 1;
            return Box::pin(async { Invoked::Later { reason: "Rate Exceeded.".into() } });
        }
        let event: Value = serde_json::from_slice(&event).unwrap();
        let records = event["Records"].as_array().unwrap();
        let keys: Vec<String> = records.iter().map(|record| record["key"].as_str().unwrap().to_owned()).collect();
        let failed = keys.iter().any(|key| self.failing.contains(&key.as_str()));
        let body = if failed { "{}" } else { self.answer };
        self.given.lock().unwrap().push(keys);
        Box::pin(async move { Invoked::Answered { body: body.into(), failed, version: "7".into() } })
    }

    fn tell(&self, destination: &str, message: Bytes) -> Promise<Result<(), NotTaken>> {
        assert_eq!(destination, "arn:aws:sqs:us-east-1:000000000000:q");
        self.told.lock().unwrap().push(serde_json::from_slice(&message).unwrap());
        Box::pin(async { Ok(()) })
    }

    fn role(&self, _: &str) -> String {
        String::new()
    }

    fn event_max(&self) -> usize {
        10_000
    }
}

fn function(failing: &'static [&'static str], answer: &'static str) -> Arc<Function> {
    Arc::new(Function { failing, answer, given: Mutex::default(), told: Mutex::default(), busy: Mutex::new(0) })
}

fn reads(keys: &[&str], arrived_ms: u64) -> Vec<Read> {
    let read = |key: &&str| Read {
        sequence: format!("s{key}"),
        key: (*key).to_owned(),
        arrived_ms,
        record: json!({ "key": key }),
        length: 20,
    };
    keys.iter().map(read).collect()
}

/// Delivers records as a mapping with these settings does; `stop` is told to it before it begins.
async fn run(function: &Arc<Function>, settings: Value, reads: Vec<Read>, stop: bool) -> Result<(), Stopped> {
    let stage =
        Stage::new("arn:aws:kinesis:us-east-1:000000000000:stream/s", settings, Aws::default(), function.clone());
    stage.stop.send_replace(stop);
    let origin = Origin::of(&stage.work);
    deliver(&Batch { work: &stage.work, origin: &origin, shard: "shard", window: None }, reads).await
}

fn given(function: &Function) -> Vec<String> {
    function.given.lock().unwrap().iter().map(|keys| keys.join("")).collect()
}

const DESTINATION: &str = "arn:aws:sqs:us-east-1:000000000000:q";

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_is_tried_again_and_then_given_up() {
    let function = function(&["b"], "null");
    let settings =
        json!({ "MaximumRetryAttempts": 2, "DestinationConfig": { "OnFailure": { "Destination": DESTINATION } } });
    run(&function, settings, reads(&["a", "b", "c"], 1_000), false).await.unwrap();
    assert_eq!(given(&function), ["abc", "abc", "abc"]);
    let told = function.told.lock().unwrap();
    assert_eq!(told[0]["requestContext"]["condition"], "RetryAttemptsExhausted");
    assert_eq!(told[0]["requestContext"]["approximateInvokeCount"], 3);
    let context = json!({ "statusCode": 200, "executedVersion": "7", "functionError": "Unhandled" });
    assert_eq!(told[0]["responseContext"], context);
    let info = &told[0]["KinesisBatchInfo"];
    assert_eq!(info["startSequenceNumber"], "sa");
    assert_eq!((&info["endSequenceNumber"], &info["batchSize"]), (&json!("sc"), &json!(3)));
    assert_eq!(info["approximateArrivalOfFirstRecord"], "1970-01-01T00:00:01.000Z");
}

#[tokio::test(start_paused = true)]
async fn halves_find_the_record_that_fails() {
    let function = function(&["e"], "null");
    let settings = json!({ "MaximumRetryAttempts": 0, "BisectBatchOnFunctionError": true });
    run(&function, settings, reads(&["a", "b", "c", "d", "e", "f"], 0), false).await.unwrap();
    assert_eq!(given(&function), ["abcdef", "abc", "def", "d", "ef", "e", "f"]);
    assert!(function.told.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn from_a_reported_failure_on_it_is_tried_again() {
    let function = function(&[], r#"{"batchItemFailures":[{"itemIdentifier":"sc"},{"itemIdentifier":"sb"}]}"#);
    let settings = json!({ "MaximumRetryAttempts": 1, "FunctionResponseTypes": ["ReportBatchItemFailures"] });
    run(&function, settings, reads(&["a", "b", "c"], 0), false).await.unwrap();
    // The answer names records that the second batch has, too; then its retry is used up.
    assert_eq!(given(&function), ["abc", "bc"]);
    let confused = self::function(&[], r#"{"batchItemFailures":[{"itemIdentifier":"x"}]}"#);
    let settings = json!({
        "MaximumRetryAttempts": 1, "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "DestinationConfig": { "OnFailure": { "Destination": DESTINATION } },
    });
    run(&confused, settings, reads(&["a", "b"], 0), false).await.unwrap();
    assert_eq!(given(&confused), ["ab", "ab"]);
    // The function did not fail: it said that records have.
    assert!(confused.told.lock().unwrap()[0]["responseContext"]["functionError"].is_null());
}

#[tokio::test(start_paused = true)]
async fn what_a_report_has_cut_is_not_halved() {
    let function = function(&[], r#"{"batchItemFailures":[{"itemIdentifier":"sb"}]}"#);
    let settings = json!({
        "MaximumRetryAttempts": 1, "BisectBatchOnFunctionError": true,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
    });
    run(&function, settings, reads(&["a", "b", "c", "d", "e"], 0), false).await.unwrap();
    assert_eq!(given(&function)[..2], ["abcde", "bcde"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_passed_over() {
    let function = function(&[], "null");
    let settings = json!({ "MaximumRecordAgeInSeconds": 60, "DestinationConfig": { "OnFailure": { "Destination": DESTINATION } } });
    let now = api::time::now_ms();
    let records = [reads(&["a", "b"], now - 61_000), reads(&["c"], now)].concat();
    run(&function, settings, records, false).await.unwrap();
    assert_eq!(given(&function), ["c"]);
    let told = function.told.lock().unwrap();
    assert_eq!((told.len(), &told[0]["requestContext"]["condition"]), (1, &json!("RecordAgeExceeded")));
    assert_eq!(told[0]["requestContext"]["approximateInvokeCount"], 1);
    assert_eq!((&told[0]["KinesisBatchInfo"]["batchSize"], told[0].get("responseContext")), (&json!(2), None));
}

#[tokio::test(start_paused = true)]
async fn no_room_is_no_failure() {
    let function = function(&[], "null");
    *function.busy.lock().unwrap() = 50;
    let settings = json!({ "MaximumRetryAttempts": 0 });
    run(&function, settings, reads(&["a"], 0), false).await.unwrap();
    assert_eq!((given(&function), function.told.lock().unwrap().len()), (vec!["a".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn lanes_keep_the_order_of_a_key() {
    let function = function(&[], "null");
    let keys: Vec<&str> = (0..100).map(|at| ["a", "b", "c", "d", "e"][at % 5]).collect();
    run(&function, json!({ "ParallelizationFactor": 3 }), reads(&keys, 0), false).await.unwrap();
    let lanes = function.given.lock().unwrap();
    assert!(lanes.len() > 1 && lanes.iter().map(Vec::len).sum::<usize>() == 100);
    for key in ["a", "b", "c", "d", "e"] {
        assert_eq!(lanes.iter().filter(|lane| lane.iter().any(|other| other == key)).count(), 1, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_told_to_stop_passes_nothing_that_failed() {
    let function = function(&["a"], "null");
    assert_eq!(run(&function, json!({}), reads(&["a"], 0), true).await, Err(Stopped));
    assert_eq!(given(&function), ["a"]);
}
