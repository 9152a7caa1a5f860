//! Deployment packages, stored by what they contain: `code/<sha256>.zip` as it was uploaded, `code/<sha256>/` unpacked.
//!
//! A package appears under its name by a rename, when it is whole and on disk; before that it is `.new-…`, which is
//! deleted at the next start. A folder that exists is therefore complete, whatever happened. Packages go by
//! [`CodeStore::sweep`], never while somebody holds them.
//!
//! Which function has which package is the registry's knowledge, not kept here.

mod bundle;
mod id;
mod staging;
#[cfg(test)]
mod tests;
mod unpack;

pub use bundle::BundleError;
pub use id::CodeId;
use staging::Staging;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use zip::result::ZipError;

/// What a worker makes of a package's programs lies in the folder of this name beside it, and goes with it.
const ARTEFACTS: &str = ".artefacts";

/// `[code]`: limits of a deployment package. The defaults are Lambda's.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CodeConfig {
    /// Bytes of a zip file that a request brings.
    pub zip_max: u64,
    /// Bytes of all its files, unpacked.
    pub unzipped_max: u64,
    /// Files and folders in it.
    pub files_max: u32,
    /// Whether a package is on disk, not only in memory, before its upload is answered. A throw-away node need not wait.
    pub durable: bool,
}

impl Default for CodeConfig {
    fn default() -> Self {
        Self { zip_max: 52_428_800, unzipped_max: 262_144_000, files_max: 65_536, durable: true }
    }
}

/// Why a package was not taken. Where AWS has a text, it comes first.
#[derive(Debug, Error)]
pub enum AdmitError {
    #[error("Zipped size must be smaller than {limit} bytes")]
    ZippedTooBig { limit: u64 },
    #[error("Unzipped size must be smaller than {limit} bytes")]
    UnzippedTooBig { limit: u64 },
    #[error(
        "{UNZIP} The package holds more than {limit} files and folders; the node's limit is `files_max` in [code]."
    )]
    TooManyFiles { limit: u32 },
    #[error("{UNZIP}")]
    NoZip(#[source] ZipError),
    #[error("{UNZIP} Two of its entries have the same name.")]
    SameName,
    #[error("{UNZIP} The entry {entry:?} {fault}.")]
    BadEntry { entry: Box<str>, fault: EntryFault },
    #[error("The node has no room on disk for the package. Free some in its data folder, and try again.")]
    DiskFull(#[source] io::Error),
    #[error("The node could not write the package to its disk.")]
    Disk(#[source] io::Error),
}

const UNZIP: &str = "Could not unzip uploaded file. Please check your file, then try to upload again.";

/// What is wrong with one entry of a package.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum EntryFault {
    #[error("leads out of the package")]
    Escapes,
    #[error("has an absolute path")]
    Absolute,
    #[error("has no usable name")]
    Unnamed,
    #[error("has a path that is too long or too deep")]
    TooLong,
    #[error("is there twice, or where a folder should be")]
    Twice,
    #[error("is neither a file, nor a folder, nor a symbolic link")]
    Special,
    #[error("is a symbolic link that leads out of the package")]
    LinkEscapes,
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
#[error("the folder {folder:?} for functions' code cannot be used")]
pub struct OpenError {
    folder: PathBuf,
    source: io::Error,
}

/// The packages of a node.
#[derive(Debug)]
pub struct CodeStore {
    folder: PathBuf,
    config: CodeConfig,
    held: Mutex<HashMap<CodeId, u32>>,
}

/// A package that stays while this lives.
#[derive(Debug)]
pub struct Held {
    store: Arc<CodeStore>,
    id: CodeId,
    zip_bytes: u64,
}

impl Held {
    pub fn id(&self) -> CodeId {
        self.id
    }

    /// Bytes of the zip file.
    pub fn zip_bytes(&self) -> u64 {
        self.zip_bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.store.held();
        if let Some(holders) = held.get_mut(&self.id) {
            *holders -= 1;
            if *holders == 0 {
                held.remove(&self.id);
            }
        }
    }
}

/// Packages that have lost their names and wait to be deleted.
#[must_use = "what is swept still takes room until it is deleted"]
pub struct Swept(Vec<PathBuf>);

impl Swept {
    /// Deletes them: how many files and folders of the store. What is left after an error goes at the next start.
    pub fn delete(self) -> io::Result<usize> {
        self.0.iter().try_for_each(|path| staging::delete(path))?;
        Ok(self.0.len())
    }
}

impl CodeStore {
    /// Opens the store in `folder`, which is made where it is missing. What an earlier process left half done is deleted.
    pub fn open(folder: &Path, config: CodeConfig) -> Result<Arc<Self>, OpenError> {
        let opened = std::fs::create_dir_all(folder).and_then(|()| staging::clear(folder));
        opened.map_err(|source| OpenError { folder: folder.to_owned(), source })?;
        Ok(Arc::new(Self { folder: folder.to_owned(), config, held: Mutex::default() }))
    }

    pub fn config(&self) -> &CodeConfig {
        &self.config
    }

    /// Stores a zip file and unpacks it, unless it is already there. Blocks for as long as that takes.
    pub fn admit(self: &Arc<Self>, zip: &[u8]) -> Result<Held, AdmitError> {
        if zip.len() as u64 >= self.config.zip_max {
            return Err(AdmitError::ZippedTooBig { limit: self.config.zip_max });
        }
        self.admit_fetched(zip)
    }

    /// The same for one that no request brought: only its files have a limit.
    pub fn admit_fetched(self: &Arc<Self>, zip: &[u8]) -> Result<Held, AdmitError> {
        let zip_bytes = zip.len() as u64;
        let held = self.hold(CodeId::of(zip), zip_bytes);
        // One of the two alone is what an end in the middle of a sweep leaves.
        if !self.folder(held.id).is_dir() || !self.zip(held.id).is_file() {
            self.store(zip, held.id)?;
        }
        Ok(held)
    }

    /// The unpacked package.
    pub fn folder(&self, id: CodeId) -> PathBuf {
        self.folder.join(id.hex())
    }

    /// The package as it was uploaded.
    pub fn zip(&self, id: CodeId) -> PathBuf {
        self.folder.join(id.hex() + ".zip")
    }

    /// Takes away every package that is neither in `keep` nor held. Quick: deleting them is another step.
    pub fn sweep(&self, keep: &HashSet<CodeId>) -> io::Result<Swept> {
        let mut swept = Swept(Vec::new());
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(CodeId::from_file_name) else { continue };
            // An upload of the same package that begins now waits here, and then stores it anew.
            let held = self.held();
            if !keep.contains(&id) && !held.contains_key(&id) {
                swept.0.push(staging::set_aside(&self.folder, &name)?);
            }
        }
        Ok(swept)
    }

    fn hold(self: &Arc<Self>, id: CodeId, zip_bytes: u64) -> Held {
        *self.held().entry(id).or_insert(0) += 1;
        Held { store: self.clone(), id, zip_bytes }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<CodeId, u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, zip: &[u8], id: CodeId) -> Result<(), AdmitError> {
        let staging = Staging::new(&self.folder).map_err(disk)?;
        // The zip file goes to the disk while it is unpacked.
        std::thread::scope(|scope| {
            let written = scope.spawn(|| std::fs::write(staging.zip(), zip).map_err(disk));
            let unpacked = unpack::unpack(zip, &staging.tree(), &self.config);
            let written = written.join().unwrap_or_else(|_| Err(disk(io::ErrorKind::Other.into())));
            unpacked.and(written)
        })?;
        staging.commit(Some(&self.zip(id)), &self.folder(id), self.config.durable).map_err(disk)
    }
}

/// What the disk said, told apart by what there is to do about it.
fn disk(error: io::Error) -> AdmitError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AdmitError::DiskFull(error),
        _ => AdmitError::Disk(error),
    }
}
