//! What is remembered of networks, so that a daemon that was killed can go on, or take everything back.
//!
//! A file per network, written before anything is done and removed after all is undone. The folder must not survive a
//! restart of the machine: neither do namespaces.

use super::behaviour::Was;
use super::{Network, Rules};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const SUFFIX: &str = "json";

/// What is remembered of one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub network: Network,
    pub halves: Vec<HalfMemory>,
    /// The proxy's PU, and the rules of which it is one.
    pub capture: Option<(String, Rules)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfMemory {
    /// The kernel's number of the namespace: what stands at its path may be another by now. 0: the half is gone.
    pub namespace: u64,
    /// What its switches were.
    pub was: Vec<Was>,
}

/// The folder, which one daemon at a time has.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the folder, which is made where it is missing. `WouldBlock`: another daemon has it.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock = File::create(path.join("lock"))?;
        lock.try_lock()?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// What was remembered. A file that makes no sense is told of, and left where it is.
    pub fn load(&self) -> io::Result<Vec<Memory>> {
        load(&self.path)
    }

    /// Writes it down, whole or not at all.
    pub fn keep(&self, memory: &Memory) -> io::Result<()> {
        let (path, new) = (self.file(&memory.network.name), self.path.join(format!("{}.new", memory.network.name)));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(memory)?)?;
        fs::rename(new, path)
    }

    pub fn forget(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.file(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.{SUFFIX}"))
    }
}

fn load(folder: &Path) -> io::Result<Vec<Memory>> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != SUFFIX) {
            continue;
        }
        match fs::read(&path).map(|text| serde_json::from_slice::<Memory>(&text)) {
            Ok(Ok(memory)) if memory.is_sound() => found.push(memory),
            // It was forgotten meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            _ => tracing::warn!("{} makes no sense, and is left alone", path.display()),
        }
    }
    Ok(found)
}

/// What brokers are to know of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub name: String,
    /// The kernel's numbers of its halves' namespaces.
    pub namespaces: Vec<u64>,
    /// Whose programs may share memory.
    pub users: Vec<u32>,
}

/// All networks that are remembered in a folder; for whoever may read it.
pub fn known(folder: &Path) -> io::Result<Vec<Known>> {
    Ok(load(folder)?.iter().map(Memory::known).collect())
}

impl Memory {
    pub fn known(&self) -> Known {
        Known {
            name: self.network.name.clone(),
            namespaces: self.halves.iter().map(|half| half.namespace).filter(|number| *number != 0).collect(),
            users: self.network.users.clone(),
        }
    }

    fn is_sound(&self) -> bool {
        self.network.check().is_ok() && self.halves.len() == self.network.halves.len()
    }
}
