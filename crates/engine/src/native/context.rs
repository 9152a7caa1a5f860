//! The memory of one run: where everything lies, in the guest and in the room that the guest is lent.
//!
//! ```text
//!  room   ├──────── stack (▼) ────────┤ report · sets · small inputs ├ data ┤ ends of inputs ├─ heap ─────────────┤
//!         0                       STACK_MOST                  ╰── what small functions touch ──╯
//! ```
//!
//! What most functions touch lies side by side around the stack's top, so that one small window of warm pages serves them.
//!
//! Not here: what is written there (`inputs`), and what is read (`outputs`).

use super::Mapping;
use super::image::Rights;
use super::layout::{self, HEAP_GUARD, INPUTS, PAGE, STACK_MOST, STACK_TOP};
use super::loaded::Loaded;
use crate::arena::room::Room;
use crate::{Arena, RunError, arena};
use std::ops::Range;

/// Pages that stay with a context from run to run, zeroed: below and above the stack's top.
const WARM_STACK: u64 = 32 << 10;
const WARM_DATA: u64 = 992 << 10;
/// Pages that one fault maps, where they are there (the kernel's `fault_around_bytes`).
const PAGES_AROUND: u64 = 16;
/// A heap that has not even this is none.
const HEAP_LEAST: u64 = PAGE;

/// Memory to be lent to guests, one after the other.
#[derive(Debug)]
pub struct Context {
    pub room: Room,
    memory: u64,
    /// Where pages were there when the last guest had ended.
    touched: Option<Vec<Range<u64>>>,
    /// Where pages have stayed for the next one.
    warm: Vec<Range<u64>>,
}

/// What a guest sees.
#[derive(Debug, Default)]
pub struct View {
    pub mappings: Vec<Mapping>,
    pub heap: Range<u64>,
    pub stack: Range<u64>,
    /// Inputs that lie in their own pages: their first address, their length, set and item.
    pub apart: Vec<(u64, u64, usize, usize)>,
}

impl Context {
    /// For runs with `memory` bytes.
    pub fn new(arena: &Arena, memory: u64) -> Result<Self, arena::Full> {
        Ok(Self { room: arena.room(STACK_MOST.saturating_add(memory))?, memory, touched: None, warm: Vec::new() })
    }

    /// Whether it is for runs with `memory` bytes.
    pub fn fits(&self, memory: u64) -> bool {
        self.memory == memory
    }

    /// No byte of the last guest is left, and most of the pages are given back. It must not run any more.
    pub fn scrub(&mut self) {
        let touched = self.touched.take().unwrap_or_else(|| self.room.touched());
        let stays = STACK_MOST - WARM_STACK..STACK_MOST + WARM_DATA;
        self.room.scrub(&touched, stays.clone());
        let within = |part: &Range<u64>| part.start.max(stays.start)..part.end.min(stays.end);
        self.warm = touched.iter().map(within).filter(|part| !part.is_empty()).collect();
    }

    /// Faults that having these pages of the room ahead takes: one for each, or for as many as the kernel maps at once of those
    /// that are there.
    pub fn faults_of(&self, part: Range<u64>) -> u64 {
        let there = |warm: &Range<u64>| warm.end.min(part.end).saturating_sub(warm.start.max(part.start)) / PAGE;
        let there: u64 = self.warm.iter().map(there).sum();
        ((part.end - part.start) / PAGE).saturating_sub(there) + there.div_ceil(PAGES_AROUND)
    }

    /// Bytes of pages that are there now that the guest has ended.
    pub fn weigh(&mut self) -> u64 {
        let touched = self.room.touched();
        let bytes = touched.iter().map(|part| part.end - part.start).sum();
        self.touched = Some(touched);
        bytes
    }

    /// Lays out a run: `system` bytes above the stack, the program's data, `ends` bytes for the ends of inputs, and the heap.
    /// Answers what the guest sees, and where in the room the ends go.
    pub fn lay_out(&mut self, program: &Loaded, system: u64, ends: u64) -> Result<(View, u64), RunError> {
        let limit = self.memory;
        let stack = layout::stack_of(limit);
        let mut at = STACK_MOST + system;
        let mut view = View { stack: STACK_TOP - stack..STACK_TOP, ..View::default() };
        let offset = self.room.offset();
        let mut map =
            |address, len, at: u64, rights| view.mappings.push(Mapping { address, len, offset: offset + at, rights });
        let fixed = stack + system + ends;
        let left = limit.checked_sub(fixed).and_then(|left| left.checked_sub(program.image.writable()));
        let heap = layout::page_down(left.filter(|left| *left >= HEAP_LEAST).ok_or(RunError::OutOfMemory { limit })?);
        map(STACK_TOP - stack, stack + system, STACK_MOST - stack, Rights::Write);
        for region in program.image.regions.iter().filter(|region| region.rights == Rights::Write) {
            self.room.write(at, program.initial(region.offset, region.stored));
            map(region.address, region.memory, at, Rights::Write);
            at += region.memory;
        }
        let end = at;
        let first = STACK_TOP + system + HEAP_GUARD;
        if heap > INPUTS - first {
            return Err(RunError::OutOfMemory { limit });
        }
        map(first, heap, at + ends, Rights::Write);
        view.heap = first..first + heap;
        view.mappings.extend(program.shared());
        Ok((view, end))
    }

    /// Where in the room the guest's address lies, with `len` bytes from there on in one piece.
    pub fn place(&self, view: &View, address: u64, len: u64) -> Option<u64> {
        let own = self.room.offset()..self.room.offset() + self.room.len();
        let within = |mapping: &&Mapping| address >= mapping.address && address - mapping.address < mapping.len;
        let mapping = view.mappings.iter().find(within).filter(|mapping| own.contains(&mapping.offset))?;
        let start = address - mapping.address;
        let end = start.checked_add(len)?;
        (end <= mapping.len && mapping.rights == Rights::Write).then(|| mapping.offset - own.start + start)
    }
}
