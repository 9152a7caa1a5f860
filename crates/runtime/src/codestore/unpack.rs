//! Unpacking a zip file that may be hostile.
//!
//! | danger | what stands against it |
//! |---|---|
//! | names that lead out of the package | only plain components are accepted; nothing is ever opened through a link |
//! | links that lead out | made last, when no file can go through them; their targets are checked by their letters |
//! | bombs | bytes are counted as they come out, not as they are announced; so are files and folders |
//! | the same name twice | files are made, never opened |
//! | devices, pipes, set-user-id bits | refused; dropped |

use super::{AdmitError, CodeConfig, EntryFault, disk};
use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

const TYPE_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const LINK_TARGET_MAX: u64 = 4096;
/// The longest path in a package, in bytes, and the deepest: enough for every tree of dependencies, and little enough to
/// remember 65,536 of them.
const PATH_MAX: usize = 1024;
const DEPTH_MAX: usize = 128;

/// Unpacks `zip` into the empty folder `root`.
pub fn unpack(zip: &[u8], root: &Path, config: &CodeConfig) -> Result<(), AdmitError> {
    let mut archive = ZipArchive::new(Cursor::new(zip)).map_err(AdmitError::NoZip)?;
    if archive.has_duplicate_names() {
        return Err(AdmitError::SameName);
    }
    if archive.decompressed_size().is_some_and(|size| size >= u128::from(config.unzipped_max)) {
        return Err(AdmitError::UnzippedTooBig { limit: config.unzipped_max });
    }
    let mut unpacking = Unpacking { root, config, bytes: 0, files: 0, folders: HashSet::new(), links: Vec::new() };
    for index in 0..archive.len() {
        unpacking.entry(archive.by_index(index).map_err(AdmitError::NoZip)?)?;
    }
    unpacking.make_links()
}

struct Unpacking<'a> {
    root: &'a Path,
    config: &'a CodeConfig,
    /// Written so far.
    bytes: u64,
    /// Files, folders and links so far.
    files: u32,
    folders: HashSet<PathBuf>,
    /// Path and target.
    links: Vec<(PathBuf, String)>,
}

impl Unpacking<'_> {
    fn entry<R: Read>(&mut self, mut file: ZipFile<'_, R>) -> Result<(), AdmitError> {
        let name = file.name().map_err(AdmitError::NoZip)?.into_owned();
        let path = relative(&name)?;
        if file.is_dir() {
            return self.folder(&path, &name);
        }
        self.folder(path.parent().unwrap_or(Path::new("")), &name)?;
        self.count(1)?;
        if file.is_symlink() {
            let mut target = String::new();
            let read = file.by_ref().take(LINK_TARGET_MAX).read_to_string(&mut target);
            read.map_err(|error| AdmitError::NoZip(ZipError::Io(error)))?;
            if !stays_inside(&path, &target) {
                return Err(bad(&name, EntryFault::LinkEscapes));
            }
            self.links.push((path, target));
            return Ok(());
        }
        let mode = file.unix_mode().unwrap_or(0o644);
        if !matches!(mode & TYPE_MASK, 0 | REGULAR) {
            return Err(bad(&name, EntryFault::Special));
        }
        self.file(&path, &name, mode, file)
    }

    fn file(&mut self, path: &Path, name: &str, mode: u32, mut content: impl Read) -> Result<(), AdmitError> {
        // Whoever the function runs as may read all of its code, as on Lambda.
        let mode = mode & 0o777 | 0o444;
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(self.root.join(path));
        let mut file = made.map_err(|error| refused(error, name))?;
        // The umask has had its say in `open`.
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(disk)?;
        let left = self.config.unzipped_max - self.bytes;
        let copied = copy(&mut content.by_ref().take(left), &mut file)?;
        self.bytes += copied;
        if copied == left {
            return Err(AdmitError::UnzippedTooBig { limit: self.config.unzipped_max });
        }
        Ok(())
    }

    /// Makes a folder and all above it.
    fn folder(&mut self, path: &Path, name: &str) -> Result<(), AdmitError> {
        if path.as_os_str().is_empty() || self.folders.contains(path) {
            return Ok(());
        }
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|above| !above.as_os_str().is_empty() && !self.folders.contains(*above))
            .collect();
        self.count(missing.len())?;
        for folder in missing.into_iter().rev() {
            let full = self.root.join(folder);
            make_folder(&full).map_err(|error| refused(error, name))?;
            self.folders.insert(folder.to_owned());
        }
        Ok(())
    }

    fn count(&mut self, more: usize) -> Result<(), AdmitError> {
        self.files = self.files.saturating_add(more.try_into().unwrap_or(u32::MAX));
        if self.files > self.config.files_max {
            return Err(AdmitError::TooManyFiles { limit: self.config.files_max });
        }
        Ok(())
    }

    fn make_links(self) -> Result<(), AdmitError> {
        for (path, target) in self.links {
            symlink(target, self.root.join(&path)).map_err(|error| refused(error, &path.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// A folder that everybody may look into, whatever the umask.
pub fn make_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Copies, and tells a package that cannot be read from a disk that cannot be written.
fn copy(from: &mut impl Read, to: &mut impl io::Write) -> Result<u64, AdmitError> {
    let mut buffer = [0; 32 * 1024];
    let mut copied = 0;
    loop {
        let got = from.read(&mut buffer).map_err(|error| AdmitError::NoZip(ZipError::Io(error)))?;
        if got == 0 {
            return Ok(copied);
        }
        to.write_all(&buffer[..got]).map_err(disk)?;
        copied += got as u64;
    }
}

/// The path of an entry below the package's root, made of plain components only.
fn relative(name: &str) -> Result<PathBuf, AdmitError> {
    if name.starts_with('/') {
        return Err(bad(name, EntryFault::Absolute));
    }
    let mut path = PathBuf::new();
    for part in name.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." => return Err(bad(name, EntryFault::Escapes)),
            _ if part.contains('\0') => return Err(bad(name, EntryFault::Unnamed)),
            _ => path.push(part),
        }
    }
    if name.len() > PATH_MAX || path.components().count() > DEPTH_MAX {
        return Err(bad(name, EntryFault::TooLong));
    }
    // A package may name its own root as a folder; a file needs a name.
    if path.as_os_str().is_empty() && !name.ends_with('/') && name != "." {
        return Err(bad(name, EntryFault::Unnamed));
    }
    Ok(path)
}

/// Whether a link at `path` with this target points to something in the package, by the letters of both.
fn stays_inside(path: &Path, target: &str) -> bool {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return false;
    }
    let mut depth = path.components().count() as i64 - 1;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

fn bad(entry: &str, fault: EntryFault) -> AdmitError {
    // A name may be 64 KiB long, and is for a person to read.
    AdmitError::BadEntry { entry: entry.chars().take(200).collect::<String>().into(), fault }
}

/// What it means that something of this name could not be made.
fn refused(error: io::Error, name: &str) -> AdmitError {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => bad(name, EntryFault::Twice),
        io::ErrorKind::InvalidFilename => bad(name, EntryFault::TooLong),
        _ => disk(error),
    }
}
