//! The registry's tables, and how a database of an older Lichen becomes one of this.
//!
//! A migration is never changed once it is released; a new one is added at the end.

use rusqlite::{Connection, TransactionBehavior};

const MIGRATIONS: [&str; 4] = [
    // Settings and tags are JSON objects, as their callers gave them. `revision` changes with every write, `generation`
    // only when instances of the function have to be new ones.
    "CREATE TABLE functions (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        settings TEXT NOT NULL,
        tags TEXT NOT NULL,
        code BLOB NOT NULL,
        code_bytes INTEGER NOT NULL,
        reserved INTEGER,
        revision TEXT NOT NULL,
        generation TEXT NOT NULL,
        modified_ms INTEGER NOT NULL,
        PRIMARY KEY (account, region, name)
    ) STRICT, WITHOUT ROWID;",
    // A number is given to one version only, even when that is deleted. What hangs on a function says on which version or
    // alias of it; `value` is a JSON object.
    "ALTER TABLE functions ADD COLUMN last_version INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE versions (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        settings TEXT NOT NULL,
        code BLOB NOT NULL,
        code_bytes INTEGER NOT NULL,
        revision TEXT NOT NULL,
        generation TEXT NOT NULL,
        modified_ms INTEGER NOT NULL,
        PRIMARY KEY (account, region, name, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE facets (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        facet TEXT NOT NULL,
        qualifier TEXT NOT NULL,
        value TEXT NOT NULL,
        revision TEXT NOT NULL,
        modified_ms INTEGER NOT NULL,
        PRIMARY KEY (account, region, name, facet, qualifier)
    ) STRICT, WITHOUT ROWID;",
    // A layer stays when its last version goes: its numbers are not given again. `value` and `policy` are JSON objects.
    "CREATE TABLE layers (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        last_version INTEGER NOT NULL,
        PRIMARY KEY (account, region, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE layer_versions (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        value TEXT NOT NULL,
        code BLOB NOT NULL,
        code_bytes INTEGER NOT NULL,
        created_ms INTEGER NOT NULL,
        policy TEXT,
        policy_revision TEXT,
        PRIMARY KEY (account, region, name, number)
    ) STRICT, WITHOUT ROWID;",
    // What an account has beside functions and layers; `value` is a JSON object.
    "CREATE TABLE resources (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        modified_ms INTEGER NOT NULL,
        PRIMARY KEY (account, region, kind, name)
    ) STRICT, WITHOUT ROWID;",
];

/// How far a database is: the number of migrations that it has seen.
pub fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// How far this Lichen can read.
pub const LATEST: u32 = MIGRATIONS.len() as u32;

/// Brings a database up to [`LATEST`], each step whole or not at all.
pub fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let seen = version(connection)?;
    for (at, migration) in (1u32..).zip(MIGRATIONS).skip(seen as usize) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", at)?;
        transaction.commit()?;
    }
    Ok(())
}
