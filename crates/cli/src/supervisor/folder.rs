//! The data folder: one node at a time, and nobody else's business.

use crate::verdict::wrong;
use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";

/// A data folder that is ours while this lives.
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if need be, and takes it.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        let cannot = |what: &str| format!("cannot {what} the data folder {}", path.display());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| cannot("make"))?;
        let path = path.canonicalize().with_context(|| cannot("find"))?;
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join(LOCK));
        let mut lock = lock.with_context(|| cannot("write to"))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(taken(&path, &mut lock));
        }
        lock.set_len(0)?;
        lock.rewind()?;
        write!(lock, "{}", std::process::id()).with_context(|| cannot("write to"))?;
        Ok(Self { path, _lock: lock })
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn taken(path: &Path, lock: &mut File) -> anyhow::Error {
    let mut owner = String::new();
    let by = match lock.read_to_string(&mut owner) {
        Ok(_) if !owner.is_empty() => format!("by the node with process id {owner}"),
        _ => "by another node".to_owned(),
    };
    wrong(format!("the data folder {} is in use {by}: end that one, or choose another with --data-dir", path.display()))
}

/// Beginning of the names of throw-away nodes' folders.
const THROW_AWAY: &str = "lichen-run-";

/// A folder for a node that lives for one command. Removed when dropped.
pub fn throw_away() -> anyhow::Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix(THROW_AWAY).tempdir();
    let folder = made.context("cannot make a folder for a throw-away node: is TMPDIR writable?")?;
    if let Some(parent) = folder.path().parent() {
        sweep(parent);
    }
    Ok(folder)
}

/// Removes what throw-away nodes have left that were killed: theirs are the folders whose lock nobody holds.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(THROW_AWAY)) {
        // One without a lock is just being made.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Somebody else's, or half gone already: it is only litter.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_node_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataFolder::take(&path).unwrap();
        let refusal = DataFolder::take(&path).err().unwrap().to_string();
        assert!(refusal.contains(&format!("process id {}:", std::process::id())), "{refusal}");
        drop(first);
        assert!(DataFolder::take(&path).is_ok());
    }

    #[test]
    fn litter_is_swept_and_what_is_in_use_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        let used = DataFolder::take(&path("lichen-run-used")).unwrap();
        drop(DataFolder::take(&path("lichen-run-left")).unwrap());
        drop(DataFolder::take(&path("other")).unwrap());
        fs::create_dir(path("lichen-run-new")).unwrap();
        sweep(parent.path());
        let left = ["used", "left", "new"].map(|name| path(&format!("lichen-run-{name}")).exists());
        assert_eq!(left, [true, false, true]);
        assert!(path("other").exists() && used.path().exists());
    }
}
