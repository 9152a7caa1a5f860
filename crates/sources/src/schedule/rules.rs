//! All rules of a node: on disk, and in memory where the clock looks.

use super::expression::Expression;
use super::rule::{Rule, RuleId, Target};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, named_params, params};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use thiserror::Error;
use tokio::sync::watch;

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS rules (
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        name TEXT NOT NULL,
        schedule TEXT NOT NULL,
        enabled INTEGER NOT NULL,
        description TEXT,
        role TEXT,
        tags TEXT NOT NULL,
        targets TEXT NOT NULL,
        begun_ms INTEGER NOT NULL,
        fired_ms INTEGER NOT NULL,
        PRIMARY KEY (account, region, name)
    ) STRICT, WITHOUT ROWID;";
const WRITE: &str = "INSERT OR REPLACE INTO rules
    (account, region, name, schedule, enabled, description, role, tags, targets, begun_ms, fired_ms)
    VALUES (:account, :region, :name, :schedule, :enabled, :description, :role, :tags, :targets, :begun, :fired)";
const FIRED: &str = "UPDATE rules SET fired_ms = ?4 WHERE account = ?1 AND region = ?2 AND name = ?3";
const DELETE: &str = "DELETE FROM rules WHERE account = ?1 AND region = ?2 AND name = ?3";

/// Why the disk could not be used.
#[derive(Debug, Error)]
#[error("the rules {path:?} cannot be read or written")]
pub struct RulesError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// The rules of a node.
pub struct Rules {
    path: PathBuf,
    /// Holding it is the right to change anything.
    connection: Mutex<Connection>,
    rules: RwLock<BTreeMap<RuleId, Arc<Rule>>>,
    changed: watch::Sender<()>,
}

impl Rules {
    pub fn open(path: &Path) -> Result<Self, RulesError> {
        let failed = |source| RulesError { path: path.to_owned(), source };
        let connection = connect(path).map_err(failed)?;
        let read = || {
            let mut statement = connection.prepare("SELECT * FROM rules")?;
            let rules = statement.query_map([], rule)?.map(|rule| rule.map(|rule| (rule.id.clone(), Arc::new(rule))));
            rules.collect::<Result<_, _>>()
        };
        let rules = RwLock::new(read().map_err(failed)?);
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection), rules, changed: watch::Sender::new(()) })
    }

    /// Tells of every change.
    pub(super) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn get(&self, id: &RuleId) -> Option<Arc<Rule>> {
        self.rules().get(id).cloned()
    }

    /// All rules, in the order of account, region and name.
    pub fn all(&self) -> Vec<Arc<Rule>> {
        self.rules().values().cloned().collect()
    }

    /// Changes a rule: `change` is shown the one that there is, and answers what is to be there. Blocks on the disk.
    pub fn change<E: From<RulesError>>(
        &self,
        id: &RuleId,
        change: impl FnOnce(Option<&Rule>) -> Result<Option<Rule>, E>,
    ) -> Result<(), E> {
        let connection = self.connection();
        let new = change(self.get(id).as_deref())?;
        let written = match &new {
            Some(rule) => write(&connection, rule),
            None => connection.execute(DELETE, [&id.account, &id.region, &id.name]).map(drop),
        };
        written.map_err(|source| self.failed(source))?;
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        match new {
            Some(rule) => drop(rules.insert(id.clone(), Arc::new(rule))),
            None => drop(rules.remove(id)),
        }
        drop(rules);
        self.changed.send_replace(());
        Ok(())
    }

    /// Notes for which moment a rule has fired, if it is still there. Blocks on the disk.
    pub(super) fn fired(&self, id: &RuleId, at: u64) -> Result<(), RulesError> {
        let connection = self.connection();
        let noted = connection.execute(FIRED, params![id.account, id.region, id.name, at as i64]);
        noted.map_err(|source| self.failed(source))?;
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(rule) = rules.get_mut(id) {
            *rule = Arc::new(Rule { fired_ms: at, ..(**rule).clone() });
        }
        Ok(())
    }

    fn failed(&self, source: rusqlite::Error) -> RulesError {
        RulesError { path: self.path.clone(), source }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self) -> RwLockReadGuard<'_, BTreeMap<RuleId, Arc<Rule>>> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(TABLE)?;
    Ok(connection)
}

fn write(connection: &Connection, rule: &Rule) -> rusqlite::Result<()> {
    let wrong = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    connection.prepare_cached(WRITE)?.execute(named_params! {
        ":account": rule.id.account, ":region": rule.id.region, ":name": rule.id.name, ":schedule": rule.schedule,
        ":enabled": rule.enabled, ":description": rule.description, ":role": rule.role,
        ":tags": Value::Object(rule.tags.clone()).to_string(),
        ":targets": serde_json::to_string(&rule.targets).map_err(wrong)?,
        ":begun": rule.begun_ms as i64, ":fired": rule.fired_ms as i64,
    })?;
    Ok(())
}

fn rule(row: &Row<'_>) -> rusqlite::Result<Rule> {
    let wrong = |column: &str, error: Box<dyn std::error::Error + Send + Sync>| {
        let index = row.as_ref().column_index(column).unwrap_or_default();
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, error)
    };
    let schedule: String = row.get("schedule")?;
    let tags: Map<String, Value> =
        serde_json::from_str(&row.get::<_, String>("tags")?).map_err(|error| wrong("tags", error.into()))?;
    let targets: Vec<Target> =
        serde_json::from_str(&row.get::<_, String>("targets")?).map_err(|error| wrong("targets", error.into()))?;
    Ok(Rule {
        id: RuleId { account: row.get("account")?, region: row.get("region")?, name: row.get("name")? },
        expression: Expression::parse(&schedule).map_err(|error| wrong("schedule", error.into()))?,
        schedule,
        enabled: row.get("enabled")?,
        description: row.get("description")?,
        role: row.get("role")?,
        tags,
        targets,
        begun_ms: row.get::<_, i64>("begun_ms")? as u64,
        fired_ms: row.get::<_, i64>("fired_ms")? as u64,
    })
}
