//! What a run leaves in this process, taken away: freed memory, and the thread's stack below where it is now.
//!
//! Linear memories and pages of the arena are reset by those that have them. Everything else that a guest's bytes pass
//! through lies on the heap or the stack. An engine process has [`Wiping`] as its allocator, and switches it on.
//!
//! Not here: registers and the kernel's buffers.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};

/// Of the stack, wiped by writing; what lies deeper is given back to the kernel.
const KEPT: usize = 32 << 10;
const PAGE: usize = 4096;

/// The system's allocator, which overwrites what is freed once it is told to.
#[derive(Debug, Default)]
pub struct Wiping(AtomicBool);

impl Wiping {
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// From now on. What was freed before stays as it is: to be called before the first guest comes.
    pub fn switch_on(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn wipe(&self, at: *mut u8, len: usize) {
        // SAFETY: the caller frees `len` bytes at `at`: nobody reads them any more, and nobody else has them yet.
        unsafe { at.write_bytes(0, len) };
        // The writes look useless: nothing reads them. They must happen all the same.
        // SAFETY: an empty instruction that is said to read memory.
        unsafe { std::arch::asm!("/* {0} */", in(reg) at, options(nostack, preserves_flags, readonly)) };
        compiler_fence(Ordering::SeqCst);
    }
}

// SAFETY: all memory is the system allocator's; what is added happens before it is given back.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if self.0.load(Ordering::Relaxed) {
            self.wipe(at, layout.size());
        }
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(at, layout) };
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.0.load(Ordering::Relaxed) {
            // SAFETY: passed on as it came.
            return unsafe { System.realloc(at, layout, size) };
        }
        // SAFETY: `size` is not 0, says the caller; alignment is as it was.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both are at least that long, and are different blocks; the old one is freed once, here.
            unsafe {
                new.copy_from_nonoverlapping(at, layout.size().min(size));
                self.dealloc(at, layout);
            }
        }
        new
    }
}

/// The lowest address of this thread's stack that may be used.
fn lowest() -> usize {
    thread_local! { static LOWEST: usize = find_lowest(); }
    LOWEST.with(|lowest| *lowest)
}

fn find_lowest() -> usize {
    let mut at: *mut libc::c_void = std::ptr::null_mut();
    let mut len = 0;
    // SAFETY: an all-zero attribute is storage for `pthread_getattr_np`, which fills it in; it is destroyed once, if so.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) != 0 {
            return usize::MAX;
        }
        libc::pthread_attr_getstack(&attributes, &mut at, &mut len);
        libc::pthread_attr_destroy(&mut attributes);
    }
    at as usize
}

/// Takes away what calls that have returned left on this thread's stack.
#[inline(never)]
pub fn stack() {
    let lowest = lowest();
    let here = overwrite();
    // What a run can have reached: its own stack, and that of what it called.
    let from = here.saturating_sub(crate::wasm::settings::STACK + (768 << 10)).max(lowest).next_multiple_of(PAGE);
    if from < here {
        // SAFETY: the range is this thread's stack, below where any call stands: nothing there is used any more.
        unsafe { libc::madvise(from as *mut libc::c_void, here - from, libc::MADV_DONTNEED) };
    }
}

/// Overwrites the stack just below its caller, down to the start of a page: which.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
fn overwrite() -> usize {
    let end: usize;
    // SAFETY: below the stack pointer and the 128 bytes that a leaf may use there is nothing of anybody: signals have a
    // stack of their own. The range is mapped or grows on touch, as any call's frame does.
    unsafe {
        std::arch::asm!(
            "mov rcx, rsp",
            "sub rcx, 128",
            "lea rdi, [rcx - {kept}]",
            "and rdi, {mask}",
            "mov {end}, rdi",
            "sub rcx, rdi",
            "xor eax, eax",
            "cld",
            "rep stosb",
            kept = const KEPT,
            mask = const -(PAGE as isize),
            end = out(reg) end,
            out("rax") _, out("rcx") _, out("rdi") _,
            options(nostack),
        );
    }
    end
}

/// Overwrites the stack just below its caller, down to the start of a page: which.
#[cfg(not(target_arch = "x86_64"))]
#[inline(never)]
fn overwrite() -> usize {
    let mut room = std::mem::MaybeUninit::<[u8; KEPT]>::uninit();
    // SAFETY: the room is ours.
    unsafe { room.as_mut_ptr().cast::<u8>().write_bytes(0, KEPT) };
    std::hint::black_box(&mut room);
    room.as_ptr() as usize / PAGE * PAGE
}
