//! Where reading begins, against a stream of the test's own.

use super::*;
use crate::stage::{Asked, Eater, Stage, service};
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
const KINESIS: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";

#[test]
fn children_wait_for_their_parents() {
    let shard = |id: &str, parents: &[&str]| Shard {
        id: id.to_owned(),
        parents: parents.iter().map(|parent| (*parent).to_owned()).collect(),
    };
    let all = [shard("a", &["trimmed"]), shard("b", &[]), shard("c", &["a", "b"])];
    let mut positions = HashMap::new();
    let turns = |positions: &HashMap<_, _>| all.each_ref().map(|shard| is_its_turn(shard, &all, positions));
    assert_eq!(turns(&positions), [true, true, false]);
    positions.insert("a".to_owned(), position::end());
    positions.insert("b".to_owned(), position::after("1"));
    assert_eq!(turns(&positions), [false, true, false]);
    positions.insert("b".to_owned(), position::end());
    assert_eq!(turns(&positions), [false, false, true]);
}

/// Shards of a stream: `old` was closed, and `young` came of it. Records are never any.
fn resharded(operation: &str, request: &Value) -> (u16, Value) {
    match operation {
        "ListShards" => {
            let young = json!({ "ShardId": "young", "ParentShardId": "old" });
            (200, json!({ "Shards": [{ "ShardId": "old" }, young] }))
        }
        "GetShardIterator" => (200, json!({ "ShardIterator": request["ShardId"] })),
        _ if request["ShardIterator"] == "old" => (200, json!({ "Records": [] })),
        _ => (200, json!({ "Records": [], "NextShardIterator": "young" })),
    }
}

/// The iterators that were asked for, in order, once there are so many: shard and type.
async fn iterators(asked: &Asked, count: usize) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = async {
        loop {
            let found: Vec<_> = {
                let asked = asked.lock().unwrap();
                let all = asked.iter().filter(|(operation, _)| operation == "GetShardIterator");
                all.map(|(_, request)| (text(&request["ShardId"]), text(&request["ShardIteratorType"]))).collect()
            };
            if found.len() >= count {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the iterators are asked for")
}

fn pair(shard: &str, kind: &str) -> (String, String) {
    (shard.to_owned(), kind.to_owned())
}

#[tokio::test]
async fn the_latest_of_a_stream_that_was_resharded_before_is_no_history() {
    let (aws, asked) = service(resharded).await;
    let stage = Stage::new(KINESIS, json!({ "StartingPosition": "LATEST" }), aws, Arc::new(Eater));
    let polling = tokio::spawn(poll(stage.work.clone()));
    let expected = [pair("old", "LATEST"), pair("young", "AT_TIMESTAMP")];
    assert_eq!(iterators(&asked, 2).await, expected);
    stage.stop.send_replace(true);
    polling.await.unwrap();
    let positions = stage.work.store.positions("u").unwrap();
    assert!(position::is_end(&positions["old"]) && positions["young"]["since"].is_u64());
}

#[tokio::test]
async fn a_shard_that_could_not_be_begun_at_first_begins_there_later() {
    let failing = |operation: &str, request: &Value| match (operation, request["ShardIteratorType"].as_str()) {
        ("ListShards", _) => (200, json!({ "Shards": [{ "ShardId": "a" }, { "ShardId": "b" }] })),
        ("GetShardIterator", Some("LATEST")) if request["ShardId"] == "b" => (400, json!({ "__type": "Hiccup" })),
        ("GetShardIterator", _) => (200, json!({ "ShardIterator": "i" })),
        _ => (200, json!({ "Records": [], "NextShardIterator": "i" })),
    };
    let (aws, asked) = service(failing).await;
    let stage = Stage::new(KINESIS, json!({ "StartingPosition": "LATEST" }), aws, Arc::new(Eater));
    let polling = tokio::spawn(poll(stage.work.clone()));
    let expected = [pair("a", "LATEST"), pair("b", "LATEST"), pair("b", "AT_TIMESTAMP")];
    assert_eq!(iterators(&asked, 3).await, expected);
    stage.stop.send_replace(true);
    polling.await.unwrap();
}

#[tokio::test]
async fn a_shard_whose_place_is_gone_is_read_from_what_is_left() {
    let trimmed = |operation: &str, request: &Value| match (operation, request["ShardIteratorType"].as_str()) {
        ("DescribeStream", _) => (200, json!({ "StreamDescription": { "Shards": [{ "ShardId": "s" }] } })),
        ("GetShardIterator", Some("AFTER_SEQUENCE_NUMBER")) => {
            (400, json!({ "__type": "com.amazonaws.dynamodb.v20120810#TrimmedDataAccessException" }))
        }
        ("GetShardIterator", _) => (200, json!({ "ShardIterator": "i" })),
        _ => (200, json!({ "Records": [], "NextShardIterator": "i" })),
    };
    let (aws, asked) = service(trimmed).await;
    let table = "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2025-01-01T00:00:00.000";
    let stage = Stage::new(table, json!({ "StartingPosition": "LATEST" }), aws, Arc::new(Eater));
    stage.work.store.set_position("u", "s", &position::after("1")).unwrap();
    let polling = tokio::spawn(poll(stage.work.clone()));
    assert_eq!(iterators(&asked, 2).await, [pair("s", "AFTER_SEQUENCE_NUMBER"), pair("s", "TRIM_HORIZON")]);
    stage.stop.send_replace(true);
    polling.await.unwrap();
}
