//! One batch, until the function has had it, or it is given up as the mapping says.
//!
//! ```text
//!  batch ─► invoke ─► well: passed
//!              ├────► from one record on failed: what is before it is passed, the rest tried again
//!              ├────► failed, may be bisected: its halves, one after the other
//!              ├────► failed once too often, or too old: told to the destination, passed
//!              ╰────► failed, no room: after a pause, again
//! ```
//! Records of one key stay in their order; with a parallelization factor, those of different keys run at once.

use super::origin::{Origin, Read};
use super::window::{Ending, STATE_MAX, Window};
use crate::invoker::Invoked;
use crate::response::{Failures, failures};
use crate::work::{BackOff, Stopped, Work, fitting};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Bytes of what an event says of its window beside the state.
const ENVELOPE: usize = 4096;

/// What batches are delivered with.
pub struct Batch<'a> {
    pub work: &'a Work,
    pub origin: &'a Origin,
    pub shard: &'a str,
    /// The window that the records are of, where the mapping has windows.
    pub window: Option<&'a Mutex<Window>>,
}

impl Batch<'_> {
    async fn invoke(&self, records: &[Value], ending: Option<Ending>) -> Invoked {
        let Some(window) = self.window() else { return self.work.invoke(records).await };
        let mut event = Map::new();
        event.insert("Records".to_owned(), records.into());
        event.extend(window.members(ending));
        event.insert("shardId".to_owned(), self.shard.into());
        event.insert("eventSourceARN".to_owned(), self.origin.stream().into());
        self.work.invoke_event(Value::Object(event).to_string().into()).await
    }

    fn window(&self) -> Option<Window> {
        self.window.map(|window| window.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Bytes that an event has for records. A window's state, which may grow from one to the next, is beside them.
    fn room(&self) -> usize {
        let most = self.work.invoker.event_max();
        if self.window.is_some() { most.saturating_sub(STATE_MAX + ENVELOPE) } else { most }
    }

    fn learn(&self, answer: &[u8]) {
        if let Some(window) = self.window {
            window.lock().unwrap_or_else(PoisonError::into_inner).learn(answer);
        }
    }
}

/// Records on their way to the function.
struct Portion {
    reads: Vec<Read>,
    /// How often the function has failed with them.
    failures: u64,
}

/// What the last attempt said, for the destination.
struct Failed {
    condition: &'static str,
    request_context: Option<Value>,
    invocations: u64,
}

/// Delivers records; when this has returned well, they are all the function's, or given up.
pub async fn deliver(batch: &Batch<'_>, reads: Vec<Read>) -> Result<(), Stopped> {
    let factor = batch.work.mapping.parallelization();
    if factor == 1 {
        return lane(batch, reads).await;
    }
    let mut lanes: Vec<Vec<Read>> = (0..factor).map(|_| Vec::new()).collect();
    for read in reads {
        lanes[crc32fast::hash(read.key.as_bytes()) as usize % factor].push(read);
    }
    let mut running = Vec::new();
    for reads in lanes.into_iter().filter(|reads| !reads.is_empty()) {
        let (work, origin, shard) = (batch.work.clone(), batch.origin.clone(), batch.shard.to_owned());
        running.push(tokio::spawn(async move {
            lane(&Batch { work: &work, origin: &origin, shard: &shard, window: None }, reads).await
        }));
    }
    let mut outcome = Ok(());
    for lane in running {
        // One that has panicked has not passed its records: they are read again.
        outcome = outcome.and(lane.await.unwrap_or(Err(Stopped)));
    }
    outcome
}

/// Delivers records in their order.
async fn lane(batch: &Batch<'_>, reads: Vec<Read>) -> Result<(), Stopped> {
    let mut back_off = BackOff::new(Duration::from_millis(200), Duration::from_secs(30));
    let lists = fitting(reads, batch.room(), |read| read.length);
    let mut portions: VecDeque<Portion> = lists.into_iter().map(|reads| Portion { reads, failures: 0 }).collect();
    while let Some(mut portion) = portions.pop_front() {
        portion.reads = pass_old(batch, portion.reads, portion.failures).await?;
        if portion.reads.is_empty() {
            continue;
        }
        let records: Vec<Value> = portion.reads.iter().map(|read| read.record.clone()).collect();
        let verdict = match batch.invoke(&records, None).await {
            Invoked::Answered { body, failed: false, version } => {
                batch.learn(&body);
                answered(batch.work, &portion.reads, &body, &version)
            }
            Invoked::Answered { version, .. } => {
                batch.work.tell("PROBLEM: Function call failed");
                Verdict::Failed { from: 0, context: context(&version, Some("Unhandled")) }
            }
            Invoked::Later { reason } | Invoked::Impossible { reason } => {
                batch.work.problem(&reason);
                Verdict::Later
            }
        };
        match verdict {
            Verdict::Done => {
                batch.work.tell("OK");
                back_off.reset();
            }
            Verdict::Later => {
                portions.push_front(portion);
                batch.work.pause(back_off.pause()).await?;
            }
            Verdict::Failed { from, context } => {
                let progressed = from > 0;
                portion.reads.drain(..from);
                if progressed {
                    (portion.failures, back_off) =
                        (0, BackOff::new(Duration::from_millis(200), Duration::from_secs(30)));
                }
                again(batch, portion, (context, progressed), &mut portions).await?;
                batch.work.pause(back_off.pause()).await?;
            }
        }
    }
    Ok(())
}

/// Tells the function that a window is over, as often as the mapping allows.
pub async fn finish(batch: &Batch<'_>, ending: Ending) -> Result<(), Stopped> {
    let (mut failures, mut back_off) = (0, BackOff::new(Duration::from_millis(200), Duration::from_secs(30)));
    loop {
        match batch.invoke(&[], Some(ending)).await {
            Invoked::Answered { failed: false, .. } => {
                batch.work.tell("OK");
                return Ok(());
            }
            Invoked::Answered { .. } => {
                batch.work.tell("PROBLEM: Function call failed");
                failures += 1;
                if batch.work.mapping.retries().is_some_and(|retries| failures > retries) {
                    return Ok(());
                }
            }
            Invoked::Later { reason } | Invoked::Impossible { reason } => batch.work.problem(&reason),
        }
        batch.work.pause(back_off.pause()).await?;
    }
}

enum Verdict {
    Done,
    Later,
    /// From this record on; those before it are done.
    Failed {
        from: usize,
        /// What a destination is told of the answer.
        context: Value,
    },
}

/// What a destination is told of an answer; no error where it is the answer that says what failed.
fn context(version: &str, error: Option<&str>) -> Value {
    let version = if version.is_empty() { "$LATEST" } else { version };
    json!({ "statusCode": 200, "executedVersion": version, "functionError": error })
}

fn answered(work: &Work, reads: &[Read], answer: &[u8], version: &str) -> Verdict {
    if !work.mapping.reports_failures() {
        return Verdict::Done;
    }
    let from = match failures(answer, |id| reads.iter().any(|read| read.sequence == id)) {
        Failures::None => None,
        Failures::All => Some(0),
        // Everything from the first one on is delivered again, so that the order is kept.
        Failures::Some(ids) => reads.iter().position(|read| ids.contains(&read.sequence)),
    };
    from.map_or(Verdict::Done, |from| Verdict::Failed { from, context: context(version, None) })
}

/// What is left of a portion is tried again, in halves where that is wanted, or given up. What the function said where to
/// go on from is not halved: that was the cut.
async fn again(
    batch: &Batch<'_>,
    mut portion: Portion,
    (context, progressed): (Value, bool),
    portions: &mut VecDeque<Portion>,
) -> Result<(), Stopped> {
    let mapping = &batch.work.mapping;
    if mapping.bisects() && !progressed && portion.reads.len() > 1 {
        let rest = portion.reads.split_off(portion.reads.len() / 2);
        portions.push_front(Portion { reads: rest, failures: portion.failures });
        portions.push_front(portion);
        return Ok(());
    }
    portion.failures += 1;
    if mapping.retries().is_none_or(|retries| portion.failures <= retries) {
        portions.push_front(portion);
        return Ok(());
    }
    let failed =
        Failed { condition: "RetryAttemptsExhausted", request_context: Some(context), invocations: portion.failures };
    give_up(batch, &portion.reads, failed).await
}

/// Gives up what is too old: the rest.
async fn pass_old(batch: &Batch<'_>, mut reads: Vec<Read>, failures: u64) -> Result<Vec<Read>, Stopped> {
    let Some(age_max) = batch.work.mapping.age_max_ms() else { return Ok(reads) };
    let oldest = api::time::now_ms().saturating_sub(age_max);
    let first_young = reads.iter().position(|read| read.arrived_ms >= oldest).unwrap_or(reads.len());
    let young = reads.split_off(first_young);
    if !reads.is_empty() {
        // AWS counts the one that there was no time for.
        let failed = Failed { condition: "RecordAgeExceeded", request_context: None, invocations: failures + 1 };
        give_up(batch, &reads, failed).await?;
    }
    Ok(young)
}

/// Tells the destination of records that the function will not have.
async fn give_up(batch: &Batch<'_>, reads: &[Read], failed: Failed) -> Result<(), Stopped> {
    let work = batch.work;
    let destination = work.mapping.on_failure();
    tracing::debug!(mapping = work.mapping.uuid, records = reads.len(), why = failed.condition, "records are given up");
    if destination.is_empty() {
        return Ok(());
    }
    let mut message = Map::new();
    message.insert(
        "requestContext".to_owned(),
        json!({
            "requestId": uuid::Uuid::new_v4().to_string(),
            "functionArn": work.mapping.function,
            "condition": failed.condition,
            "approximateInvokeCount": failed.invocations,
        }),
    );
    message.extend(failed.request_context.map(|context| ("responseContext".to_owned(), context)));
    message.insert("version".to_owned(), "1.0".into());
    message.insert("timestamp".to_owned(), api::time::rfc3339(api::time::now_ms()).into());
    let (name, info) = batch.origin.batch_info(batch.shard, reads);
    message.insert(name.to_owned(), info);
    let message = bytes::Bytes::from(Value::Object(message).to_string());
    let mut back_off = BackOff::new(Duration::from_millis(200), Duration::from_secs(30));
    while let Err(error) = work.invoker.tell(destination, message.clone()).await {
        work.problem(&error.0);
        work.pause(back_off.pause()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
