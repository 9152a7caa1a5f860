//! Layers of a function, one folder made of them: later ones over earlier ones, file by file.
//!
//! ```text
//! no layer     nothing
//! one layer    the layer's own folder
//! several      code/<sha256 of their hashes in order>/, made of hard links: no file is stored twice
//! ```
//!
//! Nothing is followed while they are merged: a layer's link stays the link that it is, and where another layer has a
//! folder of that name the link goes. So no layer can make another one's files land elsewhere.

use super::{AdmitError, CodeId, CodeStore, Held, Staging, disk};
use std::fs::{self, DirEntry, FileType};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Why layers were not put together.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("the node does not have the layer {} any more", .0.hex())]
    Gone(CodeId),
    #[error(transparent)]
    Disk(#[from] AdmitError),
}

impl CodeId {
    /// What layers together are called; nothing where there are none.
    pub fn of_bundle(layers: &[CodeId]) -> Option<CodeId> {
        match layers {
            [] => None,
            [only] => Some(*only),
            several => {
                let mut name = b"layers".to_vec();
                several.iter().for_each(|layer| name.extend(layer.bytes()));
                Some(CodeId::of(&name))
            }
        }
    }
}

impl CodeStore {
    /// One folder of these layers, made unless it is there; nothing where there are none. Blocks on the disk.
    pub fn bundle(self: &Arc<Self>, layers: &[CodeId]) -> Result<Option<Held>, BundleError> {
        // While they are linked from, they stay.
        let parts: Vec<Held> = layers.iter().map(|layer| self.hold(*layer, 0)).collect();
        if let Some(gone) = parts.iter().find(|part| !self.folder(part.id).is_dir()) {
            return Err(BundleError::Gone(gone.id));
        }
        let Some(id) = CodeId::of_bundle(layers) else { return Ok(None) };
        let held = self.hold(id, 0);
        if !self.folder(id).is_dir() {
            self.merge(layers, id).map_err(disk)?;
        }
        Ok(Some(held))
    }

    /// Bytes of all files of a package or a bundle, unpacked.
    pub fn unzipped(&self, id: CodeId) -> io::Result<u64> {
        bytes_of(&self.folder(id))
    }

    fn merge(&self, layers: &[CodeId], id: CodeId) -> io::Result<()> {
        let staging = Staging::new(&self.folder)?;
        for layer in layers {
            lay(&self.folder(*layer), &staging.tree())?;
        }
        staging.commit(None, &self.folder(id), self.config.durable)
    }
}

fn bytes_of(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { bytes_of(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// Lays a folder's content over another's.
fn lay(from: &Path, over: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, over.join(entry.file_name()));
        make_room(&to, kind)?;
        if kind.is_dir() {
            lay(&entry.path(), &to)?;
        } else {
            put(&entry, kind, &to)?;
        }
    }
    Ok(())
}

/// Takes away what has the name already, but for a folder that a folder is laid over; makes that folder.
fn make_room(to: &Path, kind: FileType) -> io::Result<()> {
    let there = fs::symlink_metadata(to).map(|found| found.file_type());
    match there {
        Ok(there) if there.is_dir() && kind.is_dir() => return Ok(()),
        Ok(there) if there.is_dir() => fs::remove_dir_all(to)?,
        Ok(_) => fs::remove_file(to)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if kind.is_dir() { super::unpack::make_folder(to) } else { Ok(()) }
}

fn put(entry: &DirEntry, kind: FileType, to: &Path) -> io::Result<()> {
    if kind.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(entry.path())?, to);
    }
    // A file system has a limit of links to one file, and some have none at all.
    fs::hard_link(entry.path(), to).or_else(|_| fs::copy(entry.path(), to).map(drop))
}

#[cfg(test)]
mod tests;
