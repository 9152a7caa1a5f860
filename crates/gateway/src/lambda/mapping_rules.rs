//! What an event source mapping may be asked to do beside what AWS's model says: what each kind of source allows, and
//! whether the source is there.

use super::constraint::find;
use super::fault::Fault;
use super::package::not_fetched;
use crate::gateway::Gateway;
use aws::{Arn, CallError, Service};
use runtime::registry::Entry;
use serde_json::{Map, Value, json};
use sources::{Kind, Pattern};
use uuid::Uuid;

/// Services that are told of batches that were given up.
const DESTINATIONS: [&str; 4] = ["sqs", "sns", "s3", "events"];
/// The most patterns of one mapping.
const FILTERS_MAX: usize = 10;
/// The most messages of a batch from a queue that keeps an order.
const FIFO_BATCH_MAX: i64 = 10;

const NO_MOMENT: &str = "StartingPosition AT_TIMESTAMP needs StartingPositionTimestamp, seconds since 1970.";
/// Settings that queues do not have.
const STREAMS_ONLY: [&str; 7] = [
    "ParallelizationFactor",
    "StartingPositionTimestamp",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "TumblingWindowInSeconds",
    "DestinationConfig",
];

/// A new mapping's settings: what its creator said, and Lambda's defaults for its kind.
pub fn new_settings(kind: Kind, request: &Map<String, Value>) -> Map<String, Value> {
    let defaults = match kind {
        Kind::Sqs => json!({ "BatchSize": 10, "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": [] }),
        Kind::Kafka => json!({
            "StartingPosition": "TRIM_HORIZON", "BatchSize": 100, "MaximumBatchingWindowInSeconds": 0,
            "SelfManagedKafkaEventSourceConfig": { "ConsumerGroupId": Uuid::new_v4().to_string() },
            "FunctionResponseTypes": [],
        }),
        Kind::Kinesis | Kind::DynamoDb => json!({
            "StartingPosition": null, "BatchSize": 100, "MaximumBatchingWindowInSeconds": 0,
            "ParallelizationFactor": 1, "DestinationConfig": { "OnFailure": {} }, "MaximumRecordAgeInSeconds": -1,
            "BisectBatchOnFunctionError": false, "MaximumRetryAttempts": -1, "TumblingWindowInSeconds": 0,
            "FunctionResponseTypes": [],
        }),
    };
    let mut settings = if let Value::Object(defaults) = defaults { defaults } else { Map::new() };
    change_settings(&mut settings, request);
    settings
}

/// Members of requests that are not settings.
const NOT_SETTINGS: [&str; 5] = ["FunctionName", "EventSourceArn", "Enabled", "Tags", "UUID"];

/// Puts what a request says in the place of what there is. AWS's ways to say "none" take members away.
pub fn change_settings(settings: &mut Map<String, Value>, request: &Map<String, Value>) {
    for (name, value) in request {
        if NOT_SETTINGS.contains(&name.as_str()) || value.is_null() {
            continue;
        }
        let nothing = value.as_object().is_some_and(Map::is_empty)
            || (name == "FilterCriteria" && value["Filters"].as_array().is_none_or(Vec::is_empty));
        match name.as_str() {
            "FilterCriteria" | "ScalingConfig" if nothing => drop(settings.remove(name)),
            "DestinationConfig" => {
                let failure = &value["OnFailure"];
                let is_told = failure["Destination"].as_str().is_some_and(|arn| !arn.is_empty());
                let failure = if is_told { failure.clone() } else { json!({}) };
                settings.insert(name.clone(), json!({ "OnFailure": failure }));
            }
            _ => drop(settings.insert(name.clone(), value.clone())),
        }
    }
}

/// Whether what a mapping is to do makes sense for its kind. `request` says what was asked, `settings` what comes of it.
pub fn check_sense(
    kind: Kind,
    source: &str,
    request: &Map<String, Value>,
    settings: &Map<String, Value>,
) -> Result<(), Fault> {
    check_filters(settings)?;
    match kind {
        Kind::Sqs => check_queue(source, request, settings)?,
        Kind::Kinesis | Kind::DynamoDb => check_stream(kind, source, settings)?,
        Kind::Kafka => check_topic(request, settings)?,
    }
    check_destination(settings)
}

fn check_filters(settings: &Map<String, Value>) -> Result<(), Fault> {
    let filters = find(settings, "FilterCriteria.Filters").and_then(Value::as_array);
    let filters = filters.map(Vec::as_slice).unwrap_or_default();
    let reads = |filter: &Value| {
        let pattern = filter.get("Pattern").and_then(Value::as_str).unwrap_or_default();
        pattern.len() <= 4096 && Pattern::parse(pattern).is_ok()
    };
    if filters.len() > FILTERS_MAX || !filters.iter().all(reads) {
        return Err(Fault::invalid_parameter("Invalid filter pattern definition."));
    }
    Ok(())
}

fn check_queue(source: &str, request: &Map<String, Value>, settings: &Map<String, Value>) -> Result<(), Fault> {
    let given = |name: &str| request.get(name).is_some_and(|value| !value.is_null());
    if given("StartingPosition") {
        return Err(Fault::invalid_parameter("StartingPosition is not valid for SQS event sources."));
    }
    if let Some(name) = STREAMS_ONLY.into_iter().find(|name| given(name)) {
        let message = format!("Unsupported {name} parameter for given event source mapping type.");
        return Err(Fault::invalid_parameter(message));
    }
    let number = |name: &str| settings.get(name).and_then(Value::as_i64).unwrap_or(0);
    let size = number("BatchSize");
    if size > FIFO_BATCH_MAX && source.ends_with(".fifo") {
        return Err(Fault::invalid_parameter(format!(
            "BatchSize {size} is more than a FIFO queue can give: its batches have at most {FIFO_BATCH_MAX} messages."
        )));
    }
    if size > 10 && number("MaximumBatchingWindowInSeconds") == 0 {
        let message = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10";
        return Err(Fault::invalid_parameter(message));
    }
    Ok(())
}

fn check_stream(kind: Kind, source: &str, settings: &Map<String, Value>) -> Result<(), Fault> {
    if settings.get("MaximumRecordAgeInSeconds").and_then(Value::as_i64).is_some_and(|age| (0..60).contains(&age)) {
        let message = "MaximumRecordAgeInSeconds is -1, for ever, or 60 seconds and more.";
        return Err(Fault::invalid_parameter(message));
    }
    match settings.get("StartingPosition").and_then(Value::as_str) {
        None => {
            return Err(Fault::invalid_parameter(
                "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must \
                 not be null.",
            ));
        }
        Some("AT_TIMESTAMP") if kind == Kind::DynamoDb => {
            return Err(Fault::invalid_parameter(format!("Unsupported starting position for arn type: {source}")));
        }
        Some("AT_TIMESTAMP") if !settings.get("StartingPositionTimestamp").is_some_and(Value::is_number) => {
            return Err(Fault::invalid_parameter(NO_MOMENT));
        }
        Some(_) => {}
    }
    if settings.get("ScalingConfig").is_some() {
        let message = "Unsupported ScalingConfig parameter for given event source mapping type.";
        return Err(Fault::invalid_parameter(message));
    }
    let number = |name: &str| settings.get(name).and_then(Value::as_u64).unwrap_or(0);
    if number("TumblingWindowInSeconds") > 0 && number("ParallelizationFactor") > 1 {
        return Err(Fault::invalid_parameter(
            "A window has one state for a shard: TumblingWindowInSeconds cannot be used with a ParallelizationFactor.",
        ));
    }
    Ok(())
}

fn check_topic(request: &Map<String, Value>, settings: &Map<String, Value>) -> Result<(), Fault> {
    let given = |name: &str| request.get(name).is_some_and(|value| !value.is_null() && *value != json!([]));
    let unsupported = STREAMS_ONLY.into_iter().filter(|name| *name != "StartingPositionTimestamp");
    if let Some(name) = unsupported.chain(["ScalingConfig", "FunctionResponseTypes"]).find(|name| given(name)) {
        let message = format!("Unsupported {name} parameter for given event source mapping type.");
        return Err(Fault::invalid_parameter(message));
    }
    let Some(access) = settings.get("SourceAccessConfigurations").and_then(Value::as_array) else {
        return Err(Fault::invalid_parameter("Required 'sourceAccessConfigurations' parameter is missing."));
    };
    let is_open = |access: &&Value| access["Type"].as_str().is_some_and(|kind| kind.starts_with("VPC_"));
    if let Some(other) = access.iter().find(|access| !is_open(access)) {
        let kind = other["Type"].as_str().unwrap_or_default();
        return Err(Fault::invalid_parameter(format!(
            "This node reaches brokers without TLS and without authentication: {kind} cannot be used. Name VPC_SUBNET and \
             VPC_SECURITY_GROUP only, which change nothing here."
        )));
    }
    match settings.get("Topics").and_then(Value::as_array).map(Vec::len) {
        Some(1) => {}
        _ => return Err(Fault::invalid_parameter("A mapping from Kafka reads one topic: name it in Topics.")),
    }
    match settings.get("StartingPosition").and_then(Value::as_str) {
        Some("AT_TIMESTAMP") if !settings.get("StartingPositionTimestamp").is_some_and(Value::is_number) => {
            Err(Fault::invalid_parameter(NO_MOMENT))
        }
        _ => Ok(()),
    }
}

fn check_destination(settings: &Map<String, Value>) -> Result<(), Fault> {
    let destination = find(settings, "DestinationConfig.OnFailure.Destination").and_then(Value::as_str);
    match destination {
        Some(arn) if !arn.is_empty() && !Arn::parse(arn).is_some_and(|arn| DESTINATIONS.contains(&arn.service)) => {
            Err(Fault::invalid_parameter(format!(
                "The provided destination config DestinationConfig(onSuccess=null, \
                 onFailure=OnFailure(destination={arn})) is invalid."
            )))
        }
        _ => Ok(()),
    }
}

/// The source that a request names: an ARN, or the addresses of brokers.
pub fn source(request: &Map<String, Value>) -> Result<(Kind, String), Fault> {
    let unknown = || Fault::invalid_parameter("Unrecognized event source.");
    if let Some(arn) = find(request, "EventSourceArn").and_then(Value::as_str) {
        let kind = Kind::of(arn).filter(|kind| *kind != Kind::Kafka).ok_or_else(unknown)?;
        return Ok((kind, arn.to_owned()));
    }
    let brokers = find(request, "SelfManagedEventSource.Endpoints.KAFKA_BOOTSTRAP_SERVERS").and_then(Value::as_array);
    let mut brokers: Vec<&str> = brokers.ok_or_else(unknown)?.iter().filter_map(Value::as_str).collect();
    brokers.sort_unstable();
    Ok((Kind::Kafka, brokers.join(",")))
}

/// Asks the source whether it is there, and whether it gives the function enough time. Brokers are asked when they are read,
/// as on AWS.
pub async fn check_source(gateway: &Gateway, kind: Kind, source: &str, entry: &Entry) -> Result<(), Fault> {
    // Brokers have no ARN.
    let Some(arn) = Arn::parse(source) else { return Ok(()) };
    match kind {
        Kind::Kafka => Ok(()),
        Kind::Sqs => {
            let attributes = gateway.aws.queue_attributes(&arn).await;
            let attributes = attributes.map_err(|error| not_fetched(&error, "ReceiveMessage", Service::Sqs))?;
            let visible = attributes.get("VisibilityTimeout").and_then(Value::as_str);
            let visible = visible.and_then(|seconds| seconds.parse::<u64>().ok()).unwrap_or(u64::MAX);
            let timeout = u64::from(entry.function.timeout_s);
            if visible < timeout {
                return Err(Fault::invalid_parameter(format!(
                    "Queue visibility timeout: {visible} seconds is less than Function timeout: {timeout} seconds"
                )));
            }
            Ok(())
        }
        Kind::Kinesis => {
            let stream = source.split_once("/consumer/").map_or(source, |(stream, _)| stream);
            gateway.aws.kinesis_shards(stream).await.map(drop).map_err(|error| no_stream(&error, source, kind))
        }
        Kind::DynamoDb => {
            gateway.aws.dynamodb_shards(source).await.map(drop).map_err(|error| no_stream(&error, source, kind))
        }
    }
}

fn no_stream(error: &CallError, source: &str, kind: Kind) -> Fault {
    match (error, kind) {
        (CallError::Refused { code, .. }, _) if code.contains("ResourceNotFound") => {
            Fault::invalid_parameter(format!("Stream not found: {source}"))
        }
        (error, Kind::DynamoDb) => not_fetched(error, "DescribeStream", Service::DynamoDb),
        (error, _) => not_fetched(error, "ListShards", Service::Kinesis),
    }
}
