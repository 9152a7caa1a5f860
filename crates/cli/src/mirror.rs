//! A folder of this machine as a set of items, and the items that a program has left as that folder again.
//!
//! What a program leaves is a stranger's word: names lead nowhere but into the folder, symbolic links are never followed,
//! and only files that differ from what was read are written, each as a whole. Nothing else of the machine is touched:
//! links, sockets and devices in the folder are neither read nor written, and empty folders are not known at all.

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sets::Item;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Bytes of all files of all folders that are taken.
pub const LARGEST: u64 = 1 << 30;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot write {0}")]
    Write(PathBuf, #[source] io::Error),
    #[error("{0} has a name that is not UTF-8, or longer than 255 bytes below its folder")]
    Name(PathBuf),
    #[error("its files have more than {} MiB together", LARGEST >> 20)]
    Large,
    #[error("the program has left a file whose name leads out of the folder, or to what is no file there: {0:?}")]
    Leads(String),
}

/// A folder as it was when it was read.
pub struct Mirror {
    folder: OwnedFd,
    path: PathBuf,
    files: HashMap<String, Vec<u8>>,
}

/// A file's path below its folder as an item's name: `/` is `%2F` there.
pub fn item_name(path: &str) -> String {
    path.replace("%25", "%2525").replace("%2F", "%252F").replace('/', "%2F")
}

/// And the other way round. A key is part of a file's name: `NAME@KEY`.
fn file_path(item: &Item<impl Sized>) -> String {
    let path = item.name.replace("%2F", "/").replace("%25", "%");
    if item.key == 0 { path } else { format!("{path}@{}", item.key) }
}

/// The name and the key that a file's name has in it.
fn keyed(path: &str) -> (&str, u64) {
    match path.rsplit_once('@').map(|(name, key)| (name, key, key.parse::<u64>())) {
        // Only what is written back in the same way: `a@007` is a name.
        Some((name, key, Ok(number))) if !name.is_empty() && !name.ends_with('/') && number.to_string() == key => {
            (name, number)
        }
        _ => (path, 0),
    }
}

impl Mirror {
    /// Reads a folder; `room` is how many bytes may still be read.
    pub fn read(path: &Path, room: &mut u64) -> Result<Self, MirrorError> {
        let failed = |error: Errno| MirrorError::Read(path.to_owned(), error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
        let mut mirror = Self { folder, path: path.to_owned(), files: HashMap::new() };
        mirror.walk("", room)?;
        Ok(mirror)
    }

    fn walk(&mut self, below: &str, room: &mut u64) -> Result<(), MirrorError> {
        let here = self.path.join(below);
        let failed = |error: io::Error| MirrorError::Read(here.clone(), error);
        let mut entries = fs::read_dir(&here).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type().map_err(failed)?;
            let name = entry.file_name().into_string().map_err(|_| MirrorError::Name(entry.path()))?;
            let path = if below.is_empty() { name } else { format!("{below}/{name}") };
            if kind.is_dir() {
                self.walk(&path, room)?;
            } else if kind.is_file() {
                let bytes = self.read_file(&path, room)?;
                if sets::name::check(&item_name(keyed(&path).0)).is_err() {
                    return Err(MirrorError::Name(entry.path()));
                }
                self.files.insert(path, bytes);
            }
        }
        Ok(())
    }

    fn read_file(&self, path: &str, room: &mut u64) -> Result<Vec<u8>, MirrorError> {
        let failed = |error: io::Error| MirrorError::Read(self.path.join(path), error);
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
        let mut bytes = Vec::new();
        file.take(*room + 1).read_to_end(&mut bytes).map_err(failed)?;
        *room = room.checked_sub(bytes.len() as u64).ok_or(MirrorError::Large)?;
        Ok(bytes)
    }

    /// A file below the folder, by no link.
    fn open(&self, path: &str, flags: OFlags) -> Result<File, Errno> {
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.folder, path, flags | OFlags::CLOEXEC, Mode::empty(), inside).map(File::from)
    }

    /// What a program is given.
    pub fn items(&self) -> Vec<Item<Vec<u8>>> {
        let item = |(path, data): (&String, &Vec<u8>)| {
            let (name, key) = keyed(path);
            Item::new(item_name(name), key, data.clone())
        };
        let mut items: Vec<_> = self.files.iter().map(item).collect();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        items
    }

    /// Makes the folder what a program has left: writes what is new or differs, removes what is gone.
    pub fn write(&self, left: &[Item<impl AsRef<[u8]>>]) -> Result<(), MirrorError> {
        let left: HashMap<String, &[u8]> = left.iter().map(|item| (file_path(item), item.data.as_ref())).collect();
        for path in left.keys() {
            let good = !path.is_empty() && path.split('/').all(|part| sets::name::check(part).is_ok());
            if !good {
                return Err(MirrorError::Leads(path.clone()));
            }
        }
        for path in self.files.keys().filter(|path| !left.contains_key(*path)) {
            self.remove(path)?;
        }
        let differs = |(path, data): &(&String, &&[u8])| self.files.get(*path).is_none_or(|old| old != *data);
        for (path, data) in left.iter().filter(differs) {
            self.write_file(path, data)?;
        }
        Ok(())
    }

    /// The folder that a path lies in, made if need be, and the file's name there.
    fn parent<'a>(&self, path: &'a str, make: bool) -> Result<(OwnedFd, &'a str), Errno> {
        let mut at = rustix::io::fcntl_dupfd_cloexec(&self.folder, 0)?;
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            if make {
                match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = rustix::fs::openat(&at, part, flags, Mode::empty())?;
        }
        Ok((at, name))
    }

    fn remove(&self, path: &str) -> Result<(), MirrorError> {
        let removed = self.parent(path, false).and_then(|(at, name)| rustix::fs::unlinkat(&at, name, AtFlags::empty()));
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(MirrorError::Write(self.path.join(path), error.into())),
        }
    }

    /// Beside the old file, then in its place: whoever reads it reads the one or the other.
    fn write_file(&self, path: &str, data: &[u8]) -> Result<(), MirrorError> {
        let failed = |error: io::Error| MirrorError::Write(self.path.join(path), error);
        let errno = |error: Errno| failed(error.into());
        let (at, name) = self.parent(path, true).map_err(errno)?;
        let mode = match rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(old) if rustix::fs::FileType::from_raw_mode(old.st_mode).is_file() => old.st_mode & 0o777,
            // A folder gives way whose files the program has removed.
            Ok(_) if rustix::fs::unlinkat(&at, name, AtFlags::REMOVEDIR).is_ok() => 0o666,
            Ok(_) => return Err(MirrorError::Leads(path.to_owned())),
            Err(_) => 0o666,
        };
        let staged = format!(".lichen-{}", std::process::id());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&at, &staged, flags, Mode::from_raw_mode(mode)).map_err(errno)?;
        let written = File::from(file).write_all(data);
        let named = written.and_then(|()| Ok(rustix::fs::renameat(&at, &staged, &at, name)?));
        if named.is_err() {
            let _ = rustix::fs::unlinkat(&at, &staged, AtFlags::empty());
        }
        named.map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn item(name: &str, data: &str) -> Item<Vec<u8>> {
        Item::new(name, 0, data.into())
    }

    fn mirror(path: &Path) -> Mirror {
        Mirror::read(path, &mut LARGEST.clone()).unwrap()
    }

    #[test]
    fn folders_come_back_as_they_went() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        for name in ["x", "a/y", "a/b/z", "k@7", "k@007", "50%25", "a%2Fb", "gone"] {
            fs::write(at(name), name).unwrap();
        }
        fs::set_permissions(at("x"), fs::Permissions::from_mode(0o751)).unwrap();
        let read = mirror(folder.path());
        let mut items = read.items();
        assert!(items.contains(&Item::new("k", 7, b"k@7".to_vec())) && items.contains(&item("a%2Fb%2Fz", "a/b/z")));
        let before = |name: &str| fs::metadata(at(name)).unwrap().ino();
        let (y, x) = (before("a/y"), before("x"));
        items.retain(|item| item.name != "gone");
        items.iter_mut().filter(|item| item.name == "x").for_each(|item| item.data = b"new".into());
        items.push(item("c%2Fd%2Fe", "made"));
        items.retain(|item| item.name != "a%2Fb%2Fz");
        items.push(item("a%2Fb", "a file now"));
        read.write(&items).unwrap();
        assert_eq!(fs::read(at("a/b")).unwrap(), b"a file now");
        assert_eq!(fs::read(at("x")).unwrap(), b"new");
        assert_eq!(fs::metadata(at("x")).unwrap().mode() & 0o777, 0o751);
        assert_eq!(fs::read(at("c/d/e")).unwrap(), b"made");
        assert!(!at("gone").exists() && before("a/y") == y && before("x") != x);
        for name in ["k@7", "k@007", "50%25", "a%2Fb", "a/y"] {
            assert_eq!(fs::read(at(name)).unwrap(), name.as_bytes());
        }
        assert!(
            fs::read_dir(folder.path()).unwrap().all(|e| !e.unwrap().file_name().to_string_lossy().starts_with('.'))
        );
    }

    #[test]
    fn nothing_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "kept").unwrap();
        let folder = tempfile::tempdir().unwrap();
        symlink(outside.path(), folder.path().join("link")).unwrap();
        symlink(outside.path().join("secret"), folder.path().join("file")).unwrap();
        let read = mirror(folder.path());
        assert!(read.items().is_empty());
        for name in ["..%2Fx", "a%2F..%2F..%2Fx", "%2Fetc%2Fx", "link%2Fsecret", "link%2Fnew", "file", "a%2F%2Fb", "."]
        {
            assert!(read.write(&[item(name, "broken")]).is_err(), "{name}");
        }
        assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"kept");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), [0; 100]).unwrap();
        assert!(matches!(Mirror::read(folder.path(), &mut 99), Err(MirrorError::Large)));
        let mut room = 100;
        Mirror::read(folder.path(), &mut room).map(drop).unwrap();
        assert_eq!(room, 0);
    }
}
