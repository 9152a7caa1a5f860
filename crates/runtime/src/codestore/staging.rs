//! Where a package is made before it has its name, and where it goes to before it is deleted: beside the others, so that
//! coming and going are renames.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

const NEW: &str = ".new-";
const OLD: &str = ".old-";

/// A package in the making. Dropped before it is committed, it is deleted.
pub struct Staging {
    folder: PathBuf,
}

impl Staging {
    pub fn new(store: &Path) -> io::Result<Self> {
        let folder = store.join(format!("{NEW}{}", Uuid::new_v4().simple()));
        fs::create_dir(&folder)?;
        let staging = Self { folder };
        fs::create_dir(staging.tree())?;
        Ok(staging)
    }

    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    pub fn zip(&self) -> PathBuf {
        self.folder.join("zip")
    }

    /// Gives the zip file, where there is one, and the folder their names; the folder last, because its name means that all
    /// is there.
    pub fn commit(&self, zip: Option<&Path>, tree: &Path, durable: bool) -> io::Result<()> {
        let store = File::open(self.folder.parent().unwrap_or(Path::new(".")))?;
        if durable {
            // One call for thousands of files; it waits for other writers of this file system too.
            rustix::fs::syncfs(&store)?;
        }
        if let Some(zip) = zip {
            fs::rename(self.zip(), zip)?;
        }
        match fs::rename(self.tree(), tree) {
            // Somebody else has uploaded the same package meanwhile.
            Err(_) if tree.is_dir() => {}
            renamed => renamed?,
        }
        if durable { store.sync_all() } else { Ok(()) }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be deleted now is deleted when the store is opened again.
        let _ = delete(&self.folder);
    }
}

/// Deletes what an earlier process left.
pub fn clear(store: &Path) -> io::Result<()> {
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let is_left = |name: &str| name.starts_with(NEW) || name.starts_with(OLD);
        if entry.file_name().to_str().is_some_and(is_left) {
            delete(&entry.path())?;
        }
    }
    Ok(())
}

/// Takes the name from a file or folder of the store.
pub fn set_aside(store: &Path, name: &OsStr) -> io::Result<PathBuf> {
    let old = store.join(format!("{OLD}{}", Uuid::new_v4().simple()));
    fs::rename(store.join(name), &old)?;
    Ok(old)
}

pub fn delete(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
