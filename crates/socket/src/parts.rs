//! A program's buffers, as it hands them over in one call.

use std::io::{IoSlice, IoSliceMut};

/// Parts that are looked at together.
const TOGETHER: usize = 16;

/// A piece of the caller's memory, as an iovec has it. One of no length may be anywhere.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub at: *mut u8,
    pub len: usize,
}

impl Part {
    /// Bytes to be sent; nothing is written to them.
    pub fn of(bytes: &[u8]) -> Self {
        Self { at: bytes.as_ptr().cast_mut(), len: bytes.len() }
    }

    /// Room for bytes.
    pub fn into(bytes: &mut [u8]) -> Self {
        Self { at: bytes.as_mut_ptr(), len: bytes.len() }
    }
}

/// The pieces of `parts` behind the first `skip` bytes, `most` bytes at most: `each` is given them, and their number.
fn pieces(parts: &[Part], mut skip: usize, mut most: usize, mut each: impl FnMut(*mut u8, usize) -> bool) {
    for part in parts {
        let skipped = skip.min(part.len);
        skip -= skipped;
        let len = (part.len - skipped).min(most);
        most -= len;
        if len > 0 && !each(part.at.wrapping_add(skipped), len) {
            return;
        }
    }
}

/// Hands what lies behind the first `skip` bytes to `send`, some parts at a time, until it takes less than it was given: how
/// many bytes it took.
///
/// # Safety
/// The parts can be read.
pub(crate) unsafe fn read(parts: &[Part], skip: usize, mut send: impl FnMut(&[IoSlice<'_>]) -> usize) -> usize {
    if let ([part], 0) = (parts, skip) {
        if part.len == 0 {
            return 0;
        }
        // SAFETY: the caller's; it has a length, so it is somewhere.
        return send(&[IoSlice::new(unsafe { std::slice::from_raw_parts(part.at, part.len) })]);
    }
    let mut done = 0;
    loop {
        let (mut slices, mut count, mut len) = ([IoSlice::new(&[]); TOGETHER], 0, 0);
        pieces(parts, skip + done, usize::MAX, |at, size| {
            // SAFETY: the caller's; it has a length, so it is somewhere.
            slices[count] = IoSlice::new(unsafe { std::slice::from_raw_parts(at, size) });
            (count, len) = (count + 1, len + size);
            count < TOGETHER
        });
        let took = if count == 0 { 0 } else { send(&slices[..count]) };
        done += took;
        if took < len || count < TOGETHER {
            return done;
        }
    }
}

/// Gives `receive` the room behind the first `skip` bytes, `most` bytes at most and some parts at a time, until it fills less
/// than it was given, or `once`: how many bytes it filled.
///
/// # Safety
/// The parts can be written.
pub(crate) unsafe fn write(
    parts: &[Part],
    skip: usize,
    most: usize,
    once: bool,
    mut receive: impl FnMut(&mut [IoSliceMut<'_>]) -> usize,
) -> usize {
    if let ([part], 0) = (parts, skip) {
        let len = part.len.min(most);
        if len == 0 {
            return 0;
        }
        // SAFETY: as above.
        return receive(&mut [IoSliceMut::new(unsafe { std::slice::from_raw_parts_mut(part.at, len) })]);
    }
    let mut done = 0;
    loop {
        let mut slices: [IoSliceMut<'_>; TOGETHER] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let (mut count, mut len) = (0, 0);
        pieces(parts, skip + done, most - done, |at, size| {
            // SAFETY: the caller's; it has a length, so it is somewhere.
            slices[count] = IoSliceMut::new(unsafe { std::slice::from_raw_parts_mut(at, size) });
            (count, len) = (count + 1, len + size);
            count < TOGETHER
        });
        let got = if count == 0 { 0 } else { receive(&mut slices[..count]) };
        done += got;
        if got < len || count < TOGETHER || once {
            return done;
        }
    }
}
