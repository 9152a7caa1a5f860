//! DynamoDB's streams: shards listed, iterators made, records read.

use crate::arn::Arn;
use crate::client::{Aws, Service};
use crate::fault::CallError;
use crate::kinesis::{iterator, records};
use serde_json::{Value, json};
use std::time::Duration;

impl Aws {
    async fn streams(&self, stream: &str, operation: &str, request: &Value) -> Result<Value, CallError> {
        let region = Arn::parse(stream).map_or("", |arn| arn.region);
        let target = format!("DynamoDBStreams_20120810.{operation}");
        self.json((Service::DynamoDb, region), ("1.0", &target), request, Duration::ZERO).await
    }

    /// All shards of a stream.
    pub async fn dynamodb_shards(&self, stream: &str) -> Result<Vec<Value>, CallError> {
        let (mut shards, mut request) = (Vec::new(), json!({ "StreamArn": stream }));
        loop {
            let mut page = self.streams(stream, "DescribeStream", &request).await?;
            let description = &mut page["StreamDescription"];
            shards.append(description.get_mut("Shards").and_then(Value::as_array_mut).unwrap_or(&mut Vec::new()));
            match description["LastEvaluatedShardId"].as_str() {
                Some(last) => request["ExclusiveStartShardId"] = last.into(),
                None => return Ok(shards),
            }
        }
    }

    /// An iterator; `from` has its type, and the sequence number that goes with it.
    pub async fn dynamodb_iterator(&self, stream: &str, shard: &str, from: &Value) -> Result<String, CallError> {
        let mut request = from.clone();
        (request["StreamArn"], request["ShardId"]) = (stream.into(), shard.into());
        iterator(Service::DynamoDb, &self.streams(stream, "GetShardIterator", &request).await?)
    }

    /// Records from an iterator on, with the next iterator: none at the end of a shard that is closed.
    pub async fn dynamodb_records(
        &self,
        stream: &str,
        iterator: &str,
        most: usize,
    ) -> Result<(Vec<Value>, Option<String>), CallError> {
        let request = json!({ "ShardIterator": iterator, "Limit": most.min(1000) });
        Ok(records(self.streams(stream, "GetRecords", &request).await?))
    }
}
