//! Layers, friendly and hostile, put together.

use super::super::CodeConfig;
use super::*;
use std::io::{Cursor, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A package of files; a content that begins with an arrow is a link's target.
fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        match content.strip_prefix("->") {
            Some(target) => writer.add_symlink(*name, target, SimpleFileOptions::default()).unwrap(),
            None => {
                writer.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
                writer.write_all(content.as_bytes()).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

fn store() -> (tempfile::TempDir, Arc<CodeStore>) {
    let folder = tempfile::tempdir().unwrap();
    let store = CodeStore::open(&folder.path().join("code"), CodeConfig::default()).unwrap();
    (folder, store)
}

fn layers(store: &Arc<CodeStore>, packages: &[&[(&str, &str)]]) -> Vec<Held> {
    packages.iter().map(|files| store.admit(&zip(files)).unwrap()).collect()
}

fn ids(held: &[Held]) -> Vec<CodeId> {
    held.iter().map(Held::id).collect()
}

fn bundle(store: &Arc<CodeStore>, packages: &[&[(&str, &str)]]) -> Held {
    let held = layers(store, packages);
    store.bundle(&ids(&held)).unwrap().unwrap()
}

#[test]
fn later_layers_lie_over_earlier_ones() {
    let (_folder, store) = store();
    let packages: [&[(&str, &str)]; 2] = [
        &[
            ("python/a.py", "1"),
            ("python/b.py", "1"),
            ("bin", "a file"),
            ("lib/deep/x", "x"),
            ("link", "->python/a.py"),
        ],
        &[
            ("python/b.py", "2"),
            ("python/c.py", "2"),
            ("bin/tool", "a folder"),
            ("lib/deep", "a file"),
            ("link", "new"),
        ],
    ];
    let one = bundle(&store, &packages);
    let read = |name: &str| fs::read_to_string(store.folder(one.id()).join(name)).unwrap();
    assert_eq!((read("python/a.py"), read("python/b.py"), read("python/c.py")), ("1".into(), "2".into(), "2".into()));
    assert_eq!((read("bin/tool"), read("lib/deep"), read("link")), ("a folder".into(), "a file".into(), "new".into()));
    let tool = fs::metadata(store.folder(one.id()).join("bin/tool")).unwrap();
    assert_eq!((tool.permissions().mode() & 0o777, tool.nlink()), (0o755, 2));
    // The layers themselves are as they were.
    let first = layers(&store, &packages[..1]);
    assert_eq!(fs::read_to_string(store.folder(first[0].id()).join("python/b.py")).unwrap(), "1");
    assert_eq!(store.unzipped(first[0].id()).unwrap(), 20);
    let turned = bundle(&store, &[packages[1], packages[0]]);
    assert_eq!(fs::read_to_string(store.folder(turned.id()).join("python/b.py")).unwrap(), "1");
}

#[test]
fn a_link_of_one_layer_leads_no_file_of_another() {
    let (folder, store) = store();
    // By its letters the second link stays inside; followed through the first it would not.
    let made =
        bundle(&store, &[&[("p/q/up", "->../.."), ("p/q/out", "->up/..")], &[("p/q/out/evil", "x"), ("p/q/up", "y")]]);
    let root = store.folder(made.id());
    assert!(fs::symlink_metadata(root.join("p/q/out")).unwrap().is_dir());
    assert_eq!(fs::read_to_string(root.join("p/q/out/evil")).unwrap(), "x");
    assert_eq!(fs::read_to_string(root.join("p/q/up")).unwrap(), "y");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn one_layer_is_its_own_folder_and_none_is_nothing() {
    let (_folder, store) = store();
    let held = layers(&store, &[&[("a", "1")]]);
    assert_eq!(store.bundle(&ids(&held)).unwrap().unwrap().id(), held[0].id());
    assert!(store.bundle(&[]).unwrap().is_none());
    assert_eq!(CodeId::of_bundle(&[]), None);
}

#[test]
fn a_bundle_stays_while_it_is_held_and_goes_then() {
    let (_folder, store) = store();
    let held = bundle(&store, &[&[("a", "1")], &[("b", "2")]]);
    let kept = held.id();
    assert_eq!(store.sweep(&Default::default()).unwrap().delete().unwrap(), 4);
    assert!(store.folder(kept).join("a").is_file() && store.folder(kept).join("b").is_file());
    drop(held);
    assert_eq!(store.sweep(&Default::default()).unwrap().delete().unwrap(), 1);
    assert!(!store.folder(kept).exists());
}

#[test]
fn a_layer_that_is_gone_is_told() {
    let (_folder, store) = store();
    let error = store.bundle(&[CodeId::of(b"nothing")]).unwrap_err();
    assert!(matches!(error, BundleError::Gone(id) if id == CodeId::of(b"nothing")));
}
