//! Zips: written so that the same files give the same bytes, read as far as guessing needs.

use super::files::{Content, Files};
use std::fs::File;
use std::io::{self, Cursor, Read};
use thiserror::Error;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// The longest file that is looked into when guessing, in bytes.
const LOOK_MAX: u64 = 1 << 20;
/// Quick rather than small: a package travels once, over loopback.
const LEVEL: i64 = 1;
/// Bytes of files up to which a package may go without compression: below what a node takes.
const PLAIN_MAX: u64 = 32 << 20;

/// Why no zip came about.
#[derive(Debug, Error)]
pub enum WriteError {
    #[error("{name} cannot be read")]
    File { name: String, source: io::Error },
    #[error("the zip cannot be written")]
    Zip(#[from] ZipError),
}

/// Why a zip could not be read.
#[derive(Debug, Error)]
#[error("this is not a zip file that can be read: {0}")]
pub struct ReadError(#[from] ZipError);

/// The files as a zip: sorted, all of the same time, with modes of their kind. One that is `fleeting` is not worth
/// compressing, unless it is large.
pub fn write(files: &Files, fleeting: bool) -> Result<Vec<u8>, WriteError> {
    let plain = fleeting && files.size() <= PLAIN_MAX;
    let options = |mode| options(mode, plain);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files.iter() {
        match content {
            Content::File { path, executable } => {
                let failed = |source| WriteError::File { name: name.to_owned(), source };
                let mut file = File::open(path).map_err(failed)?;
                zip.start_file(name, options(if *executable { 0o755 } else { 0o644 }))?;
                io::copy(&mut file, &mut zip).map_err(failed)?;
            }
            Content::Bytes(bytes) => {
                zip.start_file(name, options(0o644))?;
                io::copy(&mut bytes.as_slice(), &mut zip).map_err(ZipError::from)?;
            }
            Content::Link { target } => zip.add_symlink(name, target, options(0o777))?,
        }
    }
    Ok(zip.finish()?.into_inner())
}

fn options(mode: u32, plain: bool) -> SimpleFileOptions {
    let (method, level) =
        if plain { (CompressionMethod::Stored, None) } else { (CompressionMethod::Deflated, Some(LEVEL)) };
    SimpleFileOptions::default()
        .compression_method(method)
        .compression_level(level)
        .last_modified_time(DateTime::default())
        .unix_permissions(mode)
}

/// The names in a zip, and the content of those at its top that are code.
pub fn read(zip: &[u8]) -> Result<Files, ReadError> {
    let mut archive = ZipArchive::new(Cursor::new(zip))?;
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        if entry.is_dir() {
            continue;
        }
        let name = entry.name()?.into_owned();
        let worth_a_look =
            name.ends_with(".py") || name.ends_with("js") || ["package.json", "bootstrap"].contains(&name.as_str());
        let mut bytes = Vec::new();
        if worth_a_look && !name.starts_with("node_modules/") {
            entry.take(LOOK_MAX).read_to_end(&mut bytes).map_err(ZipError::from)?;
        }
        entries.push((name, Content::Bytes(bytes)));
    }
    Ok(Files::of_entries(entries))
}
