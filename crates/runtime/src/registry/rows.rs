//! Rows of the table `functions`, read and written.

use super::entry::{Content, Entry, FunctionId, Row};
use crate::codestore::CodeId;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, named_params};
use serde_json::{Map, Value};

const WRITE: &str = "INSERT OR REPLACE INTO functions
    (account, region, name, settings, tags, code, code_bytes, reserved, revision, generation, modified_ms)
    VALUES (:account, :region, :name, :settings, :tags, :code, :code_bytes, :reserved, :revision, :generation, :modified)";

pub fn read_all(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare("SELECT * FROM functions")?;
    statement.query_map([], read)?.collect()
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: FunctionId { account: row.get("account")?, region: row.get("region")?, name: row.get("name")? },
        content: Content {
            settings: object(row, "settings")?,
            tags: object(row, "tags")?,
            code: CodeId::from_bytes(row.get("code")?),
            code_bytes: row.get::<_, i64>("code_bytes")? as u64,
            reserved: row.get("reserved")?,
        },
        revision: row.get("revision")?,
        generation: row.get("generation")?,
        modified_ms: row.get::<_, i64>("modified_ms")? as u64,
    })
}

fn object(row: &rusqlite::Row<'_>, column: &'static str) -> rusqlite::Result<Map<String, Value>> {
    let text: String = row.get(column)?;
    let index = row.as_ref().column_index(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(FromSqlError::Other(Box::new(error))))
    })
}

pub fn write(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let Entry { id, content, revision, generation, modified_ms, .. } = entry;
    let text = |object: &Map<String, Value>| Value::Object(object.clone()).to_string();
    let mut statement = connection.prepare_cached(WRITE)?;
    statement.execute(named_params! {
        ":account": id.account, ":region": id.region, ":name": id.name,
        ":settings": text(&content.settings), ":tags": text(&content.tags),
        ":code": content.code.bytes(), ":code_bytes": content.code_bytes as i64, ":reserved": content.reserved,
        ":revision": revision, ":generation": generation, ":modified": *modified_ms as i64,
    })?;
    Ok(())
}

pub fn delete(connection: &Connection, id: &FunctionId) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("DELETE FROM functions WHERE account = ?1 AND region = ?2 AND name = ?3")?;
    statement.execute([&id.account, &id.region, &id.name]).map(drop)
}
