//! Packages made from real folders.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("app.py"), "def handler(event, context):\n    return event\n").unwrap();
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("bin/tool", root.join("tool")).unwrap();
    fs::create_dir_all(root.join("__pycache__")).unwrap();
    fs::write(root.join("__pycache__/app.pyc"), "").unwrap();
    fs::write(root.join(".lichenignore"), "*.secret\n").unwrap();
    fs::write(root.join("a.secret"), "").unwrap();
    folder
}

fn entries(zip: &[u8]) -> Vec<(String, Option<u32>)> {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(zip)).unwrap();
    let count = archive.len();
    let mut entry = |index| {
        let entry = archive.by_index(index).unwrap();
        (entry.name().unwrap().into_owned(), entry.unix_mode())
    };
    (0..count).map(&mut entry).collect()
}

#[test]
fn the_same_folder_gives_the_same_bytes() {
    let (a, b) = (project(), project());
    let [a, b] = [&a, &b].map(|folder| pack(folder.path(), &Wishes::default()).unwrap());
    assert_eq!(a.zip, b.zip);
    assert_eq!((a.language, a.handler.as_str()), (Language::Python, "app.handler"));
    assert_eq!(a.remark.unwrap(), "Python, handler app.handler");
    let expected = [("app.py", 0o100_644), ("bin/tool", 0o100_755), ("tool", 0o120_777)];
    let (bytecode, own): (Vec<_>, Vec<_>) = entries(&a.zip).into_iter().partition(|(name, _)| name.ends_with(".pyc"));
    assert_eq!(own, expected.map(|(name, mode)| (name.to_owned(), Some(mode))));
    assert!(matches!(&bytecode[..], [(name, _)] if name.starts_with("__pycache__/app.cpython-")), "{bytecode:?}");
}

#[test]
fn what_does_not_compile_is_packed_all_the_same() {
    let folder = project();
    fs::write(folder.path().join("app.py"), "def handler(event, context:\n").unwrap();
    let names: Vec<String> =
        entries(&pack(folder.path(), &Wishes::default()).unwrap().zip).into_iter().map(|e| e.0).collect();
    assert_eq!(names, ["app.py", "bin/tool", "tool"]);
}

#[test]
fn bytecode_for_one_use_is_not_made() {
    let folder = project();
    let packed = pack(folder.path(), &Wishes { fleeting: true, ..Wishes::default() }).unwrap();
    assert_eq!(entries(&packed.zip).len(), 3);
}

#[test]
fn zips_go_as_they_are() {
    let folder = project();
    let packed = pack(folder.path(), &Wishes::default()).unwrap();
    let path = folder.path().join("code.zip");
    fs::write(&path, &packed.zip).unwrap();
    let again = pack(&path, &Wishes::default()).unwrap();
    assert_eq!((again.zip == packed.zip, again.handler.as_str()), (true, "app.handler"));
    fs::write(&path, "PK, but no").unwrap();
    assert!(pack(&path, &Wishes::default()).is_err());
}

#[test]
fn single_files_do() {
    let folder = project();
    let packed = pack(&folder.path().join("app.py"), &Wishes::default()).unwrap();
    assert_eq!(packed.handler, "app.handler");
}

#[test]
fn a_link_out_of_the_folder_becomes_what_it_leads_to() {
    let (folder, elsewhere) = (project(), tempfile::tempdir().unwrap());
    fs::write(elsewhere.path().join("data"), "x").unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(elsewhere.path().join("data"), &link).unwrap();
    assert!(pack(folder.path(), &Wishes::default()).is_ok());
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
    assert!(pack(folder.path(), &Wishes::default()).is_err());
}

#[test]
fn what_cannot_be_packed_is_an_error() {
    let folder = project();
    for name in ["nothing", "bin/tool", "x.wasm"] {
        fs::write(folder.path().join("x.wasm"), "").unwrap();
        assert!(pack(&folder.path().join(name), &Wishes::default()).is_err(), "{name}");
    }
}
