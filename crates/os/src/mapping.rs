//! A shared mapping of a descriptor that ends with its owner.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// `len` bytes of a file, mapped shared.
///
/// Another process may change the bytes at any time: they are reached through raw pointers only, never as a slice.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address and a length; both stay valid until Drop, on whatever thread.
unsafe impl Send for Mapping {}
// SAFETY: all access goes through raw pointers, whose users synchronise by atomics within the mapping.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `fd`, shared and writable.
    pub fn shared(fd: impl AsFd, len: usize) -> io::Result<Self> {
        Self::new(fd, len, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Maps the first `len` bytes of `fd`, shared, to be read only: writing through its addresses ends the process.
    pub fn readable(fd: impl AsFd, len: usize) -> io::Result<Self> {
        Self::new(fd, len, ProtFlags::READ)
    }

    fn new(fd: impl AsFd, len: usize, rights: ProtFlags) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { mmap(std::ptr::null_mut(), len, rights, MapFlags::SHARED, fd, 0)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, len })
    }

    /// Maps the first `len` bytes of `fd`, shared: to be read only. Writing through the addresses it gives is a fault.
    pub fn read_only(fd: impl AsFd, len: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, fd, 0)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, len })
    }

    /// Maps `len` bytes of `fd` from byte `offset` on, shared, to be read only. `offset` must be page-aligned.
    pub(crate) fn readable_from(fd: impl AsFd, offset: u64, len: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, fd, offset)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, len })
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the mapping is empty (it never is: the kernel refuses such).
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of byte `offset`. Panics outside the mapping.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len, "offset {offset} lies outside a mapping of {} bytes", self.len);
        // SAFETY: in bounds, by the assertion; valid until Drop.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Has the pages of a range there, as if they had been written to. `offset` must be page-aligned. Linux 5.14.
    pub fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset + len <= self.len, "the range to populate lies outside the mapping");
        // SAFETY: the range lies within this mapping; faulting its pages in changes no byte.
        unsafe { madvise(self.at(offset).cast(), len, Advice::LinuxPopulateWrite)? };
        Ok(())
    }

    /// Gives the pages of a range back to the kernel; they read as zeroes afterwards. `offset` must be page-aligned.
    pub fn punch(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset + len <= self.len, "the range to punch lies outside the mapping");
        // SAFETY: the range lies within this mapping; removing pages of shared memory invalidates no pointer.
        unsafe { madvise(self.at(offset).cast(), len, Advice::LinuxRemove)? };
        Ok(())
    }
}

/// The most bytes that are copied at once.
const RUN: usize = 2048;

/// Copies bytes as `copy_nonoverlapping`, but long ones in runs. libc leaves those to the processor's string moves (`rep movsb`),
/// which AMD's make at a tenth of their speed where the target begins a few bytes further in its page than the source
/// does: and from a page's beginning to a program's large buffer, 16 bytes behind one, is what shared memory is read like.
///
/// # Safety
/// As `copy_nonoverlapping`'s: `from` can be read, `to` be written, and they do not overlap.
#[inline]
pub unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // Else the compiler sees that it is all one copy.
    let (mut done, run) = (0, std::hint::black_box(RUN));
    // SAFETY: the caller's, of each run as of all of it.
    unsafe {
        while len - done > run {
            std::ptr::copy_nonoverlapping(from.add(done), to.add(done), run);
            done += run;
        }
        std::ptr::copy_nonoverlapping(from.add(done), to.add(done), len - done);
    }
}

/// As [`slice::copy_from_slice`] into `to`, in runs like [`copy`]. Panics if they are not of one length.
#[inline]
pub fn copy_slice(from: &[u8], to: &mut [u8]) {
    assert_eq!(from.len(), to.len(), "as much room as there are bytes");
    // SAFETY: both have so many bytes, and a slice that can be written overlaps no other.
    unsafe { copy(from.as_ptr(), to.as_mut_ptr(), from.len()) }
}

/// Tells a process from the children that it forks, for the price of one load, however they are forked.
#[derive(Debug)]
pub struct ForkMark(Mapping);

impl ForkMark {
    pub fn new() -> io::Result<Self> {
        let len = 4096;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let base = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, protection, flags)? };
        let page = Mapping { base: NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?, len };
        // SAFETY: the page is ours alone, and longer than one byte.
        unsafe {
            madvise(base, len, Advice::LinuxWipeOnFork)?;
            page.at(0).write_volatile(1);
        }
        Ok(Self(page))
    }

    /// Whether this is still the process that made the mark.
    pub fn is_here(&self) -> bool {
        // SAFETY: the page is mapped until Drop; nobody writes it but `new`, and the kernel in a child.
        unsafe { self.0.at(0).read_volatile() == 1 }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are those of the mapping made in `shared`, which nobody else unmaps.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_copy_is_as_long_as_it_was_to_be() {
        let from: Vec<u8> = (0..10_000u32).map(|at| (at % 251) as u8).collect();
        for len in [0, 1, RUN - 1, RUN, RUN + 1, 2 * RUN, 9_999] {
            let mut to = vec![255; 10_000];
            // SAFETY: both have more bytes.
            unsafe { copy(from.as_ptr(), to.as_mut_ptr(), len) };
            assert_eq!(to[..len], from[..len]);
            assert!(to[len..].iter().all(|byte| *byte == 255), "{len}");
        }
    }

    #[test]
    fn a_mark_tells_of_a_fork() {
        let mark = ForkMark::new().unwrap();
        assert!(mark.is_here());
        // SAFETY: the child makes two system calls and is gone.
        let child = unsafe { libc::fork() };
        if child == 0 {
            crate::process::exit_now(i32::from(mark.is_here()));
        }
        assert_eq!(crate::process::wait(child).unwrap(), crate::process::End::Exit(0));
        assert!(mark.is_here());
    }

    #[test]
    fn what_is_published_can_be_read_only() {
        let (mine, fd) = crate::memfd::published("test", 8192).unwrap();
        // SAFETY: in bounds; nobody else has the file yet.
        unsafe { mine.at(4096).write_volatile(7) };
        let theirs = Mapping::read_only(&fd, 8192).unwrap();
        // SAFETY: in bounds.
        assert_eq!(unsafe { theirs.at(4096).read_volatile() }, 7);
        assert!(Mapping::shared(&fd, 8192).is_err());
        assert!(rustix::io::pwrite(&fd, b"x", 0).is_err());
    }
}
