//! The bytes of a ring: mapped memory, or, where loom explores every interleaving, cells in which it sees both sides meet.

#[cfg(not(loom))]
pub(super) use mapped::Bytes;
#[cfg(loom)]
pub(super) use modelled::Bytes;

#[cfg(not(loom))]
mod mapped {
    use crate::layout::LINE;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Bytes shared with the other side, which may change any of them at any time.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Bytes {
        base: *mut u8,
        size: u32,
    }

    // SAFETY: the pointer is into memory shared between processes anyway; each end is used by one thread at a time.
    unsafe impl Send for Bytes {}

    impl Bytes {
        /// `base` must be valid for `size` bytes while this is used.
        pub fn new(base: *mut u8, size: usize) -> Self {
            assert!(size.is_power_of_two() && (4 * LINE..1 << 31).contains(&size));
            assert!(base.addr().is_multiple_of(align_of::<AtomicU32>()), "a ring of words");
            Self { base, size: size as u32 }
        }

        /// The mark of a frame that begins at `position`, at which one can begin.
        pub fn mark(&self, position: u32) -> &AtomicU32 {
            let (at, _) = self.split(position, 0);
            assert!(at.is_multiple_of(LINE), "a frame begins with a line");
            // SAFETY: a line's first word lies within the ring, which is valid for as long as this is used, and is aligned
            // as its base is. What else is written to it is written by its owner while nobody looks at it as a mark.
            unsafe { &*self.base.add(at).cast::<AtomicU32>() }
        }

        pub fn len(self) -> u32 {
            self.size
        }

        /// Writes what the header of the frame at `position` says besides its mark.
        pub fn begin(self, position: u32, header: [u32; 3]) {
            let line = std::ptr::from_ref(self.mark(position));
            for (i, value) in header.into_iter().enumerate() {
                // SAFETY: the line lies within the ring. Its words are written as atomics, as the other side may read them.
                unsafe { (*line.add(1 + i)).store(value, Ordering::Relaxed) };
            }
        }

        /// What the header of the frame at `position` says besides its mark.
        pub fn rest(self, position: u32) -> [u32; 3] {
            let line = std::ptr::from_ref(self.mark(position));
            // SAFETY: the line lies within the ring. What the other side may change meanwhile is read as atomics.
            [1, 2, 3].map(|i| unsafe { (*line.add(i)).load(Ordering::Relaxed) })
        }

        /// Copies `from` to the bytes from `position` on.
        pub fn write(self, position: u32, from: &[u8]) {
            let (at, first) = self.split(position, from.len());
            // SAFETY: `split` keeps both halves within the ring.
            unsafe {
                os::mapping::copy(from.as_ptr(), self.base.add(at), first);
                if first < from.len() {
                    os::mapping::copy(from.as_ptr().add(first), self.base, from.len() - first);
                }
            }
        }

        /// Appends `len` bytes from `position` on to `to`.
        pub fn append(self, position: u32, len: usize, to: &mut Vec<u8>) {
            to.reserve(len);
            // SAFETY: there is room for `len` bytes behind what `to` has, and `copy` fills all of it.
            unsafe {
                self.copy(position, to.as_mut_ptr().add(to.len()), len);
                to.set_len(to.len() + len);
            }
        }

        /// Asks for the line at `position`, to be read soon.
        pub fn fetch(self, position: u32) {
            let (at, _) = self.split(position, 0);
            // SAFETY: a hint, which changes nothing; `at` is within the ring.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                std::arch::asm!("prefetcht0 [{0}]", in(reg) self.base.add(at), options(nostack, readonly, preserves_flags));
            }
        }

        /// # Safety
        /// `to` must be valid for writes of `len` bytes outside the ring.
        unsafe fn copy(self, position: u32, to: *mut u8, len: usize) {
            let (at, first) = self.split(position, len);
            // SAFETY: as in `write`; the other side may change the bytes meanwhile, which changes what is copied only.
            unsafe {
                os::mapping::copy(self.base.add(at), to, first);
                if first < len {
                    os::mapping::copy(self.base, to.add(first), len - first);
                }
            }
        }

        /// Where `position` lies, and how many of `len` bytes lie before the ring's end; the rest is at its beginning.
        fn split(self, position: u32, len: usize) -> (usize, usize) {
            assert!(len <= self.size as usize, "more bytes than the ring has");
            let at = (position & (self.size - 1)) as usize;
            (at, len.min(self.size as usize - at))
        }
    }
}

#[cfg(loom)]
mod modelled {
    use crate::layout::{FRAME, LINE};
    use crate::sync::{AtomicU32, Ordering};
    use loom::cell::UnsafeCell;
    use std::sync::Arc;

    /// Bytes of which loom knows who reads and writes them when: two at once without order is a failure of the model. The
    /// first word of each line is an atomic besides, as frames begin there.
    #[derive(Clone)]
    pub(in super::super) struct Bytes(Arc<(Vec<UnsafeCell<u8>>, Vec<AtomicU32>)>);

    // SAFETY: loom itself checks that no two threads are in one cell.
    unsafe impl Send for Bytes {}

    impl Bytes {
        pub fn new(size: usize) -> Self {
            assert!(size.is_power_of_two());
            let marks = (0..size / LINE).map(|_| AtomicU32::new(0)).collect();
            Self(Arc::new(((0..size).map(|_| UnsafeCell::new(0)).collect(), marks)))
        }

        pub fn len(&self) -> u32 {
            self.0.0.len() as u32
        }

        pub fn mark(&self, position: u32) -> &AtomicU32 {
            assert!((position as usize).is_multiple_of(LINE));
            &self.0.1[(position as usize & (self.0.0.len() - 1)) / LINE]
        }

        fn cell(&self, position: u32, offset: usize) -> &UnsafeCell<u8> {
            &self.0.0[(position as usize + offset) & (self.0.0.len() - 1)]
        }

        /// What a payload leaves where a later frame begins looks like a mark.
        pub fn write(&self, position: u32, from: &[u8]) {
            for (offset, byte) in from.iter().enumerate() {
                if (position as usize + offset).is_multiple_of(LINE) {
                    self.mark(position.wrapping_add(offset as u32)).store(u32::from(*byte), Ordering::Relaxed);
                }
                // SAFETY: loom lends the cell to this closure alone.
                self.cell(position, offset).with_mut(|cell| unsafe { *cell = *byte });
            }
        }

        pub fn begin(&self, position: u32, header: [u32; 3]) {
            let words = header.iter().flat_map(|word| word.to_ne_bytes());
            for (offset, byte) in (FRAME - 12..).zip(words) {
                // SAFETY: loom lends the cell to this closure alone.
                self.cell(position, offset).with_mut(|cell| unsafe { *cell = byte });
            }
        }

        pub fn rest(&self, position: u32) -> [u32; 3] {
            let mut bytes = [0; 12];
            self.read(position.wrapping_add(4), &mut bytes);
            [0, 4, 8].map(|i| u32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]))
        }

        pub fn fetch(&self, _position: u32) {}

        fn read(&self, position: u32, to: &mut [u8]) {
            for (offset, byte) in to.iter_mut().enumerate() {
                // SAFETY: loom fails the model if anybody writes the cell meanwhile.
                *byte = self.cell(position, offset).with(|cell| unsafe { *cell });
            }
        }

        pub fn append(&self, position: u32, len: usize, to: &mut Vec<u8>) {
            let start = to.len();
            to.resize(start + len, 0);
            self.read(position, &mut to[start..]);
        }
    }
}
