//! Memory that several processes map: a sealed memory file, or a file of shared memory by its name (GShm).
//!
//! Every region opens with the same [`Header`], which says what it is and how it is divided; who attaches checks it, and
//! the size, before anything else is touched. A memory file is sealed: nobody who holds it can shrink it under a mapping
//! (SIGBUS). A named file cannot be sealed, whatever it lies on: it is for shims, which trust each other's user, and is
//! refused if anybody else could have opened it. What lies behind the header is not known here.

use os::mapping::Mapping;
use os::memfd;
use rustix::fs::{Mode, OFlags, fstat, ftruncate};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use thiserror::Error;

/// The first bytes of every region.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the region is.
    pub magic: u64,
    /// Changes with every change of its layout.
    pub version: u32,
    /// Bytes of each of its rings.
    pub ring: u32,
    /// How long messages can be that go through its bulk areas, in bytes.
    pub bulk: u64,
}

const _: () = assert!(size_of::<Header>() == 24 && align_of::<Header>() == 8, "the header is part of the ABI");

impl Header {
    /// As it lies in memory.
    fn bytes(&self) -> [u8; size_of::<Self>()] {
        let mut bytes = [0; size_of::<Self>()];
        bytes[..8].copy_from_slice(&self.magic.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.version.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.ring.to_ne_bytes());
        bytes[16..].copy_from_slice(&self.bulk.to_ne_bytes());
        bytes
    }
}

/// Why a region could not be attached to.
#[derive(Debug, Error)]
pub enum AttachError {
    #[error("the region could not be mapped, or its size is not fixed")]
    Memory(#[source] io::Error),
    #[error("the file can be written by others than its owner, or is not this user's")]
    Exposed,
    #[error("the region's header or its size is wrong: it is not what it should be, or of another version")]
    Foreign,
}

/// Creates a region that nobody can resize, of `bytes` bytes.
pub fn create(name: &str, header: Header, bytes: usize) -> io::Result<(OwnedFd, Mapping)> {
    let file = memfd::sealed(name, bytes as u64)?;
    let mapping = begin(&file, header, bytes)?;
    Ok((file, mapping))
}

/// The same for others, by whoever does not map it itself: which would take longer than all the rest.
pub fn create_apart(name: &str, header: Header, bytes: usize) -> io::Result<OwnedFd> {
    assert!(bytes >= size_of::<Header>(), "a region has room for its header");
    let file = memfd::sealed(name, bytes as u64)?;
    let written = rustix::io::pwrite(&file, &header.bytes(), 0)?;
    if written == size_of::<Header>() { Ok(file) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Attaches to a region whose header must be `expected`, but for its ring and bulk, for which `bytes` says how long the
/// whole is; `None` from it where they are impossible. The descriptor may be closed afterwards.
pub fn attach(
    file: impl AsFd,
    magic: u64,
    version: u32,
    bytes: impl FnOnce(&Header) -> Option<usize>,
) -> Result<(Header, Mapping), AttachError> {
    let len = memfd::sealed_len(&file).map_err(AttachError::Memory)?;
    check(file, len, magic, version, bytes)
}

/// Creates a region under a new name, on a file system that lies in memory (`/dev/shm`), for this user alone.
pub fn create_named(path: &Path, header: Header, bytes: usize) -> io::Result<(OwnedFd, Mapping)> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    ftruncate(&file, bytes as u64)?;
    let mapping = begin(&file, header, bytes)?;
    Ok((file, mapping))
}

/// As [`attach`], by name. The file must be this user's, and writable by nobody else.
pub fn attach_named(
    path: &Path,
    magic: u64,
    version: u32,
    bytes: impl FnOnce(&Header) -> Option<usize>,
) -> Result<(Header, Mapping), AttachError> {
    let memory = |error: rustix::io::Errno| AttachError::Memory(error.into());
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(memory)?;
    let stat = fstat(&file).map_err(memory)?;
    let others = Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH);
    if others || stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(AttachError::Exposed);
    }
    check(file, stat.st_size as u64, magic, version, bytes)
}

fn begin(file: &OwnedFd, header: Header, bytes: usize) -> io::Result<Mapping> {
    let mapping = Mapping::shared(file, bytes)?;
    assert!(bytes >= size_of::<Header>(), "a region has room for its header");
    // SAFETY: the mapping begins with room for a header, page-aligned; nobody else has the file yet.
    unsafe { mapping.at(0).cast::<Header>().write(header) };
    Ok(mapping)
}

fn check(
    file: impl AsFd,
    len: u64,
    magic: u64,
    version: u32,
    bytes: impl FnOnce(&Header) -> Option<usize>,
) -> Result<(Header, Mapping), AttachError> {
    let len = usize::try_from(len).map_err(|_| AttachError::Foreign)?;
    if len < size_of::<Header>() {
        return Err(AttachError::Foreign);
    }
    let mapping = Mapping::shared(file, len).map_err(AttachError::Memory)?;
    // SAFETY: the mapping is longer than a header, and page-aligned. Read once: what is checked is what is used.
    let header = unsafe { mapping.at(0).cast::<Header>().read_volatile() };
    if header.magic != magic || header.version != version || bytes(&header) != Some(len) {
        return Err(AttachError::Foreign);
    }
    Ok((header, mapping))
}

#[cfg(test)]
mod tests;
