//! What goes into a package: names as they will be in the sandbox, and where their content is now.

use super::ignore::Ignore;
use crate::verdict::wrong;
use anyhow::Context;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Bytes by which a program is known.
const START: u64 = 64;

/// Where a file's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In a file, which somebody may execute or not.
    File { path: PathBuf, executable: bool },
    /// In memory: what was inside of a zip, as far as anybody has to look at it.
    Bytes(Vec<u8>),
    /// Nowhere: another name of something else in the package.
    Link { target: String },
}

/// The files by name, with `/` between folders. Sorted, so that packages are reproducible.
#[derive(Debug, Default)]
pub struct Files(BTreeMap<String, Content>);

impl Files {
    /// All files below a person's folder, but what is ignored.
    pub fn of_folder(folder: &Path) -> anyhow::Result<Self> {
        let ignore = Ignore::of(folder)?;
        Self::walk(folder, &ignore).with_context(|| format!("cannot read {}", folder.display()))
    }

    /// All files below a folder of ours.
    pub fn of_cache(folder: &Path) -> anyhow::Result<Self> {
        Self::walk(folder, &Ignore::nothing()).with_context(|| format!("cannot read {}", folder.display()))
    }

    /// One file, under its own name.
    pub fn of_file(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| wrong(format!("{}: the file's name is not UTF-8", path.display())))?;
        let content = Content::File { path: path.to_owned(), executable: false };
        Ok(Self(BTreeMap::from([(name.to_owned(), content)])))
    }

    /// One program, as a function's own runtime.
    pub fn of_program(path: &Path) -> Self {
        let content = Content::File { path: path.to_owned(), executable: true };
        Self(BTreeMap::from([(super::guess::BOOTSTRAP.to_owned(), content)]))
    }

    /// What `archive` has found.
    pub fn of_entries(entries: impl IntoIterator<Item = (String, Content)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// Adds files that give way where a name is taken.
    pub fn add_below(&mut self, others: Self) {
        for (name, content) in others.0 {
            self.0.entry(name).or_insert(content);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.0.iter().map(|(name, content)| (name.as_str(), content))
    }

    /// Bytes of all of them; what cannot be looked at counts nothing here, and is an error when it is read.
    pub fn size(&self) -> u64 {
        let size = |content: &Content| match content {
            Content::File { path, .. } => fs::metadata(path).map_or(0, |meta| meta.len()),
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Link { .. } => 0,
        };
        self.0.values().map(size).sum()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether there is something in this folder.
    pub fn has_folder(&self, name: &str) -> bool {
        let prefix = format!("{name}/");
        self.0.range(prefix.clone()..).next().is_some_and(|(name, _)| name.starts_with(&prefix))
    }

    /// Names without a folder.
    pub fn top(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|name| !name.contains('/'))
    }

    /// A file's text; nothing where there is none.
    pub fn text(&self, name: &str) -> io::Result<Option<Cow<'_, str>>> {
        match self.0.get(name) {
            Some(Content::File { path, .. }) => {
                Ok(Some(Cow::Owned(String::from_utf8_lossy(&fs::read(path)?).into_owned())))
            }
            Some(Content::Bytes(bytes)) => Ok(Some(String::from_utf8_lossy(bytes))),
            Some(Content::Link { .. }) | None => Ok(None),
        }
    }

    /// Whether somebody may execute a file; nothing where that is not known, or there is none.
    pub fn is_executable(&self, name: &str) -> Option<bool> {
        match self.0.get(name)? {
            Content::File { executable, .. } => Some(*executable),
            Content::Bytes(_) | Content::Link { .. } => None,
        }
    }

    /// The first bytes of a file; nothing where there is none.
    pub fn start(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut start = Vec::new();
        match self.0.get(name) {
            Some(Content::File { path, .. }) => fs::File::open(path)?.take(START).read_to_end(&mut start)?,
            Some(Content::Bytes(bytes)) => bytes.as_slice().take(START).read_to_end(&mut start)?,
            Some(Content::Link { .. }) | None => return Ok(None),
        };
        Ok(Some(start))
    }

    fn walk(root: &Path, ignore: &Ignore) -> anyhow::Result<Self> {
        let mut files = Self::default();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(root.join(&folder))? {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_str().with_context(|| format!("{:?}: the name is not UTF-8", entry.path()))?;
                let name = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                let kind = entry.file_type()?;
                if ignore.covers(&name, kind.is_dir()) {
                    continue;
                }
                if kind.is_dir() {
                    folders.push(name);
                } else if kind.is_symlink() {
                    files.0.insert(name.clone(), link(root, &name)?);
                } else if kind.is_file() {
                    files.0.insert(name, file(entry.path())?);
                }
            }
        }
        Ok(files)
    }
}

fn file(path: PathBuf) -> io::Result<Content> {
    let executable = fs::metadata(&path)?.permissions().mode() & 0o111 != 0;
    Ok(Content::File { path, executable })
}

/// A link stays one where it points to inside of the folder; else the file that it points to takes its place.
fn link(root: &Path, name: &str) -> anyhow::Result<Content> {
    let path = root.join(name);
    let target = fs::read_link(&path)?;
    if let (true, Some(text)) = (stays_inside(name, &target), target.to_str()) {
        return Ok(Content::Link { target: text.to_owned() });
    }
    let meta = fs::metadata(&path).map_err(|error| wrong(format!("{name} is a link that leads nowhere: {error}")))?;
    if meta.is_file() {
        return Ok(file(path)?);
    }
    Err(wrong(format!("{name} is a link to a folder outside of the function's: copy that folder here")))
}

fn stays_inside(name: &str, target: &Path) -> bool {
    let mut depth = name.matches('/').count();
    target.components().all(|component| match component {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::ParentDir => depth.checked_sub(1).map(|less| depth = less).is_some(),
        Component::RootDir | Component::Prefix(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_leave_are_told_from_those_that_stay() {
        let stays = |name: &str, target: &str| stays_inside(name, Path::new(target));
        assert!(stays("a", "b"));
        assert!(stays("node_modules/.bin/x", "../x/cli.js"));
        assert!(!stays("a", "../b"));
        assert!(!stays("d/a", "../../b"));
        assert!(!stays("a", "/etc/passwd"));
    }

    #[test]
    fn later_files_give_way() {
        let bytes = |text: &str| Content::Bytes(text.as_bytes().to_vec());
        let mut files = Files::of_entries([("a".to_owned(), bytes("mine"))]);
        files.add_below(Files::of_entries([("a".to_owned(), bytes("theirs")), ("d/b".to_owned(), bytes("new"))]));
        assert_eq!(files.text("a").unwrap().unwrap(), "mine");
        assert!(files.has_folder("d") && !files.has_folder("a") && files.has("d/b"));
        assert_eq!(files.top().collect::<Vec<_>>(), ["a"]);
    }
}
