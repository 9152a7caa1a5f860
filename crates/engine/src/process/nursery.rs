//! Blanks, made ahead of time.
//!
//! ```text
//!  slot   free ──wanted──▶ the zygote clones ──process id──▶ spare ──told to go──▶ a guest ──ended, reaped──▶ free
//! ```
//!
//! A few are always there. A new one is wanted when a run is over, so that it is made while the engine waits for work.
//!
//! Not here: what a guest is.

use super::stub::{CALLS, QUEUE, SLOTS, head, slot};
use super::zygote::Zygote;
use os::mapping::Mapping;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Blanks that are kept ready.
const SPARE: usize = 3;
/// How long a zygote may take to make one, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that has not yet been told what to be. Ends when dropped.
#[derive(Debug)]
pub struct Blank {
    process: OwnedFd,
    slot: usize,
}

/// A system call that a blank is to make: its number, its arguments, and what it has to answer.
pub type Call = [u64; 8];

/// How a guest has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Exit(i32),
    Signal(i32),
}

#[derive(Debug)]
pub struct Nursery {
    zygote: Zygote,
    wanted: u32,
    free: Vec<usize>,
    coming: VecDeque<usize>,
    spare: VecDeque<Blank>,
}

/// A number that is shared with zygote and blanks. `at` is one of the offsets in `stub`.
pub fn number(control: &Mapping, at: usize) -> &AtomicU32 {
    assert!(at.is_multiple_of(4) && at + 4 <= control.len(), "no number lies at {at}");
    // SAFETY: aligned and in bounds, by the assertion; all sides use it as an atomic.
    unsafe { AtomicU32::from_ptr(control.at(at).cast()) }
}

fn page(slot: usize) -> usize {
    4096 * (1 + slot)
}

/// Wakes whoever waits for a change of this number.
fn wake(number: &AtomicU32) {
    // SAFETY: an address that is mapped; waking touches no memory.
    unsafe { libc::syscall(libc::SYS_futex, number.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// Waits for a change of this number from `old`, but not for ever.
fn wait_for(number: &AtomicU32, old: u32, most: Duration) {
    let most = libc::timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
    // SAFETY: an address that is mapped, and a structure that outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, number.as_ptr(), libc::FUTEX_WAIT, old, &raw const most) };
}

/// Waits until the process has ended, and takes its status; and how many faults it has had.
pub fn reap(process: impl AsFd) -> io::Result<(Ended, u64)> {
    loop {
        // SAFETY: empty structures of integers, which the kernel fills.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
        let id = process.as_fd().as_raw_fd() as libc::c_ulong;
        let (kind, options) = (libc::P_PIDFD as libc::c_ulong, libc::WEXITED | libc::__WALL);
        // SAFETY: the kernel writes both structures. The C library's call has no place for the second one.
        let result = unsafe { libc::syscall(libc::SYS_waitid, kind, id, &raw mut info, options, &raw mut usage) };
        if result == 0 {
            // SAFETY: the call has succeeded, so these fields are there.
            let status = unsafe { info.si_status() };
            let ended = if info.si_code == libc::CLD_EXITED { Ended::Exit(status) } else { Ended::Signal(status) };
            return Ok((ended, usage.ru_minflt as u64));
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

impl Nursery {
    /// For guests whose memory is in `arena`.
    pub fn new(arena: BorrowedFd<'_>) -> io::Result<Self> {
        let zygote = Zygote::start(arena)?;
        let (free, coming, spare) = ((0..SLOTS).collect(), VecDeque::new(), VecDeque::new());
        let mut nursery = Self { zygote, wanted: 0, free, coming, spare };
        nursery.refill();
        Ok(nursery)
    }

    /// Wants as many blanks as are missing.
    pub fn refill(&mut self) {
        let mut asked = false;
        while self.spare.len() + self.coming.len() < SPARE
            && let Some(slot) = self.free.pop()
        {
            self.want(slot);
            asked = true;
        }
        if asked {
            wake(number(&self.zygote.control, head::WANTED));
        }
    }

    fn want(&mut self, slot: usize) {
        let control = &self.zygote.control;
        for at in (slot::GO..slot::CALLS).step_by(4) {
            number(control, page(slot) + at).store(0, Ordering::Relaxed);
        }
        let place = head::QUEUE + 4 * (self.wanted % QUEUE) as usize;
        number(control, place).store(slot as u32, Ordering::Relaxed);
        self.wanted = self.wanted.wrapping_add(1);
        number(control, head::WANTED).store(self.wanted, Ordering::Release);
        self.coming.push_back(slot);
    }

    /// A blank. Waits if none is ready.
    pub fn take(&mut self) -> io::Result<Blank> {
        if let Some(blank) = self.spare.pop_front() {
            return Ok(blank);
        }
        self.refill();
        let slot = self.coming.pop_front().ok_or_else(|| io::Error::other("all slots for blanks are taken"))?;
        let pid = number(&self.zygote.control, page(slot) + slot::PID);
        let begin = Instant::now();
        while pid.load(Ordering::Acquire) == 0 {
            if os::pidfd::has_ended(&self.zygote.process) || begin.elapsed() > PATIENCE {
                self.coming.push_front(slot);
                return Err(io::Error::other("the zygote makes no blanks any more"));
            }
            wait_for(pid, 0, Duration::from_millis(100));
        }
        self.adopt(slot)
    }

    /// The blank that has come into this slot.
    fn adopt(&mut self, slot: usize) -> io::Result<Blank> {
        let pid = number(&self.zygote.control, page(slot) + slot::PID).load(Ordering::Acquire) as i32;
        let opened = if pid > 0 { os::pidfd::open(pid) } else { Err(io::Error::from_raw_os_error(-pid)) };
        match opened {
            Ok(process) => Ok(Blank { process, slot }),
            Err(error) => {
                self.free.push(slot);
                Err(error)
            }
        }
    }

    /// Takes in those that have come meanwhile, so that no run has to.
    pub fn gather(&mut self) {
        while let Some(&slot) = self.coming.front()
            && number(&self.zygote.control, page(slot) + slot::PID).load(Ordering::Acquire) != 0
        {
            self.coming.pop_front();
            if let Ok(blank) = self.adopt(slot) {
                self.spare.push_back(blank);
            }
        }
    }

    /// Tells a blank what to do: system calls, then to jump. More calls than fit are a mistake of the caller's.
    pub fn go(&self, blank: &Blank, calls: &[Call], entry: u64, stack: u64) {
        assert!(calls.len() <= CALLS, "{} calls do not fit", calls.len());
        let (control, page) = (&self.zygote.control, page(blank.slot));
        let write = |at: usize, value: u64| {
            assert!(at + 8 <= 4096, "{at} is not in a slot's page");
            // SAFETY: aligned and in bounds; the blank reads it after it is told to go, by which it is ordered.
            unsafe { control.at(page + at).cast::<u64>().write(value) };
        };
        for (n, call) in calls.iter().enumerate() {
            for (m, value) in call.iter().enumerate() {
                write(slot::CALLS + n * slot::CALL + 8 * m, *value);
            }
        }
        write(slot::COUNT, calls.len() as u64);
        write(slot::ENTRY, entry);
        write(slot::STACK, stack);
        let go = number(control, page + slot::GO);
        go.store(1, Ordering::Release);
        wake(go);
    }

    /// What a system call has answered that it should not have: the negative error.
    pub fn failure(&self, blank: &Blank) -> i32 {
        number(&self.zygote.control, page(blank.slot) + slot::FAILED).load(Ordering::Acquire) as i32
    }

    /// The blank has ended, and was reaped.
    pub fn retire(&mut self, blank: Blank) {
        self.free.push(blank.slot);
    }
}

impl Blank {
    /// A descriptor of the process: readable when it has ended.
    pub fn process(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Ends it.
    pub fn kill(&self) {
        let _ = os::pidfd::kill(&self.process);
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        // The zygote first, and then what it has made, to the last one.
        let _ = os::pidfd::kill(&self.zygote.process);
        for slot in std::mem::take(&mut self.coming) {
            let pid = number(&self.zygote.control, page(slot) + slot::PID).load(Ordering::Acquire) as i32;
            if let Some(process) = (pid > 0).then(|| os::pidfd::open(pid).ok()).flatten() {
                self.spare.push_back(Blank { process, slot });
            }
        }
        for blank in &self.spare {
            blank.kill();
            let _ = reap(&blank.process);
        }
    }
}
