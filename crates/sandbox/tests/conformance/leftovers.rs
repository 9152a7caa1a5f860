//! What engine processes have: their own number, their descriptors, and everything that is in their memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Bytes that are looked at together.
const WINDOW: usize = 1 << 20;

/// The fields of a process's `stat` that follow its name.
fn stat(pid: i32) -> Option<(String, Vec<String>)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.rsplit_once(") ")?;
    let name = name.split_once('(')?.1.to_owned();
    Some((name, rest.split(' ').map(str::to_owned).collect()))
}

/// The processes below this one, those that have ended left out.
fn below() -> Vec<(i32, String)> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<_> = all
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| stat(pid).map(|(name, fields)| (pid, name, fields)))
        .filter(|(_, _, fields)| !matches!(fields[0].as_str(), "Z" | "X"))
        .collect();
    let mut found = vec![(std::process::id() as i32, String::new())];
    loop {
        let is_new = |pid: &i32| !found.iter().any(|(known, _)| known == pid);
        let is_child = |fields: &[String]| found.iter().any(|(known, _)| known.to_string() == fields[1]);
        let more: Vec<_> = all.iter().filter(|(pid, _, fields)| is_new(pid) && is_child(fields)).collect();
        if more.is_empty() {
            found.remove(0);
            return found;
        }
        let more: Vec<_> = more.into_iter().map(|(pid, name, _)| (*pid, name.clone())).collect();
        found.extend(more);
    }
}

/// Engine processes that are below this one: those that a nursery has made, and not what they have made themselves.
pub fn engines() -> Vec<i32> {
    let all: Vec<i32> = below().into_iter().filter(|(_, name)| name == "lichen-engine").map(|(pid, _)| pid).collect();
    let is_engines =
        |pid: &i32| stat(*pid).is_some_and(|(_, fields)| all.iter().any(|engine| engine.to_string() == fields[1]));
    all.iter().copied().filter(|pid| !is_engines(pid)).collect()
}

/// Of each engine: descriptors.
pub fn of_engines() -> Vec<(i32, usize)> {
    let descriptors = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    engines().into_iter().map(|pid| (pid, descriptors(pid))).collect()
}

/// Where in the memory of any engine, and of what it has made, the secret lies. None: we may not look.
pub fn places_of(secret: &[u8]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    // Native functions' processes are called after the thread that has made the first of them.
    for (pid, name) in below().into_iter().filter(|(_, name)| name == "lichen-engine" || name == "compute") {
        let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
        let pages = File::open(format!("/proc/{pid}/pagemap")).ok()?;
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        // What nobody may read is terabytes of reserved addresses, whose pages are given back when they lose their rights.
        let is_readable = |line: &&str| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with('r'));
        for line in maps.lines().filter(|line| !line.contains("[v")).filter(is_readable) {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap_or(0));
            for (from, to) in present(start, end, &pages) {
                let what = |at| format!("{name} {pid}: {at:#x} in {line}");
                found.extend(search(&memory, secret, from, to).into_iter().map(what));
            }
        }
        found.extend(files(pid, secret)?);
    }
    Some(found)
}

/// Pages that are there: looking at others would make them.
fn present(start: u64, end: u64, pages: &File) -> Vec<(u64, u64)> {
    const THERE: u64 = 3 << 62;
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut entries = vec![0; 1 << 16];
    let mut page = start / 4096;
    while page < end / 4096 {
        let some = ((end / 4096 - page) as usize * 8).min(entries.len());
        let Ok(got @ 1..) = pages.read_at(&mut entries[..some], page * 8) else { break };
        for entry in entries[..got].chunks_exact(8) {
            if u64::from_ne_bytes(entry.try_into().expect("eight bytes")) & THERE != 0 {
                match ranges.last_mut() {
                    Some(last) if last.1 == page * 4096 => last.1 += 4096,
                    _ => ranges.push((page * 4096, page * 4096 + 4096)),
                }
            }
            page += 1;
        }
    }
    ranges
}

/// Memory files that a process holds open: their pages need not be mapped.
fn files(pid: i32, secret: &[u8]) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let Some(name) = target.to_str().filter(|name| name.starts_with("/memfd:")) else { continue };
        let Ok(file) = File::open(entry.path()) else { continue };
        let mut at = 0;
        while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
            at = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data)).unwrap_or(u64::MAX);
            let here = search(&file, secret, data, at).into_iter().map(|at| format!("{pid}: {at:#x} of {name}"));
            found.extend(here);
        }
    }
    Some(found)
}

fn search(file: &File, secret: &[u8], from: u64, to: u64) -> Vec<u64> {
    let (mut found, mut at, mut window) = (Vec::new(), from, vec![0; WINDOW]);
    while at < to {
        let some = WINDOW.min((to - at) as usize);
        let Ok(got @ 1..) = file.read_at(&mut window[..some], at) else { break };
        found.extend(first_of(&window[..got], secret).map(|n| at + n as u64));
        // What lies across two windows is seen in the second.
        at += if at + (got as u64) < to && got > secret.len() { got - secret.len() } else { got } as u64;
    }
    found
}

/// Where it lies first: by the C library, which is quick in unoptimised builds, too.
fn first_of(bytes: &[u8], secret: &[u8]) -> Option<usize> {
    let (begin, len) = (bytes.as_ptr(), bytes.len());
    // SAFETY: both slices are there for as long as the call takes, and it only reads.
    let found = unsafe { libc::memmem(begin.cast(), len, secret.as_ptr().cast(), secret.len()) };
    (!found.is_null()).then(|| found as usize - begin as usize)
}
