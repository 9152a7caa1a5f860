//! Regions: sealed, named, and those that are not what they should be.

use super::*;

const MAGIC: u64 = 7;
const HEADER: Header = Header { magic: MAGIC, version: 1, ring: 4096, bulk: 0 };

fn whole(header: &Header) -> Option<usize> {
    (header.ring == 4096).then_some(8192)
}

#[test]
fn a_sealed_region_is_attached_to_and_cannot_be_resized() {
    let (file, mapping) = create("test", HEADER, 8192).unwrap();
    let (header, other) = attach(&file, MAGIC, 1, whole).unwrap();
    assert_eq!(header, HEADER);
    // SAFETY: in bounds; both mappings are this thread's.
    unsafe {
        mapping.at(8000).write(9);
        assert_eq!(other.at(8000).read(), 9);
    }
    assert!(ftruncate(&file, 4096).is_err());
}

#[test]
fn one_that_is_made_for_others_has_its_header() {
    let header = Header { magic: 0x0102_0304_0506_0708, version: 0x0a0b_0c0d, ring: 4096, bulk: 0x1112_1314_1516_1718 };
    let file = create_apart("test", header, 8192).unwrap();
    let (found, mapping) = attach(&file, header.magic, header.version, whole).unwrap();
    assert_eq!(found, header);
    // SAFETY: in bounds.
    assert!((size_of::<Header>()..8192).all(|at| unsafe { mapping.at(at).read() } == 0));
    assert!(ftruncate(&file, 4096).is_err());
}

#[test]
fn another_magic_version_or_size_is_foreign() {
    let (file, _) = create("test", HEADER, 8192).unwrap();
    assert!(matches!(attach(&file, MAGIC + 1, 1, whole), Err(AttachError::Foreign)));
    assert!(matches!(attach(&file, MAGIC, 2, whole), Err(AttachError::Foreign)));
    assert!(matches!(attach(&file, MAGIC, 1, |_| Some(8191)), Err(AttachError::Foreign)));
    assert!(matches!(attach(&file, MAGIC, 1, |_| None), Err(AttachError::Foreign)));
    let tiny = memfd::sealed("test", 8).unwrap();
    assert!(matches!(attach(&tiny, MAGIC, 1, |_| Some(8)), Err(AttachError::Foreign)));
    let empty = memfd::sealed("test", 0).unwrap();
    assert!(matches!(attach(&empty, MAGIC, 1, |_| Some(0)), Err(AttachError::Foreign)));
}

#[test]
fn a_named_region_is_this_users_alone() {
    let path = Path::new("/dev/shm").join(format!("lichen-region-{}", std::process::id()));
    let (_, mapping) = create_named(&path, HEADER, 8192).unwrap();
    let attached = attach_named(&path, MAGIC, 1, whole);
    let taken = create_named(&path, HEADER, 8192);
    rustix::fs::chmod(&path, Mode::from_raw_mode(0o620)).unwrap();
    let exposed = attach_named(&path, MAGIC, 1, whole);
    std::fs::remove_file(&path).unwrap();
    // SAFETY: in bounds; both mappings are this thread's.
    unsafe {
        mapping.at(5000).write(3);
        assert_eq!(attached.unwrap().1.at(5000).read(), 3);
    }
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(matches!(exposed, Err(AttachError::Exposed)));
}
