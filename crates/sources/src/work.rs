//! What a mapping's poller works with: its mapping, the services, when to stop, and where it tells how it fares.

use crate::filter::Pattern;
use crate::invoker::{Invoked, Invoker};
use crate::mapping::Mapping;
use crate::store::{Store, StoreError};
use aws::{Aws, CallError};
use bytes::Bytes;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinError;

/// What Lambda says of a mapping that has read nothing yet.
const NOTHING: &str = "No records processed";

/// How a poller fares, for whoever asks.
#[derive(Debug)]
pub struct Progress {
    ready: watch::Sender<bool>,
    result: Mutex<String>,
}

impl Progress {
    pub fn new() -> Self {
        Self { ready: watch::Sender::new(false), result: Mutex::new(NOTHING.to_owned()) }
    }

    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// What the last batch came to, in Lambda's words.
    pub fn result(&self) -> String {
        self.result.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A poller's surroundings. Cheap to clone.
#[derive(Clone)]
pub struct Work {
    pub mapping: Arc<Mapping>,
    pub filters: Arc<[Pattern]>,
    pub aws: Arc<Aws>,
    pub invoker: Arc<dyn Invoker>,
    pub store: Arc<Store>,
    pub progress: Arc<Progress>,
    pub stop: watch::Receiver<bool>,
}

/// The mapping was changed, deleted or disabled, or the node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl Work {
    /// Waits for a future, unless it is time to stop.
    pub async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => Err(Stopped),
            value = future => Ok(value),
        }
    }

    pub async fn pause(&self, pause: Duration) -> Result<(), Stopped> {
        self.unless_stopped(tokio::time::sleep(pause)).await
    }

    /// From now on the mapping shows as enabled: it reads, or has found out that it cannot.
    pub fn ready(&self) {
        self.progress.ready.send_replace(true);
    }

    pub fn tell(&self, result: &str) {
        result.clone_into(&mut self.progress.result.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A problem that is tried again; one that lasts is told once.
    pub fn problem(&self, what: &dyn std::fmt::Display) {
        let told = format!("PROBLEM: {what}");
        if self.progress.result() != told {
            let Mapping { uuid, source, .. } = &*self.mapping;
            tracing::warn!(mapping = uuid, source, problem = %what, "an event source could not be read or served");
            self.tell(&told);
        }
    }

    /// Whether a record, as filters see it, is wanted.
    pub fn wants(&self, record: &Value) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| filter.matches(record))
    }

    /// Runs the function with these records.
    pub async fn invoke(&self, records: &[Value]) -> Invoked {
        let event = serde_json::json!({ "Records": records }).to_string();
        self.invoke_event(event.into()).await
    }

    pub async fn invoke_event(&self, event: Bytes) -> Invoked {
        let request_id = uuid::Uuid::new_v4().to_string();
        self.invoker.invoke(&self.mapping.function, request_id, event).await
    }

    /// How far the mapping is in each part that it has begun. Where that is none it begins in all of these at once, at
    /// `beginning`: a part that is not among them when this was cut off would be taken for one that came later.
    pub async fn positions(&self, parts: Vec<String>, beginning: Value) -> Result<Positions, PositionsError> {
        let (store, uuid) = (self.store.clone(), self.mapping.uuid.clone());
        let read = move || {
            let positions = store.positions(&uuid)?;
            if !positions.is_empty() || parts.is_empty() {
                return Ok(Positions { of: positions, are_new: false });
            }
            store.begin(&uuid, &parts, &beginning)?;
            Ok(Positions { of: parts.into_iter().map(|part| (part, beginning.clone())).collect(), are_new: true })
        };
        tokio::task::spawn_blocking(read).await?
    }

    /// Notes how far a part has been passed, as soon as the disk takes it: until then nothing more of the part is read.
    pub async fn passed(&self, part: &str, position: &Value) -> Result<(), Stopped> {
        let mut back_off = BackOff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            let (store, uuid) = (self.store.clone(), self.mapping.uuid.clone());
            let (own, value) = (part.to_owned(), position.clone());
            let noted = tokio::task::spawn_blocking(move || store.set_position(&uuid, &own, &value)).await;
            let Err(error) = noted.map_err(PositionsError::from).and_then(|noted| Ok(noted?)) else { return Ok(()) };
            tracing::warn!(%error, part, "how far an event source has been read could not be written");
            self.pause(back_off.pause()).await?;
        }
    }
}

/// How far a mapping is.
pub struct Positions {
    pub of: HashMap<String, Value>,
    /// It has just begun.
    pub are_new: bool,
}

/// Why it is not known how far a mapping is.
#[derive(Debug, thiserror::Error)]
pub enum PositionsError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Task(#[from] JoinError),
}

/// Why nothing more was read.
pub enum Trouble {
    Stopped,
    Service(CallError),
}

impl From<Stopped> for Trouble {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::Service(error)
    }
}

/// Pauses that double, up to a limit.
pub struct BackOff {
    next: Duration,
    first: Duration,
    most: Duration,
}

impl BackOff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, first, most }
    }

    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.most);
        pause
    }

    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Splits records into lists whose texts, of these lengths, fit into an event together. One that does not fit alone stands
/// alone.
pub fn fitting<T>(records: Vec<T>, most: usize, length: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut lists, mut together) = (Vec::<Vec<T>>::new(), usize::MAX);
    for record in records {
        let own = length(&record) + 1;
        match lists.last_mut() {
            Some(list) if together.saturating_add(own) <= most => {
                list.push(record);
                together += own;
            }
            _ => {
                lists.push(vec![record]);
                together = own + "{\"Records\":[]}".len();
            }
        }
    }
    lists
}

/// The length of a record's text.
pub fn length(record: &Value) -> usize {
    record.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_split_where_they_do_not_fit() {
        let records: Vec<Value> = ["aaaa", "bbbb", "cccc", "a long one, too long alone"].map(Value::from).to_vec();
        let lists = fitting(records, 14 + 14, length);
        assert_eq!(lists.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 1]);
        assert!(fitting(Vec::new(), 10, length).is_empty());
    }

    #[test]
    fn pauses_double_and_begin_anew() {
        let mut back_off = BackOff::new(Duration::from_millis(1), Duration::from_millis(3));
        let pauses = [back_off.pause(), back_off.pause(), back_off.pause()];
        assert_eq!(pauses, [1, 2, 3].map(Duration::from_millis));
        back_off.reset();
        assert_eq!(back_off.pause(), Duration::from_millis(1));
    }
}
