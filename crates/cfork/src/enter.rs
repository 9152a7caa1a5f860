//! How a child gets into its slot.
//!
//! A process can enter a pid namespace only by having a child there, and the address space of a language runtime is what
//! a fork pays for. So the template makes an *intermediate* that shares its memory (no copy, the template sleeps
//! meanwhile, as with vfork), which enters all seven namespaces and then forks properly, once:
//!
//! ```text
//! template  ──vfork──╮ (asleep)                    ╭── pid of the child
//!                    ╰ intermediate: cgroups, setns ×7, fork ┤── _exit
//!                                                   ╰ child: in the slot, full capabilities there, returns to our caller
//! ```
//!
//! No privilege is needed in the template: the slot's user namespace is a child of the template's own, owned by the
//! template's uid, and an owner has every capability in a namespace below (user_namespaces(7)). The child gives them all
//! up as its last step.

use os::ns::{self, Kinds};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What [`fork_into_slot`] answers: in the template the child's pid as the template's pid namespace counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    Template(i32),
    Child,
}

struct Handover<'a> {
    slot: BorrowedFd<'a>,
    entrances: &'a [OwnedFd],
    /// Where the child may run.
    processors: Option<CpuSet>,
    /// The child's pid, or the negated number of the error that prevented it.
    result: i64,
}

/// Keeps this thread on the processor that it is on: the processors that it could use until now.
///
/// A fork goes through the records of all pages. This processor has them in its cache; on another one, where an idle
/// machine would put the intermediate, it takes up to twice as long.
fn stay_here() -> Option<CpuSet> {
    let processors = sched_getaffinity(None).ok()?;
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    sched_setaffinity(None, &here).ok().map(|()| processors)
}

fn go_anywhere(processors: Option<&CpuSet>) {
    if let Some(processors) = processors {
        // Who may not go elsewhere stays.
        let _ = sched_setaffinity(None, processors);
    }
}

/// Forks; the child comes to life in the namespaces of the process `slot`, and in the cgroups whose `entrances` these are.
///
/// The intermediate enters the cgroups, each by writing "0" to a file that the worker has opened: a task that moves itself
/// waits for no grace period. What the kernel needs for the child is so charged to the child's group, not its template's.
///
/// # Safety
/// The calling process must have one thread, or only further ones that the child will not miss: they do not exist in it,
/// and locks that they hold stay locked.
pub unsafe fn fork_into_slot(slot: impl AsFd, entrances: &[OwnedFd]) -> io::Result<Entered> {
    let mut handover = Handover { slot: slot.as_fd(), entrances, processors: stay_here(), result: 0 };
    // SAFETY: `intermediate` gets a pointer to a Handover that lives until it has returned or exited.
    let pid = unsafe { vfork_call(intermediate, (&raw mut handover).cast()) };
    go_anywhere(handover.processors.as_ref());
    match pid {
        0 => Ok(Entered::Child),
        1.. => {
            os::process::wait(pid as i32)?;
            if handover.result > 0 {
                Ok(Entered::Template(handover.result as i32))
            } else {
                Err(io::Error::from_raw_os_error(-handover.result as i32))
            }
        }
        _ => Err(io::Error::from_raw_os_error(-pid as i32)),
    }
}

/// Runs in the template's memory, in a process of its own. Returns in the child only.
unsafe extern "C" fn intermediate(handover: *mut c_void) {
    // SAFETY: `fork_into_slot` passes its Handover, and sleeps while this runs.
    let handover = unsafe { &mut *handover.cast::<Handover<'_>>() };
    let enter = || -> io::Result<()> {
        for entrance in handover.entrances {
            rustix::io::write(entrance, b"0")?;
        }
        ns::enter(handover.slot, Kinds::ALL)
    };
    handover.result = match enter() {
        // The C library's fork, with its handlers: libraries that know about forks (OpenSSL, OpenBLAS) hear of it.
        // SAFETY: by the contract of `fork_into_slot`.
        Ok(()) => match unsafe { libc::fork() } {
            0 => return,
            -1 => -i64::from(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN)),
            pid => pid.into(),
        },
        Err(error) => -i64::from(error.raw_os_error().unwrap_or(libc::EPERM)),
    };
    os::process::exit_now(0);
}

/// Calls `run(argument)` in a new process that shares this one's memory and stack, while the caller sleeps. Answers the
/// new process's pid, or a negated error number, once that process has ended. Should `run` return, which it may do only in
/// a process with memory of its own, this answers 0 there.
///
/// # Safety
/// `run` must end its process rather than return, unless it has forked and is the child of that fork.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn vfork_call(run: unsafe extern "C" fn(*mut c_void), argument: *mut c_void) -> i64 {
    // The new process grows its stack below the return address at [rsp], which the caller still needs, and never touches
    // what is above. r8 and r9 survive a system call.
    std::arch::naked_asm!(
        "mov r8, rdi",
        "mov r9, rsi",
        "mov eax, {clone}",
        "mov edi, {flags}",
        "xor esi, esi",
        "xor edx, edx",
        "xor r10d, r10d",
        "syscall",
        "test rax, rax",
        "jnz 2f",
        "sub rsp, 8",
        "mov rdi, r9",
        "call r8",
        "add rsp, 8",
        "xor eax, eax",
        "2: ret",
        clone = const libc::SYS_clone,
        flags = const libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
    )
}

#[cfg(not(target_arch = "x86_64"))]
compile_error!("vfork_call is written for x86-64 only");

#[cfg(test)]
mod tests {
    use super::*;

    /// Exits with 7 in a process that shares our memory, after writing to it.
    unsafe extern "C" fn write_and_exit(argument: *mut c_void) {
        // SAFETY: the test passes a u64.
        unsafe { *argument.cast::<u64>() = 42 };
        os::process::exit_now(7);
    }

    #[test]
    fn the_new_process_shares_memory_and_the_caller_goes_on() {
        let mut value = 0u64;
        // SAFETY: the callee exits.
        let pid = unsafe { vfork_call(write_and_exit, (&raw mut value).cast()) };
        assert_eq!(value, 42);
        assert_eq!(os::process::wait(pid as i32).unwrap(), os::process::End::Exit(7));
    }

    /// Forks, as `intermediate` does; the child returns.
    unsafe extern "C" fn fork_and_return(argument: *mut c_void) {
        // SAFETY: the child only exits.
        match unsafe { libc::fork() } {
            0 => (),
            pid => {
                // SAFETY: the test passes an i64.
                unsafe { *argument.cast::<i64>() = pid.into() };
                os::process::exit_now(0);
            }
        }
    }

    #[test]
    fn a_child_of_the_new_process_returns_with_its_own_memory() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut child = 0i64;
        // SAFETY: the callee exits, or returns in its own child.
        let pid = unsafe { vfork_call(fork_and_return, (&raw mut child).cast()) };
        if pid == 0 {
            let _ = rustix::io::write(&writer, b"child");
            os::process::exit_now(0);
        }
        os::process::wait(pid as i32).unwrap();
        assert!(child > 0);
        let mut text = [0; 5];
        io::Read::read_exact(&mut reader, &mut text).unwrap();
        assert_eq!(&text, b"child");
    }

    #[test]
    fn a_slot_that_is_not_ours_is_refused() {
        let own = os::pidfd::open(std::process::id() as i32).unwrap();
        let processors = sched_getaffinity(None).unwrap();
        // SAFETY: the entering fails, so nothing is forked: one's own user namespace cannot be entered again.
        assert!(unsafe { fork_into_slot(&own, &[]) }.is_err());
        assert!(sched_getaffinity(None).unwrap() == processors, "the template stays on one processor");
    }
}
