//! Folders of functions: read at the head, written where they are needed.
//!
//! A folder's path at the head ends in what it contains, by hash, so a path never means two things; far keeps what it has
//! got for as long as it runs. What comes is written below one folder and nowhere else, whatever it is called.

use super::words::{Entry, Word};
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2, symlinkat};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use thiserror::Error;

/// Bytes of a file that travel in one word.
const PIECE: usize = 256 * 1024;
/// Entries of one folder.
const ENTRIES_MAX: usize = 1 << 18;

/// Why a folder did not come.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot use {}", path.display())]
    Disk { path: PathBuf, source: io::Error },
    #[error("the other machine sends a folder with an impossible entry: {}", .0.display())]
    Entry(PathBuf),
    #[error("the other machine sends entries of no folder")]
    Stray,
}

/// A folder that is being read.
pub struct Packing {
    folder: PathBuf,
    entries: VecDeque<PathBuf>,
    begun: bool,
    file: Option<File>,
    over: bool,
}

impl Packing {
    /// Lists the folder; what cannot be read is said at its end.
    pub fn begin(folder: PathBuf) -> Self {
        Self { folder, entries: VecDeque::from([PathBuf::new()]), begun: false, file: None, over: false }
    }

    /// The next thing to say of it.
    pub fn next(&mut self) -> Option<(Word, Vec<u8>)> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some((Word::Folder { folder: self.folder.clone() }, Vec::new()));
        }
        if self.over {
            return None;
        }
        self.step().unwrap_or_else(|error| {
            self.over = true;
            Some((self.whole(Some(error.to_string())), Vec::new()))
        })
    }

    fn whole(&self, failed: Option<String>) -> Word {
        Word::Whole { folder: self.folder.clone(), failed }
    }

    fn step(&mut self) -> io::Result<Option<(Word, Vec<u8>)>> {
        if let Some(piece) = self.piece()? {
            return Ok(Some((Word::More, piece)));
        }
        let Some(path) = self.entries.pop_front() else {
            self.over = true;
            return Ok(Some((self.whole(None), Vec::new())));
        };
        let here = self.folder.join(&path);
        let metadata = here.symlink_metadata()?;
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_dir() {
            for entry in here.read_dir()? {
                self.entries.push_back(path.join(entry?.file_name()));
            }
            return Ok(Some((Word::Entry { path, entry: Entry::Folder { mode } }, Vec::new())));
        }
        if metadata.is_symlink() {
            let target = here.read_link()?;
            return Ok(Some((Word::Entry { path, entry: Entry::Link { target } }, Vec::new())));
        }
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is no file", here.display())));
        }
        self.file = Some(File::open(&here)?);
        let first = self.piece()?.unwrap_or_default();
        Ok(Some((Word::Entry { path, entry: Entry::File { mode } }, first)))
    }

    /// More of the file that is being read.
    fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut piece = Vec::with_capacity(PIECE);
        file.take(PIECE as u64).read_to_end(&mut piece)?;
        if piece.len() < PIECE {
            self.file = None;
        }
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// Folders that have come.
pub struct Store {
    place: PathBuf,
    whole: HashMap<PathBuf, PathBuf>,
    coming: Option<Coming>,
}

/// A folder that is coming.
struct Coming {
    folder: PathBuf,
    draft: PathBuf,
    root: OwnedFd,
    file: Option<File>,
    entries: usize,
}

impl Store {
    /// A store at this place, empty: what is there of an earlier life goes.
    pub fn new(place: &Path) -> Result<Self, StoreError> {
        let disk = |source| StoreError::Disk { path: place.to_owned(), source };
        match std::fs::remove_dir_all(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk(error)),
            _ => {}
        }
        // Sandboxes of other users look into folders below.
        DirBuilder::new().recursive(true).mode(0o755).create(place).map_err(disk)?;
        Ok(Self { place: place.to_owned(), whole: HashMap::new(), coming: None })
    }

    /// Where a folder of the head is here.
    pub fn find(&self, folder: &Path) -> Option<&PathBuf> {
        self.whole.get(folder)
    }

    /// A folder begins.
    pub fn begin(&mut self, folder: PathBuf) -> Result<(), StoreError> {
        let draft = self.place.join("draft");
        let open = || -> io::Result<OwnedFd> {
            if draft.exists() {
                std::fs::remove_dir_all(&draft)?;
            }
            DirBuilder::new().mode(0o755).create(&draft)?;
            Ok(File::open(&draft)?.into())
        };
        let root = open().map_err(|source| StoreError::Disk { path: draft.clone(), source })?;
        self.coming = Some(Coming { folder, draft, root, file: None, entries: 0 });
        Ok(())
    }

    /// One of its entries, and the beginning of it.
    pub fn entry(&mut self, path: &Path, entry: &Entry, bytes: &[u8]) -> Result<(), StoreError> {
        let coming = self.coming.as_mut().ok_or(StoreError::Stray)?;
        coming.entries += 1;
        coming.file = None;
        let sound = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !sound || coming.entries > ENTRIES_MAX {
            return Err(StoreError::Entry(path.to_owned()));
        }
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        coming.make(path, entry, bytes).map_err(|source| StoreError::Disk { path: path.to_owned(), source })
    }

    /// More of the file before.
    pub fn more(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let coming = self.coming.as_mut().ok_or(StoreError::Stray)?;
        let file = coming.file.as_mut().ok_or(StoreError::Stray)?;
        file.write_all(bytes).map_err(|source| StoreError::Disk { path: coming.draft.clone(), source })
    }

    /// The folder is whole.
    pub fn end(&mut self, folder: &Path, failed: bool) -> Result<(), StoreError> {
        let coming = self.coming.take().filter(|coming| coming.folder == folder).ok_or(StoreError::Stray)?;
        let digest: [u8; 32] = Sha256::digest(folder.as_os_str().as_encoded_bytes()).into();
        let named = digest.map(|byte| format!("{byte:02x}")).concat();
        let path = self.place.join(named);
        let result =
            if failed { std::fs::remove_dir_all(&coming.draft) } else { std::fs::rename(&coming.draft, &path) };
        result.map_err(|source| StoreError::Disk { path: path.clone(), source })?;
        if !failed {
            self.whole.insert(folder.to_owned(), path);
        }
        Ok(())
    }
}

impl Coming {
    fn make(&mut self, path: &Path, entry: &Entry, bytes: &[u8]) -> io::Result<()> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let beside = self.below(parent.unwrap_or(Path::new(".")), OFlags::DIRECTORY | OFlags::PATH, 0)?;
        match entry {
            Entry::Folder { mode } => mkdirat(&beside, name, Mode::from_raw_mode(*mode & 0o777 | 0o500))?,
            Entry::Link { target } => symlinkat(target, &beside, name)?,
            Entry::File { mode } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
                let mut file = File::from(self.below(path, flags, *mode & 0o777)?);
                file.write_all(bytes)?;
                self.file = Some(file);
            }
        }
        Ok(())
    }

    /// Opens what is below the folder, by way of no link.
    fn below(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(openat2(self.root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode), resolve)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carry(from: &Path, store: &mut Store) -> Result<(), StoreError> {
        let mut packing = Packing::begin(from.to_owned());
        while let Some((word, body)) = packing.next() {
            match word {
                Word::Folder { folder } => store.begin(folder)?,
                Word::Entry { path, entry } => store.entry(&path, &entry, &body)?,
                Word::More => store.more(&body)?,
                Word::Whole { folder, failed } => store.end(&folder, failed.is_some())?,
                other => panic!("{other:?}"),
            }
        }
        Ok(())
    }

    #[test]
    fn a_folder_arrives_as_it_is() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("a/b/c")).unwrap();
        let long: Vec<u8> = (0..3 * PIECE + 7).map(|i| (i >> 3) as u8).collect();
        std::fs::write(from.path().join("a/b/long"), &long).unwrap();
        std::fs::write(from.path().join("empty"), "").unwrap();
        std::fs::set_permissions(from.path().join("empty"), PermissionsExt::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("b/long", from.path().join("a/link")).unwrap();
        let mut store = Store::new(&to.path().join("store")).unwrap();
        carry(from.path(), &mut store).unwrap();
        let here = store.find(from.path()).unwrap();
        assert!(std::fs::read(here.join("a/link")).unwrap() == long);
        assert!(here.join("a/b/c").is_dir());
        assert_eq!(here.join("empty").metadata().unwrap().permissions().mode() & 0o777, 0o755);
        // What cannot be read is said, and leaves nothing.
        carry(&from.path().join("gone"), &mut store).unwrap();
        assert_eq!(store.find(&from.path().join("gone")), None);
        assert_eq!(to.path().join("store").read_dir().unwrap().count(), 1);
    }

    #[test]
    fn nothing_is_written_elsewhere() {
        let to = tempfile::tempdir().unwrap();
        let mut store = Store::new(&to.path().join("store")).unwrap();
        let file = Entry::File { mode: 0o644 };
        assert!(matches!(store.entry(Path::new("a"), &file, b""), Err(StoreError::Stray)));
        store.begin("/f".into()).unwrap();
        for path in ["../a", "/a", "a/../../b", "."] {
            assert!(store.entry(Path::new(path), &file, b"").is_err(), "{path}");
        }
        let link = Entry::Link { target: to.path().to_owned() };
        store.entry(Path::new("out"), &link, b"").unwrap();
        assert!(store.entry(Path::new("out/file"), &file, b"x").is_err(), "by way of a link");
        assert!(store.entry(Path::new("out"), &file, b"x").is_err(), "over a link");
        assert!(matches!(store.more(b"x"), Err(StoreError::Stray)));
        assert!(store.end(Path::new("/other"), false).is_err());
        assert_eq!(to.path().read_dir().unwrap().count(), 1);
    }
}
