//! What a package says of its program in `function.toml`: arguments, and files of its own that every run finds as input
//! sets. The file's other members are for whoever deploys it.
//!
//! ```toml
//! arguments = ["python", "/in/app/main.py"]
//! [sets]
//! app = "app"            # a folder of the package, or a file
//! ```
//!
//! The package is a stranger's: paths lead nowhere but into it, and all is bounded.

use crate::PrepareError;
use bytes::Bytes;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, SealFlags, openat2};
use serde::Deserialize;
use sets::{Item, Set, Sets, wire};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "function.toml";
/// Bytes of that file.
const FILE_MAX: u64 = 64 << 10;
/// Bytes and files of all sets.
const BYTES_MAX: u64 = 64 << 20;
const FILES_MAX: usize = 8192;

/// What a package says.
#[derive(Clone, Debug, Default)]
pub struct Package {
    pub arguments: Vec<String>,
    /// Its sets as `sets::wire` has them, in a memory file that nobody can change.
    pub sets: Option<Arc<OwnedFd>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    arguments: Vec<String>,
    sets: BTreeMap<String, String>,
}

impl Package {
    /// Of the package in this folder.
    pub fn of(folder: &Path) -> Result<Self, PrepareError> {
        let failed = |error: io::Error| PrepareError::Code(folder.join(FILE), error);
        let root: OwnedFd = File::open(folder).map_err(failed)?.into();
        let mut text = String::new();
        match open(&root, FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
            Ok(file) => File::from(file).take(FILE_MAX).read_to_string(&mut text).map_err(failed)?,
        };
        let said: Said = toml::from_str(&text).map_err(|error| PrepareError::Refused(format!("{FILE}: {error}")))?;
        if said.sets.is_empty() {
            return Ok(Self { arguments: said.arguments, sets: None });
        }
        let refused = |error: io::Error| PrepareError::Refused(format!("{FILE}: the sets cannot be read: {error}"));
        let sets = read(&root, said.sets).and_then(|sets| sealed(&sets)).map_err(refused)?;
        Ok(Self { arguments: said.arguments, sets: Some(Arc::new(sets)) })
    }
}

/// Below the package's folder, whatever links say.
fn open(root: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags, Mode::empty(), inside)?)
}

fn read(root: &OwnedFd, said: BTreeMap<String, String>) -> io::Result<Sets<Vec<u8>>> {
    let mut room = Room { bytes: BYTES_MAX, files: FILES_MAX };
    let mut sets = Vec::new();
    for (name, path) in said {
        let mut items = Vec::new();
        let there = open(root, path.trim_end_matches('/'))?;
        let is_folder = File::from(there.try_clone()?).metadata()?.is_dir();
        if is_folder {
            walk(root, &path, "", &mut items, &mut room)?;
        } else {
            let name = path.rsplit('/').next().unwrap_or(&path);
            items.push(item(name, there, &mut room)?);
        }
        sets.push(Set::new(name, items));
    }
    Ok(sets)
}

struct Room {
    bytes: u64,
    files: usize,
}

fn walk(root: &OwnedFd, folder: &str, below: &str, items: &mut Vec<Item<Vec<u8>>>, room: &mut Room) -> io::Result<()> {
    let here = format!("{folder}/{below}");
    let mut names = Vec::new();
    for entry in Dir::read_from(open(root, &here)?)? {
        let name = entry?.file_name().to_str().map_err(io::Error::other)?.to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
        if names.len() > room.files {
            return Err(io::Error::other(format!("they have more than {FILES_MAX} files")));
        }
    }
    names.sort();
    for name in names {
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        // A path of an item has 255 bytes at most: nothing is deeper than that.
        sets::name::check(&escaped(&path)).map_err(io::Error::other)?;
        let there = open(root, &format!("{folder}/{path}"))?;
        match File::from(there.try_clone()?).metadata()? {
            meta if meta.is_dir() => walk(root, folder, &path, items, room)?,
            meta if meta.is_file() => items.push(item(&path, there, room)?),
            _ => {}
        }
    }
    Ok(())
}

/// As engines have it: `/` in a path is `%2F` in a name.
fn escaped(path: &str) -> String {
    path.replace("%25", "%2525").replace("%2F", "%252F").replace('/', "%2F")
}

fn item(path: &str, file: OwnedFd, room: &mut Room) -> io::Result<Item<Vec<u8>>> {
    let mut data = Vec::new();
    File::from(file).take(room.bytes + 1).read_to_end(&mut data)?;
    let too_many = || io::Error::other(format!("they have more than {BYTES_MAX} bytes, or {FILES_MAX} files"));
    room.bytes = room.bytes.checked_sub(data.len() as u64).ok_or_else(too_many)?;
    room.files = room.files.checked_sub(1).ok_or_else(too_many)?;
    Ok(Item::new(escaped(path), 0, data))
}

fn sealed(sets: &Sets<Vec<u8>>) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};
    let mut bytes = Vec::new();
    wire::encode(sets, &mut bytes).map_err(io::Error::other)?;
    let mut file = File::from(memfd_create("sets", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.write_all(&bytes)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file.into())
}

/// In the engine: the sets that it was given so.
pub fn fixed(sets: OwnedFd) -> Option<Vec<Set<::engine::Blob>>> {
    let mut file = File::from(sets);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(2 * BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let limits = sets::Limits { sets: 4096, items: FILES_MAX, bytes: BYTES_MAX };
    let decoded = wire::decode(&Bytes::from(bytes), limits).ok()?;
    let blob = |data: wire::Data<Bytes>| match data {
        wire::Data::Inline(bytes) => Some(::engine::Blob::from(bytes)),
        wire::Data::Held(_) => None,
    };
    let item = |item: Item<wire::Data<Bytes>>| Some(Item::new(item.name, item.key, blob(item.data)?));
    let set = |set: Set<wire::Data<Bytes>>| {
        Some(Set::new(set.name, set.items.into_iter().map(item).collect::<Option<Vec<_>>>()?))
    };
    decoded.into_iter().map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn package(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("app/lib")).unwrap();
        fs::write(folder.path().join("app/main.py"), "main").unwrap();
        fs::write(folder.path().join("app/lib/a.py"), "a").unwrap();
        fs::write(folder.path().join(FILE), text).unwrap();
        folder
    }

    fn of(text: &str) -> Result<Package, PrepareError> {
        Package::of(package(text).path())
    }

    #[test]
    fn what_is_said_is_found() {
        let said = of("runtime = \"wasm\"\narguments = [\"a\", \"b\"]\n[sets]\napp = \"app\"\none = \"app/main.py\"\n");
        let said = said.unwrap();
        assert_eq!(said.arguments, ["a", "b"]);
        let sets = fixed(said.sets.unwrap().try_clone().unwrap()).unwrap();
        let names: Vec<_> = sets.iter().map(|set| (&*set.name, set.items.iter().map(|i| &*i.name).collect())).collect();
        let expected: Vec<(&str, Vec<&str>)> = vec![("app", vec!["lib%2Fa.py", "main.py"]), ("one", vec!["main.py"])];
        assert_eq!(names, expected);
        assert_eq!(&*sets[0].items[0].data, b"a");
        let empty = tempfile::tempdir().unwrap();
        let nothing = Package::of(empty.path()).unwrap();
        assert!(nothing.arguments.is_empty() && nothing.sets.is_none());
    }

    #[test]
    fn nothing_leads_out_of_a_package() {
        for path in ["..", "/etc/passwd", "app/../..", "link", "none", "link/hostname"] {
            let folder = package(&format!("[sets]\ns = {path:?}\n"));
            symlink("/etc", folder.path().join("link")).unwrap();
            assert!(matches!(Package::of(folder.path()), Err(PrepareError::Refused(_))), "{path}");
        }
        let inner = package("[sets]\ns = \"app\"\n");
        symlink("/etc/hostname", inner.path().join("app/host")).unwrap();
        assert!(Package::of(inner.path()).is_err());
        assert!(matches!(of("arguments = 7"), Err(PrepareError::Refused(_))));
    }
}
