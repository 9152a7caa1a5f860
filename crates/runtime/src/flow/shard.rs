//! One shard: a function of whatever kind, given sets and giving sets.
//!
//! A handler's event is `{"sets": …}` of its inputs. Its answer is that of its outputs, or any other JSON, which is then
//! one item of the first set that the flow takes of it.

use super::Datum;
use super::datum::inline;
use crate::dispatch::{Call, Dispatcher, Hold, Holding, InvokeError, Payload};
use crate::function::Function;
use bytes::Bytes;
use cfork::invocation::Cause;
use fetch::{Fetch, Terms};
use flow::plan::ENDS_MAX;
use sets::wire::Data;
use sets::{Item, Limits, Set, Sets};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What a handler's answer is called that is no sets.
const ANSWER: &str = "answer";
/// What an engine has done that was asked for nothing.
const KEPT: &str = "an engine has kept an item that it was to hand over";
/// Why an item was not made again that an engine has lost.
const LOST: &str = "It was not made again: it was lost many times over, or the flow's items fill three quarters of their room \
                    (`run_mib`, `node_mib` in `[flows]`), and nothing is remembered of how they were made. Run the flow again";
/// Between attempts while functions are busy, at first and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// What a shard has to do.
#[derive(Debug)]
pub struct Work {
    pub function: String,
    pub inputs: Sets<Datum>,
    /// The sets that are taken of it.
    pub results: Vec<String>,
    pub request_id: String,
    pub trace_id: String,
    /// The run's.
    pub deadline: Instant,
    /// What its engine holds for the run.
    pub hold: Option<Hold>,
}

/// The outputs, or why there are none.
pub type Made = Result<Sets<Payload>, Unmade>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmade {
    /// An error object.
    Failed(Bytes),
    /// An engine has ended with it, or with these of its inputs. What to say if it is not to be run again.
    Interrupted { lost: Vec<usize>, error: Bytes },
}

impl From<Bytes> for Unmade {
    fn from(error: Bytes) -> Self {
        Self::Failed(error)
    }
}

/// Who runs shards. Dropping the future ends the shard, where that can be.
pub trait Perform: Send + Sync + 'static {
    fn perform(&self, work: Work) -> Pin<Box<dyn Future<Output = Made> + Send>>;

    /// Whether a shard of this function may be run more than once.
    fn may_repeat(&self, _function: &str) -> bool {
        false
    }

    /// The PU whose engines run all shards of this function, and may hold what it leaves for others that run there. None:
    /// it takes and gives its items whole.
    fn engines_of(&self, _function: &str) -> Option<u8> {
        None
    }

    /// What the engines of a PU will hold for one run: items from so many bytes on.
    fn holding(&self, _pu: u8, _from: u32) -> Option<Arc<Holding>> {
        None
    }
}

/// The functions of a flow, as one run has found them.
pub struct Functions {
    dispatcher: Arc<Dispatcher>,
    fetch: Fetch,
    /// By their names in the flow.
    by_name: BTreeMap<String, Hand>,
    /// Told of each shard of a function that has ended.
    ended: BTreeMap<String, Arc<Notify>>,
}

impl Functions {
    pub fn new(dispatcher: Arc<Dispatcher>, fetch: Fetch, by_name: BTreeMap<String, Hand>) -> Self {
        let ended = by_name.keys().map(|name| (name.clone(), Arc::default())).collect();
        Self { dispatcher, fetch, by_name, ended }
    }

    fn place(&self, function: &str) -> Place {
        Place { ended: self.ended.get(function).cloned().unwrap_or_default(), pause: PATIENCE.0 }
    }
}

/// Where a shard waits while its function has as many invocations as it may: the next one of the run begins as soon as one
/// has ended, and each looks now and then whether one of somebody else's has.
struct Place {
    ended: Arc<Notify>,
    pause: Duration,
}

impl Place {
    async fn wait(&mut self) {
        let _ = tokio::time::timeout(self.pause, self.ended.notified()).await;
        self.pause = (self.pause * 2).min(PATIENCE.1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ended.notify_one();
    }
}

/// Who runs the shards of a function.
#[derive(Clone)]
pub enum Hand {
    /// With the ARN by which it was found, where that has a qualifier.
    Function(Arc<Function>, String),
    /// An I/O function: the platform itself.
    Io(fetch::Function),
}

impl Perform for Functions {
    fn perform(&self, work: Work) -> Pin<Box<dyn Future<Output = Made> + Send>> {
        let place = self.place(&work.function);
        match self.by_name.get(&work.function).cloned() {
            Some(Hand::Function(function, arn)) if function.kind.is_pure() => {
                Box::pin(compute(self.dispatcher.clone(), function, arn, work, place))
            }
            Some(Hand::Function(function, arn)) => {
                Box::pin(invoke(self.dispatcher.clone(), function, arn, work, place))
            }
            Some(Hand::Io(function)) => Box::pin(carry_out(self.fetch.clone(), function, work)),
            None => {
                let error = platform(&format!("there is no function {}", work.function));
                Box::pin(std::future::ready(Err(error.into())))
            }
        }
    }

    /// Handlers and I/O have done something in the world.
    fn may_repeat(&self, function: &str) -> bool {
        matches!(self.by_name.get(function), Some(Hand::Function(function, _)) if function.kind.is_pure())
    }

    /// Results that are kept are kept with all their data in them.
    fn engines_of(&self, function: &str) -> Option<u8> {
        match self.by_name.get(function)? {
            Hand::Function(function, _) if function.kind.is_pure() && !function.pure.cache => {
                self.dispatcher.sole_pu(function)
            }
            _ => None,
        }
    }

    fn holding(&self, pu: u8, from: u32) -> Option<Arc<Holding>> {
        self.dispatcher.holding(pu, from)
    }
}

/// Items with all their data, for who has no engine.
pub fn whole(inputs: Sets<Datum>) -> Result<Sets<Bytes>, Bytes> {
    let elsewhere = || platform("an item is with an engine, and its taker is not");
    let one = |item: Item<Datum>| {
        let data = item.data.bytes().cloned().ok_or_else(elsewhere)?;
        Ok(Item::new(item.name, item.key, data))
    };
    let set = |set: Set<Datum>| {
        let items = set.items.into_iter().map(one).collect::<Result<_, Bytes>>()?;
        Ok(Set { name: set.name, items })
    };
    inputs.into_iter().map(set).collect()
}

async fn invoke(
    dispatcher: Arc<Dispatcher>,
    function: Arc<Function>,
    invoked_arn: String,
    work: Work,
    mut place: Place,
) -> Made {
    let Work { inputs, results, request_id, trace_id, .. } = work;
    let payload = Bytes::from(sets::json::encode(&whole(inputs)?));
    loop {
        let call = Call {
            payload: payload.clone(),
            request_id: request_id.clone(),
            trace_id: trace_id.clone(),
            invoked_arn: invoked_arn.clone(),
            ..Call::default()
        };
        match dispatcher.invoke(&function, call).await {
            Ok(outcome) if outcome.failed => return Err(outcome.body.into()),
            Ok(outcome) => return answered(outcome.body, &results),
            // Nothing has run: the shard waits in its place, until the run's time is over.
            Err(InvokeError::Throttled { .. }) => place.wait().await,
            Err(error) => return Err(platform(&error.to_string()).into()),
        }
    }
}

/// A pure function: sets as they are, both ways.
async fn compute(
    dispatcher: Arc<Dispatcher>,
    function: Arc<Function>,
    invoked_arn: String,
    work: Work,
    mut place: Place,
) -> Made {
    loop {
        let call = Call {
            request_id: work.request_id.clone(),
            trace_id: work.trace_id.clone(),
            invoked_arn: invoked_arn.clone(),
            hold: work.hold.clone(),
            ..Call::default()
        };
        match dispatcher.run_pure(&function, &work.inputs, call).await {
            Ok(computed) => {
                let cause = computed.report.cause;
                let outputs = computed.outcome.map_err(|error| unmade(cause, error))?;
                let asked = work.hold.as_ref().is_some_and(|hold| hold.keeps);
                return if asked || outputs.iter().all(is_here) { Ok(outputs) } else { Err(platform(KEPT).into()) };
            }
            Err(InvokeError::Throttled { .. }) => place.wait().await,
            Err(error) => return Err(platform(&error.to_string()).into()),
        }
    }
}

/// What an engine's error object means to the shard.
fn unmade(cause: Cause, error: Bytes) -> Unmade {
    #[derive(Default, serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Said {
        error_type: String,
        error_message: String,
        lost: Vec<usize>,
    }
    if !matches!(cause, Cause::Ended | Cause::Gone) {
        return Unmade::Failed(error);
    }
    let Ok(Said { error_type, error_message, lost }) = serde_json::from_slice(&error) else {
        return Unmade::Failed(error);
    };
    let why = match cause {
        Cause::Gone if lost.is_empty() => return Unmade::Failed(error),
        Cause::Gone => LOST.to_owned(),
        _ => {
            format!("It was begun {} times, and each time its engine has ended: it may be what ends them", ENDS_MAX + 1)
        }
    };
    Unmade::Interrupted { lost, error: object(&error_type, &format!("{error_message}. {why}")) }
}

/// Whether all data is in the message.
fn is_here(set: &Set<Payload>) -> bool {
    set.items.iter().all(|item| matches!(item.data, Data::Inline(_)))
}

async fn carry_out(fetch: Fetch, function: fetch::Function, work: Work) -> Made {
    let inputs = whole(work.inputs)?;
    let outputs: Vec<&str> = work.results.iter().map(String::as_str).collect();
    let made = fetch.run(function, inputs, Terms { deadline: work.deadline, outputs: &outputs }).await;
    made.map(inline).map_err(|error| object(&error.error_type(), &error.to_string()).into())
}

/// A handler's answer as sets.
pub fn answered(body: Bytes, results: &[String]) -> Made {
    if sets::json::is_sets(&body) {
        return sets::json::decode(&body, Limits::default()).map(inline).map_err(|error| {
            let said = format!("the answer begins as sets and is none: {error}");
            object("Flow.BadSets", &said).into()
        });
    }
    let first = results.first().cloned();
    Ok(first.map(|name| Set::new(name, vec![Item::new(ANSWER, 0, Data::Inline(body))])).into_iter().collect())
}

/// An error object in Lambda's form.
pub fn object(kind: &str, message: &str) -> Bytes {
    serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string().into()
}

fn platform(message: &str) -> Bytes {
    object("Flow.NotRun", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_shard_waits_until_one_has_ended_or_for_a_while() {
        let ended = Arc::new(Notify::new());
        let place = || Place { ended: ended.clone(), pause: PATIENCE.0 };
        let (before, mut next) = (place(), place());
        let start = Instant::now();
        tokio::join!(next.wait(), async { drop(before) });
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            next.wait().await;
        }
        assert!(start.elapsed() > PATIENCE.1 && next.pause == PATIENCE.1);
    }
}
