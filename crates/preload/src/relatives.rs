//! The processes that share sockets because one has forked the other: each has a number, and so a bit.
//!
//! ```text
//!   free ──before a fork──► expected (since then) ──in the child──► a process ──it has ended──► free
//! ```

use socket::family::Family;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Processes that are told apart. What the others hold is held until all of them have ended.
const MOST: usize = 62;
/// The bit of those.
const NAMELESS: u64 = 1 << 63;
/// How long a child may take from the fork to its first instruction, in seconds: then there was no fork.
const PATIENCE: u64 = 20;

struct Relatives {
    /// A process's number, or one that is expected: the second since which it is, above [`EXPECTED`]; or 0.
    all: [AtomicU64; MOST],
}

const EXPECTED: u64 = 1 << 32;

/// This process's bit, and the one of the child that is about to be forked, by their numbers and 1 more.
static OWN: AtomicU32 = AtomicU32::new(0);
static CHILD: AtomicU32 = AtomicU32::new(0);

fn relatives() -> Option<&'static Relatives> {
    static ALL: OnceLock<Option<Family<Relatives>>> = OnceLock::new();
    // SAFETY: atomics, of which zeroes are some.
    ALL.get_or_init(|| unsafe { Family::zeroed() }.ok()).as_deref()
}

fn bit(number: u32) -> u64 {
    match number {
        0 => NAMELESS,
        number => 1 << (number - 1),
    }
}

fn seconds() -> u64 {
    crate::kernel::now() / 1_000_000_000
}

fn is_alive(entry: u64) -> bool {
    if entry >= EXPECTED {
        return seconds().saturating_sub(entry >> 32) <= PATIENCE;
    }
    let process = rustix::process::Pid::from_raw(entry as i32);
    process.is_some_and(|process| rustix::process::test_kill_process(process) != Err(rustix::io::Errno::SRCH))
}

/// Takes a number for what `entry` says: 0 if there is none left.
fn take(entry: u64) -> u32 {
    let Some(relatives) = relatives() else { return 0 };
    let taken = relatives.all.iter().position(|place| {
        let before = place.load(Acquire);
        let free = before == 0 || !is_alive(before);
        free && place.compare_exchange(before, entry, AcqRel, Relaxed).is_ok()
    });
    taken.map_or(0, |at| at as u32 + 1)
}

/// This process's bit.
pub fn own() -> u64 {
    if OWN.load(Relaxed) == 0 {
        let number = take(u64::from(std::process::id()));
        // Two threads that come first: one number is enough, and the other is found to be this process's as well.
        let _ = OWN.compare_exchange(0, number, AcqRel, Relaxed);
    }
    bit(OWN.load(Relaxed))
}

/// The bit of a child that is about to be forked.
pub fn expect() -> u64 {
    own();
    let number = take(seconds().max(1) << 32);
    CHILD.store(number, Relaxed);
    bit(number)
}

/// In that child.
pub fn born() {
    let number = CHILD.load(Relaxed);
    OWN.store(number, Relaxed);
    if let (Some(relatives), Some(at)) = (relatives(), (number as usize).checked_sub(1)) {
        relatives.all[at].store(u64::from(std::process::id()), Release);
    }
}

/// Whether any of these but this process is alive.
pub fn any(bits: u64) -> bool {
    let others = bits & !own();
    let Some(relatives) = relatives() else { return others != 0 };
    others & NAMELESS != 0 || (0..MOST).any(|at| others & 1 << at != 0 && is_alive(relatives.all[at].load(Acquire)))
}
