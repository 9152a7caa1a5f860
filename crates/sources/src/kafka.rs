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

use crate::filter;
use crate::invoker::Invoked;
use crate::readers::{self, Divided, Readers};
use crate::work::{BackOff, PositionsError, Stopped, Work, fitting, length};
use client::{Broker, BrokerError, Partition};
use records::Record;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Before records are looked for anew that were gone.
const PAUSE: Duration = Duration::from_secs(1);
/// Moments that stand for the first record of all, and for the next one.
const FIRST: i64 = -2;
const NEXT: i64 = -1;

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("it is time to stop")]
    Stopped,
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Positions(#[from] PositionsError),
}

impl From<Stopped> for Trouble {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// Reads a topic until it is time to stop; what is under way then ends first.
pub async fn poll(work: Work) {
    readers::keep(&work, Topic(work.clone())).await;
}

struct Topic(Work);

fn topic(work: &Work) -> &str {
    work.mapping.settings.get("Topics").and_then(|topics| topics.get(0)?.as_str()).unwrap_or_default()
}

/// As events and positions name a partition.
fn name(work: &Work, partition: i32) -> String {
    format!("{}-{partition}", topic(work))
}

impl Divided for Topic {
    type Part = i32;
    type Error = Trouble;

    async fn begin(&self, readers: &mut Readers<i32>) -> Result<(), Trouble> {
        let Self(work) = self;
        let (partitions, begin_at) = (partitions(work).await?, first(work));
        // All that there are at first begin where the mapping says; one that comes later is read whole.
        let names = partitions.iter().map(|partition| name(work, partition.index)).collect();
        // Nothing is as new as what comes next; whoever begins later begins with what has come since.
        let later = if begin_at == NEXT { api::time::now_ms() as i64 } else { begin_at };
        let positions = work.positions(names, json!({ "moment": later })).await?;
        let mut outcome = Ok(());
        for partition in partitions {
            if readers.is_reading(&partition.index) {
                continue;
            }
            let position = match positions.of.get(&name(work, partition.index)) {
                Some(_) if positions.are_new => json!({ "moment": begin_at }),
                Some(position) => position.clone(),
                None => json!({ "moment": FIRST }),
            };
            // Each has a broker of its own: the others are not held up by it.
            let index = partition.index;
            match Reader::open(work.clone(), partition, &position).await {
                Ok(reader) => readers.add(index, reader.run()),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }
}

/// The moment at which a new mapping begins.
fn first(work: &Work) -> i64 {
    match work.mapping.starting_position() {
        "LATEST" => NEXT,
        "AT_TIMESTAMP" => {
            let seconds = work.mapping.settings.get("StartingPositionTimestamp").and_then(Value::as_f64);
            (seconds.unwrap_or_default() * 1000.0) as i64
        }
        _ => FIRST,
    }
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
    /// Takes its place: where it was left, or at a moment.
    async fn open(work: Work, partition: Partition, position: &Value) -> Result<Self, Trouble> {
        let index = partition.index;
        let mut broker = Broker::connect(&partition.leader.ok_or(BrokerError::NoLeader(index))?).await?;
        let next = match position["next"].as_i64() {
            Some(next) => next,
            None => {
                let moment = position["moment"].as_i64().unwrap_or(FIRST);
                let found = broker.offset(topic(&work), index, moment).await?;
                // Nothing is that new: what comes next is.
                let next = if found < 0 { broker.offset(topic(&work), index, NEXT).await? } else { found };
                work.passed(&name(&work, index), &json!({ "next": next })).await?;
                next
            }
        };
        Ok(Self { work, partition: index, broker, next })
    }

    fn name(&self) -> String {
        name(&self.work, self.partition)
    }

    /// Reads until something breaks, or it is time to stop.
    async fn run(mut self) {
        loop {
            let outcome = match self.step().await {
                Err(Trouble::Broker(BrokerError::Gone)) => self.skip().await,
                outcome => outcome,
            };
            match outcome {
                Ok(()) => {}
                Err(Trouble::Stopped) => return,
                Err(error) => return self.work.problem(&error),
            }
        }
    }

    /// Goes on with the first record that is left.
    async fn skip(&mut self) -> Result<(), Trouble> {
        tracing::warn!(partition = self.name(), "records of a topic were gone before the function could have them");
        self.work.pause(PAUSE).await?;
        let topic = topic(&self.work).to_owned();
        self.next = self.work.unless_stopped(self.broker.offset(&topic, self.partition, FIRST)).await??;
        Ok(())
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
        for list in fitting(wanted, self.work.invoker.event_max() * 9 / 10, length) {
            serve(&self.work, &name, list).await?;
        }
        self.work.passed(&name, &json!({ "next": next })).await?;
        self.next = next;
        Ok(())
    }

    /// Records until there are enough of them, or as much as an event can hold, or the window is over; and the offset behind
    /// them.
    async fn gather(&mut self) -> Result<(Vec<Record>, i64), Trouble> {
        let (size, window) = (self.work.mapping.batch_size(), self.work.mapping.window());
        let (mut records, mut bytes, mut next, mut deadline) = (Vec::new(), 0, self.next, None);
        let topic = topic(&self.work).to_owned();
        loop {
            let fetching = self.broker.fetch(&topic, self.partition, next, size - records.len());
            let (more, behind) = self.work.unless_stopped(fetching).await??;
            bytes += more.iter().map(|record| record.length).sum::<usize>();
            records.extend(more);
            next = behind;
            let now = Instant::now();
            let enough = records.len() >= size || bytes >= self.work.invoker.event_max();
            if records.is_empty() || enough || now >= *deadline.get_or_insert(now + window) {
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
        if let Some(text) = record[member].as_str().and_then(filter::seen_encoded) {
            seen[member] = text;
        }
    }
    seen
}

#[cfg(test)]
mod tests;
