//! What a run leaves in this process, taken away: freed memory, the thread's stack below where it is now, its vector registers,
//! and its stack for signals, where the kernel puts the registers of whoever is interrupted.
//!
//! Linear memories and pages of the arena are reset by those that have them. Everything else that a guest's bytes pass
//! through lies on the heap or a stack, or in registers: the C library copies through those that no call needs to
//! keep, and leaves them so. An engine process has [`Wiping`] as its allocator, and switches it on.
//!
//! Not here: the kernel's buffers, and vector registers of other processors than x86-64.

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

/// Takes away what signals left on this thread's stack for them.
pub fn signal_stack() {
    // SAFETY: an all-zero stack is storage, which the kernel fills in.
    let mut stack: libc::stack_t = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set, and the kernel writes to `stack`.
    let known = unsafe { libc::sigaltstack(std::ptr::null(), &mut stack) } == 0;
    if known && stack.ss_flags & libc::SS_DISABLE == 0 {
        // SAFETY: no signal is being handled by this thread, which runs this: nothing there is used. It is mapped in whole pages by
        // whoever has set it (the engine's library, or Rust's), and is empty when the next signal comes, as it was at first.
        unsafe { libc::madvise(stack.ss_sp, stack.ss_size, libc::MADV_DONTNEED) };
    }
}

/// Clears the registers that copying goes through.
#[cfg(target_arch = "x86_64")]
pub fn registers() {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has these instructions, and what they change is said.
        unsafe { high_registers() };
    }
    if is_x86_feature_detected!("avx") {
        // SAFETY: as above.
        unsafe { low_registers() };
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn high_registers() {
    macro_rules! clear {
        ($($register:tt)*) => {
            // SAFETY: registers alone, all of which are said to change.
            unsafe {
                std::arch::asm!(
                    $(concat!("vpxord ", $register, ", ", $register, ", ", $register),)*
                    $(out($register) _,)*
                    options(nomem, nostack, preserves_flags)
                );
            }
        };
    }
    clear!("zmm16" "zmm17" "zmm18" "zmm19" "zmm20" "zmm21" "zmm22" "zmm23");
    clear!("zmm24" "zmm25" "zmm26" "zmm27" "zmm28" "zmm29" "zmm30" "zmm31");
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn low_registers() {
    std::arch::x86_64::_mm256_zeroall();
}

/// Clears the registers that copying goes through: not here.
#[cfg(not(target_arch = "x86_64"))]
pub fn registers() {}

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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn registers_are_cleared() {
        let planted = 0x5ec2_e7a0_1234_5678_u64;
        let mut found = [[planted; 8]; 3];
        if !is_x86_feature_detected!("avx512f") {
            return println!("skip: this processor has no AVX-512");
        }
        // SAFETY: the processor has these instructions; what they change is said, and nothing in between uses those registers.
        unsafe {
            std::arch::asm!(
                "vpbroadcastq zmm7, {0}", "vpbroadcastq zmm16, {0}", "vpbroadcastq zmm31, {0}",
                in(reg) planted, out("zmm7") _, out("zmm16") _, out("zmm31") _, options(nomem, nostack)
            );
            registers();
            std::arch::asm!(
                "vmovdqu64 [{0}], zmm7", "vmovdqu64 [{0} + 64], zmm16", "vmovdqu64 [{0} + 128], zmm31",
                in(reg) found.as_mut_ptr(), options(nostack)
            );
        }
        assert_eq!(found, [[0; 8]; 3]);
    }
}
