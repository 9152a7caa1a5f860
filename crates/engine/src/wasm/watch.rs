//! Deadlines and cancellation that cost a guest nothing until they come.
//!
//! ```text
//!  deadline or cancel ──signal──▶ where is the thread?
//!     in the guest's functions ──▶ go on at the landing: an instruction that traps. The engine unwinds the run
//!     between guest and host ────▶ take one step, and look again
//!     in the host ───────────────▶ lock the guest's code (not executable): coming back to it is a fault
//!                        fault ──▶ unlock, and look where
//! ```
//!
//! No check is compiled into guests. One timer per thread is armed when a run's deadline comes earlier than the time for
//! which it is armed already, and else left alone: a run costs no system call, and a timer that comes too early looks
//! again. What must not be left in the middle are the few instructions by which host and guest call each other: there,
//! the processor takes single steps until it is in a function of the guest's, or in the host. In the host the signal comes
//! again a millisecond later.
//!
//! The handler runs on the thread that it is about, and touches only this module's atomics: it never waits.

use crate::stop::{Stop, Why, signal};
use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed, compiler_fence};

/// How soon a signal that met the host comes again.
const AGAIN: u64 = 1_000_000;
const NEVER: u64 = u64::MAX;

/// Compiled code of one program, as it lies in memory.
#[derive(Debug)]
pub struct Text {
    pub base: usize,
    pub len: usize,
    /// Ranges, in order, within which a guest may be stopped anywhere.
    pub safe: Box<[(u32, u32)]>,
}

impl Text {
    fn contains(&self, pc: usize) -> bool {
        pc.wrapping_sub(self.base) < self.len
    }

    /// Whether a guest may be stopped at `pc`: it is its own code, or on the way from there to the host.
    fn is_safe(&self, pc: usize) -> bool {
        let Ok(at) = u32::try_from(pc.wrapping_sub(self.base)) else { return false };
        let after = self.safe.partition_point(|range| range.0 <= at);
        after > 0 && at < self.safe[after - 1].1
    }

    fn set_executable(&self, executable: bool) {
        let rights = libc::PROT_READ | if executable { libc::PROT_EXEC } else { 0 };
        // SAFETY: the range is the code of a program that its owner keeps mapped; reading it stays possible.
        unsafe { libc::mprotect(self.base as *mut c_void, self.len.next_multiple_of(4096), rights) };
    }
}

/// What the signal handler looks at. One per thread.
struct Watch {
    /// A signal has come since that was asked last.
    came: AtomicBool,
    running: AtomicBool,
    deadline: AtomicU64,
    /// When the timer will fire.
    armed: AtomicU64,
    /// The timer's number and 1, or 0.
    timer: AtomicUsize,
    why: AtomicU8,
    locked: AtomicBool,
    stop: AtomicPtr<Stop>,
    text: AtomicPtr<Text>,
    landing: AtomicUsize,
}

thread_local! {
    static WATCH: Watch = const {
        Watch {
            came: AtomicBool::new(false),
            running: AtomicBool::new(false),
            deadline: AtomicU64::new(NEVER),
            armed: AtomicU64::new(NEVER),
            timer: AtomicUsize::new(0),
            why: AtomicU8::new(0),
            locked: AtomicBool::new(false),
            stop: AtomicPtr::new(std::ptr::null_mut()),
            text: AtomicPtr::new(std::ptr::null_mut()),
            landing: AtomicUsize::new(0),
        }
    };
    static TIMER: RefCell<Option<Timer>> = const { RefCell::new(None) };
}

/// The thread's timer, deleted with the thread.
struct Timer(c_int);

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer was made by this thread, and is deleted once.
        unsafe { libc::syscall(libc::SYS_timer_delete, self.0) };
    }
}

/// Why the run on this thread is to end, if it is.
pub fn told() -> Option<Why> {
    WATCH.with(|watch| match watch.why.load(Relaxed) {
        0 => None,
        1 => Some(Why::Cancelled),
        _ => Some(Why::Deadline),
    })
}

/// Whether a signal has come to this thread since this was asked: it has left registers on the stack for signals.
pub fn has_signalled() -> bool {
    WATCH.with(|watch| watch.came.swap(false, Relaxed))
}

/// A run that is watched. Not to be nested on one thread.
pub struct Watched<'a>(&'a Stop);

impl<'a> Watched<'a> {
    /// From now on the run ends at `deadline` (of `CLOCK_MONOTONIC`), or when `stop` says so.
    pub fn begin(stop: &'a Stop, deadline: u64, text: &'a Text, landing: usize) -> io::Result<Self> {
        WATCH.with(|watch| {
            if watch.timer.load(Relaxed) == 0 {
                watch.prepare()?;
            }
            watch.why.store(0, Relaxed);
            watch.stop.store(std::ptr::from_ref(stop).cast_mut(), Relaxed);
            watch.text.store(std::ptr::from_ref(text).cast_mut(), Relaxed);
            watch.landing.store(landing, Relaxed);
            watch.deadline.store(deadline, Relaxed);
            compiler_fence(std::sync::atomic::Ordering::SeqCst);
            watch.running.store(true, Relaxed);
            compiler_fence(std::sync::atomic::Ordering::SeqCst);
            if watch.armed.load(Relaxed) > deadline {
                watch.arm(deadline);
            }
            stop.enter(thread_id());
            // Who cancelled before saw no thread to tell.
            if stop.is_cancelled() {
                watch.why.store(1, Relaxed);
                watch.arm(os::monotonic_ns() + 1);
            }
            Ok(Self(stop))
        })
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.leave();
        WATCH.with(|watch| {
            watch.running.store(false, Relaxed);
            compiler_fence(std::sync::atomic::Ordering::SeqCst);
            if watch.locked.swap(false, Relaxed) {
                watch.text().set_executable(true);
            }
            watch.why.store(0, Relaxed);
        });
    }
}

fn thread_id() -> i32 {
    thread_local! { static ID: i32 = rustix::thread::gettid().as_raw_nonzero().get(); }
    ID.with(|id| *id)
}

impl Watch {
    fn text(&self) -> &Text {
        // SAFETY: asked only from `begin` to the end of `drop`, when the run's text is borrowed by `Watched`.
        unsafe { &*self.text.load(Relaxed) }
    }

    /// Makes the thread's timer, and the process's handler.
    fn prepare(&self) -> io::Result<()> {
        static HANDLER: OnceLock<bool> = OnceLock::new();
        if !*HANDLER.get_or_init(install) {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: an all-zero sigevent is valid storage; what matters is set below.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal();
        event.sigev_notify_thread_id = thread_id();
        let mut timer: c_int = 0;
        // SAFETY: the kernel reads the event and writes the timer's number; both are ours.
        let done = unsafe { libc::syscall(libc::SYS_timer_create, libc::CLOCK_MONOTONIC, &event, &mut timer) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        TIMER.with_borrow_mut(|own| *own = Some(Timer(timer)));
        self.timer.store(timer as usize + 1, Relaxed);
        Ok(())
    }

    /// The timer fires at `at`, and not before. Also from the handler.
    fn arm(&self, at: u64) {
        self.armed.store(at, Relaxed);
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let at = libc::timespec { tv_sec: (at / 1_000_000_000) as i64, tv_nsec: (at % 1_000_000_000) as i64 };
        let when = libc::itimerspec { it_interval: zero, it_value: at };
        let timer = self.timer.load(Relaxed).wrapping_sub(1) as c_int;
        let none: *mut libc::itimerspec = std::ptr::null_mut();
        // SAFETY: the kernel reads `when`, and knows the timer's number.
        unsafe { libc::syscall(libc::SYS_timer_settime, timer, libc::TIMER_ABSTIME, &when, none) };
    }

    /// The signal has come.
    fn fire(&self, context: &mut libc::ucontext_t) {
        self.armed.store(NEVER, Relaxed);
        if !self.running.load(Relaxed) {
            return;
        }
        // SAFETY: the run goes on, and borrows its stop.
        let cancelled = unsafe { (*self.stop.load(Relaxed)).is_cancelled() };
        let deadline = self.deadline.load(Relaxed);
        if !cancelled && os::monotonic_ns() < deadline {
            return self.arm(deadline);
        }
        self.why.store(if cancelled { 1 } else { 2 }, Relaxed);
        if !self.divert(context) {
            if !self.locked.swap(true, Relaxed) {
                self.text().set_executable(false);
            }
            self.arm(os::monotonic_ns() + AGAIN);
        }
    }

    /// Sends the guest to the landing, if it is where it may be stopped.
    /// Answers whether it is in the guest's code at all: if it may not be stopped there, it takes one step.
    fn divert(&self, context: &mut libc::ucontext_t) -> bool {
        let pc = counter(context);
        let at = *pc as usize;
        let safe = self.text().is_safe(at);
        if safe {
            *pc = self.landing.load(Relaxed) as _;
        }
        let within = self.text().contains(at);
        single_step(context, within && !safe);
        within && (safe || CAN_STEP)
    }

    /// A step was taken.
    fn stepped(&self, context: &mut libc::ucontext_t) {
        if !self.running.load(Relaxed) {
            single_step(context, false);
        } else if !self.divert(context) {
            self.arm(os::monotonic_ns() + AGAIN);
        }
    }

    /// A fault: whether it is the lock's.
    fn fault(&self, context: &mut libc::ucontext_t) -> bool {
        if !self.locked.load(Relaxed) || !self.text().contains(*counter(context) as usize) {
            return false;
        }
        self.locked.store(false, Relaxed);
        self.text().set_executable(true);
        if !self.divert(context) {
            self.arm(os::monotonic_ns() + AGAIN);
        }
        true
    }
}

const CAN_STEP: bool = cfg!(target_arch = "x86_64");

/// Whether the thread stops again after one instruction.
#[cfg(target_arch = "x86_64")]
fn single_step(context: &mut libc::ucontext_t, on: bool) {
    const TRAP_FLAG: i64 = 0x100;
    let flags = &mut context.uc_mcontext.gregs[libc::REG_EFL as usize];
    *flags = if on { *flags | TRAP_FLAG } else { *flags & !TRAP_FLAG };
}

/// Elsewhere only a debugger can step: the signal comes again.
#[cfg(target_arch = "aarch64")]
fn single_step(_: &mut libc::ucontext_t, _: bool) {}

#[cfg(target_arch = "x86_64")]
fn counter(context: &mut libc::ucontext_t) -> &mut i64 {
    &mut context.uc_mcontext.gregs[libc::REG_RIP as usize]
}

#[cfg(target_arch = "aarch64")]
fn counter(context: &mut libc::ucontext_t) -> &mut u64 {
    &mut context.uc_mcontext.pc
}

/// Where the thread was when a signal came.
pub fn at(context: *const c_void) -> usize {
    // SAFETY: the kernel's, and nobody else's while the handler runs.
    *counter(unsafe { &mut *context.cast_mut().cast::<libc::ucontext_t>() }) as usize
}

/// For the engine's handler of traps, which are signals: whether it was a fault of ours, and the guest may go on.
pub fn on_trap(number: c_int, context: *const c_void) -> bool {
    // SAFETY: the kernel's, on this thread's signal stack, and nobody else's while the handler runs.
    let context = unsafe { &mut *context.cast_mut().cast::<libc::ucontext_t>() };
    WATCH.with(|watch| {
        watch.came.store(true, Relaxed);
        number == libc::SIGSEGV && watch.fault(context)
    })
}

extern "C" fn on_signal(number: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: errno is this thread's own; what was interrupted must not see a change.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: as in `on_trap`.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    WATCH.with(|watch| {
        watch.came.store(true, Relaxed);
        if number == libc::SIGTRAP { watch.stepped(context) } else { watch.fire(context) }
    });
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn install() -> bool {
    // SAFETY: an all-zero sigaction is a valid one; it is filled in below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the handler only touches atomics and makes system calls; nobody else uses these signals.
    unsafe {
        libc::sigaction(signal(), &action, std::ptr::null_mut()) == 0
            && libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_guests_own_code_is_safe() {
        let text = Text { base: 0x1000, len: 0x1000, safe: Box::new([(0, 0x10), (0x40, 0x80)]) };
        for (pc, safe) in [(0xfff, false), (0x1000, true), (0x1010, false), (0x1040, true), (0x107f, true)] {
            assert_eq!(text.is_safe(pc), safe, "{pc:#x}");
        }
        assert!(!text.is_safe(0x1080) && !text.is_safe(usize::MAX) && !text.is_safe(0));
        assert!(text.contains(0x1fff) && !text.contains(0x2000) && !text.contains(0xfff));
    }
}
