//! A mapping: which source feeds which function, and how. Its settings stay the JSON that Lambda's API has of it.

use crate::filter::Pattern;
use serde_json::{Map, Value};
use std::time::Duration;

/// Kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqs,
    Kinesis,
    DynamoDb,
    /// Its source is no ARN, but the addresses of brokers.
    Kafka,
}

impl Kind {
    /// What a source is; nothing for what is none, or none that this node can read.
    pub fn of(source: &str) -> Option<Self> {
        if !source.is_empty() && !source.starts_with("arn:") {
            return Some(Self::Kafka);
        }
        let arn = aws::Arn::parse(source)?;
        match arn.service {
            "sqs" => Some(Self::Sqs),
            "kinesis" if arn.resource.starts_with("stream/") => Some(Self::Kinesis),
            "dynamodb" if arn.resource.starts_with("table/") && arn.resource.contains("/stream/") => {
                Some(Self::DynamoDb)
            }
            _ => None,
        }
    }

    pub fn is_stream(self) -> bool {
        self != Self::Sqs
    }
}

/// A mapping. Immutable; a change makes another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapping {
    pub uuid: String,
    pub account: String,
    pub region: String,
    /// ARN of the function, with the qualifier that was given.
    pub function: String,
    pub kind: Kind,
    /// ARN, or addresses of brokers.
    pub source: String,
    /// In Lambda's words, with the defaults in place.
    pub settings: Map<String, Value>,
    pub tags: Map<String, Value>,
    pub enabled: bool,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    pub modified_ms: u64,
}

impl Mapping {
    pub fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{}:event-source-mapping:{}", self.region, self.account, self.uuid)
    }

    fn number(&self, member: &str) -> i64 {
        self.settings.get(member).and_then(Value::as_i64).unwrap_or(0)
    }

    pub fn batch_size(&self) -> usize {
        usize::try_from(self.number("BatchSize")).unwrap_or(0).max(1)
    }

    /// How long a batch may gather.
    pub fn window(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.number("MaximumBatchingWindowInSeconds")).unwrap_or(0))
    }

    /// Batches of one shard at once.
    pub fn parallelization(&self) -> usize {
        usize::try_from(self.number("ParallelizationFactor")).unwrap_or(0).max(1)
    }

    /// Batches of a queue at once; nothing where nobody said.
    pub fn concurrency(&self) -> Option<usize> {
        let most = self.settings.get("ScalingConfig")?.get("MaximumConcurrency")?.as_u64()?;
        usize::try_from(most).ok()
    }

    /// How often a batch of a stream is tried again; nothing for as long as its records last.
    pub fn retries(&self) -> Option<u64> {
        self.settings.get("MaximumRetryAttempts")?.as_u64()
    }

    /// Milliseconds after which records of a stream are passed over; nothing for never.
    pub fn age_max_ms(&self) -> Option<u64> {
        Some(self.settings.get("MaximumRecordAgeInSeconds")?.as_u64()?.saturating_mul(1000))
    }

    /// Milliseconds of a tumbling window; nothing where there are none.
    pub fn tumbling_ms(&self) -> Option<u64> {
        let seconds = self.settings.get("TumblingWindowInSeconds")?.as_u64()?;
        (seconds > 0).then(|| seconds.saturating_mul(1000))
    }

    pub fn bisects(&self) -> bool {
        self.settings.get("BisectBatchOnFunctionError") == Some(&Value::Bool(true))
    }

    /// Whether the function tells which records of a batch have failed.
    pub fn reports_failures(&self) -> bool {
        let types = self.settings.get("FunctionResponseTypes").and_then(Value::as_array);
        types.is_some_and(|types| types.iter().any(|kind| kind == "ReportBatchItemFailures"))
    }

    /// Where batches of a stream are told of that were given up; empty for nowhere.
    pub fn on_failure(&self) -> &str {
        let destination = self.settings.get("DestinationConfig").and_then(|config| config.get("OnFailure"));
        destination.and_then(|destination| destination.get("Destination")?.as_str()).unwrap_or_default()
    }

    pub fn starting_position(&self) -> &str {
        self.settings.get("StartingPosition").and_then(Value::as_str).unwrap_or("LATEST")
    }

    /// Of records that are wanted, any of which suffices; all are where there are none. Patterns that cannot be read were
    /// refused when the mapping was made.
    pub fn filters(&self) -> Vec<Pattern> {
        let filters = self.settings.get("FilterCriteria").and_then(|criteria| criteria.get("Filters"));
        let patterns = filters.and_then(Value::as_array).into_iter().flatten();
        patterns.filter_map(|filter| Pattern::parse(filter.get("Pattern")?.as_str()?).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_by_their_arns() {
        for (arn, kind) in [
            ("arn:aws:sqs:us-east-1:000000000000:q", Some(Kind::Sqs)),
            ("arn:aws:kinesis:us-east-1:000000000000:stream/s", Some(Kind::Kinesis)),
            ("arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1", Some(Kind::Kinesis)),
            ("arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2025-01-01T00:00:00.000", Some(Kind::DynamoDb)),
            ("arn:aws:dynamodb:us-east-1:000000000000:table/t", None),
            ("arn:aws:sns:us-east-1:000000000000:t", None),
            ("localhost:9092,other:9092", Some(Kind::Kafka)),
            ("", None),
        ] {
            assert_eq!(Kind::of(arn), kind, "{arn}");
        }
    }
}
