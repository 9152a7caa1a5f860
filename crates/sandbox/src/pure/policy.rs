//! Which system calls an engine process may make: what its loop, its timers and its engines need. None opens a file, reaches
//! a network or looks into another process; guests of its own have no system calls at all.

use libc::*;
use os::seccomp::{Argument, Policy};

const fn clone_with(namespace: i32) -> (i64, Argument) {
    (SYS_clone, Argument::HasBit(0, namespace as u64))
}

pub const ENGINE: Policy = Policy {
    allowed: &[ALLOWED, machine::ALLOWED],
    refused: &[REFUSED],
    refused_when: &[
        clone_with(CLONE_NEWUSER),
        clone_with(CLONE_NEWPID),
        clone_with(CLONE_NEWNS),
        clone_with(CLONE_NEWNET),
        clone_with(CLONE_NEWUTS),
        clone_with(CLONE_NEWIPC),
        clone_with(CLONE_NEWCGROUP),
    ],
};

/// A clear "operation not permitted"; what is not named at all is "not implemented".
const REFUSED: &[i64] = &[
    SYS_bpf,
    SYS_connect,
    SYS_execve,
    SYS_execveat,
    SYS_io_uring_setup,
    SYS_keyctl,
    SYS_mount,
    SYS_openat,
    SYS_openat2,
    SYS_perf_event_open,
    SYS_pidfd_getfd,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_ptrace,
    SYS_setns,
    SYS_socket,
    SYS_umount2,
    SYS_unshare,
    SYS_userfaultfd,
];

const ALLOWED: &[i64] = &[
    // memory
    SYS_brk,
    SYS_madvise,
    SYS_membarrier,
    SYS_mmap,
    SYS_mprotect,
    SYS_mremap,
    SYS_munmap,
    SYS_pkey_alloc,
    SYS_pkey_free,
    SYS_pkey_mprotect,
    // descriptors: those that it was given, memory files, bells
    SYS_close,
    SYS_close_range,
    SYS_dup,
    SYS_dup3,
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
    SYS_fallocate,
    SYS_fcntl,
    SYS_fstat,
    SYS_ftruncate,
    SYS_ioctl,
    SYS_lseek,
    SYS_memfd_create,
    SYS_pipe2,
    SYS_ppoll,
    SYS_pread64,
    SYS_preadv2,
    SYS_pwrite64,
    SYS_read,
    SYS_readv,
    SYS_recvmsg,
    SYS_sendmsg,
    SYS_socketpair,
    SYS_statx,
    SYS_write,
    SYS_writev,
    // time
    SYS_clock_getres,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_gettimeofday,
    SYS_nanosleep,
    SYS_timer_create,
    SYS_timer_delete,
    SYS_timer_getoverrun,
    SYS_timer_settime,
    SYS_timerfd_create,
    SYS_timerfd_settime,
    // threads, children and their signals
    SYS_clone,
    SYS_exit,
    SYS_exit_group,
    SYS_futex,
    SYS_get_robust_list,
    SYS_getcpu,
    SYS_getpid,
    SYS_getppid,
    SYS_getrandom,
    SYS_getrlimit,
    SYS_gettid,
    SYS_kill,
    SYS_pidfd_open,
    SYS_pidfd_send_signal,
    SYS_prctl,
    SYS_prlimit64,
    SYS_restart_syscall,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigpending,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_rt_sigsuspend,
    SYS_rt_sigtimedwait,
    SYS_sched_getaffinity,
    SYS_sched_getattr,
    SYS_sched_getparam,
    SYS_sched_getscheduler,
    SYS_sched_setaffinity,
    SYS_sched_setattr,
    SYS_sched_setscheduler,
    SYS_sched_yield,
    SYS_seccomp,
    SYS_set_robust_list,
    SYS_set_tid_address,
    SYS_sigaltstack,
    SYS_tgkill,
    SYS_uname,
    SYS_wait4,
    SYS_waitid,
];

#[cfg(target_arch = "x86_64")]
mod machine {
    use libc::*;

    pub const ALLOWED: &[i64] = &[SYS_arch_prctl, SYS_dup2, SYS_epoll_wait, SYS_poll, SYS_pipe, SYS_pause];
}

#[cfg(not(target_arch = "x86_64"))]
mod machine {
    pub const ALLOWED: &[i64] = &[];
}
