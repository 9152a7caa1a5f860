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

use crate::readers::{self, Divided, Readers};
use crate::work::{Positions, PositionsError, Work};
use origin::{Origin, Shard};
use serde_json::{Value, json};
use std::collections::HashMap;

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
    readers::keep(&work, Stream { origin: Origin::of(&work), work: work.clone() }).await;
}

struct Stream {
    work: Work,
    origin: Origin,
}

#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Service(#[from] aws::CallError),
    #[error(transparent)]
    Positions(#[from] PositionsError),
}

impl Divided for Stream {
    type Part = String;
    type Error = BeginError;

    async fn begin(&self, readers: &mut Readers<String>) -> Result<(), BeginError> {
        let Self { work, origin } = self;
        let (shards, begin_at) = (origin.shards().await?, first(work));
        // All that there are at first begin where the mapping says; what comes into being later is read whole.
        let ids = shards.iter().map(|shard| shard.id.clone()).collect();
        let Positions { of: positions, are_new } = work.positions(ids, later(&begin_at)).await?;
        for shard in &shards {
            if readers.is_reading(&shard.id) || !is_its_turn(shard, &shards, &positions) {
                continue;
            }
            let position = match positions.get(&shard.id) {
                Some(_) if are_new => begin_at.clone(),
                Some(position) => position.clone(),
                None => json!({ "from": "TRIM_HORIZON" }),
            };
            let mut reader = shard::Reader::new(work.clone(), origin.clone(), shard.id.clone(), position);
            // It stands in its place before the mapping shows as enabled: what comes then is not missed.
            reader.open().await?;
            readers.add(shard.id.clone(), reader.run());
        }
        Ok(())
    }
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
mod tests;
