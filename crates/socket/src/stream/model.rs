//! A stream as it is, under every interleaving of its two ends, over cells in which loom sees both sides meet.

use super::*;
use crate::layout::{LOCAL, RECORD, ReceiverLine, Rest, SEGMENTS, SenderLine};
use crate::sync::AtomicU64;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::cell::Cell;
use std::io::{IoSlice, IoSliceMut};

/// A local record and one other.
struct Cells {
    way: Way,
    bytes: Vec<UnsafeCell<u8>>,
}

// SAFETY: loom itself checks that no two threads are in one cell.
unsafe impl Sync for Cells {}
// SAFETY: as above.
unsafe impl Send for Cells {}

struct Modelled {
    cells: Arc<Cells>,
    /// Whether the record is taken.
    taken: Cell<bool>,
}

impl Modelled {
    fn cell(&self, at: Spot, offset: usize) -> &UnsafeCell<u8> {
        match at {
            Spot::Local(at) => &self.cells.bytes[(at + offset) % LOCAL],
            Spot::Record(_, at) => &self.cells.bytes[LOCAL + at + offset],
        }
    }
}

impl Memory for Modelled {
    fn way(&self) -> &Way {
        &self.cells.way
    }

    fn put(&self, at: Spot, from: &[u8]) {
        for (offset, byte) in from.iter().enumerate() {
            // SAFETY: loom lends the cell to this closure alone.
            self.cell(at, offset).with_mut(|cell| unsafe { *cell = *byte });
        }
    }

    fn get(&self, at: Spot, to: &mut [u8]) {
        for (offset, byte) in to.iter_mut().enumerate() {
            // SAFETY: loom fails the model if anybody writes the cell meanwhile.
            *byte = self.cell(at, offset).with(|cell| unsafe { *cell });
        }
    }

    fn has(&self, record: u32) -> bool {
        record == 0
    }

    fn enter(&self) -> bool {
        true
    }

    fn take(&self, _start: u64) -> Option<u32> {
        (!self.taken.replace(true)).then_some(0)
    }

    fn close(&self, _record: u32, _start: u64, _end: u64) {}

    fn give_back(&self, _record: u32, _start: u64) {
        self.taken.set(false);
    }
}

fn ends() -> (Sender<Modelled>, Receiver<Modelled>) {
    let way = Way {
        sender: SenderLine::default(),
        receiver: ReceiverLine::default(),
        sender_rest: Rest::default(),
        receiver_rest: Rest::default(),
        segments: std::array::from_fn::<_, SEGMENTS, _>(|_| AtomicU64::new(0)),
    };
    let bytes = (0..LOCAL + RECORD).map(|_| UnsafeCell::new(0)).collect();
    let cells = Arc::new(Cells { way, bytes });
    let end = || Modelled { cells: cells.clone(), taken: Cell::new(false) };
    (Sender::new(end()), Receiver::new(end()))
}

/// `count` bytes go through, in writes and reads of these lengths.
fn through(count: u8, write: usize, read: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let (mut sender, mut receiver) = ends();
        let writer = loom::thread::spawn(move || {
            let bytes: Vec<u8> = (1..=count).collect();
            let mut sent = 0;
            while sent < bytes.len() {
                let part = &bytes[sent..bytes.len().min(sent + write)];
                match sender.write(&[IoSlice::new(part)]).unwrap() {
                    0 => loom::thread::yield_now(),
                    len => sent += len,
                }
            }
            sender
        });
        let (mut got, mut buffer) = (Vec::new(), vec![0; read]);
        while got.len() < usize::from(count) {
            match receiver.read(&mut [IoSliceMut::new(&mut buffer)], false).unwrap() {
                0 => loom::thread::yield_now(),
                len => got.extend_from_slice(&buffer[..len]),
            }
        }
        assert_eq!(got, (1..=count).collect::<Vec<u8>>());
        let mut sender = writer.join().unwrap();
        assert_eq!(sender.is_received(), Ok(true));
    });
}

/// The local record goes round.
#[test]
fn bytes_are_seen_in_order() {
    through(6, 2, 3);
}

/// Into the local record, a record beyond it, and back.
#[test]
fn parts_are_seen_in_order() {
    through(7, 7, 5);
}

/// A mark is seen behind what was sent before it, and not without.
#[test]
fn marks_are_seen_in_order() {
    loom::model(|| {
        let (mut sender, mut receiver) = ends();
        let writer = loom::thread::spawn(move || {
            sender.write(&[IoSlice::new(&[1, 2])]).unwrap();
            assert_eq!(sender.mark(9), Ok(true));
            sender
        });
        let mut buffer = [0; 4];
        let first = receiver.read(&mut [IoSliceMut::new(&mut buffer)], false).unwrap();
        if receiver.mark().unwrap() == Some(9) {
            assert_eq!(receiver.received(), 2);
        } else {
            assert!(first <= 2);
        }
        drop(writer.join().unwrap());
    });
}
