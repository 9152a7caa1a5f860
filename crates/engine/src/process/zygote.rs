//! The process that blanks are cloned from: nothing of the engine's but the arena's descriptor, and the stub.
//!
//! It is forked from the engine, which is expensive, once; lays out the stub and what the kernel has to know of it; gives up
//! everything; and jumps there. What it is, all blanks are: each costs a clone of a few pages.
//!
//! Not here: which blanks there are (`nursery`).

use super::stub::{self, ALTSTACK, ALTSTACK_LEN, CONTROL, CONTROL_LEN, STUB, STUB_LEN, head};
use super::{filter, nursery};
use libc::c_long;
use os::mapping::Mapping;
use os::process::End;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The arena's number in zygotes and blanks.
pub const ARENA: i32 = 3;
/// Signals that faults become. The rest ends a guest as it ends any program.
const FAULTS: [i32; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];
const SA_RESTORER: u64 = 0x0400_0000;

/// A zygote, and the pages that it shares with the engine.
#[derive(Debug)]
pub struct Zygote {
    pub process: OwnedFd,
    pub control: Mapping,
}

/// As the kernel has it.
#[repr(C)]
struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// What the child needs, made before it is.
struct Setup<'a> {
    control: BorrowedFd<'a>,
    arena: BorrowedFd<'a>,
    stub: &'static [u8],
    filter: libc::sock_fprog,
}

impl Zygote {
    /// Starts one. It, and all its blanks, end with the calling thread.
    pub fn start(arena: BorrowedFd<'_>) -> io::Result<Self> {
        let file = os::memfd::sealed("lichen-blanks", CONTROL_LEN as u64)?;
        let control = Mapping::shared(&file, CONTROL_LEN)?;
        nursery::number(&control, head::ENGINE).store(std::process::id(), std::sync::atomic::Ordering::SeqCst);
        let mut program = filter::program();
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        let setup = Setup { control: file.as_fd(), arena, stub: stub::code(), filter };
        // SAFETY: the child makes system calls and reads what was made before; it takes no lock and allocates nothing.
        let child = unsafe { syscall(libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]) };
        match child {
            ..0 => return Err(io::Error::last_os_error()),
            0 => live(&setup),
            _ => {}
        }
        let end = os::process::wait(child as i32)?;
        let zygote = nursery::number(&control, head::ZYGOTE).load(std::sync::atomic::Ordering::SeqCst) as i32;
        match end {
            End::Exit(0) if zygote > 0 => Ok(Self { process: os::pidfd::open(zygote)?, control }),
            // The step at which it failed, and why.
            End::Exit(step) if step > 0 => Err(io::Error::other(format!("the zygote was refused step {step}"))),
            _ => Err(io::Error::other(format!("the zygote could not be cloned: {end:?}, {zygote}"))),
        }
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        let _ = os::pidfd::kill(&self.process);
        let _ = nursery::reap(&self.process);
    }
}

/// The child: never comes back.
fn live(setup: &Setup<'_>) -> ! {
    let step = match prepare(setup) {
        Ok(()) => {
            // SAFETY: the stub lies there, as `prepare` has seen to, and uses nothing of what is here.
            unsafe { std::arch::asm!("jmp {}", in(reg) STUB, options(noreturn)) }
        }
        Err(step) => step,
    };
    os::process::exit_now(step)
}

/// A system call: every argument a whole word, as the kernel takes it.
///
/// # Safety
/// As the call's.
unsafe fn syscall(number: c_long, arguments: [u64; 6]) -> c_long {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: by the contract.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

/// The number of the step that failed.
fn done(step: i32, result: c_long) -> Result<(), i32> {
    if result < 0 { Err(step) } else { Ok(()) }
}

fn prepare(setup: &Setup<'_>) -> Result<(), i32> {
    let (read_write, fixed) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_FIXED_NOREPLACE);
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | fixed;
    let control = setup.control.as_raw_fd();
    // SAFETY: fresh mappings where nothing is, since the kernel refuses to replace any; then the stub's bytes into one.
    unsafe {
        done(
            1,
            syscall(
                libc::SYS_mmap,
                [CONTROL, CONTROL_LEN as u64, read_write as u64, (libc::MAP_SHARED | fixed) as u64, control as u64, 0],
            ),
        )?;
        done(2, syscall(libc::SYS_mmap, [STUB, STUB_LEN as u64, read_write as u64, private as u64, u64::MAX, 0]))?;
        done(
            3,
            syscall(libc::SYS_mmap, [ALTSTACK, ALTSTACK_LEN as u64, read_write as u64, private as u64, u64::MAX, 0]),
        )?;
        std::ptr::copy_nonoverlapping(setup.stub.as_ptr(), STUB as *mut u8, STUB_LEN);
        done(
            4,
            syscall(libc::SYS_mprotect, [STUB, STUB_LEN as u64, (libc::PROT_READ | libc::PROT_EXEC) as u64, 0, 0, 0]),
        )?;
    }
    signals()?;
    give_up(setup)
}

/// Faults go to the stub, and all other signals do what they do to any program.
fn signals() -> Result<(), i32> {
    let default = Action { handler: 0, flags: 0, restorer: 0, mask: 0 };
    let flags = libc::SA_SIGINFO as u64 | libc::SA_ONSTACK as u64 | SA_RESTORER;
    // While one is handled, another is the end.
    let fault = Action { handler: stub::HANDLER, flags, restorer: stub::RESTORER, mask: 0 };
    for signal in (1..=64).filter(|signal| *signal != libc::SIGKILL && *signal != libc::SIGSTOP) {
        let action = if FAULTS.contains(&signal) { &fault } else { &default };
        // SAFETY: the kernel reads one structure of its own layout.
        done(5, unsafe { syscall(libc::SYS_rt_sigaction, [signal as u64, &raw const *action as u64, 0, 8, 0, 0]) })?;
    }
    let none = 0_u64;
    // SAFETY: the kernel reads one number.
    unsafe {
        done(6, syscall(libc::SYS_rt_sigprocmask, [libc::SIG_SETMASK as u64, &raw const none as u64, 0, 8, 0, 0]))
    }
}

/// Limits, descriptors, privileges, and at last the system calls.
fn give_up(setup: &Setup<'_>) -> Result<(), i32> {
    let nothing = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let (arena, none) = (setup.arena.as_raw_fd(), 0);
    // SAFETY: integers, and structures of the kernel's own layout that outlive the calls.
    unsafe {
        done(7, syscall(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as u64, &raw const nothing as u64, 0, 0, 0]))?;
        // It waits its turn: a blank that is being made must not come before the answer that the engine is about to send.
        done(8, syscall(libc::SYS_sched_setscheduler, [0, libc::SCHED_BATCH as u64, &raw const none as u64, 0, 0, 0]))?;
        if arena != ARENA {
            done(9, syscall(libc::SYS_dup2, [arena as u64, ARENA as u64, 0, 0, 0, 0]))?;
        }
        done(10, syscall(libc::SYS_close_range, [0, (ARENA - 1) as u64, 0, 0, 0, 0]))?;
        done(11, syscall(libc::SYS_close_range, [(ARENA + 1) as u64, u32::MAX.into(), 0, 0, 0, 0]))?;
        done(12, syscall(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 0, 0, 0, 0, 0]))?;
        done(13, syscall(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0]))?;
        done(
            15,
            syscall(
                libc::SYS_seccomp,
                [libc::SECCOMP_SET_MODE_FILTER as u64, 0, &raw const setup.filter as u64, 0, 0, 0],
            ),
        )
    }
}
