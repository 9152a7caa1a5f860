//! Packages, good and hostile.

use super::*;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

type Writer = ZipWriter<Cursor<Vec<u8>>>;

fn package(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    fill(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn add(writer: &mut Writer, name: &str, mode: u32, content: &[u8]) {
    writer.start_file(name, SimpleFileOptions::default().unix_permissions(mode)).unwrap();
    writer.write_all(content).unwrap();
}

/// A zip file with one stored entry, written byte by byte: libraries refuse to write some of what must be refused here.
fn raw(name: &[u8], mode: u32, content: &[u8]) -> Vec<u8> {
    let crc = {
        let mut crc = !0u32;
        for byte in content {
            crc ^= u32::from(*byte);
            (0..8).for_each(|_| crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 });
        }
        !crc
    };
    let mut fields = vec![0x14, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
    fields.extend(crc.to_le_bytes());
    fields.extend((content.len() as u32).to_le_bytes().repeat(2));
    fields.extend((name.len() as u16).to_le_bytes());
    fields.extend([0, 0]);
    let mut zip = b"PK\x03\x04".to_vec();
    zip.extend([&fields, name, content].concat());
    let directory = zip.len() as u32;
    zip.extend([b"PK\x01\x02\x14\x03", &fields[..], &[0; 6]].concat());
    zip.extend((mode << 16).to_le_bytes());
    zip.extend([&[0; 4], name].concat());
    let size = zip.len() as u32 - directory;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend([size.to_le_bytes(), directory.to_le_bytes()].concat());
    zip.extend([0, 0]);
    zip
}

fn store(config: CodeConfig) -> (tempfile::TempDir, Arc<CodeStore>) {
    let folder = tempfile::tempdir().unwrap();
    let store = CodeStore::open(folder.path(), config).unwrap();
    (folder, store)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a hostile package is refused with; nothing of it may be left.
fn refusal(zip: &[u8], config: CodeConfig) -> AdmitError {
    let (folder, store) = store(config);
    let error = store.admit(zip).unwrap_err();
    assert_eq!(names(folder.path()), [""; 0]);
    assert!(store.held().is_empty());
    error
}

fn fault(zip: &[u8]) -> EntryFault {
    match refusal(zip, CodeConfig::default()) {
        AdmitError::BadEntry { fault, .. } => fault,
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_package_is_unpacked_with_its_modes_and_links() {
    let (_folder, store) = store(CodeConfig::default());
    let zip = package(|w| {
        add(w, "bin/tool", 0o700, b"#!/bin/sh\n");
        add(w, "./app.py", 0o600, b"def handler(event, context): pass\n");
        add(w, "suid", 0o6755, b"");
        w.add_directory("empty/", SimpleFileOptions::default()).unwrap();
        w.add_symlink("bin/alias", "../bin/./tool", SimpleFileOptions::default()).unwrap();
    });
    let held = store.admit(&zip).unwrap();
    let folder = store.folder(held.id());
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode("bin/tool"), mode("app.py"), mode("suid"), mode("empty")], [0o744, 0o644, 0o755, 0o755]);
    assert_eq!(fs::read(folder.join("bin/alias")).unwrap(), b"#!/bin/sh\n");
    assert_eq!(fs::read(store.zip(held.id())).unwrap(), zip);
    assert_eq!((held.id().hex(), held.zip_bytes()), (CodeId::of(&zip).hex(), zip.len() as u64));
}

#[test]
fn the_same_package_is_stored_once_and_swept_when_nobody_has_it() {
    let (folder, store) = store(CodeConfig::default());
    let zip = package(|w| add(w, "app.py", 0o644, b"1"));
    let (first, second) = (store.admit(&zip).unwrap(), store.admit(&zip).unwrap());
    let id = first.id();
    assert_eq!(names(folder.path()), [id.hex(), id.hex() + ".zip"]);
    drop(first);
    assert_eq!(store.sweep(&HashSet::new()).unwrap().delete().unwrap(), 0);
    drop(second);
    assert_eq!(store.sweep(&HashSet::from([id])).unwrap().delete().unwrap(), 0);
    assert_eq!(store.sweep(&HashSet::new()).unwrap().delete().unwrap(), 2);
    assert_eq!(names(folder.path()), [""; 0]);
    assert!(store.folder(store.admit(&zip).unwrap().id()).is_dir());
}

#[test]
fn uploads_at_once_of_the_same_package() {
    let (folder, store) = store(CodeConfig { durable: false, ..CodeConfig::default() });
    let zip = package(|w| (0..50).for_each(|i| add(w, &format!("d{i}/f"), 0o644, &[7; 100])));
    std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..8).map(|_| scope.spawn(|| store.admit(&zip).unwrap())).collect();
        let held: Vec<Held> = uploads.into_iter().map(|upload| upload.join().unwrap()).collect();
        assert!(held.iter().all(|held| store.folder(held.id()).join("d49/f").is_file()));
    });
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn what_is_half_done_is_gone_after_a_restart() {
    let (folder, store) = store(CodeConfig::default());
    let zip = package(|w| add(w, "app.py", 0o644, b"1"));
    let id = store.admit(&zip).unwrap().id();
    fs::create_dir_all(folder.path().join(".new-1/tree/deep")).unwrap();
    fs::write(folder.path().join(".old-2"), "zip").unwrap();
    CodeStore::open(folder.path(), CodeConfig::default()).unwrap();
    assert_eq!(names(folder.path()), [id.hex(), id.hex() + ".zip"]);
}

#[test]
fn names_that_lead_out_are_refused() {
    assert_eq!(fault(&raw(b"../evil", 0o100644, b"")), EntryFault::Escapes);
    assert_eq!(fault(&raw(b"a/../../evil", 0o100644, b"")), EntryFault::Escapes);
    assert_eq!(fault(&raw(b"a/..", 0o100644, b"")), EntryFault::Escapes);
    assert_eq!(fault(&raw(b"/etc/passwd", 0o100644, b"")), EntryFault::Absolute);
    assert_eq!(fault(&raw(b"a\0b", 0o100644, b"")), EntryFault::Unnamed);
    assert_eq!(fault(&raw("long".repeat(64).as_bytes(), 0o100644, b"")), EntryFault::TooLong);
    assert_eq!(fault(&raw("d/".repeat(300).as_bytes(), 0o40755, b"")), EntryFault::TooLong);
}

#[test]
fn links_that_lead_out_are_refused() {
    assert_eq!(fault(&raw(b"link", 0o120777, b"/etc/passwd")), EntryFault::LinkEscapes);
    assert_eq!(fault(&raw(b"a/link", 0o120777, b"../../outside")), EntryFault::LinkEscapes);
    assert_eq!(fault(&raw(b"link", 0o120777, b"")), EntryFault::LinkEscapes);
}

#[test]
fn no_file_goes_through_a_link() {
    let zip = package(|w| {
        w.add_symlink("inner", "elsewhere", SimpleFileOptions::default()).unwrap();
        add(w, "inner/file", 0o644, b"x");
    });
    assert_eq!(fault(&zip), EntryFault::Twice);
}

#[test]
fn special_files_are_refused() {
    assert_eq!(fault(&raw(b"pipe", 0o010644, b"")), EntryFault::Special);
    assert_eq!(fault(&raw(b"disk", 0o060644, b"")), EntryFault::Special);
}

#[test]
fn the_same_name_twice_is_refused() {
    let zip = package(|w| {
        add(w, "a", 0o644, b"1");
        add(w, "./a", 0o644, b"2");
    });
    assert_eq!(fault(&zip), EntryFault::Twice);
    let zip = package(|w| {
        add(w, "a", 0o644, b"1");
        add(w, "a/b", 0o644, b"2");
    });
    assert_eq!(fault(&zip), EntryFault::Twice);
    let (one, other) = (package(|w| add(w, "same", 0o644, b"1")), package(|w| add(w, "s4me", 0o644, b"1")));
    let mut both = package(|w| {
        add(w, "same", 0o644, b"1");
        add(w, "s4me", 0o644, b"1");
    });
    assert_eq!(one.len(), other.len());
    let at: Vec<usize> = (0..both.len() - 4).filter(|at| &both[*at..at + 4] == b"s4me").collect();
    at.into_iter().for_each(|at| both[at..at + 4].copy_from_slice(b"same"));
    assert!(matches!(refusal(&both, CodeConfig::default()), AdmitError::SameName));
}

#[test]
fn what_is_no_zip_is_refused_in_lambdas_words() {
    for nonsense in [&b""[..], b"PK", b"not a zip file at all", &[0; 5000]] {
        let error = refusal(nonsense, CodeConfig::default());
        assert!(matches!(error, AdmitError::NoZip(_)));
        assert_eq!(
            error.to_string(),
            "Could not unzip uploaded file. Please check your file, then try to upload again."
        );
    }
    let mut broken = package(|w| add(w, "a", 0o644, &(0..255).collect::<Vec<u8>>().repeat(20)));
    broken[60] ^= 0xff;
    assert!(matches!(refusal(&broken, CodeConfig::default()), AdmitError::NoZip(_)));
}

#[test]
fn bombs_are_refused() {
    let bomb = package(|w| add(w, "zeros", 0o644, &vec![0; 1 << 20]));
    let config = CodeConfig { unzipped_max: 1 << 20, ..CodeConfig::default() };
    let error = refusal(&bomb, config.clone());
    assert_eq!(error.to_string(), "Unzipped size must be smaller than 1048576 bytes");
    // One that lies about its size.
    let mut liar = bomb.clone();
    let size = (1u32 << 20).to_le_bytes();
    let at: Vec<usize> = (0..liar.len() - 4).filter(|at| liar[*at..at + 4] == size).collect();
    at.into_iter().for_each(|at| liar[at..at + 4].copy_from_slice(&1u32.to_le_bytes()));
    assert!(matches!(refusal(&liar, config), AdmitError::UnzippedTooBig { .. } | AdmitError::NoZip(_)));
    let many = package(|w| (0..20).for_each(|i| add(w, &format!("{i}/{i}/f"), 0o644, b"")));
    let config = CodeConfig { files_max: 59, ..CodeConfig::default() };
    assert!(matches!(refusal(&many, config), AdmitError::TooManyFiles { limit: 59 }));
    let config = CodeConfig { zip_max: bomb.len() as u64, ..CodeConfig::default() };
    assert!(matches!(refusal(&bomb, config), AdmitError::ZippedTooBig { .. }));
}

/// Packages that were right before some of their bytes changed: whatever becomes of them, nothing is left of those that
/// are refused, and nothing leaves the store.
#[test]
fn damaged_packages_do_no_harm() {
    let (folder, store) = store(CodeConfig { durable: false, ..CodeConfig::default() });
    let whole = package(|w| {
        add(w, "a/b.py", 0o644, b"print('hello, hello, hello, hello')");
        w.add_symlink("l", "a/b.py", SimpleFileOptions::default()).unwrap();
        add(w, "c", 0o755, &[0; 300]);
    });
    let mut state = 12_345u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for _ in 0..2000 {
        let mut damaged = whole.clone();
        for _ in 0..=random(3) {
            let (at, byte) = (random(damaged.len()), random(256) as u8);
            damaged[at] = byte;
        }
        damaged.truncate(damaged.len() - random(2) * random(40));
        let kept = store.admit(&damaged).is_ok();
        let expected = if kept { 2 } else { 0 };
        assert_eq!(names(folder.path()).len(), expected, "{damaged:?}");
        store.sweep(&HashSet::new()).unwrap().delete().unwrap();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let run = Command::new(arguments[0]).args(&arguments[1..]).arg(folder.path()).output();
        run.is_ok_and(|output| output.status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=256k", "lichen-test"]) {
        println!("skipped: mounting a small disk needs root");
        return;
    }
    let store = CodeStore::open(folder.path(), CodeConfig::default()).unwrap();
    let error = store.admit(&package(|w| add(w, "zeros", 0o644, &vec![0; 1 << 20])));
    let left = names(folder.path());
    drop(store);
    assert!(mount(&["umount"]));
    assert!(matches!(error, Err(AdmitError::DiskFull(_))), "{error:?}");
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_package_that_has_lost_its_zip_file_is_stored_again() {
    let (folder, store) = store(CodeConfig::default());
    let zip = package(|writer| add(writer, "app.py", 0o644, b"1"));
    let id = store.admit(&zip).unwrap().id();
    fs::remove_file(store.zip(id)).unwrap();
    let held = store.admit(&zip).unwrap();
    assert_eq!(fs::read(store.zip(id)).unwrap(), zip);
    assert!(store.folder(id).join("app.py").is_file());
    drop(held);
    assert_eq!(names(folder.path()).len(), 2);
}
