//! Kinesis: shards listed, iterators made, records read.

use crate::arn::Arn;
use crate::client::{Aws, Service};
use crate::fault::CallError;
use serde_json::{Value, json};
use std::time::Duration;

impl Aws {
    async fn kinesis(&self, stream: &str, operation: &str, mut request: Value) -> Result<Value, CallError> {
        let region = Arn::parse(stream).map_or("", |arn| arn.region);
        request["StreamARN"] = stream.into();
        let target = format!("Kinesis_20131202.{operation}");
        self.json((Service::Kinesis, region), ("1.1", &target), &request, Duration::ZERO).await
    }

    /// All shards of a stream, in pages of the service's own size.
    pub async fn kinesis_shards(&self, stream: &str) -> Result<Vec<Value>, CallError> {
        let (mut shards, mut request) = (Vec::new(), json!({}));
        if let Some(arn) = Arn::parse(stream) {
            request["StreamName"] = arn.name().into();
        }
        loop {
            let mut page = self.kinesis(stream, "ListShards", request).await?;
            shards.append(page.get_mut("Shards").and_then(Value::as_array_mut).unwrap_or(&mut Vec::new()));
            match page["NextToken"].as_str() {
                Some(token) => request = json!({ "NextToken": token }),
                None => return Ok(shards),
            }
        }
    }

    /// An iterator; `from` has its type, and the sequence number or moment that goes with it.
    pub async fn kinesis_iterator(&self, stream: &str, shard: &str, from: &Value) -> Result<String, CallError> {
        let mut request = from.clone();
        request["ShardId"] = shard.into();
        if let Some(arn) = Arn::parse(stream) {
            request["StreamName"] = arn.name().into();
        }
        iterator(Service::Kinesis, &self.kinesis(stream, "GetShardIterator", request).await?)
    }

    /// Records from an iterator on, with the next iterator: none at the end of a shard that is closed.
    pub async fn kinesis_records(
        &self,
        stream: &str,
        iterator: &str,
        most: usize,
    ) -> Result<(Vec<Value>, Option<String>), CallError> {
        let request = json!({ "ShardIterator": iterator, "Limit": most });
        Ok(records(self.kinesis(stream, "GetRecords", request).await?))
    }
}

pub(crate) fn iterator(service: Service, answer: &Value) -> Result<String, CallError> {
    let what = "it has no ShardIterator";
    let iterator = answer["ShardIterator"].as_str().map(str::to_owned);
    iterator.ok_or(CallError::Foreign { service: service.name(), what })
}

pub(crate) fn records(mut answer: Value) -> (Vec<Value>, Option<String>) {
    let records = answer.get_mut("Records").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
    (records, answer["NextShardIterator"].as_str().map(str::to_owned))
}
