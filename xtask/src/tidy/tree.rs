//! The repository as the rules see it: every text file that git would carry, with its masked views.
//!
//! It follows the plain forms of the root's `.gitignore` (a name, `/name`, `*.ending`) and asks no git, so that it also
//! runs on an unpacked archive. Binary files are left out.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::Finding;
use super::mask::{self, Masked, Syntax};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Rust,
    Python,
    JavaScript,
    Shell,
    /// TOML, YAML and make: only comments and paths are looked at.
    Settings,
    /// Everything else that is text: only paths are looked at.
    Prose,
}

impl Language {
    fn of(path: &str, text: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
            "rs" => Self::Rust,
            "py" => Self::Python,
            "js" | "mjs" | "cjs" | "ts" => Self::JavaScript,
            "sh" | "bash" => Self::Shell,
            "toml" | "yml" | "yaml" => Self::Settings,
            _ if name == "Makefile" => Self::Settings,
            _ => Self::by_first_line(text.lines().next().unwrap_or("")),
        }
    }

    fn by_first_line(line: &str) -> Self {
        match line {
            _ if !line.starts_with("#!") => Self::Prose,
            _ if line.contains("python") => Self::Python,
            _ if line.contains("node") => Self::JavaScript,
            _ if line.ends_with("sh") => Self::Shell,
            _ => Self::Prose,
        }
    }

    fn syntax(self) -> Option<&'static Syntax> {
        match self {
            Self::Python => Some(&mask::PYTHON),
            Self::JavaScript => Some(&mask::JAVASCRIPT),
            Self::Shell | Self::Settings => Some(&mask::HASH),
            Self::Rust | Self::Prose => None,
        }
    }

    pub fn is_source(self) -> bool {
        matches!(self, Self::Rust | Self::Python | Self::JavaScript | Self::Shell)
    }
}

pub struct File {
    /// Relative to the root, with `/`.
    pub path: String,
    pub text: String,
    pub language: Language,
    pub code: String,
    pub comments: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        let language = Language::of(path, text);
        let Masked { code, comments } = match language.syntax() {
            Some(syntax) => mask::script(text, syntax),
            None if language == Language::Rust => mask::rust(text),
            None => Masked { code: String::new(), comments: String::new() },
        };
        Self { path: path.into(), text: text.into(), language, code, comments }
    }

    /// The line, from 1, that the byte at `offset` stands in.
    pub fn line_of(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    pub fn finding(&self, offset: usize, rule: &'static str, advice: impl Into<String>) -> Finding {
        Finding { file: self.path.clone(), line: self.line_of(offset), rule, advice: advice.into() }
    }

    /// Whether the whole file is test code. A fixture is what a test runs, not the test.
    pub fn is_test(&self) -> bool {
        let stem = self.stem();
        let mut folders = self.path.split('/');
        let in_folder = folders.any(|folder| matches!(folder, "tests" | "test" | "e2e"));
        let by_name =
            stem == "tests" || stem.starts_with("test_") || stem.ends_with("_test") || stem.ends_with(".test");
        (in_folder || by_name) && !self.path.split('/').any(|folder| folder == "fixtures")
    }

    /// The file's name without its last ending.
    pub fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    }
}

pub struct Tree {
    pub files: Vec<File>,
}

impl Tree {
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
        let mut tree = Self { files: Vec::new() };
        tree.read_folder(root, "", &ignored)?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str, ignored: &str) -> anyhow::Result<()> {
        for entry in fs::read_dir(folder).with_context(|| format!("reading the folder {}", folder.display()))? {
            let entry = entry.with_context(|| format!("reading the folder {}", folder.display()))?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().with_context(|| format!("looking at {path}"))?;
            if path == ".git" || ignored.lines().any(|pattern| ignores(pattern, &path)) {
                continue;
            }
            if kind.is_dir() {
                self.read_folder(&entry.path(), &format!("{path}/"), ignored)?;
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).with_context(|| format!("reading {path}"))?;
                self.files.extend(String::from_utf8(bytes).ok().map(|text| File::new(&path, &text)));
            }
        }
        Ok(())
    }

    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok().map(|at| &self.files[at])
    }
}

fn ignores(pattern: &str, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let pattern = pattern.trim().trim_end_matches('/');
    match (pattern.strip_prefix('/'), pattern.strip_prefix('*')) {
        _ if pattern.is_empty() || pattern.starts_with('#') => false,
        (Some(anchored), _) => anchored == path,
        (_, Some(ending)) => name.ends_with(ending),
        _ => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignore_patterns_of_the_plain_forms() {
        assert!(ignores("/target", "target") && !ignores("/target", "crates/target"));
        assert!(ignores("__pycache__/", "bench/apps/__pycache__"));
        assert!(ignores("*.pyc", "a/b.pyc") && !ignores("*.pyc", "a/b.py"));
        assert!(!ignores("", "a") && !ignores("# target", "target"));
    }

    #[test]
    fn a_tree_skips_what_git_skips() {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in
            [(".gitignore", "/target\n"), ("target/a.rs", ""), ("src/b.rs", "//! B.\n"), (".git/c", "c")]
        {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let tree = Tree::read(root.path()).expect("the tree can be read");
        let paths: Vec<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [".gitignore", "src/b.rs"]);
        assert!(tree.file("src/b.rs").is_some());
    }

    #[test]
    fn languages_and_tests_are_told_by_name_and_first_line() {
        assert_eq!(File::new(".ci/run", "#!/usr/bin/env bash\n").language, Language::Shell);
        assert_eq!(File::new("Makefile", "").language, Language::Settings);
        assert_eq!(File::new("notes", "plain\n").language, Language::Prose);
        for path in
            ["crates/os/tests/ns.rs", "bench/apps/test_apps.py", "a/src/tests.rs", "x.test.js", "tests/e2e/run.sh"]
        {
            assert!(File::new(path, "").is_test(), "{path}");
        }
        for path in ["crates/os/src/ns.rs", "tests/fixtures/slow/app.py", "src/latest.rs"] {
            assert!(!File::new(path, "").is_test(), "{path}");
        }
    }
}
