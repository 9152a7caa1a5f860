//! The tests of WASI's own makers, where they are: `WASI_TESTSUITE` names a folder of theirs, with programs already built.
//! Without it this is skipped.

use crate::support::{Given, given, load, lossy};
use engine::{Blob, Folder, RunError};
use sets::{Item, Set};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Takes it that 3 is no descriptor where the test asks for no folder; here it is the root, always.
const OTHERWISE: &str = "sock_shutdown-invalid_fd";

/// What a test's file beside it says.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Said {
    args: Vec<String>,
    dirs: Vec<String>,
    env: BTreeMap<String, String>,
    exit_code: i32,
    stdout: Option<String>,
}

fn programs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.extension() {
            _ if entry.is_dir() => programs(&entry, found),
            Some(kind) if kind == "wasm" => found.push(entry),
            _ => {}
        }
    }
}

/// All files below a folder, as items.
fn items(at: &Path, prefix: &str, into: &mut Vec<Item<Blob>>) {
    for entry in std::fs::read_dir(at).into_iter().flatten().map(|entry| entry.unwrap()) {
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if entry.path().is_dir() {
            into.push(Item::new(format!("{name}%2F.keep"), 0, Blob::default()));
            items(&entry.path(), &format!("{name}%2F"), into);
        } else if !name.ends_with(".keep") && !name.ends_with(".gitignore") {
            into.push(Item::new(name, 0, Blob::from(std::fs::read(entry.path()).unwrap())));
        }
    }
}

fn prepared(program: &Path) -> (Given, Said) {
    let said = std::fs::read(program.with_extension("json")).unwrap_or_else(|_| b"{}".to_vec());
    let said: Said = serde_json::from_slice(&said).unwrap();
    let mut given = given();
    given.arguments.extend(said.args.clone());
    given.environment = said.env.clone().into_iter().collect();
    for folder in &said.dirs {
        let name = folder.replace('/', "-");
        let mut all = Vec::new();
        items(&program.with_file_name(folder), "", &mut all);
        given.inputs.push(Set::new(name.clone(), all));
        given.folders.push(Folder { set: name, path: folder.clone() });
    }
    (given, said)
}

#[test]
fn the_makers_tests() {
    let Some(folder) = std::env::var_os("WASI_TESTSUITE") else {
        println!("skipped: WASI_TESTSUITE names no folder");
        return;
    };
    let mut all = Vec::new();
    programs(Path::new(&folder), &mut all);
    all.sort();
    assert!(!all.is_empty(), "no programs below {folder:?}");
    let mut failed = Vec::new();
    for program in &all {
        let name = program.file_stem().unwrap().to_string_lossy().into_owned();
        if name == OTHERWISE {
            continue;
        }
        let (given, said) = prepared(program);
        let finished = given.run(&mut *load(&std::fs::read(program).unwrap()));
        let code = match &finished.outcome {
            Ok(_) => 0,
            Err(RunError::Exit(code)) => *code,
            Err(error) => {
                failed.push(format!("{name}: {error}: {}", lossy(&finished.stderr)));
                continue;
            }
        };
        let stdout = said.stdout.as_ref().is_none_or(|text| *text == lossy(&finished.stdout));
        // Without folders what is printed is the answer.
        if code != said.exit_code || (!stdout && !said.dirs.is_empty()) {
            failed.push(format!("{name}: exit code {code}: {}{}", lossy(&finished.stdout), lossy(&finished.stderr)));
        }
    }
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), all.len(), failed.join("\n"));
}
