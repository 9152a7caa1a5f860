//! Creating processes and telling how they ended.

use crate::ns::Kinds;
use crate::{check, last_error};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Descriptors that a daemon asks for which keeps some for each of many others.
const DESCRIPTORS: u64 = 1 << 18;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

impl End {
    fn from_wait(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Exit(libc::WEXITSTATUS(status))
        }
    }
}

/// What `fork_into` answers: in the parent the child's id, in the child nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    Parent(i32),
    Child,
}

/// Forks into new namespaces of these kinds (or none), without running the C library's fork handlers.
///
/// # Safety
/// The calling process must have one thread: locks held by others would stay locked for ever in the child.
pub unsafe fn fork_into(kinds: Option<Kinds>) -> io::Result<Fork> {
    let flags = kinds.map_or(0, Kinds::bits) | libc::SIGCHLD;
    // SAFETY: a fork: the child gets a copy of everything, on the same stack address. One thread, by the contract.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    Ok(if pid == 0 { Fork::Child } else { Fork::Parent(pid as i32) })
}

/// Forks into new namespaces of these kinds, of which the child is process 1 where they hold processes: it leads this `life`,
/// whose answer is its exit status, and is ended when the calling process is. Refused to a process with several threads.
/// Answers the child's id and a descriptor of it.
pub fn fork_unit(kinds: Kinds, life: impl FnOnce() -> i32) -> io::Result<(i32, OwnedFd)> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads cannot be forked"));
    }
    // SAFETY: one thread, as seen above, and only this one could start another.
    match unsafe { fork_into(Some(kinds)) }? {
        Fork::Parent(pid) => Ok((pid, crate::pidfd::open(pid)?)),
        Fork::Child => {
            let status = match die_with_parent(libc::SIGKILL) {
                Ok(()) => std::panic::catch_unwind(std::panic::AssertUnwindSafe(life)).unwrap_or(101),
                Err(_) => 1,
            };
            exit_now(status)
        }
    }
}

/// Has the calling thread, and those that it starts, preempt nobody when they wake up, and run for so many nanoseconds at a
/// time: of two that have had their share, the one with less goes first. Their share is the usual one. Linux before 6.12
/// knows no such times.
pub fn preempt_nobody(nanoseconds: u64) -> io::Result<()> {
    schedule(libc::SCHED_BATCH, nanoseconds)
}

/// Has the calling thread, and those that it starts, run for so many nanoseconds at a time, and preempt when they wake up whoever has run
/// for long enough, or is one that runs for longer at a time.
pub fn preempt_longer(nanoseconds: u64) -> io::Result<()> {
    schedule(libc::SCHED_OTHER, nanoseconds)
}

fn schedule(policy: libc::c_int, nanoseconds: u64) -> io::Result<()> {
    // SAFETY: an all-zero one is valid storage, which the kernel fills.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes no more bytes than it is told there are.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &mut attr, size_of::<libc::sched_attr>(), 0) })?;
    attr.sched_policy = policy as u32;
    attr.sched_runtime = nanoseconds;
    // SAFETY: the kernel reads as many bytes as `size` says.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &attr, 0) }).map(drop)
}

/// Reaps one ended child, if there is one.
pub fn reap() -> Option<(i32, End)> {
    let mut status = 0;
    // SAFETY: the kernel writes one int.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    (pid > 0).then(|| (pid, End::from_wait(status)))
}

/// Waits for this child.
pub fn wait(pid: i32) -> io::Result<End> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one int.
        if unsafe { libc::waitpid(pid, &mut status, libc::__WALL) } >= 0 {
            return Ok(End::from_wait(status));
        }
        let error = last_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Ends the calling process at once: no destructors, no buffers flushed.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit does not return.
    unsafe { libc::_exit(status) }
}

/// Ends the calling process by this signal, whatever it has set up for it; with a status that tells of it where that fails.
pub fn end_by(signal: i32) -> ! {
    // SAFETY: integers only: the default disposition installs no code.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
    }
    exit_now(128 + signal)
}

/// Real, effective and saved user and group ids of the calling thread.
pub fn become_ids(uid: u32, gid: u32) -> io::Result<()> {
    // The raw calls: the C library's would try to do it for threads that a fork has not copied.
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// The effective user id of the calling thread only; the saved one stays, so that the way back is open.
pub fn become_effective(uid: u32) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, -1, uid, -1) }).map(drop)
}

/// Whether others of the same user may look into this process (/proc, ptrace).
pub fn set_dumpable(yes: bool) {
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, i32::from(yes), 0, 0, 0) };
}

/// No program that this process runs can gain a privilege.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// The signal that this process gets when the thread that made it ends.
pub fn die_with_parent(signal: i32) -> io::Result<()> {
    // SAFETY: integers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) }.into()).map(drop)
}

/// The name that `ps` and `top` show, 15 bytes at most.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the kernel reads a terminated string.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) {
    // SAFETY: the caller's contract in spirit: used between fork and exec, or where the process owns nothing above.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Every descriptor from `first` on is closed by an exec.
pub fn shut_on_exec_from(first: u32) {
    // SAFETY: integers only. A kernel that does not know the flag (before 5.11) leaves them as they are.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Makes descriptor number `to` name what `from` names; it survives an exec.
pub fn place(from: impl AsFd, to: i32) -> io::Result<()> {
    let from = from.as_fd().as_raw_fd();
    // SAFETY: integers only.
    let result = if from == to {
        // dup2 to itself would leave close-on-exec set.
        // SAFETY: integers only.
        unsafe { libc::fcntl(from, libc::F_SETFD, 0) }
    } else {
        // SAFETY: integers only.
        unsafe { libc::dup2(from, to) }
    };
    check(result.into()).map(drop)
}

/// Soft and hard limit of a resource (`libc::RLIMIT_*`).
pub fn limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limits = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one rlimit.
    check(unsafe { libc::setrlimit(resource, &limits) }.into()).map(drop)
}

/// As many descriptors as this process may have, and root more than that: how many there may be.
pub fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile).maximum;
    let wanted = limit.map(|limit| limit.max(DESCRIPTORS));
    // Where that is refused, as many as the limit says; where that is refused too, there are as many as before.
    for maximum in [wanted, limit] {
        if setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
            break;
        }
    }
    descriptors()
}

/// How many descriptors this process may have.
pub fn descriptors() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Closes every descriptor but these.
pub fn close_all_but(keep: &[&dyn AsRawFd]) {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    kept.sort_unstable();
    let mut first = 0;
    for fd in kept {
        if fd > first {
            // SAFETY: integers only; as for `close_from`.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = fd + 1;
    }
    close_from(first);
}

/// Replaces the calling process's program. Returns only when that fails.
pub fn exec(program: &std::ffi::CStr, arguments: &[std::ffi::CString], environment: &[std::ffi::CString]) -> io::Error {
    let pointers = |texts: &[std::ffi::CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in null and point to terminated strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    last_error()
}

/// Sleeps until a signal ends the process.
pub fn pause() {
    // SAFETY: no arguments.
    unsafe { libc::pause() };
}

/// Overwrites the environment with which the process was started: whoever may look into it, or into its children, learns
/// nothing from it. Nothing may read the environment afterwards.
///
/// # Safety
/// The calling process must have one thread.
pub unsafe fn wipe_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: one thread, by the contract; environ is an array of terminated, writable strings that ends in null.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            std::ptr::write_bytes(*entry, 0, libc::strlen(*entry));
            entry = entry.add(1);
        }
        environ = std::ptr::null_mut();
    }
}
