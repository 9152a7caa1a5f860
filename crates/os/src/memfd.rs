//! Anonymous memory files whose size is fixed for good.

use crate::mapping::Mapping;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, memfd_create};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Creates a memory file of `bytes` bytes that nobody, whoever holds it, can shrink or grow: a mapping of it can never
/// raise SIGBUS.
pub fn sealed(name: &str, bytes: u64) -> io::Result<OwnedFd> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, bytes)?;
    fcntl_add_seals(&fd, FIXED)?;
    Ok(fd)
}

/// Creates a memory file of `bytes` bytes that only this process can write, through the mapping: whoever else is given the
/// descriptor can map and read it. Its size is fixed as for [`sealed`].
pub fn published(name: &str, bytes: usize) -> io::Result<(Mapping, OwnedFd)> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, bytes as u64)?;
    let mapping = Mapping::shared(&fd, bytes)?;
    fcntl_add_seals(&fd, FIXED | SealFlags::FUTURE_WRITE)?;
    Ok((mapping, fd))
}

/// What the kernel says of files of huge pages (linux/magic.h).
const HUGE: u64 = 0x9584_58f6;

/// The size of a memory file received from elsewhere, provided that its size is sealed. Whatever the file is, this does not
/// wait for who has made it: only of memory files more is asked.
pub fn sealed_len(fd: impl AsFd) -> io::Result<u64> {
    let fd = fd.as_fd();
    if !fcntl_get_seals(fd)?.contains(FIXED) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the memory file is not sealed against resizing"));
    }
    Ok(fstat(fd)?.st_size as u64)
}

/// Whether it is a memory file of ordinary pages: of huge ones there may be none left when they are needed (SIGBUS). Not to be
/// asked where few system calls are allowed.
pub fn has_ordinary_pages(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    fcntl_get_seals(fd).is_ok() && fstatfs(fd).is_ok_and(|system| system.f_type as u64 != HUGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_files_keep_their_size() {
        let fd = sealed("test", 8192).unwrap();
        assert_eq!(sealed_len(&fd).unwrap(), 8192);
        assert!(ftruncate(&fd, 4096).is_err());
        assert!(ftruncate(&fd, 16384).is_err());
    }

    #[test]
    fn an_unsealed_file_is_refused() {
        let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(sealed_len(&fd).is_err());
    }

    #[test]
    fn huge_pages_are_known() {
        assert!(has_ordinary_pages(sealed("test", 4096).unwrap()));
        assert!(!has_ordinary_pages(std::fs::File::open("/proc/self/stat").unwrap()));
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
        // Some kernels have none.
        let Ok(fd) = memfd_create("test", flags) else { return };
        assert!(!has_ordinary_pages(fd));
    }
}
