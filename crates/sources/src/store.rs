//! The disk: mappings, and how far each has come in each shard.
//!
//! Mappings are on disk when a request for one is answered. Positions are with the kernel when a batch is passed: a power
//! cut may take the last ones, and records are then delivered once more.

use crate::mapping::{Kind, Mapping};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, named_params, params};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS mappings (
        uuid TEXT PRIMARY KEY,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        function TEXT NOT NULL,
        source TEXT NOT NULL,
        settings TEXT NOT NULL,
        tags TEXT NOT NULL,
        enabled INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        modified_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS positions (
        uuid TEXT NOT NULL,
        shard TEXT NOT NULL,
        position TEXT NOT NULL,
        PRIMARY KEY (uuid, shard)
    ) STRICT, WITHOUT ROWID;";
/// A poller may note how far it is when its mapping has just been deleted.
const ORPHANS: &str = "DELETE FROM positions WHERE uuid NOT IN (SELECT uuid FROM mappings)";
const WRITE: &str = "INSERT OR REPLACE INTO mappings
    (uuid, account, region, function, source, settings, tags, enabled, created_ms, modified_ms)
    VALUES (:uuid, :account, :region, :function, :source, :settings, :tags, :enabled, :created, :modified)";

const SET: &str = "INSERT OR REPLACE INTO positions (uuid, shard, position) VALUES (?1, ?2, ?3)";

/// Why the disk could not be used.
#[derive(Debug, Error)]
#[error("the event sources {path:?} cannot be read or written")]
pub struct StoreError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// Two connections: what is asked for by people waits for the disk, how far pollers are does not.
pub struct Store {
    path: PathBuf,
    mappings: Mutex<Connection>,
    positions: Mutex<Connection>,
}

impl Store {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |synchronous: &str| {
            let connection = Connection::open(path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", synchronous)?;
            connection.busy_timeout(std::time::Duration::from_secs(10))?;
            connection.execute_batch(TABLES)?;
            connection.execute_batch(ORPHANS)?;
            Ok(Mutex::new(connection))
        };
        let failed = |source| StoreError { path: path.to_owned(), source };
        let mappings = open("FULL").map_err(failed)?;
        Ok(Self { path: path.to_owned(), mappings, positions: open("NORMAL").map_err(failed)? })
    }

    fn failed(&self, source: rusqlite::Error) -> StoreError {
        StoreError { path: self.path.clone(), source }
    }

    pub fn mappings(&self) -> Result<Vec<Mapping>, StoreError> {
        let connection = lock(&self.mappings);
        let read =
            || connection.prepare_cached("SELECT * FROM mappings")?.query_map([], mapping)?.collect::<Result<_, _>>();
        read().map_err(|error| self.failed(error))
    }

    pub fn write(&self, mapping: &Mapping) -> Result<(), StoreError> {
        let text = |object: &Map<String, Value>| Value::Object(object.clone()).to_string();
        let connection = lock(&self.mappings);
        let write = || {
            connection.prepare_cached(WRITE)?.execute(named_params! {
                ":uuid": mapping.uuid, ":account": mapping.account, ":region": mapping.region,
                ":function": mapping.function, ":source": mapping.source, ":settings": text(&mapping.settings),
                ":tags": text(&mapping.tags), ":enabled": mapping.enabled,
                ":created": mapping.created_ms as i64, ":modified": mapping.modified_ms as i64,
            })
        };
        write().map(drop).map_err(|error| self.failed(error))
    }

    /// Deletes a mapping with its positions.
    pub fn delete(&self, uuid: &str) -> Result<(), StoreError> {
        let connection = lock(&self.mappings);
        let delete = || {
            let transaction = connection.unchecked_transaction()?;
            for table in ["mappings", "positions"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE uuid = ?1"), [uuid])?;
            }
            transaction.commit()
        };
        delete().map_err(|error| self.failed(error))
    }

    /// How far a mapping is in each shard that it has begun.
    pub fn positions(&self, uuid: &str) -> Result<HashMap<String, Value>, StoreError> {
        let connection = lock(&self.positions);
        let read = || {
            let mut statement = connection.prepare_cached("SELECT shard, position FROM positions WHERE uuid = ?1")?;
            statement.query_map([uuid], |row| Ok((row.get(0)?, json(row, "position")?)))?.collect::<Result<_, _>>()
        };
        read().map_err(|error| self.failed(error))
    }

    /// Notes the same position for parts of which there was none, all or nothing.
    pub fn begin(&self, uuid: &str, parts: &[String], position: &Value) -> Result<(), StoreError> {
        let connection = lock(&self.positions);
        let begin = || {
            let transaction = connection.unchecked_transaction()?;
            for part in parts {
                transaction.prepare_cached(SET)?.execute(params![uuid, part, position.to_string()])?;
            }
            transaction.commit()
        };
        begin().map_err(|error| self.failed(error))
    }

    pub fn set_position(&self, uuid: &str, shard: &str, position: &Value) -> Result<(), StoreError> {
        let connection = lock(&self.positions);
        let set = || connection.prepare_cached(SET)?.execute(params![uuid, shard, position.to_string()]);
        set().map(drop).map_err(|error| self.failed(error))
    }
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn json(row: &Row<'_>, column: &str) -> rusqlite::Result<Value> {
    let (index, text) = (row.as_ref().column_index(column)?, row.get::<_, String>(column)?);
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(error)))
}

fn object(row: &Row<'_>, column: &str) -> rusqlite::Result<Map<String, Value>> {
    json(row, column).map(|value| if let Value::Object(object) = value { object } else { Map::new() })
}

fn mapping(row: &Row<'_>) -> rusqlite::Result<Mapping> {
    let source: String = row.get("source")?;
    let number = |column: &str| row.get::<_, i64>(column).map(|number| number as u64);
    Ok(Mapping {
        uuid: row.get("uuid")?,
        account: row.get("account")?,
        region: row.get("region")?,
        function: row.get("function")?,
        kind: Kind::of(&source).unwrap_or(Kind::Sqs),
        source,
        settings: object(row, "settings")?,
        tags: object(row, "tags")?,
        enabled: row.get("enabled")?,
        created_ms: number("created_ms")?,
        modified_ms: number("modified_ms")?,
    })
}
