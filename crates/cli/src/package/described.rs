//! `function.toml`: what a folder says of the function in it, so that `lichen deploy FOLDER` needs to be told nothing.
//!
//! What is said on the command line goes before it. `build` is run in the folder, as npm's and pip's scripts are: deploying
//! a folder trusts it.

use crate::installer;
use crate::progress::Step;
use crate::verdict::wrong;
use anyhow::Context;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

const FILE: &str = "function.toml";

/// The file's members: those of `lichen deploy`'s options, and how the function is built.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    pub runtime: Option<String>,
    pub handler: Option<String>,
    /// Run before the function is packed: a program and its arguments.
    build: Option<Vec<String>>,
    /// The file of this folder that is the function. Nothing: the whole folder is.
    program: Option<PathBuf>,
    pub memory: Option<u32>,
    pub timeout: Option<u32>,
    pub inputs: Option<Vec<String>>,
    pub outputs: Option<Vec<String>>,
    pub deterministic: Option<bool>,
    pub cache: Option<bool>,
    pub engine: Option<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The program's arguments, its name first. The node reads them of the package.
    #[serde(default)]
    arguments: Vec<String>,
    /// Files or folders that every run finds as input sets. So are these.
    #[serde(default)]
    sets: BTreeMap<String, PathBuf>,
}

impl Described {
    /// What the folder says; nothing where there is no such file, or no folder.
    pub fn of(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            Err(error) => return Err(wrong(format!("cannot read {}: {error}", path.display()))),
        };
        let described: Self =
            toml::from_str(&text).map_err(|error| wrong(format!("{}: {error}", path.display()).trim_end()))?;
        let outside = |program: &PathBuf| !program.components().all(|part| matches!(part, Component::Normal(_)));
        match &described.program {
            Some(program) if outside(program) => {
                Err(wrong(format!("{}: program = {program:?} is not a file of this folder", path.display())))
            }
            _ => Ok(described),
        }
    }

    /// Builds the function, and answers what is to be packed.
    pub fn build(&self, folder: &Path, quiet: bool) -> anyhow::Result<Built> {
        let program = self.program(folder, quiet)?;
        if self.arguments.is_empty() && self.sets.is_empty() {
            return Ok(Built { path: program, _staged: None });
        }
        let staged = self.stage(folder, &program).with_context(|| format!("cannot pack {}", folder.display()))?;
        Ok(Built { path: staged.path().to_owned(), _staged: Some(staged) })
    }

    /// The program, what it finds, and the word of it: a package of nothing else.
    fn stage(&self, folder: &Path, program: &Path) -> anyhow::Result<tempfile::TempDir> {
        let staged = tempfile::tempdir()?;
        let name = program.file_name().ok_or_else(|| wrong(format!("{FILE}: arguments and sets need a program")))?;
        if program.is_dir() {
            return Err(wrong(format!(
                "{FILE}: arguments and sets are for pure functions: say which file is the program"
            )));
        }
        fs::copy(program, staged.path().join(name))?;
        fs::copy(folder.join(FILE), staged.path().join(FILE))?;
        for (set, path) in &self.sets {
            let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
            if !inside || !folder.join(path).exists() {
                return Err(wrong(format!("{FILE}: the set {set}: {} is not in this folder", path.display())));
            }
            copy(&folder.join(path), &staged.path().join(path))?;
        }
        Ok(staged)
    }

    fn program(&self, folder: &Path, quiet: bool) -> anyhow::Result<PathBuf> {
        if let Some((program, arguments)) = self.build.as_ref().and_then(|words| words.split_first()) {
            let step = Step::begin(&format!("building: {program} {}", arguments.join(" ")), quiet);
            let mut command = Command::new(program);
            installer::follow(command.args(arguments).current_dir(folder), &step).map_err(|said| {
                wrong(format!("{}: its build failed: {program} {}\n{said}", folder.display(), arguments.join(" ")))
            })?;
        }
        let Some(program) = &self.program else { return Ok(folder.to_owned()) };
        let file = folder.join(program);
        match file.is_file() {
            true => Ok(file),
            false => Err(wrong(format!(
                "{}: there is no {}: it is to be what {FILE}'s build makes",
                folder.display(),
                program.display()
            ))),
        }
    }
}

/// What was built: it is there as long as this is.
pub struct Built {
    pub path: PathBuf,
    _staged: Option<tempfile::TempDir>,
}

/// Copies a file, or a folder with all that is in it but links.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?;
    to.parent().map_or(Ok(()), fs::create_dir_all)?;
    if kind.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if kind.is_file() { fs::copy(from, to).map(drop) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), text).unwrap();
        folder
    }

    #[test]
    fn nothing_is_said_where_there_is_no_file() {
        let empty = tempfile::tempdir().unwrap();
        let described = Described::of(empty.path()).unwrap();
        assert_eq!(described.build(empty.path(), true).unwrap().path, empty.path());
        let file = empty.path().join("a.py");
        fs::write(&file, "").unwrap();
        assert!(Described::of(&file).unwrap().runtime.is_none());
    }

    #[test]
    fn what_is_built_is_packed() {
        let made =
            folder("runtime = \"wasm\"\nbuild = [\"cp\", \"function.toml\", \"f.wasm\"]\nprogram = \"f.wasm\"\n");
        let described = Described::of(made.path()).unwrap();
        assert_eq!(described.runtime.as_deref(), Some("wasm"));
        assert_eq!(described.build(made.path(), true).unwrap().path, made.path().join("f.wasm"));
    }

    #[test]
    fn sets_are_packed_beside_the_program() {
        let made = folder("program = \"f.wasm\"\narguments = [\"f\"]\n[sets]\napp = \"app\"\n");
        fs::create_dir_all(made.path().join("app/lib")).unwrap();
        for name in ["f.wasm", "app/lib/a", "other"] {
            fs::write(made.path().join(name), name).unwrap();
        }
        let built = Described::of(made.path()).unwrap().build(made.path(), true).unwrap();
        for name in ["f.wasm", "app/lib/a", FILE] {
            assert!(built.path.join(name).is_file(), "{name}");
        }
        assert!(!built.path.join("other").exists());
        for sets in ["app = \"../x\"", "app = \"none\""] {
            let bad = folder(&format!("program = \"f.wasm\"\n[sets]\n{sets}\n"));
            fs::write(bad.path().join("f.wasm"), "").unwrap();
            let error = Described::of(bad.path()).unwrap().build(bad.path(), true).map(drop).unwrap_err();
            assert!(format!("{error:#}").contains("not in this folder"), "{error:#}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for (text, part) in [
            ("memory = \"much\"", "memory"),
            ("memroy = 1", "memroy"),
            ("program = \"../f\"", "not a file of this folder"),
            ("program = \"/f\"", "not a file of this folder"),
        ] {
            let error = Described::of(folder(text).path()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(FILE), "{error}");
        }
        for (text, part) in [
            ("build = [\"sh\", \"-c\", \"echo no such compiler; exit 1\"]", "no such compiler"),
            ("build = [\"no-such-program-at-all\"]", "no-such-program-at-all"),
            ("program = \"f.wasm\"", "there is no f.wasm"),
        ] {
            let there = folder(text);
            let error =
                Described::of(there.path()).unwrap().build(there.path(), true).map(drop).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
