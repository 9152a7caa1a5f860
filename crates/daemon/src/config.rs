//! `lichen.toml`: sections, each a struct beside what it configures, taken out of the file one by one.
//!
//! A key or a section that nobody knows is refused, with its line and the key that was probably meant: a setting that is
//! silently ignored is worse than none. Command lines override files; that is done by those who have a command line.

mod keys;
#[cfg(test)]
mod tests;

pub use keys::of as keys_of;

use crate::nearest::nearest;
use serde::de::DeserializeOwned;
use std::fmt::{self, Display};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Why a configuration cannot be used. Every message begins with the file and the line.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("the configuration {path:?} cannot be read")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{at}: {message}")]
    Syntax { at: Place, message: Box<str> },
    #[error("{at}: there is no section [{name}]{}", hint(.nearest, .known))]
    UnknownSection { at: Place, name: Box<str>, nearest: Option<&'static str>, known: Vec<&'static str> },
    #[error("{at}: there is no key `{key}` in [{section}]{}", hint(.nearest, .known))]
    UnknownKey {
        at: Place,
        section: &'static str,
        key: Box<str>,
        nearest: Option<&'static str>,
        known: Vec<&'static str>,
    },
    #[error("{at}: the value in [{section}] cannot be used: {message}")]
    Value { at: Place, section: &'static str, message: Box<str> },
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Box<str>,
    pub line: usize,
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

fn hint(nearest: &Option<&'static str>, known: &[&'static str]) -> String {
    match nearest {
        Some(nearest) => format!(": did you mean `{nearest}`?"),
        None => format!(": it can be one of {}", known.join(", ")),
    }
}

/// A configuration file's name and text.
#[derive(Clone, Debug, Default)]
pub struct Source {
    file: String,
    text: String,
}

impl Source {
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self { file: path.display().to_string(), text })
    }

    /// A text that is in no file.
    pub fn of(file: &str, text: &str) -> Self {
        Self { file: file.to_owned(), text: text.to_owned() }
    }

    /// Finds the sections.
    pub fn parse(&self) -> Result<Sections<'_>, ConfigError> {
        let table = DeTable::parse(&self.text).map_err(|error| ConfigError::Syntax {
            at: self.place(error.span()),
            message: error.message().replace('\n', ", ").into(),
        })?;
        Ok(Sections { source: self, table: table.into_inner(), taken: Vec::new() })
    }

    fn place(&self, span: Option<Range<usize>>) -> Place {
        let before = &self.text.as_bytes()[..span.map_or(0, |span| span.start.min(self.text.len()))];
        Place { file: self.file.as_str().into(), line: 1 + before.iter().filter(|&&byte| byte == b'\n').count() }
    }
}

/// The sections of a file that have not been taken yet.
pub struct Sections<'a> {
    source: &'a Source,
    table: DeTable<'a>,
    taken: Vec<&'static str>,
}

impl Sections<'_> {
    /// Takes the section `[name]`: its defaults where the file has none, or leaves keys out.
    pub fn take<T: DeserializeOwned + Default>(&mut self, name: &'static str) -> Result<T, ConfigError> {
        self.taken.push(name);
        let Some(section) = self.table.remove(name) else { return Ok(T::default()) };
        self.check_keys(name, &section, keys::of::<T>())?;
        T::deserialize(ValueDeserializer::from(section)).map_err(|error| ConfigError::Value {
            at: self.source.place(error.span()),
            section: name,
            message: error.message().replace('\n', ", ").into(),
        })
    }

    /// Whatever has not been taken is a section that nobody knows.
    pub fn finish(self) -> Result<(), ConfigError> {
        let Some(name) = self.table.keys().min_by_key(|name| name.span().start) else { return Ok(()) };
        Err(ConfigError::UnknownSection {
            at: self.source.place(Some(name.span())),
            name: name.get_ref().as_ref().into(),
            nearest: nearest(name.get_ref(), self.taken.iter().copied()),
            known: self.taken,
        })
    }

    fn check_keys(
        &self,
        section: &'static str,
        value: &Spanned<DeValue<'_>>,
        known: &'static [&'static str],
    ) -> Result<(), ConfigError> {
        let keys = value.get_ref().as_table().into_iter().flat_map(DeTable::keys);
        let unknown = keys.filter(|key| !known.contains(&key.get_ref().as_ref())).min_by_key(|key| key.span().start);
        let Some(key) = unknown else { return Ok(()) };
        Err(ConfigError::UnknownKey {
            at: self.source.place(Some(key.span())),
            section,
            key: key.get_ref().as_ref().into(),
            nearest: nearest(key.get_ref(), known.iter().copied()),
            known: known.to_vec(),
        })
    }
}
