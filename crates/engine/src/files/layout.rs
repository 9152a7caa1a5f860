//! From a run's inputs to its files, and from its files to its outputs.
//!
//! ```text
//!  /in/SET/ITEM     given, read-only                /out/SET/ITEM    left
//!  /FOLDER/…        given and left: `Run::folders`  /tmp             forgotten
//! ```
//!
//! An item's name and key become a file's name by [`file_name`], and the other way round by [`item_name`]: what a guest
//! copies from `/in` to `/out` keeps both.

use super::data::{Budget, Data};
use super::name::Name;
use super::text::Text;
use super::tree::{Content, Files, NodeId, ROOT};
use crate::{Blob, Run, RunError};
use sets::{Item, Set, Sets};
use std::borrow::Cow;
use std::fmt::Write;

/// The name of the set and of the item that hold what a program printed.
const PRINTED: &str = "stdout";

fn bad_input(what: String) -> RunError {
    RunError::BadInput(what)
}

/// The path, below its set's folder, of an item.
pub fn file_name(name: &str, key: u64) -> Cow<'_, str> {
    let has_key = has_key(name);
    if key == 0 && !has_key && !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let mut path = name.replace("%2F", "/").replace("%25", "%");
    if key != 0 || has_key {
        let _ = write!(path, "@{key}");
    }
    path.into()
}

/// The name and the key of the item that a file at `path` below its set's folder is.
pub fn item_name(path: &str) -> (String, u64) {
    let (path, key) = match path.rsplit_once('@') {
        Some((before, key)) if has_key(path) => (before, key.parse().unwrap_or(0)),
        _ => (path, 0),
    };
    if !path.contains(['%', '/']) {
        return (path.to_owned(), key);
    }
    (path.replace("%25", "%2525").replace("%2F", "%252F").replace('/', "%2F"), key)
}

/// Whether a name ends in what would be read as a key.
fn has_key(name: &str) -> bool {
    name.rsplit_once('@').is_some_and(|(before, key)| {
        let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
        !before.is_empty() && !before.ends_with('/') && plain && key.parse::<u64>().is_ok()
    })
}

/// Lays a run's inputs out.
pub fn lay_out(run: &Run<'_>, budget: Budget, now: u64) -> Result<Files, RunError> {
    let mut files = Files::new(budget, now);
    let folder = |files: &mut Files, parent, name: &str, read_only| {
        files.place(parent, name.into(), Files::new_folder(), read_only)
    };
    let inputs = folder(&mut files, ROOT, "in", false);
    let outputs = folder(&mut files, ROOT, "out", false);
    folder(&mut files, ROOT, "tmp", false);
    for set in run.outputs {
        sets::name::check(set).map_err(|why| bad_input(format!("output set {set:?}: {why}")))?;
        if files.folder(outputs).is_ok_and(|its| its.get(set.as_bytes()).is_none()) {
            folder(&mut files, outputs, set, false);
        }
    }
    for to in run.folders {
        make_folders(&mut files, ROOT, to.path.trim_matches('/'), false)?;
    }
    for set in run.inputs {
        let (at, read_only) = match run.folders.iter().find(|folder| folder.set == set.name) {
            Some(to) => (make_folders(&mut files, ROOT, to.path.trim_matches('/'), false)?, false),
            None => (make_folders(&mut files, inputs, &set.name, true)?, true),
        };
        lay_out_set(&mut files, at, set, read_only)?;
    }
    files.set_read_only(inputs);
    Ok(files)
}

fn lay_out_set(files: &mut Files, at: NodeId, set: &Set<Blob>, read_only: bool) -> Result<(), RunError> {
    for item in &set.items {
        let path = file_name(&item.name, item.key);
        let (parent, name) = match path.rsplit_once('/') {
            Some(("", _)) => {
                let what = format!("item {:?} of set {:?}: the folder in its name has no name", item.name, set.name);
                return Err(bad_input(what));
            }
            Some((parents, name)) => (make_folders(files, at, parents, read_only)?, name),
            None => (at, &*path),
        };
        // What is nothing but a key would be read as a name without one.
        let named = check_name(name).and_then(|()| check_name(&name[..before_key(name, item)]));
        named.map_err(|why| bad_input(format!("item {:?} of set {:?}: {why}", item.name, set.name)))?;
        let name = free_name(files, parent, name, before_key(name, item));
        files.place(parent, name, Content::File(Data::Given(item.data.clone())), read_only);
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), sets::NameError> {
    sets::name::check(name)
}

/// Where in the name of an item's file its key begins, or would.
fn before_key(name: &str, item: &Item<Blob>) -> usize {
    let is_there = item.key != 0 || has_key(&item.name);
    name.rfind('@').filter(|_| is_there).unwrap_or(name.len())
}

/// Items of one name and key are told apart, and keep the key: `x@7`, `x~2@7`, `x~3@7`.
fn free_name(files: &Files, parent: NodeId, name: &str, before_key: usize) -> Name {
    let taken = |name: &[u8]| files.folder(parent).is_ok_and(|its| its.get(name).is_some());
    if !taken(name.as_bytes()) {
        return name.into();
    }
    // Binary search keeps thousands of equal names cheap: the numbers that are taken are the first ones.
    let (name, key) = name.split_at(before_key);
    let numbered = |number: u64| format!("{name}~{number}{key}").into_bytes();
    let mut step = 1;
    while taken(&numbered(1 + step)) {
        step *= 2;
    }
    let (mut low, mut high) = (1 + step / 2, 1 + step);
    while low < high {
        let middle = low + (high - low) / 2;
        if taken(&numbered(middle)) { low = middle + 1 } else { high = middle }
    }
    Name::from(&*numbered(low.max(2)))
}

/// The folder at `path`, made if need be.
fn make_folders(files: &mut Files, mut at: NodeId, path: &str, read_only: bool) -> Result<NodeId, RunError> {
    for name in path.split('/').filter(|_| !path.is_empty()) {
        check_name(name).map_err(|why| bad_input(format!("folder {path:?}: {why}")))?;
        at = match files.folder(at).map(|its| its.get(name.as_bytes())) {
            Ok(Some(id)) => id,
            Ok(None) => files.place(at, name.into(), Files::new_folder(), read_only),
            Err(_) => return Err(bad_input(format!("folder {path:?}: there is a file of that name"))),
        };
    }
    match files.folder(at) {
        Ok(_) => Ok(at),
        Err(_) => Err(bad_input(format!("folder {path:?}: there is a file of that name"))),
    }
}

/// What a run has left. If what it printed is the answer, that is taken.
pub fn collect(files: &mut Files, run: &Run<'_>, stdout: &mut Text) -> Result<Sets<Blob>, RunError> {
    let mut outputs: Sets<Blob> = run.outputs.iter().map(|name| Set::new(name, Vec::new())).collect();
    let out = files.folder(ROOT).ok().and_then(|root| root.get(b"out"));
    if let Some(out) = out.filter(|out| files.is_folder(*out)) {
        for (name, id) in children(files, out) {
            let name = text(&name)?.to_owned();
            if !files.is_folder(id) {
                let what = format!("/out/{name} is not a folder: items are files in folders, /out/SET/ITEM");
                return Err(RunError::BadOutput(what));
            }
            let items = gather(files, id)?;
            add(&mut outputs, name, items);
        }
    }
    for folder in run.folders {
        let found = files.find(ROOT, folder.path.trim_matches('/').as_bytes(), true).ok().and_then(|found| found.node);
        let items = found.filter(|id| files.is_folder(*id)).map(|id| gather(files, id)).transpose()?;
        add(&mut outputs, folder.set.clone(), items.unwrap_or_default());
    }
    let nothing = outputs.iter().all(|set| set.items.is_empty());
    if !nothing || run.outputs.len() > 1 || !run.folders.is_empty() || (stdout.is_empty() && run.outputs.len() == 1) {
        return Ok(outputs);
    }
    let name = run.outputs.first().map_or(PRINTED, |name| name.as_str()).to_owned();
    let items = vec![Item::new(PRINTED, 0, std::mem::take(stdout).into_blob())];
    Ok(vec![Set::new(name, items)])
}

fn add(outputs: &mut Sets<Blob>, name: String, items: Vec<Item<Blob>>) {
    match outputs.iter_mut().find(|set| set.name == name) {
        Some(set) => set.items.extend(items),
        None if items.is_empty() => {}
        None => outputs.push(Set::new(name, items)),
    }
}

fn children(files: &Files, folder: NodeId) -> Vec<(Name, NodeId)> {
    let its = files.folder(folder).into_iter();
    its.flat_map(|its| its.entries(0)).map(|(_, name, id)| (name.into(), id)).collect()
}

fn text(name: &[u8]) -> Result<&str, RunError> {
    std::str::from_utf8(name).map_err(|_| RunError::BadOutput("a file's name is not UTF-8".into()))
}

/// All files below a folder, as items. Without recursion: who makes folders decides how deep they are.
fn gather(files: &mut Files, folder: NodeId) -> Result<Vec<Item<Blob>>, RunError> {
    let mut items = Vec::new();
    let mut open = vec![(String::new(), folder)];
    while let Some((prefix, folder)) = open.pop() {
        for (name, id) in children(files, folder) {
            let name = text(&name)?;
            let path = if prefix.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{prefix}{name}")) };
            let id = match files.content(id) {
                Content::Link(_) => follow(files, folder, name, &path)?,
                _ => id,
            };
            match files.share(id) {
                Some(data) => items.push(item(&path, data)?),
                None if path.len() > sets::name::LONGEST => return Err(too_deep(&path)),
                None => open.push((format!("{path}/"), id)),
            }
        }
    }
    Ok(items)
}

/// A symbolic link among the outputs is what it leads to, if that is a file.
fn follow(files: &Files, folder: NodeId, name: &str, path: &str) -> Result<NodeId, RunError> {
    let found = files.find(folder, name.as_bytes(), true).ok().and_then(|found| found.node);
    found
        .filter(|id| matches!(files.content(*id), Content::File(_)))
        .ok_or_else(|| RunError::BadOutput(format!("{path:?} is a symbolic link that leads to no file of its folder")))
}

fn too_deep(path: &str) -> RunError {
    let longest = sets::name::LONGEST;
    RunError::BadOutput(format!("the path {path:?} of an item has more than {longest} bytes"))
}

fn item(path: &str, data: Blob) -> Result<Item<Blob>, RunError> {
    let (name, key) = item_name(path);
    match sets::name::check(&name) {
        Ok(()) => Ok(Item::new(name, key, data)),
        Err(sets::NameError::Long(_)) => Err(too_deep(path)),
        Err(why) => Err(RunError::BadOutput(format!("item {path:?}: {why}"))),
    }
}
