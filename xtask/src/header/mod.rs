//! `cargo xtask header`: the C header of `crates/capi` and a man page per call, made of its code and its comments.
//!
//! ```text
//!   status.rs process.rs fifo.rs ── parse ──► items ──┬─ c    include/lichen_xpu.h
//!                                                     └─ man  crates/capi/man/NAME.3
//! ```
//!
//! It knows the forms that those files use, and fails at any other; it is no parser of Rust. `cargo xtask tidy` compares.

mod c;
mod man;
mod parse;

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const SOURCES: [&str; 3] = ["crates/capi/src/status.rs", "crates/capi/src/process.rs", "crates/capi/src/fifo.rs"];
const HEADER: &str = "include/lichen_xpu.h";
const PAGES: &str = "crates/capi/man";

/// Writes header and man pages anew: where the header is.
pub fn write(repository: &Path) -> Result<PathBuf> {
    let files = made(repository)?;
    for page in pages(repository)? {
        if !files.contains_key(&page) {
            fs::remove_file(repository.join(&page)).with_context(|| format!("{page} cannot be removed"))?;
        }
    }
    for (path, text) in &files {
        fs::write(repository.join(path), text).with_context(|| format!("{path} cannot be written"))?;
    }
    Ok(repository.join(HEADER))
}

/// The files that are not what would be written, or should not be there.
pub fn stale(repository: &Path) -> Result<Vec<String>> {
    if !repository.join(SOURCES[0]).exists() {
        return Ok(Vec::new());
    }
    let files = made(repository)?;
    let is_stale = |path: &String| fs::read_to_string(repository.join(path)).ok().as_ref() != files.get(path);
    let mut all: Vec<String> = files.keys().cloned().chain(pages(repository)?).collect();
    all.sort();
    all.dedup();
    Ok(all.into_iter().filter(is_stale).collect())
}

fn made(repository: &Path) -> Result<BTreeMap<String, String>> {
    let mut items = Vec::new();
    for path in SOURCES {
        let text = fs::read_to_string(repository.join(path)).with_context(|| format!("{path} cannot be read"))?;
        items.extend(parse::items(&text).with_context(|| format!("{path} has a form that the header knows not"))?);
    }
    let mut files = BTreeMap::from([(HEADER.to_owned(), c::header(&items)?)]);
    for call in items.iter().filter_map(parse::Item::call) {
        files.insert(format!("{PAGES}/{}.3", call.name), man::page(call, &items)?);
    }
    Ok(files)
}

fn pages(repository: &Path) -> Result<Vec<String>> {
    let Ok(folder) = fs::read_dir(repository.join(PAGES)) else { return Ok(Vec::new()) };
    folder.map(|entry| Ok(format!("{PAGES}/{}", entry?.file_name().to_string_lossy()))).collect()
}
