//! Items that stay with the engine that made them, between the runs of a flow: the reply to one run names them, and the
//! request for the next one passes the names. Their bytes go nowhere.
//!
//! ```text
//!   engine 1                                engine 2
//!   ┌ arena ┬───────────┐   mapped, to be read   ┌────────────┐
//!   │       │ an item   │◀───────────────────────│ a run      │
//!   └───────┴───────────┘                        └────────────┘
//!   ┌ board: id, run, where ┐◀── looked up ──────  "id 7 of engine 1, of run R"
//! ```
//!
//! An item is one run's: whoever does not name that run does not get it, and its name cannot be guessed. A run may be told to
//! be over before all of it has ended here; what it leaves after that is not held.
//!
//! Items are given up by the engine that has them, while others may be reading. So each engine says when it begins and ends
//! a run that reads what is others': pages are given back when every engine that was reading as the item was struck off
//! has come to the end of that run. An engine is lent another's arena only when that one watches it. An engine may be called
//! before it has been lent what all others have: it knows whom it is still to meet, and requests for what those hold wait.
//!
//! Not here: who decides that an item is held (the gateway), and where engines come to know each other (`sandbox::pure`).

mod board;
#[cfg(test)]
mod tests;

use crate::arena::Arena;
use crate::blob::{Blob, Paged};
pub use board::SLOTS;
use board::{Board, Entry};
use os::mapping::Mapping;
use sets::wire::{Held, RunId};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Runs that are known to be over, and engines.
const OVER_MAX: usize = 1024;
const PARTED_MAX: usize = 64;

/// What makes an engine known to others: its arena and its table, to be read.
#[derive(Debug)]
pub struct Window {
    pub arena: OwnedFd,
    pub board: OwnedFd,
}

/// What one engine holds, and what others do.
#[derive(Debug)]
pub struct Shelf {
    /// What it is called; 0 as long as it has not been told.
    number: u32,
    arena: Arena,
    board: Board,
    limit: u64,
    bytes: u64,
    kept: HashMap<u64, Kept>,
    runs: HashMap<RunId, HashSet<u64>>,
    over: VecDeque<RunId>,
    /// Slots that nothing is in, and how often each was used.
    free: Vec<usize>,
    uses: Vec<u64>,
    /// Engines that this one knows, or is to meet.
    neighbours: HashMap<u32, Neighbour>,
    /// Those of higher numbers that have ended.
    parted: VecDeque<u32>,
    leaving: Vec<Leaving>,
    reads: bool,
}

#[derive(Debug)]
struct Kept {
    run: RunId,
    blob: Blob,
}

#[derive(Debug, Default)]
struct Neighbour {
    board: Option<Arc<Board>>,
    arena: Option<Arc<Foreign>>,
}

/// An item that is held no more, and the runs of others that may still read it.
#[derive(Debug)]
struct Leaving {
    _blob: Blob,
    readers: Vec<(Arc<Board>, u64)>,
}

/// Another engine's arena.
#[derive(Debug)]
struct Foreign {
    mapping: Mapping,
    file: OwnedFd,
}

/// A part of it.
#[derive(Debug)]
struct Lent {
    from: Arc<Foreign>,
    offset: u64,
    len: usize,
}

impl Paged for Lent {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the range lies in the mapping, as `borrow` has checked. Its engine does not give the pages up, nor write to
        // them, until this engine's run is over, which outlives the blob.
        unsafe { std::slice::from_raw_parts(self.from.mapping.at(self.offset as usize), self.len) }
    }

    fn file(&self) -> (BorrowedFd<'_>, u64) {
        (self.from.file.as_fd(), self.offset)
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

/// The same memory file, to be read only.
fn reopened(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(std::fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?.into())
}

impl Shelf {
    /// An empty one for items in this arena, of at most `limit` bytes together; and what others see it by, where there is a
    /// `/proc` to make it with.
    pub fn new(arena: Arena, limit: u64) -> io::Result<(Self, Option<Window>)> {
        let (board, file) = board::make()?;
        let window = reopened(arena.file()).and_then(|arena| Ok(Window { arena, board: reopened(file.as_fd())? })).ok();
        let shelf = Self {
            number: 0,
            arena,
            board,
            limit,
            bytes: 0,
            kept: HashMap::new(),
            runs: HashMap::new(),
            over: VecDeque::new(),
            free: (0..SLOTS).rev().collect(),
            uses: vec![0; SLOTS],
            neighbours: HashMap::new(),
            parted: VecDeque::new(),
            leaving: Vec::new(),
            reads: false,
        };
        Ok((shelf, window))
    }

    /// What it is called from now on, and which engines there were before it. Later ones have higher numbers.
    pub fn named(&mut self, number: u32, others: &[u32]) {
        self.number = number;
        others.iter().for_each(|other| _ = self.neighbours.entry(*other).or_default());
    }

    /// Whether this engine is to be lent what that one holds, and has not been yet.
    pub fn awaits(&self, number: u32) -> bool {
        match self.neighbours.get(&number) {
            Some(neighbour) => neighbour.arena.is_none(),
            None => number > self.number && !self.parted.contains(&number),
        }
    }

    /// Another engine of the unit: from now on nothing is given up that it may be reading.
    pub fn watch(&mut self, number: u32, board: &OwnedFd) -> io::Result<()> {
        match Board::of(board.as_fd()) {
            Ok(board) => self.neighbours.entry(number).or_default().board = Some(Arc::new(board)),
            Err(error) => {
                self.part(number);
                return Err(error);
            }
        }
        Ok(())
    }

    /// It watches this one, and so its items may be read.
    pub fn lent(&mut self, number: u32, arena: OwnedFd) -> io::Result<()> {
        let watched = self.neighbours.get_mut(&number).filter(|neighbour| neighbour.board.is_some());
        let Some(neighbour) = watched else { return Ok(()) };
        let len = usize::try_from(rustix::fs::fstat(&arena)?.st_size).map_err(io::Error::other)?;
        neighbour.arena = Some(Arc::new(Foreign { mapping: Mapping::readable(&arena, len)?, file: arena }));
        Ok(())
    }

    /// One that has ended, and what it held with it.
    pub fn part(&mut self, number: u32) {
        if let Some(gone) = self.neighbours.remove(&number).and_then(|neighbour| neighbour.board) {
            let is_it = |(board, _): &(Arc<Board>, u64)| Arc::ptr_eq(board, &gone);
            self.leaving.iter_mut().for_each(|leaving| leaving.readers.retain(|reader| !is_it(reader)));
        }
        if number > self.number {
            self.parted.push_back(number);
        }
        if self.parted.len() > PARTED_MAX {
            self.parted.pop_front();
        }
    }

    /// Bytes of pages that are held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Holds these bytes for a run: their name. None where there is no room, or the run is over: they travel then.
    pub fn hold(&mut self, run: RunId, blob: &Blob) -> Option<Held> {
        let len = blob.len() as u64;
        if self.number == 0 || self.over.contains(&run) || self.bytes + pages(len) > self.limit {
            return None;
        }
        let blob = self.own(blob)?;
        let (_, offset, _) = blob.pages()?;
        let slot = self.free.pop()?;
        self.uses[slot] += 1;
        let id = self.uses[slot] * (SLOTS as u64 + 1) + slot as u64;
        self.board.put(slot, &Entry { id, run, offset, len });
        self.bytes += pages(len);
        self.kept.insert(id, Kept { run, blob });
        self.runs.entry(run).or_default().insert(id);
        Some(Held { engine: self.number, id, len })
    }

    /// The bytes in pages of this engine's arena: where they are, or a copy.
    fn own(&self, blob: &Blob) -> Option<Blob> {
        let file = self.arena.file().as_raw_fd();
        if blob.pages().is_some_and(|(its, ..)| its.as_raw_fd() == file) {
            return Some(blob.clone());
        }
        let mut extent = self.arena.extent(blob.len() as u64).ok()?;
        os::mapping::copy_slice(blob, extent.range_mut(0, blob.len()).ok()?);
        Some(extent.freeze())
    }

    /// The bytes of a name, for a run that is about to begin. None: they are not here, or are not this run's.
    pub fn find(&mut self, run: RunId, held: Held) -> Option<Blob> {
        if held.engine != self.number {
            return self.borrow(run, held);
        }
        let kept = self.kept.get(&held.id)?;
        (kept.run == run && kept.blob.len() as u64 == held.len).then(|| kept.blob.clone())
    }

    fn borrow(&mut self, run: RunId, held: Held) -> Option<Blob> {
        let Neighbour { board: Some(board), arena: Some(arena) } = self.neighbours.get(&held.engine)? else {
            return None;
        };
        if !std::mem::replace(&mut self.reads, true) {
            self.board.turn();
        }
        let entry = board.entry((held.id % (SLOTS as u64 + 1)) as usize, held.id)?;
        let len = usize::try_from(entry.len).ok()?;
        let end = usize::try_from(entry.offset).ok()?.checked_add(len)?;
        let fits = end <= arena.mapping.len();
        let is_it = entry.run == run && entry.len == held.len && fits && len > 0;
        is_it.then(|| Blob::paged(Arc::new(Lent { from: arena.clone(), offset: entry.offset, len })))
    }

    /// The run that has found things is over, and its inputs are dropped.
    pub fn done(&mut self) {
        if std::mem::take(&mut self.reads) {
            self.board.turn();
        }
    }

    /// Holds an item no more.
    pub fn release(&mut self, run: RunId, id: u64) {
        let Some(ids) = self.runs.get_mut(&run) else { return };
        if !ids.remove(&id) {
            return;
        }
        if ids.is_empty() {
            self.runs.remove(&run);
        }
        self.strike(id);
        self.sweep();
    }

    /// Holds nothing of a run any more, nor what it may leave yet.
    pub fn end(&mut self, run: RunId) {
        for id in self.runs.remove(&run).into_iter().flatten() {
            self.strike(id);
        }
        self.over.push_back(run);
        if self.over.len() > OVER_MAX {
            self.over.pop_front();
        }
        self.sweep();
    }

    fn strike(&mut self, id: u64) {
        let Some(Kept { blob, .. }) = self.kept.remove(&id) else { return };
        let slot = (id % (SLOTS as u64 + 1)) as usize;
        self.board.clear(slot);
        self.free.push(slot);
        self.bytes -= pages(blob.len() as u64);
        // Whoever begins to read from now on does not find it.
        let boards = self.neighbours.values().filter_map(|neighbour| neighbour.board.clone());
        let boards = boards.map(|board| (board.clone(), board.runs()));
        let readers: Vec<_> = boards.filter(|(_, runs)| runs % 2 == 1).collect();
        if !readers.is_empty() {
            self.leaving.push(Leaving { _blob: blob, readers });
        }
    }

    /// Whether pages wait for readers of theirs.
    pub fn is_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Lets go of what nobody reads any more.
    pub fn sweep(&mut self) {
        self.leaving.retain_mut(|leaving| {
            leaving.readers.retain(|(board, runs)| board.runs() == *runs);
            !leaving.readers.is_empty()
        });
    }
}
