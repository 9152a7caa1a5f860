//! Secrets in files: written whole or not at all, read by their owner alone.
//!
//! Several processes of one owner use a folder at the same time (a daemon, a command line): whoever changes a file holds
//! the folder's lock from reading to writing. What the files mean is not known here.

use rustix::fs::{FlockOperation, flock, fsync};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes of the longest file that is read.
const FILE_MAX: u64 = 1024 * 1024;

/// Why a secret was not read or not kept.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is not what was written there", path.display())]
    Damaged { path: PathBuf, source: serde_json::Error },
}

/// A folder that only its owner can read.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
}

/// The right to change files of a store.
pub struct Locked {
    _lock: File,
}

impl Store {
    /// The store in this folder, which is made if it is not there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| StoreError::File { path: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits for whoever changes files of this store.
    pub fn lock(&self) -> Result<Locked, StoreError> {
        let path = self.folder.join("lock");
        let open = || -> io::Result<File> {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        };
        let lock = open().map_err(|source| StoreError::File { path: path.clone(), source })?;
        Ok(Locked { _lock: lock })
    }

    /// What was last written under this name.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let path = self.folder.join(name);
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::File { path, source }),
        }
        serde_json::from_str(&text).map(Some).map_err(|source| StoreError::Damaged { path, source })
    }

    /// Writes this under that name, in the place of what was there, to outlast a crash of the machine.
    pub fn write<T: Serialize>(&self, _locked: &Locked, name: &str, value: &T) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        let text = serde_json::to_vec(value);
        let text = text.map_err(|source| StoreError::Damaged { path: path.clone(), source })?;
        self.replace(&path, &text).map_err(|source| StoreError::File { path, source })
    }

    fn replace(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        // One name for all: who writes holds the lock.
        let draft = self.folder.join("draft");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        Ok(fsync(File::open(&self.folder)?)?)
    }
}
