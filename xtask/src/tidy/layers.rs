//! `layers`, `lints` and `anyhow`: what the manifests say about the architecture.
//!
//! The `members` list of the workspace is the architecture, bottom-up; a crate depends only on crates above it in that
//! list, in its tests as well. Dependencies on other people's crates are `cargo deny`'s subject.

use anyhow::Context;
use toml::{Table, Value};

use super::Finding;
use super::tree::{File, Tree};

const DEPENDENCY_TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub fn check(tree: &Tree) -> anyhow::Result<Vec<Finding>> {
    let Some(root) = tree.file("Cargo.toml") else { return Ok(Vec::new()) };
    let workspace = Workspace::new(&parse(root)?);
    let mut findings = Vec::new();
    for (place, member) in workspace.members.iter().enumerate() {
        let Some(file) = tree.file(&format!("{member}/Cargo.toml")) else {
            let advice = format!("`{member}` has no Cargo.toml: list each crate by its folder, patterns have no order");
            findings.push(finding(root, member, "layers", advice));
            continue;
        };
        let manifest = parse(file)?;
        findings.extend(workspace.upward(place, file, &manifest));
        findings.extend(without_lints(file, &manifest));
        findings.extend(anyhow_in_library(tree, member, file, &manifest));
    }
    Ok(findings)
}

pub fn parse(file: &File) -> anyhow::Result<Table> {
    file.text.parse().with_context(|| format!("{} is not valid TOML", file.path))
}

struct Workspace {
    /// Folders, bottom-up.
    members: Vec<String>,
    /// The dependencies that crates inherit by name.
    shared: Table,
}

impl Workspace {
    fn new(root: &Table) -> Self {
        let workspace = root.get("workspace").and_then(Value::as_table).cloned().unwrap_or_default();
        let members = workspace.get("members").and_then(Value::as_array).into_iter().flatten();
        let members = members.filter_map(Value::as_str).map(|member| member.trim_end_matches('/').to_owned()).collect();
        let shared = workspace.get("dependencies").and_then(Value::as_table).cloned().unwrap_or_default();
        Self { members, shared }
    }

    /// The dependencies of the member at `place` that are not above it in the list.
    fn upward(&self, place: usize, file: &File, manifest: &Table) -> Vec<Finding> {
        let dependencies = dependencies(manifest).into_iter();
        let ours = dependencies.filter_map(|(name, value)| {
            let target = self.folder_of(&self.members[place], name, value)?;
            Some((name, self.members.iter().position(|member| *member == target)?))
        });
        let below = ours.filter(|(_, target)| *target >= place);
        below
            .map(|(name, _)| {
                let advice = format!(
                    "{} depends on {name}, which is not above it in `members`: move the code down, or the crate up",
                    self.members[place]
                );
                finding(file, name, "layers", advice)
            })
            .collect()
    }

    /// The member folder that a dependency points at; none for other people's crates.
    fn folder_of(&self, member: &str, name: &str, value: &Value) -> Option<String> {
        let inherited = value.get("workspace").and_then(Value::as_bool) == Some(true);
        match inherited {
            true => Some(resolve("", self.shared.get(name)?.get("path")?.as_str()?)),
            false => Some(resolve(member, value.get("path")?.as_str()?)),
        }
    }
}

/// The dependencies of every table, those of single targets included.
fn dependencies(manifest: &Table) -> Vec<(&str, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = std::iter::once(manifest).chain(targets.filter_map(Value::as_table));
    let named = tables.flat_map(|table| DEPENDENCY_TABLES.iter().filter_map(|name| table.get(*name)?.as_table()));
    named.flatten().map(|(name, value)| (name.as_str(), value)).collect()
}

/// `path` as seen from `folder`, without `.` and `..`.
pub fn resolve(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn without_lints(file: &File, manifest: &Table) -> Option<Finding> {
    let inherits =
        manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool) == Some(true);
    let advice = "write `[lints]` with `workspace = true`: without it no lint of the workspace holds here";
    (!inherits).then(|| finding(file, "[package]", "lints", advice.into()))
}

fn anyhow_in_library(tree: &Tree, member: &str, file: &File, manifest: &Table) -> Option<Finding> {
    let is_binary = tree.file(&format!("{member}/src/main.rs")).is_some();
    let uses = manifest.get("dependencies").is_some_and(|table| table.get("anyhow").is_some());
    let advice = "anyhow is for binaries: give each operation of a library its own error enum";
    (uses && !is_binary).then(|| finding(file, "anyhow", "anyhow", advice.into()))
}

/// A finding at the line of the manifest that opens with `key`, or names it.
fn finding(file: &File, key: &str, rule: &'static str, advice: String) -> Finding {
    let opens = |line: &str| {
        let rest = line.trim_start().trim_start_matches('"').strip_prefix(key);
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-'))
    };
    let line = file.text.lines().position(opens).map_or(1, |at| at + 1);
    Finding { file: file.path.clone(), line, rule, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn findings(manifests: &[(&str, &str)]) -> Vec<String> {
        let root = "[workspace]\nmembers = [\n    \"crates/low\",\n    \"crates/high\",\n]\n[workspace.dependencies]\nlow = { path = \"crates/low\" }\nhigh = { path = \"crates/high\" }\nserde = \"1\"\n";
        let mut files = vec![File::new("Cargo.toml", root)];
        for (member, dependencies) in manifests {
            files.push(File::new(
                &format!("crates/{member}/Cargo.toml"),
                &format!("[package]\nname = \"{member}\"\n{LINTS}{dependencies}"),
            ));
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let found = check(&Tree { files }).expect("the manifests are TOML");
        found.iter().map(|finding| format!("{}:{}: {}", finding.file, finding.line, finding.rule)).collect()
    }

    #[test]
    fn a_crate_may_depend_on_those_above_it() {
        let high = "[dependencies]\nlow.workspace = true\nserde.workspace = true\n[dev-dependencies]\nlow = { path = \"../low\" }\n";
        assert_eq!(findings(&[("low", "[dependencies]\nserde = \"1\"\n"), ("high", high)]), [""; 0]);
    }

    #[test]
    fn no_table_may_point_below() {
        let tables = ["dependencies", "dev-dependencies", "build-dependencies", "target.\"cfg(unix)\".dependencies"];
        for table in tables {
            for dependency in ["high.workspace = true", "high = { path = \"../high\" }"] {
                let low = format!("[{table}]\n{dependency}\n");
                assert_eq!(
                    findings(&[("low", &low), ("high", "")]),
                    ["crates/low/Cargo.toml:6: layers"],
                    "{table}: {dependency}"
                );
            }
        }
    }

    #[test]
    fn members_are_listed_one_by_one() {
        assert_eq!(findings(&[("low", "")]), ["Cargo.toml:4: layers"]);
    }

    #[test]
    fn lints_are_inherited_and_libraries_name_their_errors() {
        let bare = File::new("crates/low/Cargo.toml", "[package]\nname = \"low\"\n");
        assert!(without_lints(&bare, &parse(&bare).expect("TOML")).is_some());
        let low = "[dependencies]\nanyhow = \"1\"\n";
        assert_eq!(findings(&[("low", low), ("high", "")]), ["crates/low/Cargo.toml:6: anyhow"]);
    }

    #[test]
    fn a_binary_may_use_anyhow() {
        let manifest = File::new("cli/Cargo.toml", "[dependencies]\nanyhow = \"1\"\n");
        let tree = Tree { files: vec![File::new("cli/src/main.rs", "")] };
        assert!(anyhow_in_library(&tree, "cli", &manifest, &parse(&manifest).expect("TOML")).is_none());
    }
}
