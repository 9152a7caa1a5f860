//! The functions of a node: a database that survives, and the same in memory, where invocations look.
//!
//! A change is one transaction. While it is made no other begins, so what it read is still true when it is written;
//! invocations never wait for it. Those who run functions observe the changes, in their order.
//!
//! What a request may ask for is the gateway's to check; here a function only has to be one that can be run.

mod change;
mod entry;
mod facet;
mod index;
mod layers;
mod record;
mod resources;
mod rows;
mod schema;
mod settings;
#[cfg(test)]
mod tests;

pub use change::{Publication, PublishError, RemoveError};
pub use entry::{Content, Entry, FunctionId};
pub use facet::{Attached, Facet};
pub use layers::{LayerContent, LayerId, LayerPolicy, LayerVersion, PolicyError};
pub use record::{Qualified, Record};
pub use resources::{ChangeError, Resource, ResourceId, ResourceKind};
pub use settings::{SettingsError, kind_of};

use crate::codestore::{CodeId, CodeStore};
use crate::function::{Function, FunctionKey};
use entry::Row;
use index::Index;
use layers::Layers;
use resources::Resources;
use rusqlite::{Connection, ErrorCode};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, Weak};
use thiserror::Error;
use uuid::Uuid;

/// Why there is no registry.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("the registry {path:?} cannot be opened")]
    Database { path: PathBuf, source: rusqlite::Error },
    #[error(
        "the registry {path:?} was written by a newer Lichen (its form is {found}, this one knows {known}): use that one"
    )]
    Newer { path: PathBuf, found: u32, known: u32 },
}

/// Why a change was not written.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the node has no room on disk for its registry: free some in its data folder, and try again")]
    DiskFull(#[source] rusqlite::Error),
    #[error("the node could not write its registry")]
    Database(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull(error),
            _ => Self::Database(error),
        }
    }
}

/// Why a function was not created.
#[derive(Debug, Error)]
pub enum CreateError {
    #[error("Function already exist: {0}")]
    Exists(String),
    #[error("There is a flow {0:?}: a function cannot have the same name. Choose another one, or delete the flow.")]
    IsFlow(String),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a function was not changed; `E` is why the change itself could not be made.
#[derive(Debug, Error)]
pub enum UpdateError<E> {
    #[error("Function not found: {}", .0.arn())]
    NotFound(FunctionId),
    #[error("the function has changed since revision {expected}")]
    Revision { expected: String },
    #[error("the change was refused")]
    Refused(E),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a state of a function was not written.
enum PutError {
    Settings(SettingsError),
    Store(StoreError),
}

impl From<SettingsError> for PutError {
    fn from(error: SettingsError) -> Self {
        Self::Settings(error)
    }
}

impl From<StoreError> for PutError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PutError> for CreateError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Settings(error) => Self::Settings(error),
            PutError::Store(error) => Self::Store(error),
        }
    }
}

impl<E> From<PutError> for UpdateError<E> {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Settings(error) => Self::Settings(error),
            PutError::Store(error) => Self::Store(error),
        }
    }
}

/// What has become of a function.
#[derive(Clone, Debug)]
pub enum Change {
    Deployed(Arc<Function>),
    Withdrawn(FunctionKey),
}

type Observer = Box<dyn Fn(Change) + Send + Sync>;

/// The functions of a node.
pub struct Registry {
    /// Holding it is the right to change anything.
    writer: Mutex<Writer>,
    index: RwLock<Index>,
    layers: RwLock<Layers>,
    resources: RwLock<Resources>,
    code: Arc<CodeStore>,
}

/// Functions that this Lichen cannot read, whole or some versions, and their code: another Lichen may.
type Unread = HashMap<FunctionId, Vec<CodeId>>;

struct Writer {
    connection: Connection,
    observer: Observer,
    /// Functions that were replaced or deleted; instances of them may still run from their code.
    retired: Vec<(CodeId, Weak<Function>)>,
    unread: Unread,
}

impl Registry {
    /// Opens the registry at `path`, or makes a new one.
    pub fn open(path: &Path, code: Arc<CodeStore>) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Database { path: path.to_owned(), source };
        let mut connection = connect(path, code.config().durable).map_err(failed)?;
        let found = schema::version(&connection).map_err(failed)?;
        if found > schema::LATEST {
            return Err(OpenError::Newer { path: path.to_owned(), found, known: schema::LATEST });
        }
        schema::migrate(&mut connection).map_err(failed)?;
        let (index, unread) = load(&connection, &code).map_err(failed)?;
        let layers = rows::read_layers(&connection).map_err(failed)?;
        let resources = rows::read_resources(&connection).map_err(failed)?;
        let writer = Writer { connection, observer: Box::new(|_| ()), retired: Vec::new(), unread };
        Ok(Self {
            writer: Mutex::new(writer),
            index: RwLock::new(index),
            layers: RwLock::new(layers),
            resources: RwLock::new(resources),
            code,
        })
    }

    pub fn code(&self) -> &Arc<CodeStore> {
        &self.code
    }

    /// Tells `observer` of every function there is, and from then on of every change. It must not change the registry.
    /// Versions are told of when they are to have warm instances; others run when they are asked for.
    pub fn observe(&self, observer: impl Fn(Change) + Send + Sync + 'static) {
        let mut writer = self.writer();
        for record in self.records() {
            record.entries().filter(|entry| is_told(entry)).for_each(|entry| {
                observer(Change::Deployed(entry.function.clone()));
            });
        }
        writer.observer = Box::new(observer);
    }

    /// A function, without waiting: the path of every invocation.
    pub fn find(&self, account: &str, region: &str, name: &str) -> Option<Arc<Entry>> {
        self.index().find(account, region, name).map(|record| record.latest.clone())
    }

    /// A function with its versions and all that hangs on it, without waiting.
    pub fn record(&self, account: &str, region: &str, name: &str) -> Option<Arc<Record>> {
        self.index().find(account, region, name).cloned()
    }

    /// Every function of this name, whatever its account and region.
    pub fn named(&self, name: &str) -> Vec<Arc<Entry>> {
        self.index().named(name).iter().map(|record| record.latest.clone()).collect()
    }

    /// Whose function URL has this id, and of which qualifier it is.
    pub fn url(&self, id: &str) -> Option<(Arc<Record>, String)> {
        self.index().url(id).map(|(record, qualifier)| (record.clone(), qualifier.to_owned()))
    }

    /// All functions, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.records().into_iter().map(|record| record.latest.clone()).collect()
    }

    /// The same, with all that belongs to them.
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.index().all().cloned().collect()
    }

    /// An account's functions in a region, from a name on: as many as asked for, in the order of their names.
    pub fn records_from(&self, id: &FunctionId, count: usize) -> Vec<Arc<Record>> {
        let index = self.index();
        let is_here = |record: &&Arc<Record>| {
            let found = &record.latest.id;
            (&found.account, &found.region) == (&id.account, &id.region)
        };
        index.from(id).take_while(is_here).take(count).cloned().collect()
    }

    /// Adds a function. Blocks until it is on disk.
    pub fn create(&self, id: FunctionId, content: Content) -> Result<Arc<Entry>, CreateError> {
        let mut writer = self.writer();
        if self.find(&id.account, &id.region, &id.name).is_some() {
            return Err(CreateError::Exists(id.name));
        }
        if self.has_flow(&id) {
            return Err(CreateError::IsFlow(id.name));
        }
        if writer.unread.remove(&id).is_some() {
            // Nothing of the one that could not be read is the new one's.
            rows::delete(&writer.connection, &id).map_err(StoreError::from)?;
        }
        let revision = Uuid::new_v4().to_string();
        let (generation, modified_ms) = (revision.clone(), api::time::now_ms());
        let row = Row { id, content, version: None, generation, revision, modified_ms };
        Ok(self.put(&mut writer, row)?)
    }

    /// The function that this content would be.
    pub fn preview(&self, id: &FunctionId, content: &Content) -> Result<Function, SettingsError> {
        settings::function(id, content, None, "", &self.code)
    }

    /// Changes a function, if it still has the revision that the caller knows. Blocks until it is on disk.
    pub fn update<E>(
        &self,
        id: &FunctionId,
        revision: Option<&str>,
        change: impl FnOnce(&mut Content) -> Result<(), E>,
    ) -> Result<Arc<Entry>, UpdateError<E>> {
        let mut writer = self.writer();
        let old = self.find(&id.account, &id.region, &id.name).ok_or_else(|| UpdateError::NotFound(id.clone()))?;
        if let Some(expected) = revision.filter(|expected| *expected != old.revision) {
            return Err(UpdateError::Revision { expected: expected.to_owned() });
        }
        let mut content = old.content.clone();
        change(&mut content).map_err(UpdateError::Refused)?;
        let revision = Uuid::new_v4().to_string();
        let same = content.code == old.content.code && content.settings == old.content.settings;
        let generation = if same { old.generation.clone() } else { revision.clone() };
        let (id, modified_ms) = (id.clone(), api::time::now_ms());
        let row = Row { id, content, version: None, revision, generation, modified_ms };
        Ok(self.put(&mut writer, row)?)
    }

    /// Deletes a function with all that belongs to it: its last state, or nothing when there was none. Blocks until that
    /// is on disk.
    pub fn delete(&self, id: &FunctionId) -> Result<Option<Arc<Entry>>, StoreError> {
        let mut writer = self.writer();
        let Some(old) = self.record(&id.account, &id.region, &id.name) else { return Ok(None) };
        rows::delete(&writer.connection, id)?;
        self.index.write().unwrap_or_else(PoisonError::into_inner).remove(id);
        for entry in old.entries() {
            writer.retire(entry);
            (writer.observer)(Change::Withdrawn((*entry.function.key).clone()));
        }
        Ok(Some(old.latest.clone()))
    }

    /// Deletes the code that no function and no layer has, and no instance of an earlier state runs from: how many packages.
    pub fn sweep(&self) -> io::Result<usize> {
        let mut writer = self.writer();
        writer.retired.retain(|(_, function)| function.strong_count() > 0);
        let records = self.records();
        let retired = writer.retired.iter().map(|(code, _)| *code);
        let mut keep: HashSet<CodeId> = retired.chain(writer.unread.values().flatten().copied()).collect();
        keep.extend(records.iter().flat_map(|record| record.entries()).flat_map(|entry| entry.shown()));
        keep.extend(self.layers().code());
        // With the right to change held: a function that was created meanwhile would lose its code.
        let swept = self.code.sweep(&keep)?;
        drop(writer);
        swept.delete()
    }

    fn put(&self, writer: &mut Writer, row: Row) -> Result<Arc<Entry>, PutError> {
        let entry = Arc::new(row.into_entry(&self.code)?);
        let id = &entry.id;
        let mut record = match self.record(&id.account, &id.region, &id.name) {
            Some(old) => Record { latest: entry.clone(), ..(*old).clone() },
            None => Record::new(entry.clone()),
        };
        rows::write(&writer.connection, &entry, record.last_version).map_err(StoreError::from)?;
        record.settle();
        self.replace(writer, record);
        Ok(entry)
    }

    /// Makes a record what everybody sees, and tells of what has changed by that.
    fn replace(&self, writer: &mut Writer, record: Record) {
        let record = Arc::new(record);
        let old = self.index.write().unwrap_or_else(PoisonError::into_inner).insert(record.clone());
        for entry in old.iter().flat_map(|old| old.entries()) {
            let new = record.at(entry.version);
            if new.is_some_and(|new| Arc::ptr_eq(&new.function, &entry.function)) {
                continue;
            }
            writer.retire(entry);
            match new {
                None => (writer.observer)(Change::Withdrawn((*entry.function.key).clone())),
                // A version that loses its warm instances.
                Some(new) if is_told(entry) && !is_told(new) => {
                    (writer.observer)(Change::Deployed(new.function.clone()));
                }
                Some(_) => {}
            }
        }
        for entry in record.entries().filter(|entry| is_told(entry)) {
            let before = old.as_ref().and_then(|old| old.at(entry.version));
            if before.is_none_or(|before| !Arc::ptr_eq(&before.function, &entry.function)) {
                (writer.observer)(Change::Deployed(entry.function.clone()));
            }
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layers(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn retire(&mut self, old: &Entry) {
        self.retired.extend(old.shown().map(|code| (code, Arc::downgrade(&old.function))));
    }
}

fn connect(path: &Path, durable: bool) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "OFF" })?;
    Ok(connection)
}

/// Whether those who run functions have to know of this before it is invoked.
fn is_told(entry: &Entry) -> bool {
    entry.version.is_none() || entry.function.min_warm > 0
}

/// Reads all functions with what belongs to them. A function that cannot be read is left out, with an error in the log:
/// the others must not suffer from it. Its code is told, so that it stays.
fn load(connection: &Connection, code: &CodeStore) -> rusqlite::Result<(Index, Unread)> {
    let mut records: HashMap<FunctionId, Record> = HashMap::new();
    let mut unread = Unread::new();
    let mut entry = |row: Row| {
        let (id, version) = (row.id.clone(), row.version);
        let shown: Vec<CodeId> = row.code().collect();
        let entry = row.into_entry(code);
        if let Err(error) = &entry {
            tracing::error!(function = id.arn(), ?version, %error, "this function cannot be run");
            unread.entry(id).or_default().extend(shown);
        }
        entry.ok()
    };
    for (row, last_version) in rows::read_all(connection)? {
        if let Some(entry) = entry(row) {
            let record = Record { last_version, ..Record::new(Arc::new(entry)) };
            records.insert(record.latest.id.clone(), record);
        }
    }
    let mut orphans: Vec<Entry> = Vec::new();
    for row in rows::read_versions(connection)? {
        let Some((number, entry)) = row.version.zip(entry(row)) else { continue };
        match records.get_mut(&entry.id) {
            Some(record) => drop(record.versions.insert(number, Arc::new(entry))),
            None => orphans.push(entry),
        }
    }
    orphans.iter().for_each(|entry| unread.entry(entry.id.clone()).or_default().extend(entry.shown()));
    for (id, place, attached) in rows::read_facets(connection)? {
        if let Some(record) = records.get_mut(&id) {
            record.attached.insert(place, Arc::new(attached));
        }
    }
    let mut index = Index::default();
    for mut record in records.into_values() {
        record.settle();
        index.insert(Arc::new(record));
    }
    Ok((index, unread))
}
