//! What of a person's folder stays at home: what every project leaves out, and what `.lichenignore` names.
//!
//! `.lichenignore` is read as git reads `.gitignore`, as far as people use it: one pattern per line, `*` and `?` within a
//! name, `**` across folders, a leading or inner `/` ties to the root, a trailing one means folders only, `!` takes
//! back, `#` comments. There are no character classes and no files of this kind in subfolders.

use crate::verdict::wrong;
use std::io;
use std::path::Path;

/// Never part of a function. `node_modules` is.
const ALWAYS: [&str; 16] = [
    ".git/",
    ".hg/",
    ".svn/",
    ".DS_Store",
    ".idea/",
    ".vscode/",
    "__pycache__/",
    "*.pyc",
    ".venv/",
    "venv/",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".nyc_output/",
    ".aws-sam/",
    "/.lichenignore",
];

struct Pattern {
    glob: String,
    from_root: bool,
    folders_only: bool,
    takes_back: bool,
}

/// The patterns of one folder. A later one overrules an earlier one.
pub struct Ignore(Vec<Pattern>);

impl Ignore {
    /// What is ignored below this folder.
    pub fn of(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(".lichenignore");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(wrong(format!("cannot read {}: {error}", path.display()))),
        };
        Ok(Self::parse(&text))
    }

    /// For folders that are ours.
    pub fn nothing() -> Self {
        Self(Vec::new())
    }

    fn parse(text: &str) -> Self {
        Self(ALWAYS.into_iter().chain(text.lines()).filter_map(pattern).collect())
    }

    /// Whether this file or folder stays at home. Ask for folders before what is in them.
    pub fn covers(&self, name: &str, is_folder: bool) -> bool {
        let last = name.rsplit('/').next().unwrap_or(name);
        let hits = |pattern: &&Pattern| {
            (is_folder || !pattern.folders_only) && matches(&pattern.glob, if pattern.from_root { name } else { last })
        };
        self.0.iter().rev().find(hits).is_some_and(|pattern| !pattern.takes_back)
    }
}

fn pattern(line: &str) -> Option<Pattern> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (takes_back, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
    let (folders_only, line) = line.strip_suffix('/').map_or((false, line), |rest| (true, rest));
    let from_root = line.contains('/');
    Some(Pattern { glob: line.trim_start_matches('/').to_owned(), from_root, folders_only, takes_back })
}

/// Whether the whole of `text` is as `glob` says.
fn matches(glob: &str, text: &str) -> bool {
    let Some(first) = glob.chars().next() else { return text.is_empty() };
    if let Some(rest) = glob.strip_prefix("**/") {
        let folders = text.match_indices('/').map(|(at, _)| at + 1);
        return std::iter::once(0).chain(folders).any(|at| matches(rest, &text[at..]));
    }
    if let Some(rest) = glob.strip_prefix("**") {
        return ends(text).any(|at| matches(rest, &text[at..]));
    }
    let mut rest = text.chars();
    match first {
        '*' => {
            let name_end = text.find('/').unwrap_or(text.len());
            ends(&text[..name_end]).any(|at| matches(&glob[1..], &text[at..]))
        }
        '?' => rest.next().is_some_and(|c| c != '/') && matches(&glob[1..], rest.as_str()),
        c => rest.next() == Some(c) && matches(&glob[c.len_utf8()..], rest.as_str()),
    }
}

/// Where a run of any characters from the beginning of `text` may end.
fn ends(text: &str) -> impl Iterator<Item = usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("*.log", "a.log", true),
            ("*.log", "a.logs", false),
            ("*", "a/b", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("docs/**", "docs/a/b", true),
            ("docs/**", "doc", false),
            ("**/test", "test", true),
            ("**/test", "a/b/test", true),
            ("**/test", "a/btest", false),
            ("ä*", "äöü", true),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    #[test]
    fn the_last_pattern_that_fits_decides() {
        let ignore = Ignore::parse("# data\n*.csv\n!keep.csv\n/build\ntmp/\nsrc/*.o\n");
        for (name, is_folder, expected) in [
            ("a.csv", false, true),
            ("d/a.csv", false, true),
            ("d/keep.csv", false, false),
            ("build", true, true),
            ("d/build", true, false),
            ("tmp", true, true),
            ("tmp", false, false),
            ("src/a.o", false, true),
            ("a.o", false, false),
            (".git", true, true),
            ("d/__pycache__", true, true),
            ("node_modules", true, false),
            (".lichenignore", false, true),
            ("app.py", false, false),
        ] {
            assert_eq!(ignore.covers(name, is_folder), expected, "{name}");
        }
    }
}
