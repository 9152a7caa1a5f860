//! The queue's table. A row is an event that waits, runs or is dead; one that is done has none.

use super::event::{Dead, Event, Id};
use super::machine::Arrival;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use std::path::Path;

/// A dead event has a reason. What may be long stands last: whoever reads what is before it does not read all of that.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        request TEXT NOT NULL,
        target TEXT NOT NULL,
        trace TEXT NOT NULL,
        tenant TEXT NOT NULL,
        accepted_ms INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        reason TEXT,
        died_ms INTEGER,
        error BLOB,
        context TEXT NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    DROP INDEX IF EXISTS dead;
    CREATE INDEX IF NOT EXISTS died ON events (died_ms) WHERE reason IS NOT NULL;
    CREATE TABLE IF NOT EXISTS once (
        request TEXT PRIMARY KEY,
        at_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS once_at ON once (at_ms);";
/// How long it is remembered that an event was taken, where it must not be taken twice.
const ONCE_MS: u64 = 86_400_000;

const ADD: &str = "INSERT INTO events (request, target, payload, context, trace, tenant, accepted_ms, due_ms, attempts)
    VALUES (:request, :target, :payload, :context, :trace, :tenant, :accepted, :accepted, 0)";
const WAITING: &str =
    "SELECT id, target, accepted_ms, due_ms, attempts, length(payload) + length(CAST(context AS BLOB)) FROM events
    WHERE reason IS NULL ORDER BY id";
const DEAD_ROOM: &str = "SELECT count(*), total(length(payload) + length(CAST(context AS BLOB))) FROM events
    WHERE reason IS NOT NULL";

/// Which dead events are meant; an empty text means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Which {
    pub request_id: String,
    pub target: String,
}

const CHOSEN: &str = "reason IS NOT NULL AND (?1 = '' OR request = ?1) AND (?2 = '' OR target = ?2)";

/// An event that waits on disk.
pub struct Waiting {
    pub target: String,
    pub arrival: Arrival,
    pub bytes: u64,
}

pub fn open(path: &Path, durable: bool) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: a transaction is on disk when it is committed. NORMAL: it is with the kernel, whom only a power cut ends.
    connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
    connection.execute_batch(TABLE)?;
    Ok(connection)
}

pub fn add(connection: &Connection, event: &Event) -> rusqlite::Result<Id> {
    connection.prepare_cached(ADD)?.execute(named_params! {
        ":request": event.request_id, ":target": event.target, ":payload": &event.payload[..],
        ":context": event.context, ":trace": event.trace_id, ":tenant": event.tenant_id,
        ":accepted": event.accepted_ms as i64,
    })?;
    Ok(connection.last_insert_rowid())
}

/// Whether a request id was not seen here within the last day; from now on it was.
pub fn is_new(connection: &Connection, request: &str, now: u64) -> rusqlite::Result<bool> {
    let oldest = now.saturating_sub(ONCE_MS) as i64;
    connection.prepare_cached("DELETE FROM once WHERE at_ms < ?1")?.execute([oldest])?;
    let mut add = connection.prepare_cached("INSERT OR IGNORE INTO once (request, at_ms) VALUES (?1, ?2)")?;
    Ok(add.execute(params![request, now as i64])? == 1)
}

pub fn remove(connection: &Connection, id: Id) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM events WHERE id = ?1")?.execute([id])?;
    Ok(())
}

pub fn retry(connection: &Connection, id: Id, due_ms: u64, attempts: u32) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("UPDATE events SET due_ms = ?2, attempts = ?3 WHERE id = ?1")?;
    statement.execute(params![id, due_ms as i64, attempts])?;
    Ok(())
}

pub fn bury(
    connection: &Connection,
    id: Id,
    reason: &str,
    attempts: u32,
    error: &[u8],
    now: u64,
) -> rusqlite::Result<()> {
    const BURY: &str = "UPDATE events SET reason = ?2, attempts = ?3, error = ?4, died_ms = ?5 WHERE id = ?1";
    connection.prepare_cached(BURY)?.execute(params![id, reason, attempts, error, now as i64])?;
    Ok(())
}

/// All that wait, in their order.
pub fn waiting(connection: &Connection) -> rusqlite::Result<Vec<Waiting>> {
    connection.prepare_cached(WAITING)?.query_map([], wait)?.collect()
}

fn wait(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    let number = |at: usize| row.get::<_, i64>(at).map(|number| number as u64);
    let arrival = Arrival { id: row.get(0)?, accepted_ms: number(2)?, due_ms: number(3)?, attempts: row.get(4)? };
    Ok(Waiting { target: row.get(1)?, arrival, bytes: number(5)? })
}

/// How many are dead, and their bytes.
pub fn dead_room(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    connection
        .prepare_cached(DEAD_ROOM)?
        .query_row([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, f64>(1)? as u64)))
}

/// One event, whole.
pub fn load(connection: &Connection, id: Id) -> rusqlite::Result<Option<Event>> {
    connection.prepare_cached("SELECT * FROM events WHERE id = ?1")?.query_row([id], event).optional()
}

/// The dead that are meant, the latest first, and at most so many; whole, or with empty payloads.
pub fn dead(connection: &Connection, which: &Which, limit: u32, whole: bool) -> rusqlite::Result<Vec<Dead>> {
    let payload = if whole { "payload" } else { "x'' AS payload" };
    let query = format!(
        "SELECT request, target, trace, tenant, accepted_ms, attempts, reason, died_ms, error, context, {payload}
        FROM events WHERE {CHOSEN} ORDER BY died_ms DESC, id DESC LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&query)?;
    let dead = statement.query_map(params![which.request_id, which.target, limit], |row| {
        Ok(Dead {
            event: event(row)?,
            reason: row.get("reason")?,
            error: row.get::<_, Option<Vec<u8>>>("error")?.unwrap_or_default().into(),
            died_ms: row.get::<_, Option<i64>>("died_ms")?.unwrap_or_default() as u64,
        })
    })?;
    dead.collect()
}

/// Has the dead that are meant wait again, as if they had just been accepted.
pub fn redrive(connection: &Connection, which: &Which, now: u64) -> rusqlite::Result<Vec<Waiting>> {
    let query = format!(
        "UPDATE events SET reason = NULL, error = NULL, died_ms = NULL, attempts = 0, accepted_ms = ?3, due_ms = ?3
        WHERE {CHOSEN} RETURNING id, target, accepted_ms, due_ms, attempts,
        length(payload) + length(CAST(context AS BLOB))"
    );
    let mut statement = connection.prepare_cached(&query)?;
    statement.query_map(params![which.request_id, which.target, now as i64], wait)?.collect()
}

/// Deletes the dead that are meant: how many, and their bytes.
pub fn purge(connection: &Connection, which: &Which) -> rusqlite::Result<(u64, u64)> {
    let query = format!("DELETE FROM events WHERE {CHOSEN} RETURNING length(payload) + length(CAST(context AS BLOB))");
    let mut statement = connection.prepare_cached(&query)?;
    let sizes = statement.query_map(params![which.request_id, which.target], |row| row.get::<_, i64>(0))?;
    let sizes: Vec<i64> = sizes.collect::<Result<_, _>>()?;
    Ok((sizes.len() as u64, sizes.iter().map(|size| *size as u64).sum()))
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        request_id: row.get("request")?,
        target: row.get("target")?,
        payload: Bytes::from(row.get::<_, Vec<u8>>("payload")?),
        context: row.get("context")?,
        trace_id: row.get("trace")?,
        tenant_id: row.get("tenant")?,
        accepted_ms: row.get::<_, i64>("accepted_ms")? as u64,
        attempts: row.get("attempts")?,
    })
}
