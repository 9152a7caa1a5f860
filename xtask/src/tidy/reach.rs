//! `dead-file`: a Rust file that no target reaches is compiled by nobody and checked by nobody.
//!
//! It follows `mod`, `#[path]` and `include!` from the targets that Cargo would find or that a manifest names. It does
//! not evaluate `cfg`: a file for another platform is reached.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::layers::{parse, resolve};
use super::tree::{File, Language, Tree};
use super::{Finding, scan};

pub fn check(tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let mut open: Vec<String> = Vec::new();
    for manifest in tree.files.iter().filter(|file| file.path.rsplit('/').next() == Some("Cargo.toml")) {
        open.extend(targets(tree, manifest)?);
    }
    let roots: BTreeSet<String> = open.iter().cloned().collect();
    let mut reached = BTreeSet::new();
    while let Some(path) = open.pop() {
        if let Some(file) = tree.file(&path).filter(|_| reached.insert(path.clone())) {
            open.extend(mentions(file, roots.contains(&path)));
        }
    }
    let rust = tree.files.iter().filter(|file| file.language == Language::Rust);
    let dead = rust.filter(|file| !reached.contains(&file.path));
    Ok(dead
        .map(|file| file.finding(0, "dead-file", "no target reaches this file: declare it with `mod`, or delete it"))
        .collect())
}

/// The files that Cargo starts from in the package of this manifest.
fn targets(tree: &Tree, manifest: &File) -> anyhow::Result<Vec<String>> {
    let table = parse(manifest)?;
    if !table.contains_key("package") {
        return Ok(Vec::new());
    }
    let folder = folder_of(&manifest.path);
    let named = ["lib", "bin", "test", "bench", "example"].into_iter().flat_map(|kind| target_paths(&table, kind));
    let build = table.get("package").and_then(|package| package.get("build")).and_then(Value::as_str);
    let usual = ["src/lib.rs", "src/main.rs", "build.rs"];
    let named = named.chain(build).chain(usual).map(|path| resolve(folder, path));
    let found = tree.files.iter().filter(|file| is_found_target(folder, &file.path)).map(|file| file.path.clone());
    Ok(named.chain(found).collect())
}

fn target_paths<'a>(manifest: &'a Table, kind: &str) -> Vec<&'a str> {
    let targets = match manifest.get(kind) {
        Some(Value::Array(targets)) => targets.iter().collect(),
        Some(target) => vec![target],
        None => Vec::new(),
    };
    targets.into_iter().filter_map(|target| target.get("path")?.as_str()).collect()
}

/// `tests/a.rs`, `tests/a/main.rs` and the like are targets unless a manifest says otherwise.
fn is_found_target(folder: &str, path: &str) -> bool {
    let inside =
        if folder.is_empty() { Some(path) } else { path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')) };
    let kinds = ["src/bin/", "tests/", "benches/", "examples/"];
    let rest = inside.and_then(|path| kinds.iter().find_map(|kind| path.strip_prefix(kind)));
    rest.is_some_and(|rest| match rest.split_once('/') {
        None => rest.ends_with(".rs"),
        Some((_, file)) => file == "main.rs",
    })
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Every path that `file` may mean by a `mod` or an include; some do not exist.
fn mentions(file: &File, is_root: bool) -> Vec<String> {
    let folder = folder_of(&file.path);
    let owns_folder = is_root || file.path.ends_with("/mod.rs");
    let children = if owns_folder { folder.to_owned() } else { resolve(folder, file.stem()) };
    let mut inline: Vec<(&str, usize)> = Vec::new();
    let mut paths = includes(file);
    let words = scan::words(&file.code).zip(scan::words(&file.code).skip(1));
    for ((at, _), (name_at, name)) in words.filter(|((_, word), _)| *word == "mod") {
        inline.retain(|&(_, end)| end > at);
        let chain: Vec<&str> = inline.iter().map(|(name, _)| *name).collect();
        let inside = resolve(&children, &chain.join("/"));
        match scan::block(&file.code, name_at) {
            Some(body) if file.code[name_at + name.len()..].trim_start().starts_with('{') => {
                inline.push((name, body.end))
            }
            _ => {
                let base = if chain.is_empty() { folder } else { &inside };
                paths.extend(path_attributes(file, at).iter().map(|path| resolve(base, path)));
                paths
                    .extend([format!("{name}.rs"), format!("{name}/mod.rs")].iter().map(|path| resolve(&inside, path)));
            }
        }
    }
    paths
}

/// The files that `#[path = "…"]` names for the item at `at`.
fn path_attributes(file: &File, at: usize) -> Vec<&str> {
    let start = file.code[..at].rfind([';', '{', '}']).map_or(0, |end| end + 1);
    quoted_after(&file.text[start..at], "path = \"")
}

fn includes(file: &File) -> Vec<String> {
    let macros = ["include!(\"", "include_str!(\"", "include_bytes!(\""];
    let paths = macros.into_iter().flat_map(|call| quoted_after(&file.text, call));
    paths.map(|path| resolve(folder_of(&file.path), path)).collect()
}

fn quoted_after<'a>(text: &'a str, mark: &str) -> Vec<&'a str> {
    let starts = text.match_indices(mark).map(|(at, _)| at + mark.len());
    starts.filter_map(|start| text[start..].split('"').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(files: &[(&str, &str)]) -> Vec<String> {
        let mut files: Vec<File> = files.iter().map(|(path, text)| File::new(path, text)).collect();
        files
            .push(File::new("a/Cargo.toml", "[package]\nname = \"a\"\n[[bin]]\nname = \"b\"\npath = \"tools/b.rs\"\n"));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        check(&Tree { files }).expect("the manifest is TOML").into_iter().map(|finding| finding.file).collect()
    }

    #[test]
    fn modules_of_every_form_are_reached() {
        let lib = "mod b;\npub mod c;\nmod inline { mod d; }\n#[cfg(unix)]\n#[path = \"elsewhere/e.rs\"]\nmod e;\n#[cfg(test)]\nmod tests;\nconst F: &str = include_str!(\"f.rs\");";
        let files = [
            ("a/src/lib.rs", lib),
            ("a/src/b.rs", "mod deep;"),
            ("a/src/b/deep.rs", ""),
            ("a/src/c/mod.rs", "mod own;"),
            ("a/src/c/own.rs", ""),
            ("a/src/inline/d.rs", ""),
            ("a/src/elsewhere/e.rs", ""),
            ("a/src/tests.rs", ""),
            ("a/src/f.rs", ""),
        ];
        assert_eq!(dead(&files), [""; 0]);
    }

    #[test]
    fn targets_are_reached_by_place_and_by_manifest() {
        let files = [
            ("a/build.rs", ""),
            ("a/src/main.rs", ""),
            ("a/src/bin/c.rs", ""),
            ("a/tests/d.rs", "mod e;"),
            ("a/tests/e.rs", ""),
            ("a/benches/f/main.rs", "mod g;"),
            ("a/benches/f/g.rs", ""),
            ("a/tools/b.rs", ""),
        ];
        assert_eq!(dead(&files), [""; 0]);
    }

    #[test]
    fn files_that_nothing_names_are_dead() {
        let lib = "// mod b;\nconst S: &str = \"mod c;\"; mod d { fn mode() {} }";
        let files =
            [("a/src/lib.rs", lib), ("a/src/b.rs", ""), ("a/src/c.rs", ""), ("a/src/d.rs", ""), ("loose.rs", "")];
        assert_eq!(dead(&files), ["a/src/b.rs", "a/src/c.rs", "a/src/d.rs", "loose.rs"]);
    }
}
