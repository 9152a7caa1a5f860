//! The usual other way, to be measured beside streams: a ring of a fixed size for each direction of each connection, reserved when it is
//! made. What a peer says is not checked, beyond that nothing else is touched than the rings.

use os::mapping::{Mapping, copy};
use os::memfd;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Bytes before a ring: how much was ever written, how much read, each in lines of its own.
const HEAD: usize = 4096;
const READ_AT: usize = 128;
/// A stream in which this was read has ended.
const ENDED: u64 = 1 << 63;
/// Bytes that are copied before the other end is told of them.
const PIECE: usize = 16 << 10;

/// Rings for so many connections, of this process and another.
pub struct Rings {
    mapping: Arc<Mapping>,
    bytes: usize,
    side: usize,
}

/// One connection.
pub struct Reserved {
    mapping: Arc<Mapping>,
    bytes: usize,
    /// Where its rings begin: the one that is written to, and the one that is read.
    out: usize,
    into: usize,
    written: u64,
    read: u64,
}

fn whole(bytes: usize, connections: usize) -> usize {
    connections * 2 * (HEAD + bytes)
}

impl Rings {
    /// Some that others find at this address, while the descriptor is open.
    pub fn publish(bytes: usize, connections: usize) -> io::Result<(Self, String, OwnedFd)> {
        let len = whole(bytes, connections);
        let file = memfd::sealed("fixed-rings", len as u64)?;
        let mapping = Arc::new(Mapping::shared(&file, len)?);
        let address = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Ok((Self { mapping, bytes, side: 0 }, address, file))
    }

    pub fn find(address: &str, bytes: usize, connections: usize) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(address)?;
        let mapping = Arc::new(Mapping::shared(&file, whole(bytes, connections))?);
        Ok(Self { mapping, bytes, side: 1 })
    }

    pub fn open(&self, connection: usize) -> Reserved {
        let [out, into] = [self.side, 1 - self.side].map(|side| (connection * 2 + side) * (HEAD + self.bytes));
        let mut end = Reserved { mapping: self.mapping.clone(), bytes: self.bytes, out, into, written: 0, read: 0 };
        // One connection after the other uses the same rings.
        (end.written, end.read) = (end.word(out).load(Acquire) & !ENDED, end.word(into + READ_AT).load(Acquire));
        end.word(out).store(end.written, Release);
        end
    }
}

impl Reserved {
    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at + 8 <= self.mapping.len(), "a word of the rings");
        // SAFETY: it lies in the mapping, aligned, for as long as this.
        unsafe { &*self.mapping.at(at).cast() }
    }

    /// Where byte `position` of the ring at `ring` lies, and how many are there behind it without a gap.
    fn place(&self, ring: usize, position: u64) -> (*mut u8, usize) {
        let at = position as usize % self.bytes;
        (self.mapping.at(ring + HEAD + at), self.bytes - at)
    }

    /// Writes what there is room for.
    pub fn try_write(&mut self, mut bytes: &[u8]) -> usize {
        let whole = bytes.len();
        while !bytes.is_empty() {
            let full = self.written.wrapping_sub(self.word(self.out + READ_AT).load(Acquire)) as usize;
            let room = self.bytes.saturating_sub(full);
            let (to, run) = self.place(self.out, self.written);
            let len = bytes.len().min(room).min(run).min(PIECE);
            if len == 0 {
                break;
            }
            // SAFETY: the ring has so many bytes there, which the other end does not look at before it is told of them.
            unsafe { copy(bytes.as_ptr(), to, len) };
            self.written += len as u64;
            self.word(self.out).store(self.written, Release);
            bytes = &bytes[len..];
        }
        whole - bytes.len()
    }

    /// Reads what is there; none if the other end has left.
    pub fn try_read(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let mut done = 0;
        while done < bytes.len() {
            let head = self.word(self.into).load(Acquire);
            let there = (head & !ENDED).saturating_sub(self.read) as usize;
            if there == 0 {
                return if head & ENDED != 0 && done == 0 { None } else { Some(done) };
            }
            let (from, run) = self.place(self.into, self.read);
            let len = (bytes.len() - done).min(there).min(run).min(PIECE);
            // SAFETY: the other end writes to these bytes when it is told that they were read.
            unsafe { copy(from, bytes[done..].as_mut_ptr(), len) };
            self.read += len as u64;
            self.word(self.into + READ_AT).store(self.read, Release);
            done += len;
        }
        Some(done)
    }
}

impl Reserved {
    /// Whether something is there.
    pub fn is_there(&self) -> bool {
        self.word(self.into).load(Acquire) & !ENDED != self.read
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let end = self.word(self.out);
        end.store(end.load(Relaxed) | ENDED, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_round() {
        let (rings, address, _file) = Rings::publish(64, 2).unwrap();
        let other = Rings::find(&address, 64, 2).unwrap();
        let (mut one, mut two) = (rings.open(1), other.open(1));
        let mut back = [0; 100];
        for round in 0..10 {
            assert_eq!(one.try_write(&[round; 50]), 50);
            assert_eq!(one.try_write(&[9; 50]), 14, "no more than there is room for");
            assert_eq!(two.try_read(&mut back), Some(64));
            assert!(back[..50] == [round; 50] && back[50..64] == [9; 14]);
        }
        assert_eq!(two.try_read(&mut back), Some(0));
        drop(one);
        assert_eq!(two.try_read(&mut back), None);
    }
}
