//! The functions of a node: a database that survives, and the same in memory, where invocations look.
//!
//! A change is one transaction. While it is made no other begins, so what it read is still true when it is written;
//! invocations never wait for it. Those who run functions observe the changes, in their order.
//!
//! What a request may ask for is the gateway's to check; here a function only has to be one that can be run.

mod entry;
mod rows;
mod schema;
mod settings;
#[cfg(test)]
mod tests;

pub use entry::{Content, Entry, FunctionId};
pub use settings::{SettingsError, kind_of};

use crate::codestore::{CodeId, CodeStore};
use crate::function::{Function, FunctionKey};
use entry::Row;
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
/// By name; functions of one name in several accounts and regions are few.
type Entries = HashMap<String, Vec<Arc<Entry>>>;

/// The functions of a node.
pub struct Registry {
    /// Holding it is the right to change anything.
    writer: Mutex<Writer>,
    entries: RwLock<Entries>,
    code: Arc<CodeStore>,
}

struct Writer {
    connection: Connection,
    observer: Observer,
    /// Functions that were replaced or deleted; instances of them may still run from their code.
    retired: Vec<(CodeId, Weak<Function>)>,
}

impl Registry {
    /// Opens the registry at `path`, or makes a new one. A function that cannot be read is left out, with an error in the
    /// log: the others must not suffer from it.
    pub fn open(path: &Path, code: Arc<CodeStore>) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Database { path: path.to_owned(), source };
        let mut connection = connect(path, code.config().durable).map_err(failed)?;
        let found = schema::version(&connection).map_err(failed)?;
        if found > schema::LATEST {
            return Err(OpenError::Newer { path: path.to_owned(), found, known: schema::LATEST });
        }
        schema::migrate(&mut connection).map_err(failed)?;
        let mut entries = Entries::new();
        for row in rows::read_all(&connection).map_err(failed)? {
            let arn = row.id.arn();
            match row.into_entry(&code) {
                Ok(entry) => drop(insert(&mut entries, Arc::new(entry))),
                Err(error) => tracing::error!(function = arn, %error, "this function cannot be run"),
            }
        }
        let writer = Writer { connection, observer: Box::new(|_| ()), retired: Vec::new() };
        Ok(Self { writer: Mutex::new(writer), entries: RwLock::new(entries), code })
    }

    pub fn code(&self) -> &Arc<CodeStore> {
        &self.code
    }

    /// Tells `observer` of every function there is, and from then on of every change. It must not change the registry.
    pub fn observe(&self, observer: impl Fn(Change) + Send + Sync + 'static) {
        let mut writer = self.writer();
        self.all().into_iter().for_each(|entry| observer(Change::Deployed(entry.function.clone())));
        writer.observer = Box::new(observer);
    }

    /// A function, without waiting: the path of every invocation.
    pub fn find(&self, account: &str, region: &str, name: &str) -> Option<Arc<Entry>> {
        let entries = self.entries();
        let same_name = entries.get(name)?;
        same_name.iter().find(|entry| entry.id.account == account && entry.id.region == region).cloned()
    }

    /// Every function of this name, whatever its account and region.
    pub fn named(&self, name: &str) -> Vec<Arc<Entry>> {
        self.entries().get(name).cloned().unwrap_or_default()
    }

    /// All functions, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        let mut all: Vec<_> = self.entries().values().flatten().cloned().collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Adds a function. Blocks until it is on disk.
    pub fn create(&self, id: FunctionId, content: Content) -> Result<Arc<Entry>, CreateError> {
        let mut writer = self.writer();
        if self.find(&id.account, &id.region, &id.name).is_some() {
            return Err(CreateError::Exists(id.name));
        }
        let revision = Uuid::new_v4().to_string();
        let row = Row { id, content, generation: revision.clone(), revision, modified_ms: api::time::now_ms() };
        Ok(self.put(&mut writer, row)?)
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
        let row = Row { id: id.clone(), content, revision, generation, modified_ms: api::time::now_ms() };
        Ok(self.put(&mut writer, row)?)
    }

    /// Deletes a function: its last state, or nothing when there was none. Blocks until that is on disk.
    pub fn delete(&self, id: &FunctionId) -> Result<Option<Arc<Entry>>, StoreError> {
        let mut writer = self.writer();
        let Some(old) = self.find(&id.account, &id.region, &id.name) else { return Ok(None) };
        rows::delete(&writer.connection, id)?;
        remove(&mut self.entries.write().unwrap_or_else(PoisonError::into_inner), id);
        writer.retire(&old);
        (writer.observer)(Change::Withdrawn(old.function.key.clone()));
        Ok(Some(old))
    }

    /// Deletes the code that no function has, and no instance of an earlier state runs from: how many packages.
    pub fn sweep(&self) -> io::Result<usize> {
        let mut writer = self.writer();
        writer.retired.retain(|(_, function)| function.strong_count() > 0);
        let current = self.all().into_iter().map(|entry| entry.content.code).collect::<HashSet<_>>();
        let keep = writer.retired.iter().map(|(code, _)| *code).chain(current).collect();
        // With the right to change held: a function that was created meanwhile would lose its code.
        let swept = self.code.sweep(&keep)?;
        drop(writer);
        swept.delete()
    }

    fn put(&self, writer: &mut Writer, row: Row) -> Result<Arc<Entry>, PutError> {
        let entry = Arc::new(row.into_entry(&self.code)?);
        rows::write(&writer.connection, &entry).map_err(StoreError::from)?;
        let old = insert(&mut self.entries.write().unwrap_or_else(PoisonError::into_inner), entry.clone());
        if let Some(old) = old {
            writer.retire(&old);
        }
        (writer.observer)(Change::Deployed(entry.function.clone()));
        Ok(entry)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn retire(&mut self, old: &Entry) {
        self.retired.push((old.content.code, Arc::downgrade(&old.function)));
    }
}

fn connect(path: &Path, durable: bool) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "OFF" })?;
    Ok(connection)
}

/// Puts an entry in its place: the one that was there.
fn insert(entries: &mut Entries, entry: Arc<Entry>) -> Option<Arc<Entry>> {
    let old = remove(entries, &entry.id);
    entries.entry(entry.id.name.clone()).or_default().push(entry);
    old
}

fn remove(entries: &mut Entries, id: &FunctionId) -> Option<Arc<Entry>> {
    let same_name = entries.get_mut(&id.name)?;
    let at = same_name.iter().position(|entry| entry.id == *id)?;
    let old = same_name.swap_remove(at);
    if same_name.is_empty() {
        entries.remove(&id.name);
    }
    Some(old)
}
