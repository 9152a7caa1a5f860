//! Folders listed, and what is known of nodes.

#![expect(clippy::too_many_arguments, reason = "what a call takes is said by WASI")]

use super::descriptors::{What, right};
use super::fd::type_of;
use super::memory::Memory;
use super::path::look_up;
use crate::files::{Answer, Errno, NodeId, Stat};
use crate::wasm::context::Context;

/// The one device that there is.
const DEVICE: u64 = 1;
/// Bytes of a folder's entry before its name.
const ENTRY: usize = 24;

fn put_stat(m: &mut Memory<'_>, result: u32, file_type: u8, stat: Stat) -> Answer<()> {
    let mut bytes = [0; 64];
    bytes[16] = file_type;
    let numbers = [(0, DEVICE), (8, stat.serial), (24, u64::from(stat.links)), (32, stat.size)];
    let times = [(40, stat.accessed), (48, stat.modified), (56, stat.modified)];
    for (at, number) in numbers.into_iter().chain(times) {
        bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    m.put(result, &bytes)
}

pub fn fd_filestat_get(c: &mut Context, m: &mut Memory<'_>, fd: u32, result: u32) -> Answer<()> {
    let what = c.descriptors.with(fd, right::FILESTAT_GET)?.what;
    let stat = match what {
        What::Node(id) => c.files.stat(id),
        _ => Stat { serial: 0, links: 1, size: 0, accessed: 0, modified: 0 },
    };
    put_stat(m, result, type_of(c, what), stat)
}

pub fn path_filestat_get(
    c: &mut Context,
    m: &mut Memory<'_>,
    fd: u32,
    flags: u32,
    path: u32,
    len: u32,
    result: u32,
) -> Answer<()> {
    let id = look_up(c, m, fd, right::PATH_FILESTAT_GET, (path, len), flags)?.existing()?;
    put_stat(m, result, type_of(c, What::Node(id)), c.files.stat(id))
}

pub fn fd_filestat_set_times(
    c: &mut Context,
    _: &mut Memory<'_>,
    fd: u32,
    accessed: u64,
    modified: u64,
    which: u32,
) -> Answer<()> {
    let id = c.descriptors.node(fd, right::FILESTAT_SET_TIMES)?;
    set_times(c, id, accessed, modified, which)
}

pub fn path_filestat_set_times(
    c: &mut Context,
    m: &mut Memory<'_>,
    fd: u32,
    flags: u32,
    path: u32,
    len: u32,
    accessed: u64,
    modified: u64,
    which: u32,
) -> Answer<()> {
    let id = look_up(c, m, fd, right::PATH_FILESTAT_SET_TIMES, (path, len), flags)?.existing()?;
    set_times(c, id, accessed, modified, which)
}

/// `which`: bits for "accessed as given", "accessed now", "modified as given", "modified now".
fn set_times(c: &mut Context, id: NodeId, accessed: u64, modified: u64, which: u32) -> Answer<()> {
    if which > 15 || which & 3 == 3 || which & 12 == 12 {
        return Err(Errno::Invalid.into());
    }
    let now = c.wall_clock();
    let time = |given: u64, bits: u32| match bits {
        1 => Some(given),
        2 => Some(now),
        _ => None,
    };
    c.files.set_times(id, time(accessed, which & 3), time(modified, which >> 2))
}

/// The folder's own two entries come first: cookies 0 and 1. The others have their number and 2.
pub fn fd_readdir(
    c: &mut Context,
    m: &mut Memory<'_>,
    fd: u32,
    buffer: u32,
    len: u32,
    cookie: u64,
    result: u32,
) -> Answer<()> {
    let id = c.descriptors.node(fd, right::READDIR)?;
    let folder = c.files.folder(id)?;
    let room = m.bytes_mut(buffer, len)?;
    let mut used = 0;
    let own = [(0, &b"."[..], id), (1, b"..", folder.parent())].into_iter().filter(|own| own.0 >= cookie);
    let others = folder.entries(cookie.saturating_sub(2)).map(|(number, name, id)| (number + 2, name, id));
    for (number, name, id) in own.chain(others) {
        if used == room.len() {
            break;
        }
        let mut head = [0; ENTRY];
        head[..8].copy_from_slice(&(number + 1).to_le_bytes());
        head[8..16].copy_from_slice(&c.files.stat(id).serial.to_le_bytes());
        head[16..20].copy_from_slice(&(name.len() as u32).to_le_bytes());
        head[20] = type_of(c, What::Node(id));
        for part in [&head[..], name] {
            let some = part.len().min(room.len() - used);
            room[used..used + some].copy_from_slice(&part[..some]);
            used += some;
        }
    }
    m.put_u32(result, used as u32)
}
