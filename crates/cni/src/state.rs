//! The folder in which it is noted what has been made, and the lock that lets in one plugin at a time.
//!
//! ```text
//! STATE/lock
//! STATE/NAME.json       an attachment: written before anything is made, removed after everything is
//! STATE/NAME.new        one that is being written
//! STATE/netns/NAME      the other half's network namespace, where it was made here
//! ```
//!
//! A record is in its place whole or not at all. What stands in the folder is ours; nobody else may write there.

use crate::attachment::Attachment;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use thiserror::Error;

/// How long another plugin may take.
const LOCK_LIMIT: Duration = Duration::from_secs(20);
const RECORD: &str = "json";
const UNFINISHED: &str = "new";

#[derive(Debug, Error)]
pub enum StateError {
    #[error("{} cannot be made or opened", .0.display())]
    Open(PathBuf, #[source] io::Error),
    #[error("another plugin has been at work there for {} seconds", LOCK_LIMIT.as_secs())]
    Busy,
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{} cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// Takes the lock, which belongs to the open file and all its descriptors. A thread waits for it, so that this one need not
/// for ever: the process ends soon after, and with it the thread.
fn await_turn(lock: &File) -> io::Result<()> {
    if lock.try_lock().is_ok() {
        return Ok(());
    }
    let (tell, told) = mpsc::sync_channel(1);
    let same = lock.try_clone()?;
    std::thread::spawn(move || tell.send(same.lock()));
    told.recv_timeout(LOCK_LIMIT).map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// The folder, locked.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// Opens the folder, and makes it where it is not there yet.
    pub fn open(folder: &Path) -> Result<Self, StateError> {
        let failed = |error| StateError::Open(folder.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let path = folder.join("lock");
        let lock = File::options().create(true).append(true).open(path).map_err(failed)?;
        await_turn(&lock).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => StateError::Busy,
            _ => failed(error),
        })?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// Where the network namespace is that is made for an attachment.
    pub fn namespace(&self, name: &str) -> PathBuf {
        self.folder.join("netns").join(name)
    }

    /// Whether there is something of an attachment.
    pub fn has(&self, name: &str) -> bool {
        [self.record(name), self.unfinished(name), self.namespace(name)].iter().any(|path| path.exists())
    }

    /// None where it is not there, or makes no sense.
    pub fn read(&self, name: &str) -> Result<Option<Attachment>, StateError> {
        let path = self.record(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::Read(path, error)),
        }
    }

    pub fn write(&self, attachment: &Attachment) -> Result<(), StateError> {
        let name = attachment.key.name();
        let (path, new) = (self.record(&name), self.unfinished(&name));
        let put = || {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(attachment)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        put().map_err(|error| StateError::Write(path.clone(), error))
    }

    pub fn remove(&self, name: &str) -> Result<(), StateError> {
        for path in [self.unfinished(name), self.record(name)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StateError::Write(path, error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The names of which there is something, by how they begin.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let mut names = self.files(&self.folder, prefix, &[RECORD, UNFINISHED])?;
        names.extend(self.files(&self.folder.join("netns"), prefix, &[])?);
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Files with one of these extensions, or with none, by their names without it.
    fn files(&self, folder: &Path, prefix: &str, extensions: &[&str]) -> Result<Vec<String>, StateError> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StateError::Read(folder.to_owned(), error)),
        };
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let ours = paths.filter(|path| match path.extension().and_then(|found| found.to_str()) {
            Some(extension) => extensions.contains(&extension),
            None => extensions.is_empty(),
        });
        let names = ours.filter_map(|path| path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }

    fn unfinished(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension(UNFINISHED)
    }

    fn record(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension(RECORD)
    }
}
