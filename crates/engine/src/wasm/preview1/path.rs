//! Calls on paths: opening, making, naming, removing.

#![expect(clippy::too_many_arguments, reason = "what a call takes is said by WASI")]

use super::descriptors::{Descriptor, What, right};
use super::fd::check_flags;
use super::memory::Memory;
use crate::files::path::Found;
use crate::files::{Answer, Content, Data, Errno, Files, NodeId};
use crate::wasm::context::Context;

/// WASI's `lookupflags`.
const FOLLOW: u32 = 1;

/// WASI's `oflags`.
mod open {
    pub const CREATE: u32 = 1;
    pub const FOLDER: u32 = 2;
    pub const EXCLUSIVE: u32 = 4;
    pub const TRUNCATE: u32 = 8;
}

/// Where a path leads from a descriptor that has all of `rights`.
pub fn look_up(
    c: &Context,
    m: &Memory<'_>,
    fd: u32,
    rights: u64,
    path: (u32, u32),
    flags: u32,
) -> Result<Found, Errno> {
    if flags & !FOLLOW != 0 {
        return Err(Errno::Invalid);
    }
    let base = c.descriptors.node(fd, rights)?;
    c.files.find(base, m.bytes(path.0, path.1)?, flags & FOLLOW != 0)
}

pub fn path_create_directory(c: &mut Context, m: &mut Memory<'_>, fd: u32, path: u32, len: u32) -> Answer<()> {
    let found = look_up(c, m, fd, right::PATH_CREATE_DIRECTORY, (path, len), 0)?;
    if found.node.is_some() {
        return Err(Errno::Exists.into());
    }
    c.files.now = c.wall_clock();
    let (parent, name) = found.entry()?;
    c.files.create(parent, name, Files::new_folder()).map(drop)
}

pub fn path_open(
    c: &mut Context,
    m: &mut Memory<'_>,
    fd: u32,
    look: u32,
    path: u32,
    len: u32,
    how: u32,
    rights: u64,
    inheriting: u64,
    flags: u32,
    result: u32,
) -> Answer<()> {
    let base = *c.descriptors.with(fd, right::PATH_OPEN)?;
    let flags = check_flags(flags)?;
    if how & open::TRUNCATE != 0 {
        c.descriptors.with(fd, right::PATH_FILESTAT_SET_SIZE)?;
    }
    if how > 15 || how & (open::CREATE | open::FOLDER) == open::CREATE | open::FOLDER {
        return Err(Errno::Invalid.into());
    }
    let follow = if how & open::CREATE != 0 && how & open::EXCLUSIVE != 0 { 0 } else { look };
    let found = look_up(c, m, fd, right::PATH_OPEN, (path, len), follow & look)?;
    let (rights, inheriting) = (rights & base.inheriting, inheriting & base.inheriting);
    let node = match found.node {
        Some(_) if how & open::CREATE != 0 && how & open::EXCLUSIVE != 0 => return Err(Errno::Exists.into()),
        Some(id) => existing(c, id, how, rights)?,
        None if how & open::CREATE == 0 => return Err(Errno::NoEntry.into()),
        None if found.folder_meant => return Err(Errno::IsFolder.into()),
        None => {
            c.descriptors.with(fd, right::PATH_CREATE_FILE)?;
            c.files.now = c.wall_clock();
            let (parent, name) = found.entry()?;
            c.files.create(parent, name, Content::File(Data::default()))?
        }
    };
    let most = if c.files.is_folder(node) { right::FOLDER } else { right::FILE };
    let inheriting = if c.files.is_folder(node) { inheriting } else { 0 };
    let what = What::Node(node);
    let fd =
        c.descriptors.add(Descriptor { what, flags, rights: rights & most, inheriting, offset: 0, given: None })?;
    c.files.open(node);
    m.put_u32(result, fd)
}

/// Whether what is there may be opened so.
fn existing(c: &mut Context, id: NodeId, how: u32, rights: u64) -> Answer<NodeId> {
    let writes = rights & right::WRITE != 0;
    match c.files.content(id) {
        Content::Link(_) => return Err(Errno::Loop.into()),
        Content::File(_) if how & open::FOLDER != 0 => return Err(Errno::NotFolder.into()),
        Content::File(_) if writes && c.files.is_read_only(id) => return Err(Errno::ReadOnly.into()),
        Content::Folder(_) if writes || how & open::TRUNCATE != 0 => return Err(Errno::IsFolder.into()),
        _ => {}
    }
    if how & open::TRUNCATE != 0 {
        c.files.now = c.wall_clock();
        let (data, budget) = c.files.file_mut(id)?;
        data.set_len(0, budget)?;
    }
    Ok(id)
}

pub fn path_link(
    c: &mut Context,
    m: &mut Memory<'_>,
    from: u32,
    flags: u32,
    old: u32,
    old_len: u32,
    to: u32,
    new: u32,
    new_len: u32,
) -> Answer<()> {
    let id = look_up(c, m, from, right::PATH_LINK_SOURCE, (old, old_len), flags)?.existing()?;
    let found = look_up(c, m, to, right::PATH_LINK_TARGET, (new, new_len), 0)?;
    if found.folder_meant {
        return Err(Errno::NoEntry.into());
    }
    let (parent, name) = found.entry()?;
    c.files.link(id, parent, name)
}

pub fn path_readlink(
    c: &mut Context,
    m: &mut Memory<'_>,
    fd: u32,
    path: u32,
    len: u32,
    buffer: u32,
    buffer_len: u32,
    result: u32,
) -> Answer<()> {
    let id = look_up(c, m, fd, right::PATH_READLINK, (path, len), 0)?.existing()?;
    let Content::Link(target) = c.files.content(id) else { return Err(Errno::Invalid.into()) };
    let some = target.len().min(buffer_len as usize);
    m.put(buffer, &target[..some])?;
    m.put_u32(result, some as u32)
}

pub fn path_remove_directory(c: &mut Context, m: &mut Memory<'_>, fd: u32, path: u32, len: u32) -> Answer<()> {
    let found = look_up(c, m, fd, right::PATH_REMOVE_DIRECTORY, (path, len), 0)?;
    found.existing()?;
    let (parent, name) = found.entry()?;
    c.files.remove(parent, name, true)
}

pub fn path_unlink_file(c: &mut Context, m: &mut Memory<'_>, fd: u32, path: u32, len: u32) -> Answer<()> {
    let found = look_up(c, m, fd, right::PATH_UNLINK_FILE, (path, len), 0)?;
    found.existing()?;
    let (parent, name) = found.entry().map_err(|_| Errno::IsFolder)?;
    c.files.remove(parent, name, false)
}

pub fn path_rename(
    c: &mut Context,
    m: &mut Memory<'_>,
    from: u32,
    old: u32,
    old_len: u32,
    to: u32,
    new: u32,
    new_len: u32,
) -> Answer<()> {
    let old = look_up(c, m, from, right::PATH_RENAME_SOURCE, (old, old_len), 0)?;
    let id = old.existing()?;
    let new = look_up(c, m, to, right::PATH_RENAME_TARGET, (new, new_len), 0)?;
    if new.folder_meant && !c.files.is_folder(id) {
        return Err(Errno::NotFolder.into());
    }
    c.files.rename(old.entry()?, new.entry()?)
}

pub fn path_symlink(
    c: &mut Context,
    m: &mut Memory<'_>,
    target: u32,
    target_len: u32,
    fd: u32,
    path: u32,
    len: u32,
) -> Answer<()> {
    let found = look_up(c, m, fd, right::PATH_SYMLINK, (path, len), 0)?;
    let target = m.bytes(target, target_len)?;
    match target {
        [] => return Err(Errno::NoEntry.into()),
        // Nothing outside can be named.
        [b'/', ..] => return Err(Errno::NotPermitted.into()),
        _ if target.len() > 4096 => return Err(Errno::NameTooLong.into()),
        _ if found.node.is_some() => return Err(Errno::Exists.into()),
        _ if found.folder_meant => return Err(Errno::NoEntry.into()),
        _ => {}
    }
    let (parent, name) = found.entry()?;
    let target = target.into();
    c.files.create(parent, name, Content::Link(target)).map(drop)
}
