//! Linux, as Lichen uses it.
//!
//! One module per kernel facility, each a thin and safe face over system calls: what the kernel checks is left to the
//! kernel, what it does not (mapping lifetimes, descriptor ownership) is put into types. Nothing here knows what a
//! function, a sandbox or a request is.

pub mod bpf;
pub mod caps;
pub mod cgroup;
pub mod child;
pub mod idmap;
pub mod mapping;
pub mod memfd;
pub mod mount;
pub mod netlink;
pub mod ns;
pub mod pagemap;
pub mod pidfd;
pub mod process;
pub mod resident;
pub mod seccomp;
pub mod seqpacket;
pub mod signal;
pub mod tcp;
pub mod variable;

/// Nanoseconds of `CLOCK_MONOTONIC`: comparable between all processes of one kernel.
pub fn monotonic_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Since the machine was started, the time counted in which it was suspended: for what others, who go on, hold one to.
pub fn boottime() -> std::time::Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    std::time::Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// The last system call's error.
pub(crate) fn last_error() -> std::io::Error {
    std::io::Error::last_os_error()
}

/// Turns the kernel's -1 into an error.
pub(crate) fn check(result: libc::c_long) -> std::io::Result<libc::c_long> {
    if result < 0 { Err(last_error()) } else { Ok(result) }
}
