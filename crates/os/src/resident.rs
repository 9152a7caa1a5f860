//! Memory that a process has and does not need: given back by those that will be there for long.

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// Bytes of free heap that a thread keeps while there is work, and blocks up to which it takes from its heap.
const KEPT: c_int = 4 << 20;
const BLOCK: c_int = 1 << 20;
/// Bytes of stack that giving it back takes, by far.
const CALLED: usize = 16 << 10;
/// More than the C library frees at the edge of its heap without looking at how much that leaves.
const LARGE: usize = 256 << 10;

/// Whether this process keeps what it frees.
static KEEPS: AtomicBool = AtomicBool::new(false);
/// Held by who gives back: what holds for one thread's heap meanwhile holds for all.
static SPARING: Mutex<()> = Mutex::new(());

/// To be called when much was done, and nothing is at present: when a daemon has started, above all.
///
/// Of the C library's heap those pages go back in which nothing is. The program's code and constants are clean pages of a file,
/// which the kernel can take back at any time, and which this process has no more: what is wanted again comes back by a
/// fault without I/O, 64 KiB with each.
pub fn let_go() {
    // SAFETY: the callback keeps to what it is given, and is not called after this.
    unsafe { libc::dl_iterate_phdr(Some(let_go_of), std::ptr::null_mut()) };
    spare_stack();
    spare_heap();
}

/// Gives back what calls that have returned left on the calling thread's stack.
#[inline(never)]
fn spare_stack() {
    let here = 0_u8;
    let (mut at, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: an all-zero attribute is storage for `pthread_getattr_np`, which fills it in; it is destroyed once, if so.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) != 0 {
            return;
        }
        libc::pthread_attr_getstack(&attributes, &mut at, &mut len);
        libc::pthread_attr_destroy(&mut attributes);
    }
    let (from, to) = (at as usize, (&raw const here as usize).saturating_sub(CALLED) & !4095);
    if at.is_null() || to <= from || to - from > len {
        return;
    }
    // SAFETY: this thread's stack, below where this call and the ones that it makes stand: nothing there is used any more.
    unsafe { libc::madvise(at, to - from, libc::MADV_DONTNEED) };
}

/// Has this process keep what it frees, up to a few megabytes for each thread, until [`spare_heap`]: for those who take and
/// free again what is large, request by request, and would have its pages anew each time.
pub fn keep_heap() {
    KEEPS.store(true, Relaxed);
    thresholds(KEPT);
}

/// Gives back the pages of the C library's heap in which nothing is. What lies free at the edge of a thread's own heap only
/// that thread gives back.
pub fn spare_heap() {
    let _alone = SPARING.lock().unwrap_or_else(PoisonError::into_inner);
    let keeps = KEEPS.load(Relaxed);
    if keeps {
        thresholds(0);
        drop(black_box(vec![1_u8; LARGE]));
    }
    // SAFETY: tidying the heap has no conditions.
    unsafe { libc::malloc_trim(0) };
    if keeps {
        thresholds(KEPT);
    }
}

fn thresholds(kept: c_int) {
    // SAFETY: the C library takes a lock for this, and takes any number.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, BLOCK);
        libc::mallopt(libc::M_TRIM_THRESHOLD, kept);
    }
}

/// Of the first object, which is the program itself, lets go of what is never written.
unsafe extern "C" fn let_go_of(object: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the C library passes a valid description, whose headers stay as long as the object.
    let (base, headers) = unsafe {
        let object = &*object;
        (object.dlpi_addr as usize, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    // What is relocated lies in segments that may be written to, until that is over.
    let constant = headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0);
    for header in constant {
        let start = (base + header.p_vaddr as usize) & !4095;
        let end = (base + (header.p_vaddr + header.p_memsz) as usize).next_multiple_of(4096);
        // SAFETY: a private mapping of a file that nobody has written to is the same when it is read from the file anew.
        unsafe { libc::madvise(start as *mut c_void, end - start, libc::MADV_DONTNEED) };
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> i64 {
        // SAFETY: an empty structure of integers, which the kernel fills.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &mut usage);
            usage.ru_minflt
        }
    }

    #[test]
    fn what_is_freed_is_kept_until_it_is_spared() {
        keep_heap();
        let use_some = || drop(black_box(vec![1_u8; BLOCK as usize / 2]));
        use_some();
        // Another test may give back meanwhile, for all threads.
        let is_kept = || {
            let before = faults();
            (0..10).for_each(|_| use_some());
            faults() - before < 20
        };
        assert!((0..100).any(|_| is_kept()), "what is freed is had anew each time");
        spare_heap();
        let before = faults();
        use_some();
        assert!(faults() - before > 20, "{} faults", faults() - before);
    }

    fn resident_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        line.trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Fills more of the stack than is left after it.
    #[inline(never)]
    fn deep() -> u8 {
        let many = black_box([1_u8; 512 << 10]);
        many[black_box(77)]
    }

    #[test]
    fn what_returned_calls_left_is_given_back_and_had_anew() {
        std::thread::Builder::new()
            .stack_size(4 << 20)
            .spawn(|| {
                let mine = black_box([7_u8; 64 << 10]);
                deep();
                let before = faults();
                deep();
                assert!(faults() - before < 20, "it is there still");
                spare_stack();
                let before = faults();
                assert_eq!(deep(), 1);
                assert!(faults() - before > 100, "{} faults", faults() - before);
                assert!(mine.iter().all(|byte| *byte == 7), "what is in use stays");
            })
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn code_that_was_let_go_runs_on() {
        let before = resident_kib();
        let_go();
        let after = resident_kib();
        assert!(after < before, "{after} KiB, before {before}");
    }
}
