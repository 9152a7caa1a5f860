//! From what a person has (a folder, a zip, a single file) to what a node takes: a zip, a runtime and a handler.
//!
//! Packages are reproducible: the same files give the same bytes, so that a node knows code that it has already. Nothing
//! of a person's folder is changed: what has to be installed goes to a cache (`dependencies`).

mod archive;
mod bytecode;
mod dependencies;
mod described;
mod files;
mod guess;
mod ignore;

pub use dependencies::cache;
pub use described::Described;
pub use guess::Language;

use crate::verdict::wrong;
use anyhow::Context;
use files::Files;
use guess::Guess;
use std::path::{Path, PathBuf};

/// A function's code, ready to be sent.
pub struct Package {
    pub zip: Vec<u8>,
    pub language: Language,
    /// `file.function`.
    pub handler: String,
    /// What was not said and had to be found out, for people.
    pub remark: Option<String>,
}

/// What the person has said of the code, and how to go about it.
#[derive(Default)]
pub struct Wishes<'a> {
    pub language: Option<Language>,
    pub handler: Option<&'a str>,
    /// Install dependencies again even where the cache has them.
    pub reinstall: bool,
    /// The package is for one use.
    pub fleeting: bool,
    /// No progress on standard error.
    pub quiet: bool,
}

/// Makes the package of the code at `path`.
pub fn pack(path: &Path, wishes: &Wishes<'_>) -> anyhow::Result<Package> {
    let kind = std::fs::metadata(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    match extension {
        _ if kind.is_dir() => pack_folder(path, wishes),
        "zip" => pack_zip(path, wishes),
        "py" | "js" | "mjs" | "cjs" | "wasm" => pack_file(path, wishes),
        _ if matches!(wishes.language, Some(Language::Wasm | Language::Native)) => pack_file(path, wishes),
        _ if is_program(path) => pack_program(path, wishes),
        _ => Err(wrong(format!(
            "{} is neither a folder, nor a zip, nor a .py, .js, .mjs, .cjs or .wasm file, nor a program",
            path.display()
        ))),
    }
}

fn pack_folder(path: &Path, wishes: &Wishes<'_>) -> anyhow::Result<Package> {
    let files = Files::of_folder(path)?;
    let guess = guess::guess(&files, wishes.language, wishes.handler).map_err(|e| named(path, &e))?;
    let dependencies = dependencies::install(path, &files, guess.language, wishes)?;
    finish(path, files, dependencies, guess, wishes)
}

fn pack_file(path: &Path, wishes: &Wishes<'_>) -> anyhow::Result<Package> {
    let files = Files::of_file(path)?;
    let guess = guess::guess(&files, wishes.language, wishes.handler).map_err(|e| named(path, &e))?;
    finish(path, files, None, guess, wishes)
}

fn is_program(path: &Path) -> bool {
    let start = Files::of_program(path).start(guess::BOOTSTRAP);
    start.is_ok_and(|start| start.is_some_and(|start| start.starts_with(b"\x7fELF")))
}

/// A program is the function's own runtime.
fn pack_program(path: &Path, wishes: &Wishes<'_>) -> anyhow::Result<Package> {
    let files = Files::of_program(path);
    let guess = guess::guess(&files, wishes.language, wishes.handler).map_err(|e| named(path, &e))?;
    finish(path, files, None, guess, wishes)
}

/// Packs what is the person's own, and below it what was installed.
fn finish(
    path: &Path,
    mut files: Files,
    dependencies: Option<PathBuf>,
    guess: Guess,
    wishes: &Wishes<'_>,
) -> anyhow::Result<Package> {
    let cannot = || format!("cannot pack {}", path.display());
    if guess.language == Language::Python && !wishes.fleeting {
        bytecode::add(&mut files).with_context(cannot)?;
    }
    if let Some(folder) = dependencies {
        files.add_below(Files::of_cache(&folder)?);
    }
    let zip = archive::write(&files, wishes.fleeting).with_context(cannot)?;
    Ok(package(zip, guess))
}

fn pack_zip(path: &Path, wishes: &Wishes<'_>) -> anyhow::Result<Package> {
    let zip = std::fs::read(path).map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))?;
    let files = archive::read(&zip).map_err(|e| named(path, &e))?;
    let guess = guess::guess(&files, wishes.language, wishes.handler).map_err(|e| named(path, &e))?;
    Ok(package(zip, guess))
}

fn named(path: &Path, error: &dyn std::error::Error) -> anyhow::Error {
    wrong(format!("{}: {error}", path.display()))
}

fn package(zip: Vec<u8>, guess: Guess) -> Package {
    Package { zip, language: guess.language, handler: guess.handler, remark: guess.remark }
}

#[cfg(test)]
mod tests;
