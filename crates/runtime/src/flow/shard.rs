//! One shard: a function of whatever kind, given sets and giving sets.
//!
//! A handler's event is `{"sets": …}` of its inputs. Its answer is that of its outputs, or any other JSON, which is then
//! one item of the first set that the flow takes of it.

use super::Datum;
use crate::dispatch::{Call, Dispatcher, InvokeError};
use crate::function::Function;
use bytes::Bytes;
use fetch::{Fetch, Terms};
use sets::wire::Data;
use sets::{Item, Limits, Set, Sets};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a handler's answer is called that is no sets.
const ANSWER: &str = "answer";
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
}

/// The outputs, or an error object.
pub type Made = Result<Sets<Bytes>, Bytes>;

/// Who runs shards. Dropping the future ends the shard, where that can be.
pub trait Perform: Send + Sync + 'static {
    fn perform(&self, work: Work) -> Pin<Box<dyn Future<Output = Made> + Send>>;
}

/// The functions of a flow, as one run has found them.
pub struct Functions {
    pub dispatcher: Arc<Dispatcher>,
    pub fetch: Fetch,
    /// By their names in the flow.
    pub by_name: BTreeMap<String, Hand>,
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
        match self.by_name.get(&work.function).cloned() {
            Some(Hand::Function(function, arn)) if function.kind.is_pure() => {
                Box::pin(compute(self.dispatcher.clone(), function, arn, work))
            }
            Some(Hand::Function(function, arn)) => Box::pin(invoke(self.dispatcher.clone(), function, arn, work)),
            Some(Hand::Io(function)) => Box::pin(carry_out(self.fetch.clone(), function, work)),
            None => Box::pin(std::future::ready(Err(platform(&format!("there is no function {}", work.function))))),
        }
    }
}

async fn invoke(dispatcher: Arc<Dispatcher>, function: Arc<Function>, invoked_arn: String, work: Work) -> Made {
    let payload = Bytes::from(sets::json::encode(&work.inputs));
    let Work { inputs, results, request_id, trace_id, .. } = work;
    drop(inputs);
    let mut pause = PATIENCE.0;
    loop {
        let call = Call {
            payload: payload.clone(),
            request_id: request_id.clone(),
            trace_id: trace_id.clone(),
            invoked_arn: invoked_arn.clone(),
            ..Call::default()
        };
        match dispatcher.invoke(&function, call).await {
            Ok(outcome) if outcome.failed => return Err(outcome.body),
            Ok(outcome) => return answered(outcome.body, &results),
            // Nothing has run: the shard waits in its place, until the run's time is over.
            Err(InvokeError::Throttled { .. }) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PATIENCE.1);
            }
            Err(error) => return Err(platform(&error.to_string())),
        }
    }
}

/// A pure function: sets as they are, both ways.
async fn compute(dispatcher: Arc<Dispatcher>, function: Arc<Function>, invoked_arn: String, work: Work) -> Made {
    let mut pause = PATIENCE.0;
    loop {
        let call = Call {
            request_id: work.request_id.clone(),
            trace_id: work.trace_id.clone(),
            invoked_arn: invoked_arn.clone(),
            ..Call::default()
        };
        match dispatcher.run_pure(&function, &work.inputs, call).await {
            Ok(computed) => return computed.outcome.and_then(|outputs| outputs.into_iter().map(here).collect()),
            Err(InvokeError::Throttled { .. }) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PATIENCE.1);
            }
            Err(error) => return Err(platform(&error.to_string())),
        }
    }
}

/// Outputs whose data is in the message; nobody has asked an engine to keep any.
fn here(set: Set<Data<Bytes>>) -> Result<Set<Bytes>, Bytes> {
    let items = set.items.into_iter().map(|item| match item.data {
        Data::Inline(data) => Ok(Item::new(item.name, item.key, data)),
        Data::Held(_) => Err(platform("an engine has kept an item that it was to hand over")),
    });
    Ok(Set { name: set.name, items: items.collect::<Result<_, _>>()? })
}

async fn carry_out(fetch: Fetch, function: fetch::Function, work: Work) -> Made {
    let inputs = work.inputs.into_iter().map(|set| set.map(|datum| datum.bytes().clone())).collect();
    let outputs: Vec<&str> = work.results.iter().map(String::as_str).collect();
    let made = fetch.run(function, inputs, Terms { deadline: work.deadline, outputs: &outputs }).await;
    made.map_err(|error| object(&error.error_type(), &error.to_string()))
}

/// A handler's answer as sets.
pub fn answered(body: Bytes, results: &[String]) -> Made {
    if sets::json::is_sets(&body) {
        return sets::json::decode(&body, Limits::default()).map_err(|error| {
            let said = format!("the answer begins as sets and is none: {error}");
            object("Flow.BadSets", &said)
        });
    }
    let first = results.first().cloned();
    Ok(first.map(|name| Set::new(name, vec![Item::new(ANSWER, 0, body)])).into_iter().collect())
}

/// An error object in Lambda's form.
pub fn object(kind: &str, message: &str) -> Bytes {
    serde_json::json!({ "errorType": kind, "errorMessage": message }).to_string().into()
}

fn platform(message: &str) -> Bytes {
    object("Flow.NotRun", message)
}
