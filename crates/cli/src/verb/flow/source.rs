//! Files with texts in the flow language, and the files that these name: read here, where they are, and sent along.

use crate::mirror::item_name;
use crate::node::{Endpoint, explain};
use crate::print::{self, Format, Output};
use crate::verdict::{Exit, Verdict, wrong};
use api::node::{FlowFile, FlowSpec};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use flow::language::diagnostic::{Diagnostic, Severity};
use flow::{Checked, Offline};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn read(file: &Path) -> anyhow::Result<String> {
    let shown = file.display();
    let bytes = fs::read(file).map_err(|error| wrong(format!("cannot read {shown}: {error}")))?;
    String::from_utf8(bytes).map_err(|_| wrong(format!("{shown} is no text: a flow's text is UTF-8")))
}

/// What is wrong with a text: 2 where something is.
pub fn check(file: &Path, node: Option<&Endpoint>, output: Output) -> Verdict {
    let text = read(file)?;
    let found: Vec<Diagnostic> = match node {
        None => flow::check(&text, None, &Offline).diagnostics,
        Some(node) => serde_json::from_slice(&node.client()?.check_flow(&text).map_err(explain)?)?,
    };
    match output.format {
        Format::Json => print::json(&serde_json::to_value(&found)?)?,
        Format::Table => {
            let name = file.display().to_string();
            let said: Vec<String> = found.iter().map(|found| found.render(&name)).collect();
            eprint!("{}", said.join("\n"));
        }
    }
    let errors = found.iter().any(|found| found.severity == Severity::Error);
    Ok(if errors { Exit::WrongUsage } else { Exit::Done })
}

/// A flow to be put: its text, and the files that it names, seen from its folder.
pub fn spec(file: &str, name: Option<String>, timeout_s: Option<u32>) -> anyhow::Result<FlowSpec> {
    let path = Path::new(file);
    let text = read(path)?;
    let Checked { program, diagnostics } = flow::check(&text, None, &Offline);
    let Some(program) = program else {
        let said: Vec<String> = diagnostics.iter().map(|found| found.render(file)).collect();
        return Err(wrong(format!("the text has errors\n{}", said.join("\n"))));
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let files = program.files().into_iter().map(|named| {
        let files = files(&folder.join(&named)).map_err(|error| wrong(format!("{file} names {named:?}: {error}")))?;
        Ok((named, files))
    });
    let files = files.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    let name = name.unwrap_or_else(|| program.main().name.clone());
    Ok(FlowSpec { name, text: Some(text), files, timeout_s, ..FlowSpec::default() })
}

/// One file, or those that lie in a folder and in folders within it, by their names.
fn files(path: &Path) -> std::io::Result<Vec<FlowFile>> {
    let mut files = Vec::new();
    if path.is_dir() {
        walk(path, "", &mut files)?;
    } else {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        files.push(FlowFile { name: item_name(&name), data: BASE64.encode(fs::read(path)?) });
    }
    Ok(files)
}

/// Links to files are read; those to folders are not gone into, as they may lead in a circle.
fn walk(folder: &Path, below: &str, files: &mut Vec<FlowFile>) -> std::io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = format!("{below}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files)?;
        } else if entry.path().is_file() {
            files.push(FlowFile { name: item_name(&path), data: BASE64.encode(fs::read(entry.path())?) });
        }
    }
    Ok(())
}

/// The picture of a file's text, or of a flow on a node.
pub fn graph(flow: &str, node: &Endpoint) -> Verdict {
    if !Path::new(flow).is_file() {
        let path = format!("/v1/flows/{}/graph", api::client::encode(flow));
        print::bytes(&node.client()?.flow_picture(&path).map_err(explain)?)?;
        return Ok(Exit::Done);
    }
    let checked = flow::check(&read(Path::new(flow))?, None, &Offline);
    let Some(program) = &checked.program else {
        eprint!("{}", checked.render(flow));
        return Ok(Exit::WrongUsage);
    };
    print::bytes(flow::svg::draw(program, None).as_bytes())?;
    Ok(Exit::Done)
}

/// Items for a set that is given on the command line: a text, `@FILE`, or `@FOLDER` with an item for each file in it.
pub fn items(value: &str) -> anyhow::Result<Vec<serde_json::Value>> {
    let Some(path) = value.strip_prefix('@') else { return Ok(vec![value.into()]) };
    let files = files(Path::new(path)).map_err(|error| wrong(format!("cannot read {path}: {error}")))?;
    Ok(files.into_iter().map(|file| serde_json::json!({ "name": file.name, "data": file.data })).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_to_their_ground() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        for name in ["x", "a/y", "a/b/z%2F"] {
            fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink(at("x"), at("link")).unwrap();
        std::os::unix::fs::symlink(folder.path(), at("a/circle")).unwrap();
        let found: Vec<(String, Vec<u8>)> =
            files(folder.path()).unwrap().into_iter().map(|f| (f.name, BASE64.decode(f.data).unwrap())).collect();
        let expected = [("a%2Fb%2Fz%252F", "a/b/z%2F"), ("a%2Fy", "a/y"), ("link", "x"), ("x", "x")];
        assert_eq!(found, expected.map(|(name, data)| (name.to_owned(), data.as_bytes().to_vec())));
    }
}
