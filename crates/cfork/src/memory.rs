//! What a template does with its memory so that forks of it are cheap, and possible at all.
//!
//! A fork copies page tables, and a child copies every page that it writes to: that is most of what its start costs.
//! Nothing here changes what the memory holds.

use std::io;

/// One mapping of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    pub start: usize,
    pub end: usize,
    pub writable: bool,
    /// Changes are seen by other processes.
    pub shared: bool,
    /// A file's path, a name in brackets, or empty.
    pub name: String,
}

impl Area {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let flags = fields.next()?.as_bytes();
        Some(Self {
            start: usize::from_str_radix(start, 16).ok()?,
            end: usize::from_str_radix(end, 16).ok()?,
            writable: flags.get(1) == Some(&b'w'),
            shared: flags.get(3) == Some(&b's'),
            name: fields.nth(3).unwrap_or_default().to_owned(),
        })
    }
}

/// Every mapping of this process.
pub fn areas() -> io::Result<Vec<Area>> {
    Ok(std::fs::read_to_string("/proc/self/maps")?.lines().filter_map(Area::parse).collect())
}

/// Writable memory that a child would share with its template instead of getting a copy.
pub fn shared() -> io::Result<Vec<Area>> {
    Ok(areas()?.into_iter().filter(|area| area.shared && area.writable).collect())
}

/// Makes what children allocate lie close together: fills every hole that the C library's heap (the first thread's) has,
/// so that it goes on from the top. Holes are in pages of old, and each of those costs a child a copy.
pub fn fill_holes() {
    // SAFETY: tidying the heap and asking for its end have no conditions.
    let top = unsafe {
        libc::malloc_trim(0);
        libc::sbrk(0)
    };
    // The large ones first: a small request would only split a large hole.
    for size in (1..=60).rev().map(|step| step * 2048).chain((1..=128).rev().map(|step| step * 16)) {
        // SAFETY: a block that was a hole is never freed; the first that was none is, and nobody has seen it.
        unsafe {
            let mut block = libc::malloc(size);
            while !block.is_null() && block < top {
                block = libc::malloc(size);
            }
            libc::free(block);
        }
    }
}

/// Lets children have every private mapping, also those that their owner excluded from forks (V8 does so with its heap).
pub fn let_children_have_all() -> io::Result<()> {
    for area in areas()?.iter().filter(|area| !area.shared && !area.name.starts_with("[v")) {
        // SAFETY: the advice changes what a later fork copies, nothing in this process.
        unsafe { libc::madvise(area.start as *mut libc::c_void, area.end - area.start, libc::MADV_DOFORK) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_maps_are_understood() {
        let line = "7f00-7f10 rw-p 00000000 00:00 0                          [heap]";
        let area = Area { start: 0x7f00, end: 0x7f10, writable: true, shared: false, name: "[heap]".into() };
        assert_eq!(Area::parse(line), Some(area));
        let shared = Area::parse("1000-2000 rw-s 00000000 00:01 7 /dev/zero (deleted)").unwrap();
        assert!(shared.shared && shared.name == "/dev/zero");
        assert_eq!(Area::parse("nonsense"), None);
        assert!(areas().unwrap().iter().any(|area| area.name == "[heap]" || area.name == "[stack]"));
    }

    #[test]
    fn a_shared_mapping_is_found() {
        let file = os::memfd::sealed("cfork-test", 4096).unwrap();
        let mapping = os::mapping::Mapping::shared(&file, 4096).unwrap();
        let at = mapping.at(0) as usize;
        assert!(shared().unwrap().iter().any(|area| area.start == at));
    }
}
