//! The ledger's tables and what is asked of them.

use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS bills (
        id INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        request TEXT NOT NULL,
        start TEXT NOT NULL,
        failed INTEGER NOT NULL,
        duration_us INTEGER NOT NULL,
        billed_ms INTEGER NOT NULL,
        memory_mib INTEGER NOT NULL,
        memory_peak INTEGER NOT NULL,
        init_us INTEGER
    ) STRICT;
    CREATE TABLE IF NOT EXISTS usage (
        day TEXT NOT NULL,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        version TEXT NOT NULL,
        invocations INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        cold INTEGER NOT NULL,
        stem INTEGER NOT NULL,
        duration_us INTEGER NOT NULL,
        billed_ms INTEGER NOT NULL,
        mib_ms INTEGER NOT NULL,
        PRIMARY KEY (day, account, region, name, version)
    ) STRICT, WITHOUT ROWID;";

/// What a ledger of the form before has to be given to be of the next: a step for each. Never changed; a new one is added at
/// the end.
const STEPS: [&str; 1] = ["
    ALTER TABLE bills ADD COLUMN pu TEXT NOT NULL DEFAULT '';
    ALTER TABLE bills ADD COLUMN price_micros INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE bills ADD COLUMN cost_micros INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE usage ADD COLUMN cost_micros INTEGER NOT NULL DEFAULT 0;"];

pub const ADD_BILL: &str = "INSERT INTO bills (at_ms, account, region, name, version, request, start, failed,
    duration_us, billed_ms, memory_mib, memory_peak, init_us, pu, price_micros, cost_micros)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)";

pub const ADD_USAGE: &str = "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
    ON CONFLICT DO UPDATE SET invocations = invocations + excluded.invocations, failures = failures + excluded.failures,
    cold = cold + excluded.cold, stem = stem + excluded.stem, duration_us = duration_us + excluded.duration_us,
    billed_ms = billed_ms + excluded.billed_ms, mib_ms = mib_ms + excluded.mib_ms,
    cost_micros = cost_micros + excluded.cost_micros";

/// Ids grow with time: the oldest bills have the lowest.
pub const PRUNE_ROWS: &str = "DELETE FROM bills WHERE id <= (SELECT max(id) FROM bills) - ?1";
/// Looks at the oldest only, for want of an index that every bill would have to pay for.
pub const PRUNE_DAYS: &str =
    "DELETE FROM bills WHERE id IN (SELECT id FROM bills ORDER BY id LIMIT 100000) AND at_ms < ?1";

/// Newest first along the primary key; an index by function would cost every bill a write, and few ever ask.
pub const LATEST_BILLS: &str =
    "SELECT * FROM bills WHERE account = ?1 AND region = ?2 AND name = ?3 ORDER BY id DESC LIMIT ?4";

pub const USAGE: &str = "SELECT * FROM usage ORDER BY day DESC, account, region, name, version LIMIT 10000";

pub fn open(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A power cut may cost the last bills; it never breaks the ledger.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    let form: usize = transaction.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    for (done, step) in STEPS.iter().enumerate().skip(form) {
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", done as u32 + 1)?;
    }
    transaction.commit()?;
    Ok(connection)
}
