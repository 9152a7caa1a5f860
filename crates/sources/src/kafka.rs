//! Kafka: the partitions of a topic, each read by a reader of its own from where it was left.
//!
//! | module | what it is |
//! |---|---|
//! | [`client`] | connections to brokers |
//! | [`records`] | batches of records, unpacked |
//! | [`wire`] | the protocol's numbers and texts |
//!
//! Offsets are kept in the store, not in a consumer group: nobody else reads for this mapping. Not here: TLS and SASL,
//! records of transactions that were given up (they are delivered), old message formats.

mod client;
mod records;
mod wire;

use crate::invoker::Invoked;
use crate::work::{BackOff, PassError, Stopped, Work, fitting};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use client::{Broker, BrokerError, Partition};
use records::Record;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How often partitions are looked for that are new, or have moved.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Before a reader that broke off is begun again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("it is time to stop")]
    Stopped,
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Pass(#[from] PassError),
}

impl From<Stopped> for Trouble {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Reads a topic until it is time to stop; what is under way then ends first.
pub async fn poll(work: Work) {
    let mut readers = JoinSet::new();
    let mut reading = HashSet::new();
    let mut back_off = BackOff::new(PAUSE, Duration::from_secs(30));
    loop {
        let pause = match begin(&work, &mut readers, &mut reading).await {
            Ok(()) => {
                back_off.reset();
                LOOK_EVERY
            }
            Err(error) => {
                work.problem(&error);
                back_off.pause()
            }
        };
        work.ready();
        let ended = async {
            match readers.join_next().await {
                Some(ended) => ended,
                None => std::future::pending().await,
            }
        };
        match work.unless_stopped(tokio::time::timeout(pause, ended)).await {
            Err(_) => break,
            Ok(Err(_)) => continue,
            Ok(Ok(Ok(partition))) => drop(reading.remove(&partition)),
            Ok(Ok(Err(error))) => {
                tracing::error!(%error, "a reader of a partition panicked");
                readers.abort_all();
                reading.clear();
            }
        }
        if work.pause(PAUSE).await.is_err() {
            break;
        }
    }
    while readers.join_next().await.is_some() {}
}

fn topic(work: &Work) -> &str {
    work.mapping.settings.get("Topics").and_then(|topics| topics.get(0)?.as_str()).unwrap_or_default()
}

/// Begins to read the partitions that are not read.
async fn begin(work: &Work, readers: &mut JoinSet<i32>, reading: &mut HashSet<i32>) -> Result<(), Trouble> {
    let partitions = work.unless_stopped(partitions(work)).await??;
    let (store, uuid) = (work.store.clone(), work.mapping.uuid.clone());
    let positions = tokio::task::spawn_blocking(move || store.positions(&uuid)).await??;
    let is_first = positions.is_empty();
    for partition in partitions {
        if reading.contains(&partition.index) {
            continue;
        }
        let (index, mut reader) = (partition.index, Reader::new(work.clone(), partition).await?);
        reader.place(&positions, is_first).await?;
        reading.insert(index);
        readers.spawn(reader.run());
    }
    Ok(())
}

/// The topic's partitions, from whichever broker answers first.
async fn partitions(work: &Work) -> Result<Vec<Partition>, BrokerError> {
    let mut last = Err(BrokerError::Silent);
    for address in work.mapping.source.split(',') {
        last = match Broker::connect(address).await {
            Ok(mut broker) => broker.partitions(topic(work)).await,
            Err(error) => Err(error),
        };
        if last.is_ok() {
            break;
        }
    }
    last
}

/// Who reads a partition.
struct Reader {
    work: Work,
    partition: i32,
    broker: Broker,
    /// The next offset.
    next: i64,
}

impl Reader {
    async fn new(work: Work, partition: Partition) -> Result<Self, Trouble> {
        let broker = Broker::connect(&partition.leader).await?;
        Ok(Self { work, partition: partition.index, broker, next: 0 })
    }

    fn name(&self) -> String {
        format!("{}-{}", topic(&self.work), self.partition)
    }

    /// Takes its place: where it was left, or where the mapping begins; a partition that came later is read whole.
    async fn place(&mut self, positions: &HashMap<String, Value>, is_first: bool) -> Result<(), Trouble> {
        if let Some(next) = positions.get(&self.name()).and_then(|position| position["next"].as_i64()) {
            self.next = next;
            return Ok(());
        }
        let settings = &self.work.mapping.settings;
        let moment = match self.work.mapping.starting_position() {
            "LATEST" if is_first => -1,
            "AT_TIMESTAMP" if is_first => {
                let seconds = settings.get("StartingPositionTimestamp").and_then(Value::as_f64);
                (seconds.unwrap_or_default() * 1000.0) as i64
            }
            _ => -2,
        };
        let topic = topic(&self.work).to_owned();
        let offset = self.broker.offset(&topic, self.partition, moment).await?;
        // Nothing is that new: what comes next is.
        self.next = if offset < 0 { self.broker.offset(&topic, self.partition, -1).await? } else { offset };
        Ok(self.work.passed(&self.name(), json!({ "next": self.next })).await?)
    }

    /// Reads until something breaks, or it is time to stop: the partition.
    async fn run(mut self) -> i32 {
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(Trouble::Stopped) => return self.partition,
                Err(Trouble::Broker(BrokerError::Gone)) => {
                    tracing::warn!(
                        partition = self.name(),
                        "records of a topic were gone before the function could have them"
                    );
                    let topic = topic(&self.work).to_owned();
                    match self.broker.offset(&topic, self.partition, -2).await {
                        Ok(first) => self.next = first,
                        Err(_) => return self.partition,
                    }
                }
                Err(error) => {
                    self.work.problem(&error);
                    return self.partition;
                }
            }
        }
    }

    /// One batch.
    async fn step(&mut self) -> Result<(), Trouble> {
        let (records, next) = self.gather().await?;
        if next == self.next {
            return Ok(());
        }
        let name = self.name();
        let whole = |record: Record| {
            let Value::Object(rest) = record.value else { return Value::Null };
            let mut whole = json!({ "topic": topic(&self.work), "partition": self.partition });
            if let Value::Object(whole) = &mut whole {
                whole.extend(rest);
            }
            whole
        };
        let wanted = records.into_iter().map(whole).filter(|record| self.work.wants(&seen(record))).collect();
        for list in fitting(wanted, self.work.invoker.event_max() * 9 / 10) {
            serve(&self.work, &name, list).await?;
        }
        self.work.passed(&name, json!({ "next": next })).await?;
        self.next = next;
        Ok(())
    }

    /// Records until there are enough of them, or the window is over; and the offset behind them.
    async fn gather(&mut self) -> Result<(Vec<Record>, i64), Trouble> {
        let (size, window) = (self.work.mapping.batch_size(), self.work.mapping.window());
        let (mut records, mut next, mut deadline) = (Vec::new(), self.next, None);
        let topic = topic(&self.work).to_owned();
        loop {
            let fetching = self.broker.fetch(&topic, self.partition, next);
            let (more, behind) = self.work.unless_stopped(fetching).await??;
            records.extend(more);
            next = behind;
            let now = Instant::now();
            if records.len() >= size {
                records.truncate(size);
                let behind = records.last().map_or(next, |record| record.offset + 1);
                return Ok((records, behind));
            }
            if records.is_empty() || now >= *deadline.get_or_insert(now + window) {
                return Ok((records, next));
            }
        }
    }
}

/// Runs the function with these records until it has had them.
async fn serve(work: &Work, name: &str, records: Vec<Value>) -> Result<(), Stopped> {
    let event = json!({
        "eventSource": "SelfManagedKafka",
        "bootstrapServers": work.mapping.source,
        "records": { (name): records },
    });
    let event = bytes::Bytes::from(event.to_string());
    let mut back_off = BackOff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        match work.invoke_event(event.clone()).await {
            Invoked::Answered { failed: false, .. } => {
                work.tell("OK");
                return Ok(());
            }
            Invoked::Answered { .. } => work.tell("PROBLEM: Function call failed"),
            Invoked::Later { reason } | Invoked::Impossible { reason } => work.problem(&reason),
        }
        work.pause(back_off.pause()).await?;
    }
}

/// A record as filters see it: keys and values that are texts or JSON are looked into.
fn seen(record: &Value) -> Value {
    let mut seen = record.clone();
    for member in ["key", "value"] {
        let bytes = record[member].as_str().and_then(|text| BASE64.decode(text).ok());
        let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) else { continue };
        let json = serde_json::from_str::<Value>(&text).ok().filter(|json| json.is_object() || json.is_array());
        seen[member] = json.unwrap_or_else(|| text.into());
    }
    seen
}
