//! Rows of the registry's tables, read and written.

use super::entry::{Content, Entry, FunctionId, Row};
use super::facet::{Attached, Facet};
use super::layers::{LayerContent, LayerId, LayerPolicy, LayerVersion, Layers};
use super::resources::{Resource, ResourceId, ResourceKind, Resources};
use crate::codestore::CodeId;
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, named_params, params};
use serde_json::{Map, Value};
use std::sync::Arc;

const WRITE: &str = "INSERT OR REPLACE INTO functions
    (account, region, name, settings, tags, code, code_bytes, reserved, revision, generation, modified_ms, last_version)
    VALUES (:account, :region, :name, :settings, :tags, :code, :code_bytes, :reserved, :revision, :generation, :modified,
        :last_version)";
const WRITE_VERSION: &str = "INSERT INTO versions
    (account, region, name, number, settings, code, code_bytes, revision, generation, modified_ms)
    VALUES (:account, :region, :name, :number, :settings, :code, :code_bytes, :revision, :generation, :modified)";
const COUNT_VERSION: &str = "UPDATE functions SET last_version = ?4 WHERE account = ?1 AND region = ?2 AND name = ?3";
const WRITE_FACET: &str = "INSERT OR REPLACE INTO facets
    (account, region, name, facet, qualifier, value, revision, modified_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// What hangs where, and on whose function.
pub type FacetRow = (FunctionId, (Facet, String), Attached);

/// Functions, each with the highest number of its versions.
pub fn read_all(connection: &Connection) -> rusqlite::Result<Vec<(Row, u64)>> {
    let mut statement = connection.prepare("SELECT * FROM functions")?;
    statement.query_map([], |row| Ok((read(row, None)?, number(row, "last_version")?)))?.collect()
}

/// Versions. Tags and reserved concurrency are the function's, and not in them.
pub fn read_versions(connection: &Connection) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare("SELECT *, '{}' AS tags, NULL AS reserved FROM versions")?;
    statement.query_map([], |row| read(row, Some(number(row, "number")?)))?.collect()
}

/// What hangs on functions. What only a newer Lichen knows is left out.
pub fn read_facets(connection: &Connection) -> rusqlite::Result<Vec<FacetRow>> {
    let mut statement = connection.prepare("SELECT * FROM facets")?;
    let mut rows = statement.query([])?;
    let mut facets = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(facet) = Facet::of_word(&row.get::<_, String>("facet")?) else { continue };
        let attached = Attached {
            value: object(row, "value")?,
            revision: row.get("revision")?,
            modified_ms: number(row, "modified_ms")?,
        };
        facets.push((id(row)?, (facet, row.get("qualifier")?), attached));
    }
    Ok(facets)
}

fn id(row: &rusqlite::Row<'_>) -> rusqlite::Result<FunctionId> {
    Ok(FunctionId { account: row.get("account")?, region: row.get("region")?, name: row.get("name")? })
}

fn number(row: &rusqlite::Row<'_>, column: &str) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| number as u64)
}

fn read(row: &rusqlite::Row<'_>, version: Option<u64>) -> rusqlite::Result<Row> {
    Ok(Row {
        id: id(row)?,
        content: Content {
            settings: object(row, "settings")?,
            tags: object(row, "tags")?,
            code: CodeId::from_bytes(row.get("code")?),
            code_bytes: number(row, "code_bytes")?,
            reserved: row.get("reserved")?,
        },
        version,
        revision: row.get("revision")?,
        generation: row.get("generation")?,
        modified_ms: number(row, "modified_ms")?,
    })
}

fn object(row: &rusqlite::Row<'_>, column: &'static str) -> rusqlite::Result<Map<String, Value>> {
    let text: String = row.get(column)?;
    let index = row.as_ref().column_index(column)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(FromSqlError::Other(Box::new(error))))
    })
}

fn text(object: &Map<String, Value>) -> String {
    Value::Object(object.clone()).to_string()
}

pub fn write(connection: &Connection, entry: &Entry, last_version: u64) -> rusqlite::Result<()> {
    let Entry { id, content, revision, generation, modified_ms, .. } = entry;
    let mut statement = connection.prepare_cached(WRITE)?;
    statement.execute(named_params! {
        ":account": id.account, ":region": id.region, ":name": id.name,
        ":settings": text(&content.settings), ":tags": text(&content.tags),
        ":code": content.code.bytes(), ":code_bytes": content.code_bytes as i64, ":reserved": content.reserved,
        ":revision": revision, ":generation": generation, ":modified": *modified_ms as i64,
        ":last_version": last_version as i64,
    })?;
    Ok(())
}

/// Adds a version, in one transaction with its number.
pub fn write_version(connection: &Connection, entry: &Entry, number: u64) -> rusqlite::Result<()> {
    let Entry { id, content, revision, generation, modified_ms, .. } = entry;
    let transaction = connection.unchecked_transaction()?;
    connection.prepare_cached(WRITE_VERSION)?.execute(named_params! {
        ":account": id.account, ":region": id.region, ":name": id.name, ":number": number as i64,
        ":settings": text(&content.settings), ":code": content.code.bytes(), ":code_bytes": content.code_bytes as i64,
        ":revision": revision, ":generation": generation, ":modified": *modified_ms as i64,
    })?;
    connection.prepare_cached(COUNT_VERSION)?.execute(params![id.account, id.region, id.name, number as i64])?;
    transaction.commit()
}

pub fn write_facet(
    connection: &Connection,
    id: &FunctionId,
    (facet, qualifier): (Facet, &str),
    attached: &Attached,
) -> rusqlite::Result<()> {
    let Attached { value, revision, modified_ms } = attached;
    let (facet, value, modified) = (facet.word(), text(value), *modified_ms as i64);
    let mut statement = connection.prepare_cached(WRITE_FACET)?;
    statement.execute(params![id.account, id.region, id.name, facet, qualifier, value, revision, modified]).map(drop)
}

/// Deletes a function with all that belongs to it.
pub fn delete(connection: &Connection, id: &FunctionId) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    for table in ["functions", "versions", "facets"] {
        let sql = format!("DELETE FROM {table} WHERE account = ?1 AND region = ?2 AND name = ?3");
        connection.prepare_cached(&sql)?.execute([&id.account, &id.region, &id.name])?;
    }
    transaction.commit()
}

/// Deletes a version, where the qualifier is one, and all that hangs on it.
pub fn delete_qualifier(connection: &Connection, id: &FunctionId, qualifier: &str) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    for (table, column) in [("versions", "CAST(number AS TEXT)"), ("facets", "qualifier")] {
        let sql = format!("DELETE FROM {table} WHERE account = ?1 AND region = ?2 AND name = ?3 AND {column} = ?4");
        connection.prepare_cached(&sql)?.execute([&id.account, &id.region, &id.name, qualifier])?;
    }
    transaction.commit()
}

pub fn delete_facet(
    connection: &Connection,
    id: &FunctionId,
    (facet, qualifier): (Facet, &str),
) -> rusqlite::Result<()> {
    const SQL: &str = "DELETE FROM facets
        WHERE account = ?1 AND region = ?2 AND name = ?3 AND facet = ?4 AND qualifier = ?5";
    connection.prepare_cached(SQL)?.execute([&id.account, &id.region, &id.name, facet.word(), qualifier]).map(drop)
}

/// All layers with their versions.
pub fn read_layers(connection: &Connection) -> rusqlite::Result<Layers> {
    let mut layers = Layers::default();
    let mut statement = connection.prepare("SELECT * FROM layers")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        layers.layers.entry(layer_id(row)?).or_default().last = number(row, "last_version")?;
    }
    let mut statement = connection.prepare("SELECT * FROM layer_versions")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let version = read_layer(row)?;
        if let Some(layer) = layers.layers.get_mut(&version.id) {
            layer.versions.insert(version.number, Arc::new(version));
        }
    }
    Ok(layers)
}

fn layer_id(row: &rusqlite::Row<'_>) -> rusqlite::Result<LayerId> {
    Ok(LayerId { account: row.get("account")?, region: row.get("region")?, name: row.get("name")? })
}

fn read_layer(row: &rusqlite::Row<'_>) -> rusqlite::Result<LayerVersion> {
    let policy = match row.get::<_, Option<String>>("policy_revision")? {
        Some(revision) => Some(LayerPolicy { value: object(row, "policy")?, revision }),
        None => None,
    };
    Ok(LayerVersion {
        id: layer_id(row)?,
        number: number(row, "number")?,
        content: LayerContent {
            value: object(row, "value")?,
            code: CodeId::from_bytes(row.get("code")?),
            code_bytes: number(row, "code_bytes")?,
        },
        created_ms: number(row, "created_ms")?,
        policy,
    })
}

/// Adds a layer's version, in one transaction with its number.
pub fn write_layer(connection: &Connection, version: &LayerVersion) -> rusqlite::Result<()> {
    let LayerVersion { id, content, created_ms, .. } = version;
    let number = version.number as i64;
    let transaction = connection.unchecked_transaction()?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO layers VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id.account, id.region, id.name, number])?;
    connection
        .prepare_cached("INSERT INTO layer_versions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL, NULL)")?
        .execute(params![
            id.account,
            id.region,
            id.name,
            number,
            text(&content.value),
            content.code.bytes(),
            content.code_bytes as i64,
            *created_ms as i64
        ])?;
    transaction.commit()
}

pub fn write_layer_policy(connection: &Connection, version: &LayerVersion) -> rusqlite::Result<()> {
    const SQL: &str = "UPDATE layer_versions SET policy = ?5, policy_revision = ?6
        WHERE account = ?1 AND region = ?2 AND name = ?3 AND number = ?4";
    let LayerVersion { id, policy, .. } = version;
    let (value, revision) = (policy.as_ref().map(|p| text(&p.value)), policy.as_ref().map(|p| &p.revision));
    let number = version.number as i64;
    connection.prepare_cached(SQL)?.execute(params![id.account, id.region, id.name, number, value, revision]).map(drop)
}

pub fn delete_layer(connection: &Connection, id: &LayerId, number: u64) -> rusqlite::Result<()> {
    const SQL: &str = "DELETE FROM layer_versions WHERE account = ?1 AND region = ?2 AND name = ?3 AND number = ?4";
    connection.prepare_cached(SQL)?.execute(params![id.account, id.region, id.name, number as i64]).map(drop)
}

/// All resources. What only a newer Lichen knows is left out.
pub fn read_resources(connection: &Connection) -> rusqlite::Result<Resources> {
    let mut resources = Resources::new();
    let mut statement = connection.prepare("SELECT * FROM resources")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let Some(kind) = ResourceKind::of_word(&row.get::<_, String>("kind")?) else { continue };
        let FunctionId { account, region, name } = id(row)?;
        let id = ResourceId { account, region, kind, name };
        let resource =
            Resource { id: id.clone(), value: object(row, "value")?, modified_ms: number(row, "modified_ms")? };
        resources.insert(id, Arc::new(resource));
    }
    Ok(resources)
}

pub fn write_resource(connection: &Connection, resource: &Resource) -> rusqlite::Result<()> {
    let Resource { id, value, modified_ms } = resource;
    let mut statement =
        connection.prepare_cached("INSERT OR REPLACE INTO resources VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let (kind, value, modified) = (id.kind.word(), text(value), *modified_ms as i64);
    statement.execute(params![id.account, id.region, kind, id.name, value, modified]).map(drop)
}

pub fn delete_resource(connection: &Connection, id: &ResourceId) -> rusqlite::Result<()> {
    const SQL: &str = "DELETE FROM resources WHERE account = ?1 AND region = ?2 AND kind = ?3 AND name = ?4";
    connection.prepare_cached(SQL)?.execute([&id.account, &id.region, id.kind.word(), &id.name]).map(drop)
}
