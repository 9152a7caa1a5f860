//! A part of an arena that a guest writes in its own process: the memory of a native function.
//!
//! ```text
//!  lent to a guest ──▶ it is gone ──▶ scrubbed: reads as zeroes, a few pages stay warm ──▶ lent again
//!                                 ╰─▶ kept: large outputs stay where they are, all else is given back
//! ```
//!
//! Pages that are there are found by asking the file for its holes, so that neither costs more than what was touched.
//!
//! Not here: what lies where in it (`native::context`).

use super::{Arena, Full, Memory, PAGE};
use crate::{Blob, Paged};
use rustix::fs::{SeekFrom, seek};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Memory that its owner may lend. It reads as zeroes at first.
#[derive(Debug)]
pub struct Room {
    memory: Arc<Memory>,
    start: u64,
    len: u64,
    charged: u64,
}

impl Arena {
    /// `len` bytes in one piece. Pages that are touched are not charged: whoever lends it bounds what is.
    pub fn room(&self, len: u64) -> Result<Room, Full> {
        let len = len.checked_next_multiple_of(PAGE).ok_or_else(|| self.0.full())?;
        // What is lent for long leaves the beginning, whose pages stay, to those who come and go.
        let start = self.0.reserve_last(len).ok_or_else(|| self.0.full())?;
        Ok(Room { memory: self.0.clone(), start, len, charged: 0 })
    }
}

impl Room {
    /// Where in the arena's file it begins.
    pub fn offset(&self) -> u64 {
        self.start
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that are being held are counted.
    pub fn charge(&mut self, bytes: u64) -> Result<(), Full> {
        self.memory.charge(bytes)?;
        self.charged += bytes;
        Ok(())
    }

    fn at(&self, at: u64, len: u64) -> *mut u8 {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "{len} bytes at {at} lie outside of the room");
        self.memory.mapping.at((self.start + at) as usize)
    }

    /// Writes bytes. Panics outside of the room.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        // SAFETY: in bounds, as `at` has checked; the room is borrowed exclusively, so no slice of it is about.
        unsafe { os::mapping::copy(bytes.as_ptr(), self.at(at, bytes.len() as u64), bytes.len()) };
    }

    /// A part of it. Panics outside of the room.
    ///
    /// # Safety
    /// As long as the slice lives, nobody to whom the room was lent runs any more.
    pub unsafe fn bytes(&self, at: u64, len: u64) -> &[u8] {
        // SAFETY: in bounds, as `at` has checked; by the contract only we could write, and we are borrowed.
        unsafe { std::slice::from_raw_parts(self.at(at, len), len as usize) }
    }

    /// Makes all of it read as zeroes, of which these parts are [`touched`](Self::touched). Pages within `warm` stay, all
    /// others go back to the kernel. Nobody to whom it was lent may run any more.
    pub fn scrub(&mut self, touched: &[Range<u64>], warm: Range<u64>) {
        for part in touched.iter().cloned() {
            let stays = part.start.max(warm.start)..part.end.min(warm.end);
            if stays.is_empty() {
                self.punch(part);
                continue;
            }
            // SAFETY: in bounds, as `at` has checked; borrowed exclusively, and lent to nobody.
            unsafe { self.at(stays.start, stays.end - stays.start).write_bytes(0, (stays.end - stays.start) as usize) };
            self.punch(part.start..stays.start);
            self.punch(stays.end..part.end);
        }
    }

    fn punch(&self, part: Range<u64>) {
        self.memory.punch(self.start + part.start, part.end - part.start);
    }

    /// The parts in which pages are there, in order.
    pub fn touched(&self) -> Vec<Range<u64>> {
        let (file, end) = (&self.memory.file, self.start + self.len);
        let (mut parts, mut from) = (Vec::new(), self.start);
        while from < end {
            // What lies behind the room is somebody else's. No data at all is an error to the kernel.
            let data = match seek(file, SeekFrom::Data(from)) {
                Ok(data) if data < end => data,
                Ok(_) | Err(rustix::io::Errno::NXIO) => break,
                Err(_) => from,
            };
            let hole = seek(file, SeekFrom::Hole(data)).unwrap_or(end).clamp(data, end);
            parts.push(data - self.start..hole - self.start);
            from = hole.max(data + 1);
        }
        parts
    }

    /// Keeps these parts as they are, for good; all else is given back. Whatever shares a page with them becomes zeroes.
    /// Nobody to whom the room was lent may run any more.
    pub fn keep(mut self, parts: &[Range<u64>]) -> Result<Kept, Full> {
        let mut parts: Vec<_> = parts.iter().filter(|part| !part.is_empty()).cloned().collect();
        parts.sort_by_key(|part| part.start);
        let (mut pages, mut until) = (0, 0);
        for part in &parts {
            self.clear(until, part.start);
            pages += part
                .end
                .next_multiple_of(PAGE)
                .saturating_sub(until.next_multiple_of(PAGE).max(part.start & !(PAGE - 1)));
            until = until.max(part.end);
        }
        self.clear(until, self.len);
        self.charge(pages)?;
        let first = parts.first().map_or(0, |part| part.start & !(PAGE - 1));
        let end = until.next_multiple_of(PAGE);
        self.memory.release(self.start, first);
        self.memory.release(self.start + end, self.len - end);
        (self.start, self.len) = (self.start + first, end - first);
        Ok(Kept { room: self, first })
    }

    /// No byte from `from` to `to` is left.
    fn clear(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let (inner, last) = (from.next_multiple_of(PAGE).min(to), (to & !(PAGE - 1)).max(from));
        let zero = |from: u64, to: u64| {
            if from < to {
                // SAFETY: in bounds, as `at` has checked; borrowed exclusively, and lent to nobody.
                unsafe { self.at(from, to - from).write_bytes(0, (to - from) as usize) };
            }
        };
        zero(from, inner);
        if inner < last {
            self.punch(inner..last);
        }
        zero(last.max(inner), to);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.memory.punch(self.start, self.len);
        self.memory.refund(self.charged);
        self.memory.release(self.start, self.len);
    }
}

/// What a guest has left in its memory.
#[derive(Debug)]
pub struct Kept {
    room: Room,
    /// Where the room began before it was cut to what is kept.
    first: u64,
}

impl Kept {
    /// Blobs of parts of the room as it was. Panics for what was not kept.
    pub fn blobs(self) -> impl Fn(Range<u64>) -> Blob {
        let first = self.first;
        let all = Blob::paged(Arc::new(self));
        move |part| all.slice((part.start - first) as usize..(part.end - first) as usize)
    }
}

impl Paged for Kept {
    fn bytes(&self) -> &[u8] {
        // SAFETY: `keep` is for rooms whose guests are gone.
        unsafe { self.room.bytes(0, self.room.len) }
    }

    fn file(&self) -> (BorrowedFd<'_>, u64) {
        (self.room.memory.file.as_fd(), self.room.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(room: &Room) -> Vec<u8> {
        // SAFETY: lent to nobody.
        unsafe { room.bytes(0, room.len()) }.to_vec()
    }

    #[test]
    fn scrubbed_rooms_are_empty_and_keep_their_warm_pages() {
        let arena = Arena::new(1 << 20).unwrap();
        let mut room = arena.room(1 << 20).unwrap();
        for at in [0, 100_000, 300_000, (1 << 20) - 1] {
            room.write(at, b"x");
        }
        assert_eq!(room.touched().len(), 4);
        room.scrub(&room.touched(), 98_304..110_592);
        assert_eq!(room.touched(), vec![98_304..102_400]);
        assert!(all(&room).iter().all(|byte| *byte == 0));
    }

    #[test]
    fn rooms_leave_the_warm_pages_to_extents() {
        let arena = Arena::new(1 << 20).unwrap();
        let rooms = [arena.room(1 << 20).unwrap(), arena.room(8192).unwrap()];
        let blob = {
            let mut extent = arena.extent(1 << 20).unwrap();
            extent.range_mut(0, 70_000).unwrap().fill(1);
            extent.freeze()
        };
        assert_eq!(blob.pages().map(|(_, offset, _)| offset), Some(0));
        assert_eq!(rooms[1].offset() + rooms[1].len(), rooms[0].offset());
        drop((rooms, blob));
        assert_eq!(arena.0.free().len(), 1);
        let all: Vec<_> = std::iter::from_fn(|| arena.room(4 << 20).ok()).collect();
        assert!(all.len() == 16 && all[15].offset() == 0 && arena.0.free().is_empty(), "{all:?}");
    }

    #[test]
    fn only_what_is_kept_is_left() {
        let arena = Arena::new(1 << 20).unwrap();
        let mut room = arena.room(1 << 20).unwrap();
        room.write(0, &[7; 60_000]);
        let start = room.offset();
        let kept = room.keep(&[40_000..50_000, 10_000..20_000, 15_000..20_500]).unwrap();
        assert_eq!(arena.held(), (6 - 2 + 13 - 9) * 4096);
        assert_eq!(kept.room.len, (13 - 2) * 4096);
        let blob = kept.blobs();
        assert!(blob(10_000..20_500).iter().all(|byte| *byte == 7));
        let (_, offset, _) = blob(40_000..50_000).pages().unwrap();
        assert_eq!(offset, start + 40_000);
        let around = blob(8_192..53_248);
        let sevens = around.iter().filter(|byte| **byte == 7).count();
        assert_eq!(sevens, 20_500, "bytes beside the outputs are still there");
        drop((blob, around));
        assert_eq!((arena.held(), arena.0.free().len()), (0, 1));
        let room = arena.room(1 << 20).unwrap();
        assert!(all(&room).iter().all(|byte| *byte == 0));
    }
}
