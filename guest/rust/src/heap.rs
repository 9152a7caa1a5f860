//! The heap of a static program: what the platform gives, from `heap_begin` to `heap_end`.
//!
//! A run is short and its memory is its own, so this is simple: blocks up to 1 MiB are powers of two with a list of free
//! ones for each; larger ones are taken from what was never used, and are used again only where the last one grows.
//! One thread, no locks.

use crate::platform::system;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

const SMALLEST: usize = 4;
const LARGEST: usize = 20;
const PAGE: usize = 4096;

struct Heap(UnsafeCell<State>);

struct State {
    next: usize,
    end: usize,
    free: [*mut u8; LARGEST + 1],
}

// SAFETY: the program has one thread.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(State { next: 0, end: 0, free: [ptr::null_mut(); LARGEST + 1] }));

/// The list for blocks of this layout, if there is one. Blocks of a list are aligned to their size, or to a page.
fn list(layout: &Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(1 << SMALLEST).checked_next_power_of_two()?;
    let list = size.trailing_zeros() as usize;
    (list <= LARGEST && layout.align() <= PAGE).then_some(list)
}

impl State {
    fn fresh(&mut self, size: usize, align: usize) -> *mut u8 {
        if self.end == 0 {
            // SAFETY: the platform has filled the structure in before the start.
            unsafe { (self.next, self.end) = ((*system()).heap_begin, (*system()).heap_end) };
        }
        let start = self.next.checked_next_multiple_of(align);
        match start.and_then(|start| Some((start, start.checked_add(size)?))) {
            Some((start, end)) if end <= self.end => {
                self.next = end;
                start as *mut u8
            }
            _ => ptr::null_mut(),
        }
    }
}

// SAFETY: blocks do not overlap (`next` only grows, a list's blocks are of its size), and are as aligned as was asked.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and no call of this from within.
        let state = unsafe { &mut *self.0.get() };
        let Some(list) = list(&layout) else { return state.fresh(layout.size(), layout.align()) };
        let block = state.free[list];
        if block.is_null() {
            let size = 1 << list;
            return state.fresh(size, size.min(PAGE));
        }
        // SAFETY: a block in a list begins with the address of the next one.
        state.free[list] = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: one thread, and no call of this from within.
        let state = unsafe { &mut *self.0.get() };
        if let Some(list) = list(&layout) {
            // SAFETY: the block is nobody's any more, and has room for an address.
            unsafe { block.cast::<*mut u8>().write(state.free[list]) };
            state.free[list] = block;
        } else if block as usize + layout.size() == state.next {
            state.next = block as usize;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: one thread; `size` is not 0 and fits, as the caller promises.
        let (state, larger) = unsafe { (&mut *self.0.get(), Layout::from_size_align_unchecked(size, layout.align())) };
        let same_list = list(&layout).is_some() && list(&layout) == list(&larger);
        let last = list(&layout).is_none() && list(&larger).is_none() && block as usize + layout.size() == state.next;
        if same_list || (last && size <= state.end - block as usize) {
            state.next = if last { block as usize + size } else { state.next };
            return block;
        }
        // SAFETY: as promised to this function.
        unsafe {
            let moved = self.alloc(larger);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, size.min(layout.size()));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}
