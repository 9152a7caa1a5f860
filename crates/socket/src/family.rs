//! Memory that a process shares with the children that it forks, and with nobody else: at one address in all of them.

use std::io;
use std::ops::Deref;
use std::ptr::NonNull;

/// A value in such memory. Each process that has it gives up its own mapping; the value is gone with the last one.
#[derive(Debug)]
pub struct Family<T> {
    at: NonNull<T>,
}

// SAFETY: an address of a value that any thread of any of the processes may use.
unsafe impl<T: Sync> Send for Family<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Family<T> {}

impl<T: Sync> Family<T> {
    /// One of zeroes, whose pages are there once they are written to.
    ///
    /// # Safety
    /// Zeroes are a value of this kind, which needs not be dropped.
    pub unsafe fn zeroed() -> io::Result<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::NORESERVE);
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), size_of::<T>(), rights, flags)? };
        Ok(Self { at: NonNull::new(at.cast()).ok_or(io::ErrorKind::AddrNotAvailable)? })
    }
}

impl<T> Deref for Family<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the mapping is of this size, page-aligned, and holds a value from its beginning on.
        unsafe { self.at.as_ref() }
    }
}

impl<T> Drop for Family<T> {
    fn drop(&mut self) {
        // SAFETY: the whole of a mapping that `zeroed` made, which nobody in this process uses any more.
        let _ = unsafe { rustix::mm::munmap(self.at.as_ptr().cast(), size_of::<T>()) };
    }
}
