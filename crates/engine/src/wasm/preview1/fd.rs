//! Calls on descriptors: reading, writing, where one is, what one may.

use super::descriptors::{Descriptor, What, flag, right};
use super::memory::{Memory, Span};
use crate::files::{Answer, Content, Errno};
use crate::wasm::console::{Console, Stream};
use crate::wasm::context::Context;
use os::mapping::copy_slice;

/// WASI's file types.
pub mod file_type {
    pub const UNKNOWN: u8 = 0;
    pub const TERMINAL: u8 = 2;
    pub const FOLDER: u8 = 3;
    pub const FILE: u8 = 4;
    pub const LINK: u8 = 7;
}

pub fn type_of(c: &Context, what: What) -> u8 {
    let stream = match what {
        What::Node(id) => {
            return match c.files.content(id) {
                Content::File(_) => file_type::FILE,
                Content::Folder(_) => file_type::FOLDER,
                Content::Link(_) => file_type::LINK,
            };
        }
        What::Stdin => Stream::Input,
        What::Stdout => Stream::Output,
        What::Stderr => Stream::Errors,
    };
    let is_terminal = c.console.as_ref().is_some_and(|console| console.is_terminal(stream));
    if is_terminal { file_type::TERMINAL } else { file_type::UNKNOWN }
}

pub fn fd_advise(c: &mut Context, _: &mut Memory<'_>, fd: u32, _: u64, _: u64, advice: u32) -> Answer<()> {
    let id = c.descriptors.node(fd, right::ADVISE)?;
    if advice > 5 || c.files.is_folder(id) {
        return Err(if advice > 5 { Errno::Invalid } else { Errno::BadDescriptor }.into());
    }
    Ok(())
}

pub fn fd_allocate(c: &mut Context, _: &mut Memory<'_>, fd: u32, offset: u64, len: u64) -> Answer<()> {
    let id = c.descriptors.node(fd, right::ALLOCATE)?;
    let to = offset.checked_add(len).filter(|_| len > 0).ok_or(Errno::Invalid)?;
    let (data, budget) = c.files.file_mut(id)?;
    if to > data.size() { data.set_len(to, budget) } else { Ok(()) }
}

pub fn fd_close(c: &mut Context, _: &mut Memory<'_>, fd: u32) -> Answer<()> {
    let descriptor = c.descriptors.take(fd)?;
    release(c, &descriptor);
    Ok(())
}

/// A descriptor is gone.
fn release(c: &mut Context, descriptor: &Descriptor) {
    if let What::Node(id) = descriptor.what {
        c.files.close(id);
    }
}

pub fn fd_datasync(c: &mut Context, _: &mut Memory<'_>, fd: u32) -> Answer<()> {
    Ok(c.descriptors.with(fd, right::DATASYNC).map(drop)?)
}

pub fn fd_sync(c: &mut Context, _: &mut Memory<'_>, fd: u32) -> Answer<()> {
    Ok(c.descriptors.with(fd, right::SYNC).map(drop)?)
}

pub fn fd_fdstat_get(c: &mut Context, m: &mut Memory<'_>, fd: u32, result: u32) -> Answer<()> {
    let descriptor = c.descriptors.get(fd)?;
    let mut stat = [0; 24];
    stat[0] = type_of(c, descriptor.what);
    stat[2..4].copy_from_slice(&descriptor.flags.to_le_bytes());
    stat[8..16].copy_from_slice(&descriptor.rights.to_le_bytes());
    stat[16..].copy_from_slice(&descriptor.inheriting.to_le_bytes());
    m.put(result, &stat)
}

pub fn fd_fdstat_set_flags(c: &mut Context, _: &mut Memory<'_>, fd: u32, flags: u32) -> Answer<()> {
    c.descriptors.with(fd, right::FDSTAT_SET_FLAGS)?;
    c.descriptors.get_mut(fd)?.flags = check_flags(flags)?;
    Ok(())
}

/// All flags are taken; but for `append` they mean nothing here, where nothing blocks and all is stored at once.
pub fn check_flags(flags: u32) -> Result<u16, Errno> {
    u16::try_from(flags).ok().filter(|flags| flags & !flag::ALL == 0).ok_or(Errno::Invalid)
}

pub fn fd_fdstat_set_rights(c: &mut Context, _: &mut Memory<'_>, fd: u32, rights: u64, inherit: u64) -> Answer<()> {
    let descriptor = c.descriptors.get_mut(fd)?;
    if rights & !descriptor.rights != 0 || inherit & !descriptor.inheriting != 0 {
        return Err(Errno::NotCapable.into());
    }
    (descriptor.rights, descriptor.inheriting) = (rights, inherit);
    Ok(())
}

pub fn fd_filestat_set_size(c: &mut Context, _: &mut Memory<'_>, fd: u32, size: u64) -> Answer<()> {
    let id = c.descriptors.node(fd, right::FILESTAT_SET_SIZE)?;
    let (data, budget) = c.files.file_mut(id)?;
    data.set_len(size, budget)
}

/// What a folder that was found open is called.
fn given_name(c: &Context, fd: u32) -> Result<&str, Errno> {
    let number = c.descriptors.get(fd)?.given.ok_or(Errno::BadDescriptor)?;
    c.given.get(usize::from(number)).map(|(name, _)| &**name).ok_or(Errno::BadDescriptor)
}

pub fn fd_prestat_get(c: &mut Context, m: &mut Memory<'_>, fd: u32, result: u32) -> Answer<()> {
    let len = given_name(c, fd)?.len() as u32;
    m.put_u32(result, 0)?;
    m.put_u32(result.checked_add(4).ok_or(Errno::Fault)?, len)
}

pub fn fd_prestat_dir_name(c: &mut Context, m: &mut Memory<'_>, fd: u32, buffer: u32, len: u32) -> Answer<()> {
    let name = given_name(c, fd)?;
    if (len as usize) < name.len() {
        return Err(Errno::NameTooLong.into());
    }
    m.put(buffer, name.as_bytes())
}

pub fn fd_renumber(c: &mut Context, _: &mut Memory<'_>, from: u32, to: u32) -> Answer<()> {
    if let Some(closed) = c.descriptors.renumber(from, to)? {
        release(c, &closed);
    }
    Ok(())
}

pub fn fd_seek(c: &mut Context, m: &mut Memory<'_>, fd: u32, by: i64, whence: u32, result: u32) -> Answer<()> {
    let What::Node(id) = c.descriptors.get(fd)?.what else { return Err(Errno::NotSeekable.into()) };
    let telling = by == 0 && whence == 1;
    c.descriptors.with(fd, if telling { right::TELL } else { right::SEEK })?;
    let end = c.files.file(id).map_err(|_| Errno::BadDescriptor)?.size();
    let descriptor = c.descriptors.get_mut(fd)?;
    let from = match whence {
        0 => 0,
        1 => descriptor.offset,
        2 => end,
        _ => return Err(Errno::Invalid.into()),
    };
    let at = from.checked_add_signed(by).filter(|at| *at <= i64::MAX as u64).ok_or(Errno::Invalid)?;
    descriptor.offset = at;
    m.put_u64(result, at)
}

pub fn fd_tell(c: &mut Context, m: &mut Memory<'_>, fd: u32, result: u32) -> Answer<()> {
    fd_seek(c, m, fd, 0, 1, result)
}

pub fn fd_read(c: &mut Context, m: &mut Memory<'_>, fd: u32, buffers: u32, count: u32, result: u32) -> Answer<()> {
    let descriptor = *c.descriptors.with(fd, right::READ)?;
    let (mut spans, _) = m.vectors(buffers, count)?;
    let read = match (descriptor.what, &c.console) {
        (What::Stdin, Some(console)) => match spans.find(|span| span.start < span.end) {
            Some(span) => console.read(&mut m.0[span.start..span.end])?,
            None => 0,
        },
        (What::Stdin, None) => {
            let read = scatter(m, spans, &c.stdin[c.stdin_at..]);
            c.stdin_at += read;
            read
        }
        (What::Node(id), _) => {
            let read = scatter(m, spans, tail(c.files.file(id)?.bytes(), descriptor.offset));
            c.descriptors.get_mut(fd)?.offset += read as u64;
            read
        }
        (What::Stdout | What::Stderr, _) => return Err(Errno::BadDescriptor.into()),
    };
    m.put_u32(result, read as u32)
}

pub fn fd_pread(c: &mut Context, m: &mut Memory<'_>, fd: u32, at: u32, count: u32, from: u64, to: u32) -> Answer<()> {
    let id = seekable(c, fd, right::READ)?;
    let (spans, _) = m.vectors(at, count)?;
    let read = scatter(m, spans, tail(c.files.file(id)?.bytes(), from));
    m.put_u32(to, read as u32)
}

pub fn fd_write(c: &mut Context, m: &mut Memory<'_>, fd: u32, buffers: u32, count: u32, result: u32) -> Answer<()> {
    let descriptor = *c.descriptors.with(fd, right::WRITE)?;
    let (spans, total) = m.vectors(buffers, count)?;
    match (descriptor.what, &c.console) {
        (What::Stdout, Some(console)) => print(m, spans, console, Stream::Output)?,
        (What::Stderr, Some(console)) => print(m, spans, console, Stream::Errors)?,
        (What::Stdout, None) => gather(m, spans, c.stdout.append(total, &mut c.files.budget)?),
        (What::Stderr, None) => gather(m, spans, c.stderr.append(total, &mut c.files.budget)?),
        (What::Node(id), _) => {
            let (data, budget) = c.files.file_mut(id)?;
            let from = if descriptor.flags & flag::APPEND != 0 { data.size() } else { descriptor.offset };
            if total > 0 {
                gather(m, spans, data.range_mut(from, total, budget)?);
            }
            c.descriptors.get_mut(fd)?.offset = from + total as u64;
        }
        (What::Stdin, _) => return Err(Errno::BadDescriptor.into()),
    }
    m.put_u32(result, total as u32)
}

pub fn fd_pwrite(
    c: &mut Context,
    m: &mut Memory<'_>,
    fd: u32,
    at: u32,
    count: u32,
    to: u64,
    result: u32,
) -> Answer<()> {
    let id = seekable(c, fd, right::WRITE)?;
    let (spans, total) = m.vectors(at, count)?;
    let (data, budget) = c.files.file_mut(id)?;
    if total > 0 {
        gather(m, spans, data.range_mut(to, total, budget)?);
    }
    m.put_u32(result, total as u32)
}

/// The file of a call that says where in it.
fn seekable(c: &Context, fd: u32, rights: u64) -> Result<crate::files::NodeId, Errno> {
    match c.descriptors.with(fd, rights)?.what {
        What::Node(_) => c.descriptors.node(fd, rights | right::SEEK),
        _ => Err(Errno::NotSeekable),
    }
}

fn tail(bytes: &[u8], from: u64) -> &[u8] {
    usize::try_from(from).ok().and_then(|from| bytes.get(from..)).unwrap_or_default()
}

fn print(m: &Memory<'_>, mut spans: impl Iterator<Item = Span>, console: &Console, to: Stream) -> Answer<()> {
    spans.try_for_each(|span| console.write(to, &m.0[span.start..span.end]))
}

/// From the file into the guest's buffers: how much.
fn scatter(m: &mut Memory<'_>, spans: impl Iterator<Item = Span>, mut bytes: &[u8]) -> usize {
    let all = bytes.len();
    for span in spans {
        let some = bytes.len().min(span.end - span.start);
        let (now, later) = bytes.split_at(some);
        copy_slice(now, &mut m.0[span.start..span.start + some]);
        bytes = later;
    }
    all - bytes.len()
}

/// From the guest's buffers into the file, as much as there is room.
fn gather(m: &Memory<'_>, spans: impl Iterator<Item = Span>, mut room: &mut [u8]) {
    for span in spans {
        let some = room.len().min(span.end - span.start);
        let (now, later) = room.split_at_mut(some);
        copy_slice(&m.0[span.start..span.start + some], now);
        room = later;
    }
}
