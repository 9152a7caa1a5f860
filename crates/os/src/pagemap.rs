//! Which pages of its own memory a process has written.

use crate::check;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// `PAGEMAP_SCAN` of Linux 6.7: `_IOWR('f', 16, struct pm_scan_arg)`.
const SCAN: libc::c_ulong = 0xc060_6610;

// What the kernel says of a page.
const WRITTEN: u64 = 1 << 1;
const FILE: u64 = 1 << 2;
const PRESENT: u64 = 1 << 3;
const SWAPPED: u64 = 1 << 4;
const ZEROES: u64 = 1 << 5;

/// Stretches that one look can tell.
const MOST: usize = 32;

/// The kernel's `struct pm_scan_arg`.
#[repr(C)]
#[derive(Default)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    regions_len: u64,
    max_pages: u64,
    inverted: u64,
    mask: u64,
    any_of: u64,
    returned: u64,
}

/// The kernel's `struct page_region`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// The pages of the process that made this. Not to be used in a child of it.
#[derive(Debug)]
pub struct Pagemap(File);

/// Stretches of bytes, by their offsets.
#[derive(Debug)]
pub struct Written {
    start: u64,
    regions: [Region; MOST],
    len: usize,
}

impl Written {
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let offset = |address: u64| (address - self.start) as usize;
        self.regions[..self.len].iter().map(move |region| offset(region.start)..offset(region.end))
    }
}

impl Pagemap {
    /// An error where the kernel does not tell.
    pub fn own() -> io::Result<Self> {
        let pagemap = Self(File::open("/proc/self/pagemap")?);
        pagemap.written(0, 0, 1).map(|_| pagemap)
    }

    /// Of `len` bytes from `address` on, both whole pages of private mappings, those that were written since they were mapped:
    /// they are this process's own, wherever the kernel keeps them at present. None if it is more than `most` pages, or
    /// more stretches than can be told.
    pub fn written(&self, address: usize, len: usize, most: usize) -> io::Result<Option<Written>> {
        let (start, end) = (address as u64, (address + len) as u64);
        let mut written = Written { start, regions: [Region::default(); MOST], len: 0 };
        let mut scan = Scan {
            size: size_of::<Scan>() as u64,
            start,
            end,
            regions: written.regions.as_mut_ptr() as u64,
            regions_len: MOST as u64,
            max_pages: most as u64,
            inverted: FILE | ZEROES,
            mask: WRITTEN | FILE | ZEROES,
            // One that is being moved is told as one that was put away.
            any_of: PRESENT | SWAPPED,
            ..Scan::default()
        };
        // SAFETY: the kernel reads and writes `scan`, and writes as many regions as there is room for.
        let told = check(unsafe { libc::ioctl(self.0.as_raw_fd(), SCAN, &raw mut scan) }.into())?;
        written.len = told as usize;
        Ok((scan.walk_end == end).then_some(written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    const PAGE: usize = 4096;

    /// Pages of a mapping that this kernel says were written, or nothing if it says nothing.
    fn pages(pagemap: &Pagemap, address: usize, pages: usize, most: usize) -> Option<Vec<usize>> {
        let written = pagemap.written(address, pages * PAGE, most).unwrap()?;
        Some(written.ranges().flat_map(|range| range.step_by(PAGE)).map(|at| at / PAGE).collect())
    }

    #[test]
    fn what_was_written_is_told_and_nothing_else() {
        let Ok(pagemap) = Pagemap::own() else { return println!("skip: a kernel before 6.7") };
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), 100 * PAGE, rights, MapFlags::PRIVATE) }.unwrap();
        let at = |page: usize| base.cast::<u8>().wrapping_add(page * PAGE);
        assert_eq!(pages(&pagemap, base as usize, 100, 100), Some(vec![]));
        // SAFETY: within the mapping, which is this test's alone.
        let read = unsafe { at(7).read_volatile() };
        // SAFETY: as above.
        [3, 4, 9].into_iter().for_each(|page| unsafe { at(page).write_volatile(read + 1) });
        assert_eq!(pages(&pagemap, base as usize, 100, 100), Some(vec![3, 4, 9]));
        assert_eq!(pages(&pagemap, base as usize, 9, 100), Some(vec![3, 4]));
        assert_eq!(pages(&pagemap, base as usize, 100, 2), None, "more pages than were asked for");
        // SAFETY: as above.
        (0..100).step_by(2).for_each(|page| unsafe { at(page).write_volatile(1) });
        assert_eq!(pages(&pagemap, base as usize, 100, 100), None, "more stretches than can be told");
        // SAFETY: nothing of it is used any more.
        unsafe { munmap(base, 100 * PAGE) }.unwrap();
    }
}
