//! Kinesis and DynamoDB's streams, as far as they differ: calls, and what a record looks like.

use crate::filter;
use crate::invoker::Invoker;
use crate::mapping::{Kind, Mapping};
use crate::work::{Work, length};
use aws::{Arn, Aws, CallError};
use serde_json::{Value, json};
use std::sync::Arc;

/// A stream.
#[derive(Clone)]
pub struct Origin {
    aws: Arc<Aws>,
    invoker: Arc<dyn Invoker>,
    mapping: Arc<Mapping>,
    /// The stream's ARN, where the mapping's is that of a consumer of it.
    stream: String,
}

/// A shard, as its stream lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub id: String,
    pub parents: Vec<String>,
}

/// A record, as its stream gives it.
#[derive(Clone, Debug)]
pub struct Read {
    pub sequence: String,
    /// Records of one key stay in their order.
    pub key: String,
    /// Milliseconds since 1970.
    pub arrived_ms: u64,
    /// As functions get it, and the length of its text.
    pub record: Value,
    pub length: usize,
}

impl Origin {
    pub fn of(work: &Work) -> Self {
        let source = &work.mapping.source;
        let stream = source.split_once("/consumer/").map_or(source.as_str(), |(stream, _)| stream).to_owned();
        let (aws, invoker) = (work.aws.clone(), work.invoker.clone());
        Self { aws, invoker, mapping: work.mapping.clone(), stream }
    }

    pub fn stream(&self) -> &str {
        &self.stream
    }

    pub async fn shards(&self) -> Result<Vec<Shard>, CallError> {
        let shards = match self.mapping.kind {
            Kind::DynamoDb => self.aws.dynamodb_shards(&self.stream).await?,
            _ => self.aws.kinesis_shards(&self.stream).await?,
        };
        let text = |shard: &Value, member: &str| shard[member].as_str().map(str::to_owned);
        let shard = |shard: &Value| {
            let parents = [text(shard, "ParentShardId"), text(shard, "AdjacentParentShardId")];
            Some(Shard { id: text(shard, "ShardId")?, parents: parents.into_iter().flatten().collect() })
        };
        Ok(shards.iter().filter_map(shard).collect())
    }

    /// An iterator at a position.
    pub async fn iterator(&self, shard: &str, position: &Value) -> Result<String, CallError> {
        let from = self.from(position);
        match self.mapping.kind {
            Kind::DynamoDb => self.aws.dynamodb_iterator(&self.stream, shard, &from).await,
            _ => self.aws.kinesis_iterator(&self.stream, shard, &from).await,
        }
    }

    fn from(&self, position: &Value) -> Value {
        let number = match self.mapping.kind {
            Kind::DynamoDb => "SequenceNumber",
            _ => "StartingSequenceNumber",
        };
        match (position["after"].as_str(), position["from"].as_str(), self.mapping.kind) {
            (Some(sequence), _, _) => json!({ "ShardIteratorType": "AFTER_SEQUENCE_NUMBER", (number): sequence }),
            (None, Some("AT_TIMESTAMP"), _) => {
                json!({ "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": position["moment"] })
            }
            (None, Some("SINCE"), Kind::Kinesis) => {
                let since = position["since"].as_f64().unwrap_or_default() / 1000.0;
                json!({ "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": since })
            }
            // DynamoDB's streams cannot be entered by time: what is too old is passed over.
            (None, Some("LATEST"), _) => json!({ "ShardIteratorType": "LATEST" }),
            _ => json!({ "ShardIteratorType": "TRIM_HORIZON" }),
        }
    }

    /// Records from an iterator on, and the next iterator.
    pub async fn read(
        &self,
        shard: &str,
        iterator: &str,
        most: usize,
    ) -> Result<(Vec<Read>, Option<String>), CallError> {
        let (records, next) = match self.mapping.kind {
            Kind::DynamoDb => self.aws.dynamodb_records(&self.stream, iterator, most).await?,
            _ => self.aws.kinesis_records(&self.stream, iterator, most).await?,
        };
        let read = |record| match self.mapping.kind {
            Kind::DynamoDb => self.of_dynamodb(record),
            _ => self.of_kinesis(shard, record),
        };
        Ok((records.into_iter().map(read).collect(), next))
    }

    fn of_kinesis(&self, shard: &str, mut record: Value) -> Read {
        let mut take = |member: &str| record.get_mut(member).map(Value::take).unwrap_or_default();
        let (sequence, key, arrived) =
            (take("SequenceNumber"), take("PartitionKey"), take("ApproximateArrivalTimestamp"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (sequence_text, key_text) = (text(&sequence), text(&key));
        let own = json!({
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "partitionKey": key,
                "sequenceNumber": sequence,
                "data": take("Data"),
                "approximateArrivalTimestamp": arrived,
            },
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": format!("{shard}:{sequence_text}"),
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": self.invoker.role(&self.mapping.function),
            "awsRegion": Arn::parse(&self.stream).map(|arn| arn.region),
            "eventSourceARN": self.stream,
        });
        let arrived_ms = (arrived.as_f64().unwrap_or_default() * 1000.0) as u64;
        Read { sequence: sequence_text, key: key_text, arrived_ms, length: length(&own), record: own }
    }

    fn of_dynamodb(&self, mut record: Value) -> Read {
        record["eventSourceARN"] = self.stream.clone().into();
        let change = &record["dynamodb"];
        let arrived_ms = (change["ApproximateCreationDateTime"].as_f64().unwrap_or_default() * 1000.0) as u64;
        let sequence = change["SequenceNumber"].as_str().unwrap_or_default().to_owned();
        Read { sequence, key: change["Keys"].to_string(), arrived_ms, length: length(&record), record }
    }

    /// A record as filters see it: data that is JSON is looked into.
    pub fn seen(&self, record: &Value) -> Value {
        let mut seen = record.clone();
        if self.mapping.kind == Kind::DynamoDb {
            return seen;
        }
        let (Value::Object(outer), Value::Object(inner)) = (&mut seen, &record["kinesis"]) else { return seen };
        outer.extend(inner.clone());
        let data = inner.get("data").and_then(Value::as_str).and_then(filter::seen_encoded);
        outer.extend(data.map(|data| ("data".to_owned(), data)));
        seen
    }

    /// What a destination is told of a batch: the member's name, and its members.
    pub fn batch_info(&self, shard: &str, batch: &[Read]) -> (&'static str, Value) {
        // Of changes of tables only seconds are known.
        let is_table = self.mapping.kind == Kind::DynamoDb;
        let written = |ms| if is_table { api::time::rfc3339(ms).replace(".000Z", "Z") } else { api::time::rfc3339(ms) };
        let moment = |read: Option<&Read>| read.map(|read| written(read.arrived_ms));
        let sequence = |read: Option<&Read>| read.map(|read| read.sequence.clone());
        let info = json!({
            "shardId": shard,
            "startSequenceNumber": sequence(batch.first()),
            "endSequenceNumber": sequence(batch.last()),
            "approximateArrivalOfFirstRecord": moment(batch.first()),
            "approximateArrivalOfLastRecord": moment(batch.last()),
            "batchSize": batch.len(),
            "streamArn": self.stream,
        });
        let name = if is_table { "DDBStreamBatchInfo" } else { "KinesisBatchInfo" };
        (name, info)
    }
}
