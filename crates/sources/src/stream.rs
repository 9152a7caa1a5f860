//! Streams: every shard read in its order, by a reader of its own; children after their parents.
//!
//! | module | what it is |
//! |---|---|
//! | [`origin`] | Kinesis and DynamoDB, as far as they differ |
//! | [`shard`] | one shard, from where it was left to its end |
//! | [`window`] | tumbling windows |
//! | [`batch`] | one batch, until the function has had it or it is given up |
//!
//! How far a shard has been passed is on disk (`store`): a node that was killed goes on from there.

mod batch;
mod origin;
mod shard;
mod window;

use crate::work::{BackOff, Work};
use origin::{Origin, Shard};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::task::JoinSet;

/// How often new shards are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where the reading of a shard begins, and how far it has come.
mod position {
    use serde_json::{Value, json};

    /// The shard was read to its end.
    pub fn end() -> Value {
        json!({ "end": true })
    }

    pub fn is_end(position: &Value) -> bool {
        position["end"] == true
    }

    pub fn after(sequence: &str) -> Value {
        json!({ "after": sequence })
    }
}

/// Reads a stream until it is time to stop; what is under way then ends first.
pub async fn poll(work: Work) {
    let origin = Origin::of(&work);
    let mut readers = JoinSet::new();
    let mut reading = HashSet::new();
    let mut back_off = BackOff::new(Duration::from_secs(1), Duration::from_secs(30));
    loop {
        while let Some(ended) = readers.try_join_next() {
            forget(&mut reading, ended);
        }
        let pause = match begin(&work, &origin, &mut readers, &mut reading).await {
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
        // A shard that ends may have children.
        let ended = async {
            match readers.join_next().await {
                Some(ended) => Some(ended),
                None => std::future::pending().await,
            }
        };
        match work.unless_stopped(tokio::time::timeout(pause, ended)).await {
            Err(_) => break,
            Ok(Ok(Some(ended))) => forget(&mut reading, ended),
            Ok(_) => {}
        }
    }
    while readers.join_next().await.is_some() {}
}

/// A reader that ended for whatever reason but its shard's end is begun again.
fn forget(reading: &mut HashSet<String>, ended: Result<String, tokio::task::JoinError>) {
    match ended {
        Ok(shard) => drop(reading.remove(&shard)),
        Err(error) => {
            tracing::error!(%error, "a reader of a shard panicked");
            reading.clear();
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Service(#[from] aws::CallError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Pass(#[from] crate::work::PassError),
}

/// Begins to read the shards that can be read and are not.
async fn begin(
    work: &Work,
    origin: &Origin,
    readers: &mut JoinSet<String>,
    reading: &mut HashSet<String>,
) -> Result<(), BeginError> {
    let shards = origin.shards().await?;
    let (store, uuid) = (work.store.clone(), work.mapping.uuid.clone());
    let positions = tokio::task::spawn_blocking(move || store.positions(&uuid)).await??;
    let (is_first, begin_at) = (positions.is_empty(), first(work));
    for shard in &shards {
        if reading.contains(&shard.id) || !is_its_turn(shard, &shards, &positions) {
            continue;
        }
        let position = match positions.get(&shard.id) {
            Some(position) => position.clone(),
            // A mapping begins where it says; what came into being later is read whole.
            None if is_first => begin_at.clone(),
            None => json!({ "from": "TRIM_HORIZON" }),
        };
        let mut reader = shard::Reader::new(work.clone(), origin.clone(), shard.id.clone(), position.clone());
        // It stands in its place before the mapping shows as enabled: what comes then is not missed.
        reader.open().await?;
        if !positions.contains_key(&shard.id) {
            work.passed(&shard.id, later(&position)).await?;
        }
        reading.insert(shard.id.clone());
        readers.spawn(reader.run());
    }
    Ok(())
}

/// Whether a shard is to be read now: not when it has been, not before its parent.
fn is_its_turn(shard: &Shard, all: &[Shard], positions: &HashMap<String, Value>) -> bool {
    let is_read = |id: &str| positions.get(id).is_some_and(position::is_end);
    let waits = shard.parents.iter().any(|parent| all.iter().any(|other| other.id == *parent) && !is_read(parent));
    !is_read(&shard.id) && !waits
}

/// Where a new mapping begins.
fn first(work: &Work) -> Value {
    let settings = &work.mapping.settings;
    match work.mapping.starting_position() {
        "AT_TIMESTAMP" => json!({ "from": "AT_TIMESTAMP", "moment": settings.get("StartingPositionTimestamp") }),
        "TRIM_HORIZON" => json!({ "from": "TRIM_HORIZON" }),
        _ => json!({ "from": "LATEST", "since": api::time::now_ms() }),
    }
}

/// The same for whoever begins again there before a record has come: the latest is then what has come since.
fn later(first: &Value) -> Value {
    match first["since"].as_u64() {
        Some(since) => json!({ "from": "SINCE", "since": since }),
        None => first.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_wait_for_their_parents() {
        let shard = |id: &str, parents: &[&str]| Shard {
            id: id.to_owned(),
            parents: parents.iter().map(|parent| (*parent).to_owned()).collect(),
        };
        let all = [shard("a", &["trimmed"]), shard("b", &[]), shard("c", &["a", "b"])];
        let mut positions = HashMap::new();
        let turns = |positions: &HashMap<_, _>| all.each_ref().map(|shard| is_its_turn(shard, &all, positions));
        assert_eq!(turns(&positions), [true, true, false]);
        positions.insert("a".to_owned(), position::end());
        positions.insert("b".to_owned(), position::after("1"));
        assert_eq!(turns(&positions), [false, true, false]);
        positions.insert("b".to_owned(), position::end());
        assert_eq!(turns(&positions), [false, false, true]);
    }
}
