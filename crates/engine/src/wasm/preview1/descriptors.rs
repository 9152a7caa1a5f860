//! What a guest has open: streams, files and folders, each with what it may do with it.

use crate::files::{Errno, NodeId};

/// Open at the same time, at most.
const MOST: usize = 1024;

/// WASI's rights.
pub mod right {
    pub const DATASYNC: u64 = 1;
    pub const READ: u64 = 1 << 1;
    pub const SEEK: u64 = 1 << 2;
    pub const FDSTAT_SET_FLAGS: u64 = 1 << 3;
    pub const SYNC: u64 = 1 << 4;
    pub const TELL: u64 = 1 << 5;
    pub const WRITE: u64 = 1 << 6;
    pub const ADVISE: u64 = 1 << 7;
    pub const ALLOCATE: u64 = 1 << 8;
    pub const PATH_CREATE_DIRECTORY: u64 = 1 << 9;
    pub const PATH_CREATE_FILE: u64 = 1 << 10;
    pub const PATH_LINK_SOURCE: u64 = 1 << 11;
    pub const PATH_LINK_TARGET: u64 = 1 << 12;
    pub const PATH_OPEN: u64 = 1 << 13;
    pub const READDIR: u64 = 1 << 14;
    pub const PATH_READLINK: u64 = 1 << 15;
    pub const PATH_RENAME_SOURCE: u64 = 1 << 16;
    pub const PATH_RENAME_TARGET: u64 = 1 << 17;
    pub const PATH_FILESTAT_GET: u64 = 1 << 18;
    pub const PATH_FILESTAT_SET_SIZE: u64 = 1 << 19;
    pub const PATH_FILESTAT_SET_TIMES: u64 = 1 << 20;
    pub const FILESTAT_GET: u64 = 1 << 21;
    pub const FILESTAT_SET_SIZE: u64 = 1 << 22;
    pub const FILESTAT_SET_TIMES: u64 = 1 << 23;
    pub const PATH_SYMLINK: u64 = 1 << 24;
    pub const PATH_REMOVE_DIRECTORY: u64 = 1 << 25;
    pub const PATH_UNLINK_FILE: u64 = 1 << 26;
    pub const POLL: u64 = 1 << 27;

    const BOTH: u64 = FDSTAT_SET_FLAGS | SYNC | ADVISE | FILESTAT_GET | FILESTAT_SET_TIMES | POLL;
    pub const FILE: u64 = BOTH | DATASYNC | READ | SEEK | TELL | WRITE | ALLOCATE | FILESTAT_SET_SIZE;
    pub const FOLDER: u64 = BOTH
        | PATH_CREATE_DIRECTORY
        | PATH_CREATE_FILE
        | PATH_LINK_SOURCE
        | PATH_LINK_TARGET
        | PATH_OPEN
        | READDIR
        | PATH_READLINK
        | PATH_RENAME_SOURCE
        | PATH_RENAME_TARGET
        | PATH_FILESTAT_GET
        | PATH_FILESTAT_SET_SIZE
        | PATH_FILESTAT_SET_TIMES
        | PATH_SYMLINK
        | PATH_REMOVE_DIRECTORY
        | PATH_UNLINK_FILE;
    pub const STREAM_IN: u64 = READ | FILESTAT_GET | POLL | FDSTAT_SET_FLAGS;
    pub const STREAM_OUT: u64 = WRITE | FILESTAT_GET | POLL | FDSTAT_SET_FLAGS | SYNC | DATASYNC;
}

/// WASI's `fdflags`.
pub mod flag {
    pub const APPEND: u16 = 1;
    pub const ALL: u16 = 31;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Stdin,
    Stdout,
    Stderr,
    Node(NodeId),
}

#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    pub what: What,
    pub flags: u16,
    pub rights: u64,
    pub inheriting: u64,
    pub offset: u64,
    /// The number of a folder that the guest finds open: it has a name.
    pub given: Option<u16>,
}

#[derive(Debug)]
pub struct Descriptors {
    open: Vec<Option<Descriptor>>,
}

impl Descriptors {
    pub fn none() -> Self {
        Self { open: Vec::new() }
    }

    /// What every program finds open: the standard streams, and from 3 on folders.
    pub fn new(folders: impl Iterator<Item = NodeId>) -> Self {
        let one =
            |what, rights, inheriting, given| Some(Descriptor { what, flags: 0, rights, inheriting, offset: 0, given });
        let mut open = Vec::with_capacity(8);
        open.extend([
            one(What::Stdin, right::STREAM_IN, 0, None),
            one(What::Stdout, right::STREAM_OUT, 0, None),
            one(What::Stderr, right::STREAM_OUT, 0, None),
        ]);
        let both = right::FOLDER | right::FILE;
        open.extend((0..).zip(folders).map(|(number, id)| one(What::Node(id), right::FOLDER, both, Some(number))));
        Self { open }
    }

    pub fn get(&self, fd: u32) -> Result<&Descriptor, Errno> {
        self.open.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::BadDescriptor)
    }

    pub fn get_mut(&mut self, fd: u32) -> Result<&mut Descriptor, Errno> {
        self.open.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::BadDescriptor)
    }

    /// The descriptor, if it has all of `rights`.
    pub fn with(&self, fd: u32, rights: u64) -> Result<&Descriptor, Errno> {
        let descriptor = self.get(fd)?;
        if descriptor.rights & rights == rights {
            return Ok(descriptor);
        }
        // Reading what is open for writing only is POSIX's EBADF; all else is WASI's own.
        let plain = rights & !(right::READ | right::WRITE) == 0;
        Err(if plain { Errno::BadDescriptor } else { Errno::NotCapable })
    }

    /// The node of a descriptor that has all of `rights`.
    pub fn node(&self, fd: u32, rights: u64) -> Result<NodeId, Errno> {
        match self.get(fd)?.what {
            What::Node(id) => self.with(fd, rights).map(|_| id),
            _ => Err(Errno::NotFolder),
        }
    }

    /// Puts it at the lowest number that is free.
    pub fn add(&mut self, descriptor: Descriptor) -> Result<u32, Errno> {
        let free = self.open.iter().position(Option::is_none).unwrap_or(self.open.len());
        if free >= MOST {
            return Err(Errno::TooManyOpen);
        }
        if free == self.open.len() {
            self.open.push(None);
        }
        self.open[free] = Some(descriptor);
        Ok(free as u32)
    }

    pub fn take(&mut self, fd: u32) -> Result<Descriptor, Errno> {
        self.open.get_mut(fd as usize).and_then(Option::take).ok_or(Errno::BadDescriptor)
    }

    /// Gives `from` the number of `to`, which must be open: what that was.
    pub fn renumber(&mut self, from: u32, to: u32) -> Result<Option<Descriptor>, Errno> {
        self.get(to)?;
        if from == to {
            return self.get(from).map(|_| None);
        }
        let moved = self.take(from)?;
        Ok(self.open[to as usize].replace(moved))
    }
}
